//! What is asked for, on its way to the server and back.

use hither::{Compare, Delete, Key, KeyRange, Put, Relation, Revision, TxnOp};
use hither_protocol::message::{LeaseRevoke, Reply, Request, Txn};

use crate::ledger::{Condition, Plan};

/// Puts without a lease.
pub(super) const fn write(when: Option<Condition>, puts: Vec<(Key, bytes::Bytes)>, deletes: Vec<Key>) -> Plan {
    Plan::Write { when, puts, deletes, lease: None }
}

/// A plan as a request.
pub(super) fn request(plan: &Plan) -> Request {
    match plan.clone() {
        Plan::Delete(range) => Delete { range, previous: false }.into(),
        Plan::Revoke(lease) => LeaseRevoke { lease }.into(),
        Plan::Write { when, puts, deletes, lease } => {
            let put = |(key, value)| TxnOp::Put(Put { key, value, lease, previous: false });
            let delete = |key| TxnOp::Delete(Delete { range: KeyRange::One(key), previous: false });
            let when = when.map(|Condition { key, value }| match value {
                Some(value) => Compare::Value(key, Relation::Equal, value),
                None => Compare::Absent(key),
            });
            let then = puts.into_iter().map(put).chain(deletes.into_iter().map(delete)).collect();
            Txn { when: when.into_iter().collect(), then, otherwise: Vec::new() }.into()
        }
    }
}

/// The revision at which a request took effect, as its answer says.
pub(super) fn effect(reply: &Reply) -> Option<Revision> {
    match reply {
        Reply::Txn(reply) => reply.succeeded.then_some(reply.revision),
        Reply::Delete(reply) => (reply.deleted > 0).then_some(reply.revision),
        Reply::LeaseRevoke(reply) => (reply.deleted > 0).then_some(reply.revision),
        _ => None,
    }
}
