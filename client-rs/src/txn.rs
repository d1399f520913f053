//! Transactions: if, then, else; one revision.

use std::future::IntoFuture;
use std::time::Duration;

use hither_client_core::Error;
use hither_protocol::ErrorCode;
use hither_protocol::limits::TXN_OPS_MAX;
use hither_protocol::message::{Compare, Stamp, Txn, TxnOp, TxnReply};

use crate::client::Client;
use crate::kv::{Calling, check_value};

impl Client {
    /// A transaction: runs what follows `then` if every `when` holds, what follows `or_else` if not, as one step.
    ///
    /// ```no_run
    /// # async fn example(client: hither::Client) -> Result<(), hither::Error> {
    /// use hither::{Compare, Put, TxnOp};
    /// let key = hither::Key::from("jobs/1/owner");
    /// let put = Put { key: key.clone(), value: "me".into(), lease: None, previous: false };
    /// let reply = client.txn().when(Compare::Absent(key)).then(TxnOp::Put(put)).await?;
    /// println!("it is {}", if reply.succeeded { "mine" } else { "taken" });
    /// # Ok(())
    /// # }
    /// ```
    pub fn txn(&self) -> Txns {
        Txns { client: self.clone(), txn: Txn::default(), timeout: None }
    }
}

/// A transaction, to be awaited. Made by [`Client::txn`].
#[must_use = "nothing is sent until it is awaited"]
#[derive(Clone, Debug)]
pub struct Txns {
    client: Client,
    txn: Txn,
    timeout: Option<Duration>,
}

impl Txns {
    /// Adds a condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.txn.when.push(compare);
        self
    }

    /// Adds a step to what runs if every condition holds.
    pub fn then(mut self, op: TxnOp) -> Self {
        self.txn.then.push(op);
        self
    }

    /// Adds a step to what runs if a condition does not hold.
    pub fn or_else(mut self, op: TxnOp) -> Self {
        self.txn.otherwise.push(op);
        self
    }

    /// How long the call may take in all. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Runs it, and says where the answer comes from.
    ///
    /// # Errors
    /// `TooManyOps`, `DuplicateKeyInTxn`, those of its steps, and those of every call.
    pub async fn stamped(self) -> Result<(Stamp, TxnReply), Error> {
        check(&self.txn)?;
        self.client.ask(self.txn, self.timeout).await
    }
}

impl IntoFuture for Txns {
    type Output = Result<TxnReply, Error>;
    type IntoFuture = Calling<TxnReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.stamped().await.map(|(_, reply)| reply) })
    }
}

fn check(txn: &Txn) -> Result<(), Error> {
    let longest = txn.when.len().max(txn.then.len()).max(txn.otherwise.len());
    if longest > TXN_OPS_MAX {
        let detail = format!("the transaction has {longest} steps or conditions, the limit is {TXN_OPS_MAX}");
        return Err(Error::new(ErrorCode::TooManyOps, detail));
    }
    txn.then.iter().chain(&txn.otherwise).try_for_each(|op| match op {
        TxnOp::Get(key) => Ok(key.check()?),
        TxnOp::Range { range, .. } => Ok(range.check()?),
        TxnOp::Put(put) => {
            put.key.check()?;
            check_value(&put.value)
        }
        TxnOp::Delete(delete) => Ok(delete.range.check()?),
    })
}
