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
        let ahead = entries.first().and_then(|entry| self.machine.take_ahead(entry.log_id));
        let rest = &entries[usize::from(ahead.is_some())..];
        let (outcomes, block) = self.machine.apply(rest).inspect_err(|error| {
            self.failing.fail(format!("the log cannot be applied: {error}"));
        })?;
        let (first, first_block) = ahead.map(|ahead| (ahead.outcomes, ahead.block)).unzip();
        for (outcomes, responder) in first.into_iter().chain(outcomes).zip(responders) {
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        for block in [first_block.flatten(), block].into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use hither_protocol::{Namespace, Revision, UnixMillis};
    use hither_state::device::MemoryState;
    use hither_state::{Action, Command};

    use super::*;
    use crate::persister;
    use crate::raft::Tokio;
    use crate::raft::types::{Commands, Entry, Payload};

    fn put(index: u64, key: &str) -> Entry {
        let put = hither_protocol::message::Put { key: key.into(), value: "v".into(), lease: None, previous: false };
        let command = Command {
            namespace: Namespace::default(),
            principal: "tester".into(),
            retry: None,
            at: UnixMillis(1),
            action: Action::Put(put),
        };
        let log_id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index };
        Entry { log_id, payload: Payload::Normal(Commands::proposed(vec![command])) }
    }

    async fn apply(applier: &mut Applier, entries: &[Entry]) {
        let asked = entries.iter().map(|entry| Ok((entry.clone(), None)));
        let applied = RaftStateMachine::<TypeConfig<Tokio>>::apply(applier, stream::iter(asked)).await;
        applied.expect("decodes");
    }

    #[tokio::test]
    async fn what_is_applied_ahead_of_raft_is_applied_once_and_only_in_its_turn() {
        let device = MemoryState::default();
        let (machine, mut applier, persister) =
            crate::testing::applier(device.clone(), Arc::default(), Failing::default()).expect("is empty");
        let versions = |keys: &[&str]| {
            let state = machine.state.read();
            let get = |key: &&str| state.get(&Namespace::default(), key.as_bytes()).map(|entry| entry.version.0);
            keys.iter().map(get).collect::<Vec<_>>()
        };

        machine.apply_ahead(&put(0, "a")).expect("decodes");
        assert_eq!(versions(&["a"]), [None], "a log that has nothing applied begins with its members");
        apply(&mut applier, &[put(0, "a")]).await;
        machine.apply_ahead(&put(2, "c")).expect("decodes");
        assert_eq!(versions(&["a", "b", "c"]), [Some(1), None, None], "the one before it is not applied");

        machine.apply_ahead(&put(1, "b")).expect("decodes");
        machine.apply_ahead(&put(2, "c")).expect("decodes");
        assert_eq!(versions(&["a", "b", "c"]), [Some(1), Some(1), None], "raft has yet to ask for the one before it");
        apply(&mut applier, &[put(1, "b"), put(2, "c")]).await;
        assert_eq!(versions(&["a", "b", "c"]), [Some(1), Some(1), Some(1)]);
        assert_eq!((machine.fingerprint().0, machine.fingerprint().1), (2, Revision(3)));

        let error = machine.apply(&[put(2, "c")]).expect_err("is applied already");
        assert_eq!(error.to_string(), "entry 2 is applied already");

        let written = persister.flush().await.expect("is written");
        assert_eq!(written.applied.map(|applied| applied.index), Some(2));
        let stored = persister::load(&device).expect("is whole").state;
        assert_eq!(stored.hash(), machine.state.read().hash(), "what was applied ahead is on disk as well");
    }
}
