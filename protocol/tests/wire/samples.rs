//! At least one value of every message and every variant, made by hand. Their bytes are the golden files, so a value,
//! once committed, stays as it is; new ones are added.

use bytes::Bytes;
use hither_protocol::message::*;
use hither_protocol::*;

use crate::said::Said;

/// A message, and what its case is about.
pub(crate) struct Sample {
    /// The message: the golden file is named after it.
    pub(crate) message: &'static str,
    /// The case.
    pub(crate) case: &'static str,
    /// What is said.
    pub(crate) said: Said,
}

/// All of them.
pub(crate) fn samples() -> Vec<Sample> {
    let mut all = Samples(Vec::new());
    control(&mut all);
    requests(&mut all);
    replies(&mut all);
    identities(&mut all);
    watches(&mut all);
    all.0
}

struct Samples(Vec<Sample>);

impl Samples {
    fn say(&mut self, message: &'static str, case: &'static str, said: impl Into<Said>) {
        self.0.push(Sample { message, case, said: said.into() });
    }

    fn ask(&mut self, message: &'static str, case: &'static str, request: impl Into<Request>) {
        self.say(message, case, Said::Request(Context::default(), request.into()));
    }

    fn answer(&mut self, message: &'static str, case: &'static str, reply: Reply) {
        let stamp = Stamp { revision: Revision(300), term: 2, node: NodeId(1), age_ms: 0 };
        self.say(message, case, Said::Reply(stamp, reply));
    }
}

const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");
const LINEAGE: Lineage = Lineage { cluster: CLUSTER, incarnation: 1 };

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn entry() -> Entry {
    Entry {
        key: "services/api/node1".into(),
        value: bytes("10.0.0.1:80"),
        create_revision: Revision(7),
        mod_revision: Revision(300),
        version: Version(2),
        lease: Some(LeaseId(0x1_0000)),
    }
}

fn bare_entry() -> Entry {
    Entry {
        key: Key(Bytes::from_static(&[0, 0xff, b'/'])),
        value: Bytes::new(),
        create_revision: Revision(u64::MAX),
        mod_revision: Revision(u64::MAX),
        version: Version(1),
        lease: None,
    }
}

fn hint() -> error::LeaderHint {
    error::LeaderHint { node: NodeId(3), address: "10.0.0.3:7400".into() }
}

fn control(all: &mut Samples) {
    all.say(
        "hello",
        "first",
        Hello {
            agent: "hither-rs/0.1.0".into(),
            namespace: "default".into(),
            cluster: None,
            session: None,
            seen: Revision::ZERO,
        },
    );
    all.say(
        "hello",
        "again",
        Hello {
            agent: "hither-py/0.1.0".into(),
            namespace: "prod".into(),
            cluster: Some(CLUSTER),
            session: Some(SessionId(0x2_0001)),
            seen: Revision(u64::MAX),
        },
    );
    let welcome = |leader, session| Welcome {
        lineage: LINEAGE,
        node: NodeId(1),
        version: "0.1.0".into(),
        name: "admin".into(),
        role: Role::Admin,
        term: 1,
        revision: Revision(300),
        leader,
        session,
        beat_ms: 1_000,
        endpoints: vec!["127.0.0.1:7400".into(), "[::1]:7410".into()],
    };
    all.say("welcome", "new", welcome(None, None));
    let resumed = SessionReply::Resumed(Resumed { ttl_ms: 10_000, epoch: 2 });
    all.say("welcome", "resumed", welcome(Some(hint()), Some(resumed)));
    all.say("welcome", "expired", welcome(None, Some(SessionReply::Expired)));
    all.say("goodbye", "plain", Goodbye {});
    all.say("keep-alive", "plain", KeepAlive { number: 128 });
    all.say("keep-alive-reply", "without a session", KeepAliveReply { number: 128, session_alive: None });
    all.say("keep-alive-reply", "session lost", KeepAliveReply { number: 129, session_alive: Some(false) });
    let beat = |sent, behind| Beat { revision: Revision(300), sent, behind, age_ms: 4, term: 2 };
    all.say("beat", "quiet", beat(vec![], vec![]));
    all.say("beat", "two sent, one behind", beat(vec![(WatchId(1), 17), (WatchId(300), 1)], vec![WatchId(2)]));
    let subscribe = |range, start, mode| Subscribe {
        watch: WatchId(9),
        range,
        start,
        lineage: Some(LINEAGE),
        mode,
        filter: Filter { puts: true, deletes: false, liveness: true },
        previous: true,
        min_interval_ms: 250,
    };
    all.say("subscribe", "one key, from now", subscribe(KeyRange::One("a".into()), Start::Now, Mode::Every));
    all.say("subscribe", "prefix, snapshot", subscribe(KeyRange::prefix("a/"), Start::Snapshot, Mode::Latest));
    let span = KeyRange::Span(bytes("a"), bytes("b"));
    all.say("subscribe", "span, resumed", subscribe(span, Start::After(Revision(299)), Mode::Every));
    let plain =
        Subscribe { lineage: None, filter: Filter::default(), ..subscribe(KeyRange::All, Start::Now, Mode::Every) };
    all.say("subscribe", "everything", plain);
    let refusal = Refusal::new(ErrorCode::TooManyWatches, "10,000 are open");
    all.say("subscribe-refused", "plain", SubscribeRefused { watch: WatchId(9), refusal });
    all.say("cancel-watch", "plain", CancelWatch { watch: WatchId(9) });
    all.say("cancel-request", "plain", CancelRequest { request: RequestNumber(1_000) });
    all.say("go-away", "plain", GoAway { retry_after_ms: 500, reason: "the server restarts".into() });
}

fn requests(all: &mut Samples) {
    let get = |consistency| Get { key: "config/a".into(), consistency };
    all.ask("get", "linearizable", get(Consistency::Linearizable));
    all.ask("get", "at least", get(Consistency::AtLeast(Revision(300))));
    all.ask("get", "stale", get(Consistency::Stale { max_age_ms: 2_000 }));
    for (case, projection) in
        [("entries", Projection::Entries), ("keys only", Projection::KeysOnly), ("count only", Projection::CountOnly)]
    {
        let range = KeyRange::prefix("services/");
        all.ask(
            "range",
            case,
            Range { range, limit: 10, reverse: true, projection, consistency: Consistency::default() },
        );
    }
    let put = |lease, previous| Put { key: "a".into(), value: bytes("1"), lease, previous };
    all.ask("put", "plain", put(None, false));
    all.ask("put", "leased", put(Some(LeaseId(0x1_0000)), true));
    let retry =
        RetryToken { session: SessionId(0x2_0001), sequence: SequenceNumber(12), acknowledged: SequenceNumber(11) };
    let trace = Some(bytes("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let context = Context { deadline_ms: Some(5_000), trace, retry: Some(retry) };
    all.say("put", "with context", Said::Request(context, put(None, false).into()));
    all.ask("delete", "one key", Delete { range: KeyRange::One("a".into()), previous: false });
    all.ask("delete", "everything", Delete { range: KeyRange::All, previous: true });
    all.ask("txn", "empty", Txn::default());
    all.ask("txn", "every comparison and operation", txn());
    all.ask("lease-grant", "ttl", LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Ttl });
    all.ask("lease-grant", "bound", LeaseGrant { ttl_ms: 1_000, kind: LeaseKind::Bound });
    all.ask("lease-renew", "plain", LeaseRenew { lease: LeaseId(0x1_0000) });
    all.ask("lease-revoke", "plain", LeaseRevoke { lease: LeaseId(0x1_0000) });
    all.ask("lease-info", "with keys", LeaseInfo { lease: LeaseId(0x1_0000), keys: true });
    all.ask("lease-list", "first page", LeaseList { after: None, limit: 0 });
    all.ask("lease-list", "next page", LeaseList { after: Some(LeaseId(0x1_0000)), limit: 100 });
    all.ask("lease-check", "two", LeaseCheck { leases: vec![LeaseId(0x1_0000), LeaseId(0x1_0001)] });
    all.ask("session-open", "plain", SessionOpen { ttl_ms: 10_000, nonce: *b"fedcba9876543210" });
    all.ask("session-close", "plain", SessionClose { session: SessionId(0x2_0001) });
    all.ask("status", "plain", Status {});
}

fn txn() -> Txn {
    let key = || Key::from("a");
    Txn {
        when: vec![
            Compare::Value(key(), Relation::Equal, bytes("1")),
            Compare::Version(key(), Relation::NotEqual, Version(2)),
            Compare::CreateRevision(key(), Relation::Less, Revision(300)),
            Compare::ModRevision(key(), Relation::Greater, Revision(4)),
            Compare::Exists(key()),
            Compare::Absent("b".into()),
            Compare::RangeEmpty(KeyRange::prefix("c/")),
            Compare::Lease(key(), None),
            Compare::Lease(key(), Some(LeaseId(0x1_0000))),
        ],
        then: vec![
            TxnOp::Get(key()),
            TxnOp::Range { range: KeyRange::All, limit: 0, reverse: false, projection: Projection::CountOnly },
            TxnOp::Put(Put { key: key(), value: bytes("2"), lease: None, previous: true }),
        ],
        otherwise: vec![TxnOp::Delete(Delete { range: KeyRange::One(key()), previous: false })],
    }
}

fn replies(all: &mut Samples) {
    let range = || RangeReply { entries: vec![entry(), bare_entry()], count: 1_000, more: true };
    let put = || PutReply { revision: Revision(301), previous: Some(entry()) };
    let delete = || DeleteReply { revision: Revision(302), deleted: 1, previous: vec![entry()] };
    all.answer("get-reply", "found", Reply::Get(GetReply { entry: Some(entry()) }));
    all.answer("get-reply", "absent", Reply::Get(GetReply { entry: None }));
    all.answer("range-reply", "two", Reply::Range(range()));
    all.answer("put-reply", "created", Reply::Put(PutReply { revision: Revision(301), previous: None }));
    all.answer("put-reply", "replaced", Reply::Put(put()));
    all.answer("delete-reply", "one", Reply::Delete(delete()));
    let results = vec![
        TxnResult::Get(GetReply { entry: None }),
        TxnResult::Range(range()),
        TxnResult::Put(put()),
        TxnResult::Delete(delete()),
    ];
    let txn = TxnReply { revision: Revision(303), succeeded: true, results, results_forgotten: false };
    all.answer("txn-reply", "then", Reply::Txn(txn));
    let forgotten = TxnReply { revision: Revision(303), succeeded: false, results: vec![], results_forgotten: true };
    all.answer("txn-reply", "forgotten", Reply::Txn(forgotten));
    let lease = LeaseId(0x1_0000);
    all.answer("lease-grant-reply", "plain", Reply::LeaseGrant(LeaseGrantReply { lease, ttl_ms: 10_000, epoch: 1 }));
    all.answer("lease-renew-reply", "plain", Reply::LeaseRenew(LeaseRenewReply { ttl_ms: 10_000, epoch: 2 }));
    let revoked = LeaseRevokeReply { revision: Revision(304), deleted: 3 };
    all.answer("lease-revoke-reply", "plain", Reply::LeaseRevoke(revoked));
    let status = |kind, state, session| LeaseStatus {
        lease,
        ttl_ms: 10_000,
        remaining_ms: Some(7_250),
        kind,
        state,
        epoch: 2,
        session,
        keys: 1,
        owner: "api".into(),
        granted_at: UnixMillis(1_790_000_000_000),
    };
    let info = |status| LeaseInfoReply { lease: status, keys: vec!["services/api/node1".into()] };
    let bound = Some(SessionId(0x2_0001));
    all.answer("lease-info-reply", "alive", Reply::LeaseInfo(info(status(LeaseKind::Ttl, LeaseState::Alive, None))));
    all.answer(
        "lease-info-reply",
        "suspect",
        Reply::LeaseInfo(info(status(LeaseKind::Bound, LeaseState::Suspect, bound))),
    );
    let expired = LeaseStatus { remaining_ms: None, ..status(LeaseKind::Bound, LeaseState::Expired, bound) };
    all.answer("lease-list-reply", "page", Reply::LeaseList(LeaseListReply { leases: vec![expired], more: true }));
    all.answer("lease-check-reply", "none", Reply::LeaseCheck(LeaseCheckReply { gone: vec![] }));
    all.answer("lease-check-reply", "one", Reply::LeaseCheck(LeaseCheckReply { gone: vec![lease] }));
    let opened = SessionOpenReply { session: SessionId(0x2_0001), ttl_ms: 10_000, epoch: 1 };
    all.answer("session-open-reply", "plain", Reply::SessionOpen(opened));
    let closed = SessionCloseReply { revision: Revision(305), deleted: 2 };
    all.answer("session-close-reply", "plain", Reply::SessionClose(closed));
    all.answer(
        "status-reply",
        "plain",
        Reply::Status(StatusReply {
            cluster: CLUSTER,
            incarnation: 1,
            node: NodeId(1),
            version: "0.1.0".into(),
            term: 2,
            leader: Some(hint()),
            revision: Revision(300),
            floor: Revision(10),
            log_index: 401,
            applied_index: 400,
            keys: 50,
            state_bytes: 4_096,
            state_bytes_max: 8 << 30,
            leases: 3,
            sessions: 2,
            connections: 4,
            watches: 10_000,
            uptime_ms: 86_400_000,
        }),
    );
    all.say("error", "plain", Said::Refused(Refusal::new(ErrorCode::KeyEmpty, "a key has at least one byte")));
    let unknown = Refusal::unknown(ErrorCode::NotLeader, "node 3 leads").led_by(Some(hint())).at(Revision(300));
    all.say("error", "elsewhere", Said::Refused(unknown));
    all.say("error", "newer number", Said::Refused(Refusal::new(ErrorCode::Other(60_000), "")));
}

fn identities(all: &mut Samples) {
    let endpoints = || vec!["127.0.0.1:7400".to_owned()];
    let expires_at = UnixMillis(1_792_592_000_000);
    all.ask("enrol", "plain", Enrol { secret: bytes("secret"), csr: bytes("csr") });
    all.answer(
        "enrol-reply",
        "plain",
        Reply::Enrol(EnrolReply {
            cluster: CLUSTER,
            name: "api".into(),
            role: Role::Client,
            certificate: bytes("certificate"),
            ca: bytes("ca"),
            expires_at,
            endpoints: endpoints(),
        }),
    );
    all.ask("renew-identity", "plain", RenewIdentity { csr: bytes("csr") });
    let renewed = RenewIdentityReply { certificate: bytes("certificate"), ca: bytes("ca"), expires_at };
    all.answer("renew-identity-reply", "plain", Reply::RenewIdentity(renewed));
    all.ask("client-add", "plain", ClientAdd { name: "api".into(), role: Role::Client, valid_ms: 3_600_000 });
    let added = ClientAddReply { secret: bytes("secret"), ca_pin: [0xab; 32], expires_at, endpoints: endpoints() };
    all.answer("client-add-reply", "plain", Reply::ClientAdd(added));
    all.ask("client-list", "plain", ClientList {});
    let info = |name: &str, enrolled, expires_at| ClientInfo {
        name: name.into(),
        role: Role::Client,
        enrolled,
        revoked: !enrolled,
        created_at: UnixMillis(1_790_000_000_000),
        expires_at,
        connections: 2,
    };
    let clients = vec![info("api", true, Some(expires_at)), info("web", false, None)];
    all.answer("client-list-reply", "two", Reply::ClientList(ClientListReply { clients }));
    all.ask("client-revoke", "plain", ClientRevoke { name: "api".into() });
    all.answer("client-revoke-reply", "plain", Reply::ClientRevoke(ClientRevokeReply { revoked: true }));
}

fn watches(all: &mut Samples) {
    all.say("created", "plain", Created { revision: Revision(300), lineage: LINEAGE });
    all.say("snapshot", "page", SnapshotPage { revision: Revision(300), entries: vec![entry(), bare_entry()] });
    let delete =
        |revision, previous| Event::Delete { key: "services/api/node1".into(), revision: Revision(revision), previous };
    let events = vec![
        Event::Put { entry: entry(), previous: Previous::NotAsked },
        Event::Put { entry: entry(), previous: Previous::None },
        delete(301, Previous::Entry(Box::new(entry()))),
        delete(302, Previous::Forgotten),
        Event::Liveness { lease: LeaseId(0x1_0000), state: LeaseState::Suspect, revision: Revision(303) },
    ];
    all.say("batch", "every event", Batch { from: Revision(299), to: Revision(303), folded: true, events });
    all.say("batch", "no event", Batch { from: Revision(303), to: Revision(400), folded: false, events: vec![] });
    all.say(
        "reset",
        "page",
        ResetPage {
            revision: Revision(500),
            base: Revision(303),
            lineage: LINEAGE,
            unchanged: vec!["a".into(), "b".into()],
            changed: vec![entry()],
        },
    );
    for (case, reason) in [
        ("cancelled", EndReason::Cancelled),
        ("forbidden", EndReason::Forbidden),
        ("shutting down", EndReason::ShuttingDown),
    ] {
        all.say("end", case, End { reason });
    }
}
