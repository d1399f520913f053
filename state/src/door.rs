//! Where requests become commands: authorised, checked, clamped, in one place.
//!
//! What passes here is the same value that is applied, so nothing is checked in one form and executed in another.

mod authorise;
mod check;

use std::sync::Arc;

use hither_protocol::message::{
    ClientAdd, ClientList, ClientRevoke, Context, Get, LeaseCheck, LeaseInfo, LeaseList, LeaseRenew, Range,
    RenewIdentity, Request, Role,
};
use hither_protocol::{KeyRange, Namespace, Refusal, UnixMillis};

use crate::{Action, Command};

pub use check::check_range;

/// Who asks, as the connection's certificate and greeting say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The namespace of the connection.
    pub namespace: Namespace,
    /// The name of the identity.
    pub name: Arc<str>,
    /// What the identity may do.
    pub role: Role,
}

/// What to do with a request that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Put it into the log.
    Propose(Command),
    /// Read the state, once it is as fresh as the request asks for.
    Read(Read),
    /// Ask the leader's clock.
    Lease(LeaseRequest),
    /// Ask the room of identities.
    Identity(IdentityRequest),
    /// Say how the node is doing.
    Status,
}

/// A read of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One key.
    Get(Get),
    /// Many keys.
    Range(Range),
}

/// A request about leases that needs no log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRequest {
    /// Keep one.
    Renew(LeaseRenew),
    /// Show one.
    Info(LeaseInfo),
    /// Show many.
    List(LeaseList),
    /// Say which are over.
    Check(LeaseCheck),
}

/// A request about identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityRequest {
    /// A fresh certificate for the caller.
    Renew(RenewIdentity),
    /// A secret for a new identity.
    Add(ClientAdd),
    /// All identities.
    List(ClientList),
    /// The end of an identity.
    Revoke(ClientRevoke),
}

/// Lets a watch in or refuses it.
///
/// # Errors
/// `PermissionDenied`, `KeyEmpty`, `KeyTooLong`, `InvalidRange`.
pub fn admit_watch(caller: &Caller, range: &KeyRange) -> Result<(), Refusal> {
    authorise::authorise_watch(caller)?;
    range.check()
}

/// Lets a request in or refuses it. `at` is the wall clock of the node: recorded, never compared.
///
/// # Errors
/// `PermissionDenied`, or what is wrong with the request. Nothing was changed.
pub fn admit(caller: &Caller, context: &Context, request: Request, at: UnixMillis) -> Result<Admitted, Refusal> {
    authorise::authorise(caller, &request)?;
    let retry = if request.is_mutation() { context.retry } else { None };
    if let Some(token) = &retry {
        check::check_token(token)?;
    }
    let propose = |action| {
        let (namespace, principal) = (caller.namespace.clone(), caller.name.clone());
        Admitted::Propose(Command { namespace, principal, retry, at, action })
    };
    Ok(match request {
        Request::Get(get) => {
            get.key.check()?;
            Admitted::Read(Read::Get(get))
        }
        Request::Range(range) => {
            range.range.check()?;
            Admitted::Read(Read::Range(range))
        }
        Request::Put(put) => {
            check::check_put(&put)?;
            propose(Action::Put(put))
        }
        Request::Delete(delete) => {
            delete.range.check()?;
            propose(Action::Delete(delete))
        }
        Request::Txn(txn) => {
            check::check_txn(&txn)?;
            propose(Action::Txn(txn))
        }
        Request::LeaseGrant(grant) => {
            check::check_grant(&grant, retry.is_some())?;
            propose(Action::LeaseGrant { ttl_ms: check::clamp_ttl(grant.ttl_ms), kind: grant.kind })
        }
        Request::LeaseRevoke(revoke) => propose(Action::LeaseRevoke { lease: revoke.lease }),
        Request::SessionOpen(open) => {
            propose(Action::SessionOpen { ttl_ms: check::clamp_ttl(open.ttl_ms), nonce: open.nonce })
        }
        Request::SessionClose(close) => propose(Action::SessionClose { session: close.session }),
        Request::LeaseRenew(renew) => Admitted::Lease(LeaseRequest::Renew(renew)),
        Request::LeaseInfo(info) => Admitted::Lease(LeaseRequest::Info(info)),
        Request::LeaseList(list) => Admitted::Lease(LeaseRequest::List(list)),
        Request::LeaseCheck(asked) => {
            check::check_leases(&asked)?;
            Admitted::Lease(LeaseRequest::Check(asked))
        }
        Request::RenewIdentity(renew) => Admitted::Identity(IdentityRequest::Renew(renew)),
        Request::ClientAdd(add) => Admitted::Identity(IdentityRequest::Add(add)),
        Request::ClientList(list) => Admitted::Identity(IdentityRequest::List(list)),
        Request::ClientRevoke(revoke) => Admitted::Identity(IdentityRequest::Revoke(revoke)),
        Request::Status(_) => Admitted::Status,
        Request::Enrol(_) => return Err(authorise::enrolment_elsewhere()),
    })
}
