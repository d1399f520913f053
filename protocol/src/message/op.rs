//! The numbers of the operations. Append-only: a number, once released, keeps its meaning.

/// Set on the op of a reply; the rest is the op of the request.
pub const REPLY: u16 = 0x8000;
/// A reply that says no.
pub const ERROR: u16 = 0xFFFF;

/// Control lane.
pub const HELLO: u16 = 0x0001;
/// Control lane, answer to Hello.
pub const WELCOME: u16 = 0x0002;
/// Control lane, client: it leaves for good; its session and bound leases end now.
pub const GOODBYE: u16 = 0x0003;
/// Control lane, client: it is alive.
pub const KEEP_ALIVE: u16 = 0x0004;
/// Control lane, server: the answer, once the leader knows.
pub const KEEP_ALIVE_REPLY: u16 = 0x0005;
/// Control lane, server: how far every synced watch of the connection is.
pub const BEAT: u16 = 0x0006;
/// Control lane, client: open a watch.
pub const SUBSCRIBE: u16 = 0x0007;
/// Control lane, server: no watch was opened.
pub const SUBSCRIBE_REFUSED: u16 = 0x0008;
/// Control lane, client: close a watch.
pub const CANCEL_WATCH: u16 = 0x0009;
/// Control lane, client: nobody waits for this request any more.
pub const CANCEL_REQUEST: u16 = 0x000A;
/// Control lane, server: go elsewhere, or here again later.
pub const GO_AWAY: u16 = 0x000B;

/// Request lane.
pub const GET: u16 = 0x0101;
/// Request lane.
pub const RANGE: u16 = 0x0102;
/// Request lane.
pub const PUT: u16 = 0x0103;
/// Request lane.
pub const DELETE: u16 = 0x0104;
/// Request lane.
pub const TXN: u16 = 0x0105;

/// Request lane.
pub const LEASE_GRANT: u16 = 0x0201;
/// Request lane.
pub const LEASE_RENEW: u16 = 0x0202;
/// Request lane.
pub const LEASE_REVOKE: u16 = 0x0203;
/// Request lane.
pub const LEASE_INFO: u16 = 0x0204;
/// Request lane.
pub const LEASE_LIST: u16 = 0x0205;
/// Request lane.
pub const SESSION_OPEN: u16 = 0x0206;
/// Request lane.
pub const SESSION_CLOSE: u16 = 0x0207;
/// Request lane.
pub const LEASE_CHECK: u16 = 0x0208;

/// Enrolment connection.
pub const ENROL: u16 = 0x0301;
/// Request lane.
pub const RENEW_IDENTITY: u16 = 0x0302;
/// Request lane, admin.
pub const CLIENT_ADD: u16 = 0x0303;
/// Request lane, admin.
pub const CLIENT_LIST: u16 = 0x0304;
/// Request lane, admin.
pub const CLIENT_REVOKE: u16 = 0x0305;

/// Request lane.
pub const STATUS: u16 = 0x0401;

/// Watch stream: the first frame.
pub const CREATED: u16 = 0x0501;
/// Watch stream: a page of the state that the watch starts from.
pub const SNAPSHOT: u16 = 0x0502;
/// Watch stream: events.
pub const BATCH: u16 = 0x0503;
/// Watch stream: history is gone; a page of the difference.
pub const RESET: u16 = 0x0504;
/// Watch stream: the last frame.
pub const END: u16 = 0x0505;
