//! Any value of any message.

use bytes::Bytes;
use hither_protocol::error::LeaderHint;
use hither_protocol::message::*;
use hither_protocol::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::said::Said;

/// A struct whose fields are drawn from the strategies beside them.
macro_rules! draw {
    ($name:ident { $($field:ident: $strategy:expr),* $(,)? }) => {
        ($($strategy,)*).prop_map(|($($field,)*)| $name { $($field),* }).boxed()
    };
}

/// Anything that either side may say.
pub(crate) fn said() -> BoxedStrategy<Said> {
    prop_oneof![
        2 => control(),
        3 => (context(), request()).prop_map(|(context, request)| Said::Request(context, request)),
        3 => (stamp(), reply()).prop_map(|(stamp, reply)| Said::Reply(stamp, reply)),
        1 => refusal().prop_map(Said::Refused),
        2 => watch_frame(),
    ]
    .boxed()
}

fn control() -> BoxedStrategy<Said> {
    prop_oneof![
        draw!(Hello {
            agent: text(),
            namespace: text(),
            cluster: option::of(cluster()),
            session: option::of(session()),
            seen: revision(),
        })
        .prop_map(Said::from),
        draw!(Welcome {
            lineage: lineage(),
            node: number().prop_map(NodeId),
            version: text(),
            name: text(),
            role: role(),
            term: number(),
            revision: revision(),
            leader: option::of(hint()),
            session: option::of(session_reply()),
            beat_ms: number(),
            endpoints: vec(text(), 0..4),
        })
        .prop_map(Said::from),
        Just(Said::from(Goodbye {})),
        number().prop_map(|number| KeepAlive { number }.into()),
        draw!(KeepAliveReply { number: number(), session_alive: any::<Option<bool>>() }).prop_map(Said::from),
        draw!(Beat {
            revision: revision(),
            sent: vec((watch(), number()), 0..5),
            behind: vec(watch(), 0..5),
            age_ms: number(),
            term: number(),
        })
        .prop_map(Said::from),
        draw!(Subscribe {
            watch: watch(),
            range: range(),
            start: prop_oneof![Just(Start::Now), Just(Start::Snapshot), revision().prop_map(Start::After)],
            lineage: option::of(lineage()),
            mode: prop_oneof![Just(Mode::Every), Just(Mode::Latest)],
            filter: draw!(Filter { puts: any::<bool>(), deletes: any::<bool>(), liveness: any::<bool>() }),
            previous: any::<bool>(),
            min_interval_ms: number(),
        })
        .prop_map(Said::from),
        draw!(SubscribeRefused { watch: watch(), refusal: refusal() }).prop_map(Said::from),
        watch().prop_map(|watch| CancelWatch { watch }.into()),
        number().prop_map(|number| CancelRequest { request: RequestNumber(number) }.into()),
        draw!(GoAway { retry_after_ms: number(), reason: text() }).prop_map(Said::from),
    ]
    .boxed()
}

fn request() -> BoxedStrategy<Request> {
    prop_oneof![
        draw!(Get { key: key(), consistency: consistency() }).prop_map(Request::from),
        draw!(Range {
            range: range(),
            limit: number(),
            reverse: any::<bool>(),
            projection: projection(),
            consistency: consistency(),
        })
        .prop_map(Request::from),
        put().prop_map(Request::from),
        delete().prop_map(Request::from),
        txn().prop_map(Request::from),
        draw!(LeaseGrant { ttl_ms: number(), kind: lease_kind() }).prop_map(Request::from),
        lease().prop_map(|lease| LeaseRenew { lease }.into()),
        lease().prop_map(|lease| LeaseRevoke { lease }.into()),
        draw!(LeaseInfo { lease: lease(), keys: any::<bool>() }).prop_map(Request::from),
        draw!(LeaseList { after: option::of(lease()), limit: any::<u32>() }).prop_map(Request::from),
        vec(lease(), 0..4).prop_map(|leases| LeaseCheck { leases }.into()),
        draw!(SessionOpen { ttl_ms: number(), nonce: any::<[u8; 16]>() }).prop_map(Request::from),
        session().prop_map(|session| SessionClose { session }.into()),
        draw!(Enrol { secret: bytes(), csr: bytes() }).prop_map(Request::from),
        bytes().prop_map(|csr| RenewIdentity { csr }.into()),
        draw!(ClientAdd { name: text(), role: role(), valid_ms: number() }).prop_map(Request::from),
        Just(Request::from(ClientList {})),
        text().prop_map(|name| ClientRevoke { name }.into()),
        Just(Request::from(Status {})),
    ]
    .boxed()
}

fn reply() -> BoxedStrategy<Reply> {
    prop_oneof![
        get_reply().prop_map(Reply::Get),
        range_reply().prop_map(Reply::Range),
        put_reply().prop_map(Reply::Put),
        delete_reply().prop_map(Reply::Delete),
        draw!(TxnReply {
            revision: revision(),
            succeeded: any::<bool>(),
            results: vec(txn_result(), 0..4),
            results_forgotten: any::<bool>(),
        })
        .prop_map(Reply::Txn),
        draw!(LeaseGrantReply { lease: lease(), ttl_ms: number(), epoch: number() }).prop_map(Reply::LeaseGrant),
        draw!(LeaseRenewReply { ttl_ms: number(), epoch: number() }).prop_map(Reply::LeaseRenew),
        draw!(LeaseRevokeReply { revision: revision(), deleted: number() }).prop_map(Reply::LeaseRevoke),
        draw!(LeaseInfoReply { lease: lease_status(), keys: vec(key(), 0..4) }).prop_map(Reply::LeaseInfo),
        draw!(LeaseListReply { leases: vec(lease_status(), 0..4), more: any::<bool>() }).prop_map(Reply::LeaseList),
        vec(lease(), 0..4).prop_map(|gone| Reply::LeaseCheck(LeaseCheckReply { gone })),
        draw!(SessionOpenReply { session: session(), ttl_ms: number(), epoch: number() }).prop_map(Reply::SessionOpen),
        draw!(SessionCloseReply { revision: revision(), deleted: number() }).prop_map(Reply::SessionClose),
        identity_reply(),
        status_reply().prop_map(Reply::Status),
    ]
    .boxed()
}

fn identity_reply() -> BoxedStrategy<Reply> {
    let client = draw!(ClientInfo {
        name: text(),
        role: role(),
        enrolled: any::<bool>(),
        revoked: any::<bool>(),
        created_at: time(),
        expires_at: option::of(time()),
        connections: any::<u32>(),
    });
    prop_oneof![
        draw!(EnrolReply {
            cluster: cluster(),
            name: text(),
            role: role(),
            certificate: bytes(),
            ca: bytes(),
            expires_at: time(),
            endpoints: vec(text(), 0..4),
        })
        .prop_map(Reply::Enrol),
        draw!(RenewIdentityReply { certificate: bytes(), ca: bytes(), expires_at: time() })
            .prop_map(Reply::RenewIdentity),
        draw!(ClientAddReply {
            secret: bytes(),
            ca_pin: any::<[u8; 32]>(),
            expires_at: time(),
            endpoints: vec(text(), 0..4),
        })
        .prop_map(Reply::ClientAdd),
        vec(client, 0..4).prop_map(|clients| Reply::ClientList(ClientListReply { clients })),
        any::<bool>().prop_map(|revoked| Reply::ClientRevoke(ClientRevokeReply { revoked })),
    ]
    .boxed()
}

fn status_reply() -> BoxedStrategy<StatusReply> {
    (cluster(), number(), text(), option::of(hint()), revision(), revision(), proptest::array::uniform12(number()))
        .prop_map(|(cluster, node, version, leader, revision, floor, numbers)| {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = numbers;
            StatusReply {
                cluster,
                incarnation: a,
                node: NodeId(node),
                version,
                term: b,
                leader,
                revision,
                floor,
                log_index: c,
                applied_index: d,
                keys: e,
                state_bytes: f,
                state_bytes_max: g,
                leases: h,
                sessions: i,
                connections: j,
                watches: k,
                uptime_ms: l,
            }
        })
        .boxed()
}

fn watch_frame() -> BoxedStrategy<Said> {
    prop_oneof![
        draw!(Created { revision: revision(), lineage: lineage() }).prop_map(Said::from),
        draw!(SnapshotPage { revision: revision(), entries: vec(entry(), 0..5) }).prop_map(Said::from),
        draw!(Batch { from: revision(), to: revision(), folded: any::<bool>(), events: vec(event(), 0..5) })
            .prop_map(Said::from),
        draw!(ResetPage {
            revision: revision(),
            base: revision(),
            lineage: lineage(),
            unchanged: vec(key(), 0..5),
            changed: vec(entry(), 0..5),
        })
        .prop_map(Said::from),
        prop_oneof![Just(EndReason::Cancelled), Just(EndReason::Forbidden), Just(EndReason::ShuttingDown)]
            .prop_map(|reason| End { reason }.into()),
    ]
    .boxed()
}

/// One change, as a watch tells it.
pub(crate) fn event() -> BoxedStrategy<Event> {
    prop_oneof![
        (entry(), previous()).prop_map(|(entry, previous)| Event::Put { entry, previous }),
        (key(), revision(), previous()).prop_map(|(key, revision, previous)| Event::Delete { key, revision, previous }),
        (lease(), lease_state(), revision()).prop_map(|(lease, state, revision)| Event::Liveness {
            lease,
            state,
            revision
        }),
    ]
    .boxed()
}

fn previous() -> BoxedStrategy<Previous> {
    prop_oneof![
        Just(Previous::NotAsked),
        Just(Previous::None),
        entry().prop_map(|entry| Previous::Entry(Box::new(entry))),
        Just(Previous::Forgotten),
    ]
    .boxed()
}

/// What travels beside a request.
pub(crate) fn context() -> BoxedStrategy<Context> {
    let retry = draw!(RetryToken { session: session(), sequence: sequence(), acknowledged: sequence() });
    draw!(Context { deadline_ms: option::of(number()), trace: option::of(bytes()), retry: option::of(retry) })
}

fn txn() -> BoxedStrategy<Txn> {
    let branch = || vec(txn_op(), 0..4);
    draw!(Txn { when: vec(compare(), 0..4), then: branch(), otherwise: branch() })
}

fn compare() -> BoxedStrategy<Compare> {
    let relation =
        || prop_oneof![Just(Relation::Equal), Just(Relation::NotEqual), Just(Relation::Less), Just(Relation::Greater)];
    prop_oneof![
        (key(), relation(), bytes()).prop_map(|(key, relation, value)| Compare::Value(key, relation, value)),
        (key(), relation(), number()).prop_map(|(key, relation, n)| Compare::Version(key, relation, Version(n))),
        (key(), relation(), revision()).prop_map(|(key, relation, n)| Compare::CreateRevision(key, relation, n)),
        (key(), relation(), revision()).prop_map(|(key, relation, n)| Compare::ModRevision(key, relation, n)),
        key().prop_map(Compare::Exists),
        key().prop_map(Compare::Absent),
        range().prop_map(Compare::RangeEmpty),
        (key(), option::of(lease())).prop_map(|(key, lease)| Compare::Lease(key, lease)),
    ]
    .boxed()
}

fn txn_op() -> BoxedStrategy<TxnOp> {
    prop_oneof![
        key().prop_map(TxnOp::Get),
        (range(), number(), any::<bool>(), projection()).prop_map(|(range, limit, reverse, projection)| TxnOp::Range {
            range,
            limit,
            reverse,
            projection
        }),
        put().prop_map(TxnOp::Put),
        delete().prop_map(TxnOp::Delete),
    ]
    .boxed()
}

fn txn_result() -> BoxedStrategy<TxnResult> {
    prop_oneof![
        get_reply().prop_map(TxnResult::Get),
        range_reply().prop_map(TxnResult::Range),
        put_reply().prop_map(TxnResult::Put),
        delete_reply().prop_map(TxnResult::Delete),
    ]
    .boxed()
}

fn put() -> BoxedStrategy<Put> {
    draw!(Put { key: key(), value: bytes(), lease: option::of(lease()), previous: any::<bool>() })
}

fn delete() -> BoxedStrategy<Delete> {
    draw!(Delete { range: range(), previous: any::<bool>() })
}

fn get_reply() -> BoxedStrategy<GetReply> {
    option::of(entry()).prop_map(|entry| GetReply { entry }).boxed()
}

fn range_reply() -> BoxedStrategy<RangeReply> {
    draw!(RangeReply { entries: vec(entry(), 0..4), count: number(), more: any::<bool>() })
}

fn put_reply() -> BoxedStrategy<PutReply> {
    draw!(PutReply { revision: revision(), previous: option::of(entry()) })
}

fn delete_reply() -> BoxedStrategy<DeleteReply> {
    draw!(DeleteReply { revision: revision(), deleted: number(), previous: vec(entry(), 0..4) })
}

fn lease_status() -> BoxedStrategy<LeaseStatus> {
    draw!(LeaseStatus {
        lease: lease(),
        ttl_ms: number(),
        remaining_ms: option::of(number()),
        kind: lease_kind(),
        state: lease_state(),
        epoch: number(),
        session: option::of(session()),
        keys: number(),
        owner: text(),
        granted_at: time(),
    })
}

fn entry() -> BoxedStrategy<Entry> {
    draw!(Entry {
        key: key(),
        value: bytes(),
        create_revision: revision(),
        mod_revision: revision(),
        version: number().prop_map(Version),
        lease: option::of(lease()),
    })
}

fn range() -> BoxedStrategy<KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::One),
        bytes().prop_map(KeyRange::Prefix),
        (bytes(), bytes()).prop_map(|(start, end)| KeyRange::Span(start, end)),
        Just(KeyRange::All),
    ]
    .boxed()
}

fn consistency() -> BoxedStrategy<Consistency> {
    prop_oneof![
        Just(Consistency::Linearizable),
        revision().prop_map(Consistency::AtLeast),
        number().prop_map(|max_age_ms| Consistency::Stale { max_age_ms }),
    ]
    .boxed()
}

fn projection() -> BoxedStrategy<Projection> {
    prop_oneof![Just(Projection::Entries), Just(Projection::KeysOnly), Just(Projection::CountOnly)].boxed()
}

fn session_reply() -> BoxedStrategy<SessionReply> {
    let resumed = draw!(Resumed { ttl_ms: number(), epoch: number() });
    prop_oneof![resumed.prop_map(SessionReply::Resumed), Just(SessionReply::Expired)].boxed()
}

fn stamp() -> BoxedStrategy<Stamp> {
    draw!(Stamp { revision: revision(), term: number(), node: number().prop_map(NodeId), age_ms: number() })
}

fn refusal() -> BoxedStrategy<Refusal> {
    draw!(Refusal {
        code: any::<u16>().prop_map(ErrorCode::from_number),
        applied: prop_oneof![Just(Applied::No), Just(Applied::Unknown)],
        retry: prop_oneof![Just(Retry::Never), Just(Retry::Later), Just(Retry::Elsewhere)],
        detail: text(),
        leader: option::of(hint()),
        revision: option::of(revision()),
    })
}

fn hint() -> BoxedStrategy<LeaderHint> {
    draw!(LeaderHint { node: number().prop_map(NodeId), address: text() })
}

fn role() -> BoxedStrategy<Role> {
    prop_oneof![Just(Role::Client), Just(Role::Admin)].boxed()
}

fn lease_kind() -> BoxedStrategy<LeaseKind> {
    prop_oneof![Just(LeaseKind::Ttl), Just(LeaseKind::Bound)].boxed()
}

fn lease_state() -> BoxedStrategy<LeaseState> {
    prop_oneof![Just(LeaseState::Alive), Just(LeaseState::Suspect), Just(LeaseState::Expired)].boxed()
}

fn lineage() -> BoxedStrategy<Lineage> {
    draw!(Lineage { cluster: cluster(), incarnation: number() })
}

fn cluster() -> BoxedStrategy<ClusterId> {
    any::<[u8; 16]>().prop_map(ClusterId).boxed()
}

fn revision() -> BoxedStrategy<Revision> {
    number().prop_map(Revision).boxed()
}

fn sequence() -> BoxedStrategy<SequenceNumber> {
    number().prop_map(SequenceNumber).boxed()
}

fn session() -> BoxedStrategy<SessionId> {
    number().prop_map(SessionId).boxed()
}

fn lease() -> BoxedStrategy<LeaseId> {
    number().prop_map(LeaseId).boxed()
}

fn watch() -> BoxedStrategy<WatchId> {
    number().prop_map(WatchId).boxed()
}

fn time() -> BoxedStrategy<UnixMillis> {
    number().prop_map(UnixMillis).boxed()
}

fn key() -> BoxedStrategy<Key> {
    bytes().prop_map(Key).boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![".{0,12}", "[a-z0-9:./-]{0,200}"].boxed()
}

fn bytes() -> BoxedStrategy<Bytes> {
    prop_oneof![8 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 100..400)].prop_map(Bytes::from).boxed()
}

/// Numbers of every length that a varint can have.
fn number() -> BoxedStrategy<u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift).boxed()
}
