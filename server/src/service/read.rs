//! Reads of keys: wait until the local state is fresh enough, then look.

use hither_protocol::Refusal;
use hither_protocol::message::{Get, GetReply, Range, Reply};
use hither_state::door::Caller;

use super::{Answer, Pages, Service};

impl Service {
    pub(super) async fn get(&self, caller: &Caller, get: Get) -> Result<Answer, Refusal> {
        let mut stamp = self.engine.barrier(get.consistency).await?;
        let state = self.engine.machine().state.read();
        stamp.revision = state.revision();
        let entry = state.get(&caller.namespace, get.key.as_bytes());
        Ok(Answer::Whole(stamp, Reply::Get(GetReply { entry })))
    }

    pub(super) async fn range(&self, caller: &Caller, range: Range) -> Result<Answer, Refusal> {
        let stamp = self.engine.barrier(range.consistency).await?;
        let mut pages = Pages::new(self.engine.clone(), caller.namespace.clone(), range, stamp);
        Ok(match pages.gather().await {
            Some(reply) => Answer::Whole(pages.stamp(), Reply::Range(reply)),
            None => Answer::Pages(Box::new(pages)),
        })
    }
}
