//! Who may do what. The one place that decides it.

use hither_protocol::message::{Request, Role};
use hither_protocol::{ErrorCode, Refusal};

use super::Caller;

/// Whether `caller` may ask for `request` at all.
pub(super) fn authorise(caller: &Caller, request: &Request) -> Result<(), Refusal> {
    // Every request has its line, so that a new one does not compile until someone has decided who may ask for it.
    let needed = match request {
        Request::Get(_)
        | Request::Range(_)
        | Request::Put(_)
        | Request::Delete(_)
        | Request::Txn(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRenew(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseInfo(_)
        | Request::LeaseList(_)
        | Request::LeaseCheck(_)
        | Request::SessionOpen(_)
        | Request::SessionClose(_)
        | Request::RenewIdentity(_)
        | Request::Status(_) => Role::Client,
        Request::ClientAdd(_) | Request::ClientList(_) | Request::ClientRevoke(_) => Role::Admin,
        Request::Enrol(_) => return Err(enrolment_elsewhere()),
    };
    need(caller, needed, request.name())
}

/// Whether `caller` may watch keys.
pub(super) fn authorise_watch(caller: &Caller) -> Result<(), Refusal> {
    need(caller, Role::Client, "Subscribe")
}

fn need(caller: &Caller, needed: Role, what: &str) -> Result<(), Refusal> {
    if caller.namespace.is_system() {
        return Err(Refusal::new(ErrorCode::PermissionDenied, "the namespace `.system` is the server's own"));
    }
    if caller.role >= needed {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::PermissionDenied,
        format!(
            "`{}` is not an admin and {what} needs one: use a context with an admin identity, such as the one the server \
             wrote at its first start",
            caller.name,
        ),
    ))
}

pub(super) fn enrolment_elsewhere() -> Refusal {
    Refusal::new(
        ErrorCode::PermissionDenied,
        "a secret is redeemed on a connection of its own, with ALPN hither-enroll/1 and without an identity",
    )
}
