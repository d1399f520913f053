//! Transactions: if, then, else; one revision.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::op;
use super::{Projection, PutReply};
use crate::codec::Message;
use crate::limits::TXN_OPS_MAX;
use crate::message::{DeleteReply, GetReply, RangeReply};
use crate::{Key, KeyRange, LeaseId, Revision, Version};

/// Runs `then` if every comparison holds, `otherwise` if not, as one step. Operations run in order and see what earlier
/// ones did. It has one revision, or none if nothing changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// The comparisons; none holds.
    #[serde(deserialize_with = "one_too_many_at_most")]
    pub when: Vec<Compare>,
    /// What to do if all hold.
    #[serde(deserialize_with = "one_too_many_at_most")]
    pub then: Vec<TxnOp>,
    /// What to do if one does not.
    #[serde(deserialize_with = "one_too_many_at_most")]
    pub otherwise: Vec<TxnOp>,
}

/// Reads a list and keeps no more of it than it takes to see that it is too long: an operation of two bytes on the wire
/// is a hundred in memory, so a frame of them all would take a hundred times its size before anyone could refuse it.
fn one_too_many_at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Capped<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Capped<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut kept = Vec::with_capacity(list.size_hint().unwrap_or(0).min(TXN_OPS_MAX + 1));
            while let Some(item) = list.next_element()? {
                if kept.len() <= TXN_OPS_MAX {
                    kept.push(item);
                }
            }
            Ok(kept)
        }
    }

    deserializer.deserialize_seq(Capped(PhantomData))
}

/// How a number or value must stand to the one given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// Less than the one given.
    Less,
    /// Greater than the one given.
    Greater,
}

/// One condition. The numbers of a key that does not exist are 0; its value equals no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// On the value. False for a key that does not exist, but for `NotEqual`.
    Value(Key, Relation, Bytes),
    /// On the version.
    Version(Key, Relation, Version),
    /// On the revision that created it.
    CreateRevision(Key, Relation, Revision),
    /// On the revision that last wrote it.
    ModRevision(Key, Relation, Revision),
    /// The key exists.
    Exists(Key),
    /// The key does not exist.
    Absent(Key),
    /// No key in the range exists.
    RangeEmpty(KeyRange),
    /// The lease it hangs on; `None` is no lease. False for a key that does not exist.
    Lease(Key, Option<LeaseId>),
}

/// One step of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// Reads a key.
    Get(Key),
    /// Reads a range.
    Range {
        /// Which keys.
        range: KeyRange,
        /// Most entries to return; 0 is no limit.
        limit: u64,
        /// From the last key to the first.
        reverse: bool,
        /// What of each.
        projection: Projection,
    },
    /// Writes a key.
    Put(super::Put),
    /// Deletes keys.
    Delete(super::Delete),
}

/// Answers [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnReply {
    /// The revision of the transaction, or the current one if nothing changed.
    pub revision: Revision,
    /// Whether the comparisons held, so that `then` ran.
    pub succeeded: bool,
    /// One result for each operation that ran. Empty on a retry whose results were too large to remember.
    pub results: Vec<TxnResult>,
    /// The results were too large to remember, and this is a retry.
    pub results_forgotten: bool,
}

/// The result of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// Of a get.
    Get(GetReply),
    /// Of a range.
    Range(RangeReply),
    /// Of a put.
    Put(PutReply),
    /// Of a delete.
    Delete(DeleteReply),
}

impl Message for Txn {
    const OP: u16 = op::TXN;
}
