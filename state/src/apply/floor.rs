//! What the server decides about the store as a whole.

use hither_protocol::message::Reply;
use hither_protocol::{ClusterId, Lineage, Revision};

use super::Step;
use crate::{Change, StateLimits};

impl Step<'_> {
    /// Raises the floor, but never above the present.
    pub(super) fn set_floor(&mut self, revision: Revision) -> Reply {
        let floor = revision.min(self.state.revision);
        if floor > self.state.floor {
            self.state.floor = floor;
            self.changes.push(Change::Floor { revision: floor });
        }
        self.done(0)
    }

    /// Names the history. A name once given stays, but for a restore, which raises the incarnation.
    pub(super) fn initialise(&mut self, cluster: ClusterId, incarnation: u64) -> Reply {
        let lineage = Lineage { cluster, incarnation };
        if self.state.lineage.is_none_or(|now| now.incarnation < incarnation) {
            self.state.lineage = Some(lineage);
            self.changes.push(Change::Lineage { lineage });
        }
        self.done(0)
    }

    pub(super) fn set_limits(&mut self, limits: StateLimits) -> Reply {
        if self.state.limits != limits {
            self.state.limits = limits;
            self.changes.push(Change::Limits { limits });
        }
        self.done(0)
    }
}
