//! The identities of the cluster, kept as data in the server's own namespace and changed by transactions like any other:
//! agreed on, durable, and known to every node.

use hither_protocol::limits::CLIENT_NAME_BYTES_MAX;
use hither_protocol::message::{
    ClientAdd, ClientAddReply, ClientInfo, ClientListReply, ClientRevoke, ClientRevokeReply, Compare, Consistency,
    Delete, Enrol, EnrolReply, Put, Relation, RenewIdentity, RenewIdentityReply, Reply, Role, Stamp, Txn, TxnOp,
};
use hither_protocol::{Entry, ErrorCode, Key, KeyRange, Namespace, Refusal, Revision, UnixMillis, is_name};
use hither_state::door::Caller;
use hither_state::{Action, Command, Pin, RangeQuery};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::authority::{FIRST_GENERATION, csr_key_hash, random};
use super::record::{
    ENROLMENTS, EnrolmentRecord, IDENTITIES, IdentityRecord, enrolment_key, hex, identity_key, sha256,
};
use super::{FIRST_ADMIN, Identity, Kind, Principal, now};
use crate::engine::Engine;

/// Bytes of a secret: more than anyone can guess.
const SECRET_BYTES: usize = 32;
/// How long a secret is good for if the admin does not say: a day is enough to carry it to another machine.
const VALID_MS_DEFAULT: u64 = 24 * 60 * 60 * 1_000;
/// How long it may be good for.
const VALID_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Attempts of a change that others overtake, before the admin is asked to try again.
const ATTEMPTS: usize = 5;
/// Ended enrolments that are forgotten with each new one.
const SWEEP_MAX: usize = 100;

/// Reads and changes the records of identities.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    engine: Engine,
    identity: Identity,
}

/// Why a certificate that TLS accepted gives no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It names no identity of this cluster and plane, or has ended.
    Invalid,
    /// The identity was revoked, or the name belongs to a later one.
    Revoked,
}

impl Book {
    pub(crate) fn new(engine: Engine, identity: Identity) -> Self {
        Self { engine, identity }
    }

    /// Writes the record of the first admin, whose certificate was made with the data directory, unless there is one.
    pub(crate) async fn open(&self) -> Result<(), Refusal> {
        if self.read::<IdentityRecord>(&identity_key(FIRST_ADMIN)).is_some() {
            return Ok(());
        }
        let record = IdentityRecord {
            role: Role::Admin,
            generation: FIRST_GENERATION,
            created_at: now(),
            created_by: String::new(),
            enrolled: true,
            revoked: false,
            expires_at: None,
            enrolment: None,
        };
        let key = identity_key(FIRST_ADMIN);
        self.change("", vec![Compare::Absent(key.clone())], vec![put(key, &record)]).await.map(|_| ())
    }

    /// Who the owner of a certificate is here, by what this node knows now.
    pub(crate) fn check(&self, principal: &Principal) -> Result<Role, Denied> {
        let role = match principal.kind {
            Kind::Client => Role::Client,
            Kind::Admin => Role::Admin,
            Kind::Node => return Err(Denied::Invalid),
        };
        if principal.cluster != self.identity.cluster() || principal.expires_at <= now() {
            return Err(Denied::Invalid);
        }
        let Some((record, _)) = self.read::<IdentityRecord>(&identity_key(&principal.name)) else {
            return Err(Denied::Invalid);
        };
        if record.revoked || record.generation != principal.generation {
            return Err(Denied::Revoked);
        }
        if record.role == role { Ok(role) } else { Err(Denied::Invalid) }
    }

    /// Makes a name and a secret to enrol it with. A name whose secret was not redeemed gets another one; one that was
    /// revoked begins anew.
    pub(crate) async fn add(
        &self,
        caller: &Caller,
        add: &ClientAdd,
        endpoints: Vec<String>,
    ) -> Result<(Stamp, ClientAddReply), Refusal> {
        if !is_name(&add.name, CLIENT_NAME_BYTES_MAX) {
            return Err(Refusal::new(
                ErrorCode::InvalidName,
                "the name must be 1 to 63 of a-z 0-9 . _ - and begin and end with a letter or digit",
            ));
        }
        let valid_ms = if add.valid_ms == 0 { VALID_MS_DEFAULT } else { add.valid_ms.min(VALID_MS_MAX) };
        let secret = Zeroizing::new(random::<SECRET_BYTES>());
        let secret_hash = hex(&sha256(&*secret));
        let (key, expires_at) = (identity_key(&add.name), UnixMillis(now().0.saturating_add(valid_ms)));
        for _ in 0..ATTEMPTS {
            self.engine.barrier(Consistency::Linearizable).await?;
            let known = self.read::<IdentityRecord>(&key);
            let generation = match &known {
                None => FIRST_GENERATION,
                Some((record, _)) if record.revoked => record.generation + 1,
                Some((record, _)) if !record.enrolled => record.generation,
                Some(_) => {
                    return Err(Refusal::new(
                        ErrorCode::AlreadyExists,
                        format!("the identity `{0}` exists; revoke it first (`hither client revoke {0}`)", add.name),
                    ));
                }
            };
            let record = IdentityRecord {
                role: add.role,
                generation,
                created_at: now(),
                created_by: caller.name.to_string(),
                enrolled: false,
                revoked: false,
                expires_at: None,
                enrolment: Some(secret_hash.clone()),
            };
            let enrolment = EnrolmentRecord { name: add.name.clone(), generation, expires_at, redeemed_by: None };
            let mut then = vec![put(key.clone(), &record), put(enrolment_key(&secret_hash), &enrolment)];
            let replaced = known.as_ref().and_then(|(record, _)| record.enrolment.as_deref().map(enrolment_key));
            then.extend(self.ended_enrolments().into_iter().filter(|key| Some(key) != replaced.as_ref()).map(delete));
            then.extend(replaced.map(delete));
            let unchanged = unchanged(key.clone(), known.map(|(_, revision)| revision));
            if let Some(stamp) = self.change(&caller.name, vec![unchanged], then).await? {
                let reply = ClientAddReply {
                    secret: secret.to_vec().into(),
                    ca_pin: self.identity.authority().pin(),
                    expires_at,
                    endpoints,
                };
                return Ok((stamp, reply));
            }
        }
        Err(overtaken())
    }

    /// Redeems a secret. The same key may redeem it again until it ends, since the answer may have been lost; no other
    /// key ever can.
    pub(crate) async fn enrol(&self, enrol: &Enrol, endpoints: Vec<String>) -> Result<(Stamp, EnrolReply), Refusal> {
        let secret_key = enrolment_key(&hex(&sha256(&enrol.secret)));
        let redeemer = hex(&csr_key_hash(&enrol.csr)?);
        for _ in 0..ATTEMPTS {
            self.engine.barrier(Consistency::Linearizable).await?;
            let (enrolment, secret_revision) =
                self.read::<EnrolmentRecord>(&secret_key).ok_or_else(enrolment_invalid)?;
            let key = identity_key(&enrolment.name);
            let (mut record, revision) = self.read::<IdentityRecord>(&key).ok_or_else(enrolment_invalid)?;
            let by_other = enrolment.redeemed_by.as_ref().is_some_and(|by| *by != redeemer);
            let ended = enrolment.expires_at <= now();
            if by_other || ended || record.revoked || record.generation != enrolment.generation {
                return Err(enrolment_invalid());
            }
            let authority = self.identity.authority();
            let issued = authority.sign_client(&enrol.csr, record.role, &enrolment.name, record.generation)?;
            (record.enrolled, record.expires_at) = (true, Some(issued.expires_at));
            let redeemed = EnrolmentRecord { redeemed_by: Some(redeemer.clone()), ..enrolment.clone() };
            let when =
                vec![unchanged(key.clone(), Some(revision)), unchanged(secret_key.clone(), Some(secret_revision))];
            let then = vec![put(key, &record), put(secret_key.clone(), &redeemed)];
            if let Some(stamp) = self.change(&enrolment.name, when, then).await? {
                tracing::info!(name = enrolment.name, "an identity was enrolled");
                let reply = EnrolReply {
                    cluster: self.identity.cluster(),
                    name: enrolment.name,
                    role: record.role,
                    certificate: issued.certificate,
                    ca: self.identity.ca(),
                    expires_at: issued.expires_at,
                    endpoints,
                };
                return Ok((stamp, reply));
            }
        }
        Err(overtaken())
    }

    /// A fresh certificate for the caller.
    pub(crate) async fn renew(
        &self,
        caller: &Caller,
        renew: &RenewIdentity,
    ) -> Result<(Stamp, RenewIdentityReply), Refusal> {
        let key = identity_key(&caller.name);
        for _ in 0..ATTEMPTS {
            self.engine.barrier(Consistency::Linearizable).await?;
            let known = self.read::<IdentityRecord>(&key).filter(|(record, _)| !record.revoked);
            let Some((mut record, revision)) = known else {
                return Err(Refusal::new(ErrorCode::IdentityRevoked, "the identity was revoked"));
            };
            let authority = self.identity.authority();
            let issued = authority.sign_client(&renew.csr, record.role, &caller.name, record.generation)?;
            record.expires_at = Some(issued.expires_at);
            let when = vec![unchanged(key.clone(), Some(revision))];
            if let Some(stamp) = self.change(&caller.name, when, vec![put(key.clone(), &record)]).await? {
                let reply = RenewIdentityReply {
                    certificate: issued.certificate,
                    ca: self.identity.ca(),
                    expires_at: issued.expires_at,
                };
                return Ok((stamp, reply));
            }
        }
        Err(overtaken())
    }

    /// Every identity, by name. Connections are the caller's to fill in.
    pub(crate) async fn list(&self) -> Result<(Stamp, ClientListReply), Refusal> {
        let mut stamp = self.engine.barrier(Consistency::Linearizable).await?;
        let range = KeyRange::prefix(IDENTITIES);
        let mut clients = Vec::new();
        let (mut after, mut pin): (Option<Key>, Option<Pin>) = (None, None);
        loop {
            let page = {
                let state = self.engine.machine().state.read();
                let pin = pin.get_or_insert_with(|| state.pin());
                stamp.revision = pin.revision();
                let query = RangeQuery { after: after.take(), pin: Some(pin), ..RangeQuery::new(&range) };
                state.range(&Namespace::system(), &query)
            };
            clients.extend(page.entries.iter().filter_map(client_info));
            after = page.next;
            if after.is_none() {
                return Ok((stamp, ClientListReply { clients }));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends an identity.
    pub(crate) async fn revoke(
        &self,
        caller: &Caller,
        revoke: &ClientRevoke,
    ) -> Result<(Stamp, ClientRevokeReply), Refusal> {
        let key = identity_key(&revoke.name);
        for _ in 0..ATTEMPTS {
            let stamp = self.engine.barrier(Consistency::Linearizable).await?;
            let Some((mut record, revision)) = self.read::<IdentityRecord>(&key) else {
                return Err(Refusal::new(ErrorCode::NotFound, "there is no such identity"));
            };
            if record.revoked {
                return Ok((stamp, ClientRevokeReply { revoked: false }));
            }
            record.revoked = true;
            let mut then = Vec::new();
            then.extend(record.enrolment.take().map(|hash| delete(enrolment_key(&hash))));
            then.push(put(key.clone(), &record));
            let when = vec![unchanged(key.clone(), Some(revision))];
            if let Some(stamp) = self.change(&caller.name, when, then).await? {
                tracing::info!(name = revoke.name, by = &*caller.name, "an identity was revoked");
                return Ok((stamp, ClientRevokeReply { revoked: true }));
            }
        }
        Err(overtaken())
    }

    /// Enrolments that nobody can redeem any more.
    fn ended_enrolments(&self) -> Vec<Key> {
        let range = KeyRange::prefix(ENROLMENTS);
        let state = self.engine.machine().state.read();
        let page = state.range(&Namespace::system(), &RangeQuery::new(&range));
        let ended = |entry: &Entry| decode::<EnrolmentRecord>(entry).is_none_or(|record| record.expires_at <= now());
        page.entries.into_iter().filter(ended).map(|entry| entry.key).take(SWEEP_MAX).collect()
    }

    fn read<T: DeserializeOwned>(&self, key: &Key) -> Option<(T, Revision)> {
        let entry = self.engine.machine().state.read().get(&Namespace::system(), key.as_bytes())?;
        Some((decode(&entry)?, entry.mod_revision))
    }

    /// Makes a change if the conditions hold; none if they do not.
    async fn change(&self, by: &str, when: Vec<Compare>, then: Vec<TxnOp>) -> Result<Option<Stamp>, Refusal> {
        let command = Command {
            namespace: Namespace::system(),
            principal: by.into(),
            retry: None,
            at: now(),
            action: Action::Txn(Txn { when, then, otherwise: Vec::new() }),
        };
        match self.engine.propose(command).await? {
            (stamp, Reply::Txn(reply)) => Ok(reply.succeeded.then_some(stamp)),
            _ => Err(Refusal::unknown(ErrorCode::Internal, "a transaction was answered with something else")),
        }
    }
}

fn client_info(entry: &Entry) -> Option<ClientInfo> {
    let record: IdentityRecord = decode(entry)?;
    let name = std::str::from_utf8(entry.key.as_bytes()).ok()?.strip_prefix(IDENTITIES)?;
    Some(ClientInfo {
        name: name.to_owned(),
        role: record.role,
        enrolled: record.enrolled,
        revoked: record.revoked,
        created_at: record.created_at,
        expires_at: record.expires_at,
        connections: 0,
    })
}

fn decode<T: DeserializeOwned>(entry: &Entry) -> Option<T> {
    serde_json::from_slice(&entry.value)
        .inspect_err(|error| tracing::error!(key = %entry.key, %error, "a record of an identity does not decode"))
        .ok()
}

fn put<T: Serialize>(key: Key, record: &T) -> TxnOp {
    // Records are made of strings, numbers and booleans, all of which JSON has.
    #[expect(clippy::expect_used, reason = "see the line above")]
    let value = serde_json::to_vec(record).expect("a record serialises");
    TxnOp::Put(Put { key, value: value.into(), lease: None, previous: false })
}

fn delete(key: Key) -> TxnOp {
    TxnOp::Delete(Delete { range: KeyRange::One(key), previous: false })
}

fn unchanged(key: Key, revision: Option<Revision>) -> Compare {
    match revision {
        Some(revision) => Compare::ModRevision(key, Relation::Equal, revision),
        None => Compare::Absent(key),
    }
}

/// One answer for every reason: it must not tell a guesser how near the guess was.
fn enrolment_invalid() -> Refusal {
    Refusal::new(
        ErrorCode::EnrolmentInvalid,
        "the secret is unknown, used or ended; make another with `hither client add NAME`",
    )
}

fn overtaken() -> Refusal {
    Refusal::new(ErrorCode::Conflict, "others are changing the same identity; try again")
}
