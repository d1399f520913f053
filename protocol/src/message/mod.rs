//! What the two sides say to each other: one frozen type per op and version.

mod context;
mod control;
mod identity;
mod kv;
mod lease;
pub mod op;
mod request;
mod status;
mod txn;
mod watch;

pub use context::{Context, RetryToken};
pub use control::{
    Beat, CancelRequest, CancelWatch, GoAway, Goodbye, Hello, KeepAlive, KeepAliveReply, Resumed, SessionReply,
    Subscribe, SubscribeRefused, Welcome,
};
pub use identity::{
    ClientAdd, ClientAddReply, ClientInfo, ClientList, ClientListReply, ClientRevoke, ClientRevokeReply, Enrol,
    EnrolReply, RenewIdentity, RenewIdentityReply, Role,
};
pub use kv::{Consistency, Delete, DeleteReply, Get, GetReply, Projection, Put, PutReply, Range, RangeReply, Stamp};
pub use lease::{
    LeaseCheck, LeaseCheckReply, LeaseGrant, LeaseGrantReply, LeaseInfo, LeaseInfoReply, LeaseKind, LeaseList,
    LeaseListReply, LeaseRenew, LeaseRenewReply, LeaseRevoke, LeaseRevokeReply, LeaseStatus, SessionClose,
    SessionCloseReply, SessionOpen, SessionOpenReply,
};
pub use request::{Reply, Request, encode_refusal};
pub use status::{Status, StatusReply};
pub use txn::{Compare, Relation, Txn, TxnOp, TxnReply, TxnResult};
pub use watch::{Batch, Created, End, EndReason, Filter, Mode, ResetPage, SnapshotPage, Start};
