//! Leases, as far as they need no log entry.

use hither_protocol::message::{
    Consistency, LeaseCheck, LeaseCheckReply, LeaseInfo, LeaseInfoReply, LeaseList, LeaseListReply, LeaseRenew,
    LeaseStatus, Reply, Stamp,
};
use hither_protocol::{ErrorCode, LeaseId, Refusal};
use hither_state::LeaseView;
use hither_state::door::{Caller, LeaseRequest};

use super::Service;

/// Most leases of one list: what fits a frame with room to spare.
const LIST_MAX: usize = 1_000;
/// Leases to look at under one lock: those of other namespaces are passed over.
const SCAN_MAX: usize = 4_096;
/// Most bytes of keys in one answer; a lease with more shows its first ones.
const KEYS_BYTES_MAX: usize = 1024 * 1024;

impl Service {
    pub(super) async fn lease(&self, caller: &Caller, request: LeaseRequest) -> Result<(Stamp, Reply), Refusal> {
        match request {
            LeaseRequest::Renew(renew) => self.renew(caller, &renew).await,
            LeaseRequest::Info(info) => self.lease_info(caller, &info).await,
            LeaseRequest::List(list) => self.lease_list(caller, &list).await,
            LeaseRequest::Check(asked) => self.lease_check(caller, asked).await,
        }
    }

    async fn renew(&self, caller: &Caller, renew: &LeaseRenew) -> Result<(Stamp, Reply), Refusal> {
        // A lease of another namespace does not exist for the caller. One that is not known here yet may exist.
        let is_others = {
            let state = self.engine.machine().state.read();
            state.lease(renew.lease).is_some_and(|lease| lease.record.namespace != caller.namespace)
        };
        if is_others {
            return Err(not_found(renew.lease));
        }
        let reply = self.engine.renew(renew.lease).await?;
        Ok((self.stamp_of_now().await, Reply::LeaseRenew(reply)))
    }

    async fn lease_info(&self, caller: &Caller, info: &LeaseInfo) -> Result<(Stamp, Reply), Refusal> {
        let mut stamp = self.engine.barrier(Consistency::Linearizable).await?;
        let state = self.engine.machine().state.read();
        stamp.revision = state.revision();
        let lease = state
            .lease(info.lease)
            .filter(|lease| lease.record.namespace == caller.namespace)
            .ok_or_else(|| not_found(info.lease))?;
        let mut bytes = 0;
        let fits = |key: &&hither_protocol::Key| {
            bytes += key.as_bytes().len() + 4;
            bytes <= KEYS_BYTES_MAX
        };
        let keys = if info.keys { lease.keys().take_while(fits).cloned().collect() } else { Vec::new() };
        Ok((stamp, Reply::LeaseInfo(LeaseInfoReply { lease: self.lease_status(&lease), keys })))
    }

    async fn lease_list(&self, caller: &Caller, list: &LeaseList) -> Result<(Stamp, Reply), Refusal> {
        let mut stamp = self.engine.barrier(Consistency::Linearizable).await?;
        let limit = match list.limit as usize {
            0 => LIST_MAX,
            limit => limit.min(LIST_MAX),
        };
        let mut reply = LeaseListReply { leases: Vec::new(), more: false };
        let mut after = list.after;
        loop {
            stamp.revision = self.engine.machine().state.read().revision();
            after = self.list_some(caller, after, limit, &mut reply);
            if after.is_none() {
                return Ok((stamp, Reply::LeaseList(reply)));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Adds the caller's leases after `after`; returns where to go on, if the list is not done.
    fn list_some(
        &self,
        caller: &Caller,
        mut after: Option<LeaseId>,
        limit: usize,
        reply: &mut LeaseListReply,
    ) -> Option<LeaseId> {
        let state = self.engine.machine().state.read();
        let mut seen = 0;
        for lease in state.leases(after).take(SCAN_MAX) {
            seen += 1;
            after = Some(lease.id);
            if lease.record.namespace != caller.namespace {
                continue;
            }
            if reply.leases.len() == limit {
                reply.more = true;
                return None;
            }
            reply.leases.push(self.lease_status(&lease));
        }
        if seen == SCAN_MAX { after } else { None }
    }

    async fn lease_check(&self, caller: &Caller, asked: LeaseCheck) -> Result<(Stamp, Reply), Refusal> {
        let mut stamp = self.engine.barrier(Consistency::Linearizable).await?;
        let state = self.engine.machine().state.read();
        stamp.revision = state.revision();
        let is_gone =
            |lease: &LeaseId| state.lease(*lease).is_none_or(|lease| lease.record.namespace != caller.namespace);
        let mut gone = asked.leases;
        gone.retain(is_gone);
        Ok((stamp, Reply::LeaseCheck(LeaseCheckReply { gone })))
    }

    fn lease_status(&self, lease: &LeaseView<'_>) -> LeaseStatus {
        let record = lease.record;
        LeaseStatus {
            lease: lease.id,
            ttl_ms: record.ttl_ms,
            remaining_ms: self.engine.remaining_ms(lease.id),
            kind: record.kind,
            state: record.state,
            epoch: record.epoch,
            session: record.session,
            keys: lease.keys_len() as u64,
            owner: record.owner.to_string(),
            granted_at: record.granted_at,
        }
    }
}

fn not_found(lease: LeaseId) -> Refusal {
    Refusal::new(ErrorCode::LeaseNotFound, format!("lease {lease} does not exist"))
}
