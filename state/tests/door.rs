//! What may pass the door, and what it becomes.

use bytes::Bytes;
use hither_protocol::limits::{SESSION_WINDOW, TTL_MS_MAX, TTL_MS_MIN, TXN_OPS_MAX};
use hither_protocol::message::{
    ClientAdd, ClientList, ClientRevoke, Compare, Consistency, Context, Delete, Enrol, Get, LeaseGrant, LeaseInfo,
    LeaseKind, LeaseList, LeaseRenew, LeaseRevoke, Projection, Put, Range, RenewIdentity, Request, RetryToken, Role,
    SessionClose, SessionOpen, Status, Txn, TxnOp,
};
use hither_protocol::{Applied, ErrorCode, Key, KeyRange, LeaseId, Namespace, SequenceNumber, SessionId, UnixMillis};
use hither_state::door::{Admitted, Caller, admit, admit_watch};
use hither_state::{Action, Command};

const AT: UnixMillis = UnixMillis(1_700_000_000_000);

fn caller(role: Role) -> Caller {
    Caller { namespace: Namespace::default(), name: "alice".into(), role }
}

fn ask(request: impl Into<Request>) -> Result<Admitted, ErrorCode> {
    ask_with(None, request)
}

fn ask_with(retry: Option<RetryToken>, request: impl Into<Request>) -> Result<Admitted, ErrorCode> {
    let context = Context { retry, ..Context::default() };
    admit(&caller(Role::Client), &context, request.into(), AT).map_err(|refusal| {
        assert_eq!(refusal.applied, Applied::No, "nothing passes the door and is refused there");
        assert!(!refusal.detail.is_empty());
        refusal.code
    })
}

fn token(sequence: u64, acknowledged: u64) -> RetryToken {
    RetryToken { session: SessionId(1), sequence: SequenceNumber(sequence), acknowledged: SequenceNumber(acknowledged) }
}

fn put(key: &str) -> Put {
    Put { key: key.into(), value: Bytes::new(), lease: None, previous: false }
}

fn proposed(admitted: Admitted) -> Command {
    match admitted {
        Admitted::Propose(command) => command,
        other => panic!("not a command: {other:?}"),
    }
}

fn every_request() -> Vec<Request> {
    let key = || Key::from("a");
    let consistency = Consistency::Linearizable;
    vec![
        Get { key: key(), consistency }.into(),
        Range { range: KeyRange::All, limit: 0, reverse: false, projection: Projection::Entries, consistency }.into(),
        put("a").into(),
        Delete { range: KeyRange::All, previous: false }.into(),
        Txn::default().into(),
        LeaseGrant { ttl_ms: 1_000, kind: LeaseKind::Ttl }.into(),
        LeaseRenew { lease: LeaseId(1) }.into(),
        LeaseRevoke { lease: LeaseId(1) }.into(),
        LeaseInfo { lease: LeaseId(1), keys: false }.into(),
        LeaseList { after: None, limit: 0 }.into(),
        SessionOpen { ttl_ms: 1_000, nonce: [0; 16] }.into(),
        SessionClose { session: SessionId(1) }.into(),
        Enrol { secret: Bytes::new(), csr: Bytes::new() }.into(),
        RenewIdentity { csr: Bytes::new() }.into(),
        ClientAdd { name: "bob".to_owned(), role: Role::Client, valid_ms: 1 }.into(),
        ClientList {}.into(),
        ClientRevoke { name: "bob".to_owned() }.into(),
        Status {}.into(),
    ]
}

#[test]
fn a_client_may_do_everything_but_deal_with_identities() {
    let refused = |role| -> Vec<&str> {
        let asked = |request: &Request| admit(&caller(role), &Context::default(), request.clone(), AT);
        let requests = every_request();
        let denied = requests
            .iter()
            .filter(|request| asked(request).is_err_and(|refusal| refusal.code == ErrorCode::PermissionDenied));
        denied.map(Request::name).collect()
    };
    assert_eq!(refused(Role::Client), ["Enrol", "ClientAdd", "ClientList", "ClientRevoke"]);
    assert_eq!(refused(Role::Admin), ["Enrol"], "a secret is redeemed without an identity");
}

#[test]
fn nobody_speaks_in_the_servers_own_namespace() {
    let caller = Caller { namespace: Namespace::system(), ..caller(Role::Admin) };
    for request in every_request() {
        let refused = admit(&caller, &Context::default(), request, AT).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PermissionDenied);
    }
    assert_eq!(admit_watch(&caller, &KeyRange::All).unwrap_err().code, ErrorCode::PermissionDenied);
}

#[test]
fn a_watch_is_checked_like_a_read() {
    let watch = |range| admit_watch(&caller(Role::Client), &range).map_err(|refusal| refusal.code);
    assert_eq!(watch(KeyRange::All), Ok(()));
    assert_eq!(watch(KeyRange::Prefix(Bytes::new())), Err(ErrorCode::KeyEmpty));
    assert_eq!(watch(KeyRange::Span("b".into(), "a".into())), Err(ErrorCode::InvalidRange));
}

#[test]
fn a_mutation_becomes_a_command_in_the_name_of_its_caller() {
    let command = proposed(ask_with(Some(token(3, 1)), put("a")).unwrap());
    assert_eq!(
        command,
        Command {
            namespace: Namespace::default(),
            principal: "alice".into(),
            retry: Some(token(3, 1)),
            at: AT,
            action: Action::Put(put("a")),
        }
    );
}

#[test]
fn what_is_no_mutation_takes_no_retry_token() {
    let open = SessionOpen { ttl_ms: 1_000, nonce: [0; 16] };
    assert_eq!(proposed(ask_with(Some(token(3, 1)), open).unwrap()).retry, None);
}

#[test]
fn a_ttl_is_clamped() {
    for (asked, granted) in [(0, TTL_MS_MIN), (5_000, 5_000), (u64::MAX, TTL_MS_MAX)] {
        let grant = proposed(ask(LeaseGrant { ttl_ms: asked, kind: LeaseKind::Ttl }).unwrap());
        assert_eq!(grant.action, Action::LeaseGrant { ttl_ms: granted, kind: LeaseKind::Ttl });
        let open = proposed(ask(SessionOpen { ttl_ms: asked, nonce: [1; 16] }).unwrap());
        assert_eq!(open.action, Action::SessionOpen { ttl_ms: granted, nonce: [1; 16] });
    }
}

#[test]
fn a_bound_lease_needs_a_session() {
    let grant = LeaseGrant { ttl_ms: 1_000, kind: LeaseKind::Bound };
    assert_eq!(ask(grant.clone()), Err(ErrorCode::InvalidArgument));
    assert!(ask_with(Some(token(1, 0)), grant).is_ok());
}

#[test]
fn a_retry_token_is_within_its_window() {
    for (sequence, acknowledged, expected) in [
        (1, 0, None),
        (SESSION_WINDOW, 0, None),
        (SESSION_WINDOW + 1, 0, Some(ErrorCode::TooManyInFlight)),
        (u64::MAX, u64::MAX - 1, None),
        (0, 0, Some(ErrorCode::InvalidArgument)),
        (5, 5, Some(ErrorCode::InvalidArgument)),
        (5, u64::MAX, Some(ErrorCode::InvalidArgument)),
    ] {
        let asked = ask_with(Some(token(sequence, acknowledged)), put("a"));
        assert_eq!(asked.err(), expected, "{sequence} after {acknowledged}");
    }
}

#[test]
fn a_transaction_has_at_most_so_many_comparisons_and_operations() {
    let compares = |count: usize| Txn { when: vec![Compare::Exists("a".into()); count], ..Txn::default() };
    let gets = |count: usize| vec![TxnOp::Get("a".into()); count];
    for txn in [compares(TXN_OPS_MAX), Txn { then: gets(TXN_OPS_MAX), otherwise: gets(TXN_OPS_MAX), ..Txn::default() }]
    {
        assert!(ask(txn).is_ok());
    }
    for txn in [
        compares(TXN_OPS_MAX + 1),
        Txn { then: gets(TXN_OPS_MAX + 1), ..Txn::default() },
        Txn { otherwise: gets(TXN_OPS_MAX + 1), ..Txn::default() },
    ] {
        assert_eq!(ask(txn), Err(ErrorCode::TooManyOps));
    }
}

#[test]
fn every_key_and_range_of_a_request_is_checked() {
    let long: Key = "k".repeat(4_097).into();
    let backwards = || KeyRange::Span("b".into(), "a".into());
    let consistency = Consistency::Linearizable;
    let range = |range| Range { range, limit: 0, reverse: false, projection: Projection::Entries, consistency };
    let op = |range| TxnOp::Range { range, limit: 0, reverse: false, projection: Projection::Entries };
    let then = |op: TxnOp| Txn { then: vec![op], ..Txn::default() };
    let otherwise = |op: TxnOp| Txn { otherwise: vec![op], ..Txn::default() };
    let when = |compare: Compare| Txn { when: vec![compare], ..Txn::default() };
    let too_long: Vec<Request> = vec![
        Get { key: long.clone(), consistency }.into(),
        Put { key: long.clone(), ..put("a") }.into(),
        range(KeyRange::One(long.clone())).into(),
        Delete { range: KeyRange::Prefix(long.0.clone()), previous: false }.into(),
        then(TxnOp::Get(long.clone())).into(),
        then(op(KeyRange::One(long.clone()))).into(),
        otherwise(TxnOp::Put(Put { key: long.clone(), ..put("a") })).into(),
        otherwise(TxnOp::Delete(Delete { range: KeyRange::One(long.clone()), previous: false })).into(),
        when(Compare::Exists(long.clone())).into(),
        when(Compare::Lease(long.clone(), None)).into(),
        when(Compare::RangeEmpty(KeyRange::One(long))).into(),
    ];
    for request in too_long {
        assert_eq!(ask(request.clone()), Err(ErrorCode::KeyTooLong), "{}", request.name());
    }
    let reversed: Vec<Request> = vec![
        range(backwards()).into(),
        Delete { range: backwards(), previous: false }.into(),
        then(op(backwards())).into(),
        when(Compare::RangeEmpty(backwards())).into(),
    ];
    for request in reversed {
        assert_eq!(ask(request.clone()), Err(ErrorCode::InvalidRange), "{}", request.name());
    }
}
