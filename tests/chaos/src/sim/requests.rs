//! What is asked for, on its way to the server and back.

use hither::{Compare, Delete, Key, KeyRange, Put, Relation, TxnOp};
use hither_protocol::message::{LeaseRevoke, Reply, Request, Txn};

use crate::ledger::{Condition, Outcome, Plan};

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

/// What the answer to a request says of it.
pub(super) fn told(reply: &Reply) -> Outcome {
    match reply {
        Reply::Txn(reply) => Outcome::at(reply.revision, reply.succeeded),
        Reply::Delete(reply) => Outcome::at(reply.revision, reply.deleted > 0),
        Reply::LeaseRevoke(reply) => Outcome::at(reply.revision, reply.deleted > 0),
        other => panic!("nothing was asked for that {other:?} answers"),
    }
}
