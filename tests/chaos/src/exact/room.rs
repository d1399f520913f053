//! How much of history writers may fill before the reference reader has seen it: less than the server keeps, so that this
//! reader is never told a reset, wherever a kill finds it.

use std::sync::Arc;

use hither::{KeyRange, Revision};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keys::NEIGHBOURS_MAX;
use super::world::HISTORY_BYTES_MAX;
use crate::history::Truth;
use crate::ledger::Plan;

/// History is trimmed to fifteen sixteenths, by whole revisions, and has in it what nobody asked for: the ends of leases.
const BYTES_MAX: usize = HISTORY_BYTES_MAX / 3 * 2;
/// Most that an event counts for beside its value: the server's own account, a key twice and the value of before.
const EVENT_BYTES: usize = 480;
/// What a lease changes when it ends: its standing and its keys, of which it has three at most.
const REVOKED_EVENTS: usize = 4;

/// Room in history.
#[derive(Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    truth: Arc<Truth>,
}

/// Room for one request.
#[must_use]
pub(crate) struct Taken {
    permit: OwnedSemaphorePermit,
    truth: Arc<Truth>,
}

impl Room {
    pub(crate) fn new(truth: Arc<Truth>) -> Self {
        Self { free: Arc::new(Semaphore::new(BYTES_MAX)), truth }
    }

    /// Waits until there is room for all that `plan` may do.
    pub(crate) async fn take(&self, plan: &Plan) -> Taken {
        let bytes = u32::try_from(bytes(plan).min(BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free).acquire_many_owned(bytes).await;
        let permit = permit.unwrap_or_else(|_| unreachable!("nobody closes it"));
        Taken { permit, truth: Arc::clone(&self.truth) }
    }
}

impl Taken {
    /// The request made this revision: its room is free again once the reader is there. Dropped, it is free at once.
    pub(crate) fn until(self, revision: Revision) {
        tokio::spawn(async move {
            self.truth.reached(revision).await;
            drop(self.permit);
        });
    }
}

fn bytes(plan: &Plan) -> usize {
    match plan {
        Plan::Write { puts, deletes, .. } => {
            let values: usize = puts.iter().map(|(_, value)| value.len()).sum();
            (puts.len() + deletes.len()) * EVENT_BYTES + values
        }
        Plan::Delete(KeyRange::One(_)) => EVENT_BYTES,
        Plan::Delete(_) => NEIGHBOURS_MAX * EVENT_BYTES,
        Plan::Revoke(_) => REVOKED_EVENTS * EVENT_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use hither::UpdateKind;

    use super::*;
    use crate::history::tests::{put, update};

    fn large() -> Plan {
        let puts = vec![("k".into(), vec![0; BYTES_MAX / 2].into())];
        Plan::Write { when: None, puts, deletes: Vec::new(), lease: None }
    }

    #[tokio::test]
    async fn a_writer_waits_until_the_reader_has_what_fills_history() {
        let truth = Arc::new(Truth::new());
        truth.take(&update(UpdateKind::Snapshot, 1, Vec::new()), Instant::now()).expect("a beginning");
        let room = Room::new(Arc::clone(&truth));
        let plan = large();
        room.take(&plan).await.until(Revision(2));
        let second = room.take(&plan);
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err(), "the reader is at 1");
        truth.take(&update(UpdateKind::Changes, 2, vec![put("k", 2, 2, 1)]), Instant::now()).expect("a put");
        let second = second.await;
        drop(second);
        // Nothing came of it, so nothing is to be read.
        let _third = room.take(&plan).await;
    }
}
