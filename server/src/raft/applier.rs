//! Raft's state machine: hands committed entries to the [`Machine`], what they changed to the [`Persister`], and the
//! outcomes to who waits for them.
//!
//! A snapshot is nothing of its own: building one is making the state on disk durable, sending one is reading the state
//! in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hither_state::device::Space;
use hither_state::image::{self, Meta};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use parking_lot::Mutex;

use super::Runtime;
use super::record::invalid;
use super::types::{LeaderId, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::engine::{Failing, Member};
use crate::machine::{Machine, Standing};
use crate::persister::{Image, Persister, decode_standing, encode_standing};

/// Drives the machine.
#[derive(Clone, Debug)]
pub(crate) struct Applier {
    machine: Arc<Machine>,
    persister: Persister,
    failing: Failing,
    /// How far the state on disk went when a snapshot was last asked for; what raft may purge.
    durable: Arc<Mutex<Option<Standing>>>,
}

/// What a snapshot holds.
#[derive(Debug)]
pub(crate) enum SnapshotData {
    /// The state in memory, as new as it is when it is read.
    Here(Arc<Machine>),
    /// All of another node's state.
    Received(Box<Image>),
}

impl Applier {
    /// `standing` is how far the state on disk goes.
    pub(crate) fn new(machine: Arc<Machine>, persister: Persister, standing: Standing, failing: Failing) -> Self {
        let durable = standing.applied.is_some().then_some(standing);
        Self { machine, persister, failing, durable: Arc::new(Mutex::new(durable)) }
    }

    fn snapshot(&self, standing: &Standing) -> Snapshot<LeaderId, u64, Member, SnapshotData> {
        let Standing { applied, membership } = standing;
        let meta = SnapshotMeta { last_log_id: *applied, last_membership: StoredMembership::clone(membership) };
        Snapshot { meta, snapshot: SnapshotData::Here(self.machine.clone()) }
    }
}

impl Machine {
    /// All of the state. Holds its lock for as long as it takes to copy it.
    pub(crate) fn image(&self) -> Image {
        let state = self.state.read();
        let standing = self.standing();
        let applied = standing.applied.map_or(0, |applied| applied.index);
        let meta = Meta::of(&state, applied, encode_standing(&standing));
        let rows: Vec<(Space, Bytes, Bytes)> = image::all_rows(&state).collect();
        Image { rows, meta }
    }
}

impl<R: Runtime> RaftStateMachine<TypeConfig<R>> for Applier {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let Standing { applied, membership } = self.machine.standing();
        Ok((applied, StoredMembership::clone(&membership)))
    }

    async fn apply<S>(&mut self, mut stream: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig<R>>>> + Unpin + OptionalSend,
    {
        let mut entries = Vec::new();
        let mut responders = Vec::new();
        while let Some(next) = stream.next().await {
            let (entry, responder) = next?;
            entries.push(entry);
            responders.push(responder);
        }
        let (outcomes, block) = self.machine.apply(&entries).inspect_err(|error| {
            self.failing.fail(format!("the log cannot be applied: {error}"));
        })?;
        for (outcomes, responder) in outcomes.into_iter().zip(responders) {
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        if let Some(block) = block {
            self.persister.push(block);
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Self> {
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        let image = match data {
            SnapshotData::Here(machine) => machine.image(),
            SnapshotData::Received(image) => *image,
        };
        let standing = decode_standing(&image.meta.opaque)?;
        if standing.applied != meta.last_log_id {
            return Err(invalid("a snapshot that is not what it is announced as"));
        }
        let stored = self.persister.replace(image).await.inspect_err(|error| {
            self.failing.fail(format!("a snapshot cannot be installed: {error}"));
        })?;
        *self.durable.lock() = Some(stored.standing.clone());
        self.machine.install(stored.state, stored.history, stored.standing);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<LeaderId, u64, Member, SnapshotData>>> {
        let durable = self.durable.lock().clone();
        Ok(durable.map(|standing| self.snapshot(&standing)))
    }
}

impl<R: Runtime> RaftSnapshotBuilder<TypeConfig<R>> for Applier {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<LeaderId, u64, Member, SnapshotData>> {
        let standing = self.persister.flush().await?;
        *self.durable.lock() = Some(standing.clone());
        Ok(self.snapshot(&standing))
    }
}
