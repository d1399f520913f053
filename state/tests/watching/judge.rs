//! A client that believes nothing.

use std::collections::BTreeMap;

use hither_protocol::codec::decode_body;
use hither_protocol::frame::Flags;
use hither_protocol::message::{Batch, Created, Filter, Mode, ResetPage, SnapshotPage, Start, op};
use hither_protocol::{Entry, Event, Key, KeyRange, Previous, Revision, WatchId};
use hither_state::watch::{HubBeat, WatchFrame, WatchSpec};

use super::model::Model;

/// What a client knows of its watch.
pub(crate) struct Judge {
    range: KeyRange,
    filter: Filter,
    mode: Mode,
    previous: bool,
    /// Everything up to here was received; none before the snapshot is whole.
    position: Option<Revision>,
    /// What the snapshot is to be of.
    snapshot: Option<Revision>,
    /// The history that the position belongs to is not this one: only a reset against nothing may come.
    elsewhere: bool,
    frames: u64,
    /// As beats have said.
    frames_told: u64,
    /// Parts of what is not whole yet.
    entries: Vec<Entry>,
    unchanged: Vec<Key>,
    events: Vec<Event>,
    /// Revision and base of the reset that they are parts of.
    listed: Option<(Revision, Revision)>,
}

impl Judge {
    pub(crate) fn new(spec: &WatchSpec, created: &Created, elsewhere: bool, head: Revision) -> Self {
        let (position, snapshot) = match spec.start {
            Start::Now => {
                assert_eq!(created.revision, head, "now is the present");
                (Some(head), None)
            }
            Start::Snapshot => (None, Some(created.revision)),
            Start::After(_) if elsewhere => (Some(Revision::ZERO), None),
            Start::After(revision) => {
                assert_eq!(created.revision, revision, "after what was asked for");
                (Some(revision), None)
            }
        };
        let &WatchSpec { filter, mode, previous, .. } = spec;
        let (entries, unchanged, events) = Default::default();
        let range = spec.range.clone();
        Self {
            range,
            filter,
            mode,
            previous,
            position,
            snapshot,
            elsewhere,
            frames: 0,
            frames_told: 0,
            entries,
            unchanged,
            events,
            listed: None,
        }
    }

    pub(crate) fn position(&self) -> Option<Revision> {
        self.position.filter(|_| !self.elsewhere)
    }

    pub(crate) fn receive(&mut self, frame: &WatchFrame, model: &Model) {
        self.frames += 1;
        let is_last = !frame.flags.has(Flags::MORE);
        match frame.op {
            op::SNAPSHOT => {
                let page: SnapshotPage = decode_body(&frame.body).expect("a snapshot page");
                assert_eq!(Some(page.revision), self.snapshot, "a snapshot of what was announced");
                self.entries.extend(page.entries);
                if is_last {
                    self.judge_entries(page.revision, Revision::ZERO, model);
                    self.position = Some(page.revision);
                    self.snapshot = None;
                }
            }
            op::RESET => {
                let page: ResetPage = decode_body(&frame.body).expect("a reset page");
                if let Some(position) = self.position {
                    let base = if self.elsewhere { Revision::ZERO } else { position };
                    assert!(page.base <= base, "against what the client has at most");
                } else {
                    assert_eq!(page.base, Revision::ZERO, "who has nothing gets everything");
                    self.snapshot = None;
                }
                if self.listed.replace((page.revision, page.base)) != Some((page.revision, page.base)) {
                    // What came of a list that is begun anew is void.
                    self.entries.clear();
                    self.unchanged.clear();
                }
                self.entries.extend(page.changed);
                self.unchanged.extend(page.unchanged);
                if is_last {
                    self.judge_entries(page.revision, page.base, model);
                    assert!(self.position.is_none_or(|position| self.elsewhere || position <= page.revision));
                    self.position = Some(page.revision);
                    self.elsewhere = false;
                    self.listed = None;
                }
            }
            op::BATCH => {
                let batch: Batch = decode_body(&frame.body).expect("a batch");
                self.events.extend(batch.events.iter().cloned());
                if is_last {
                    self.judge_batch(&batch, model);
                }
            }
            other => panic!("{other:#06x} on a watch stream"),
        }
    }

    fn judge_entries(&mut self, revision: Revision, base: Revision, model: &Model) {
        let entries = std::mem::take(&mut self.entries);
        assert!(entries.is_sorted_by_key(|entry| entry.mod_revision), "in order of their last write");
        assert!(entries.iter().all(|entry| entry.mod_revision > base));
        let expected = model.state(&self.range, revision);
        let (count, unchanged) = (entries.len(), self.unchanged.len());
        let mut got: BTreeMap<Key, Entry> = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        for key in std::mem::take(&mut self.unchanged) {
            let entry = expected.get(&key).expect("an unchanged key exists").clone();
            assert!(entry.mod_revision <= base, "{key} changed after {base}");
            assert!(got.insert(key, entry).is_none(), "named once");
        }
        assert_eq!(got.len(), count + unchanged, "each key once");
        assert_eq!(got, expected, "the state at {revision}");
    }

    fn judge_batch(&mut self, batch: &Batch, model: &Model) {
        assert!(!self.elsewhere, "another history begins with a reset");
        let position = self.position.expect("a snapshot comes first");
        assert!(batch.from <= position, "a gap: {batch:?} at {position}");
        assert!(batch.to >= position, "back in time: {batch:?} at {position}");
        let events = std::mem::take(&mut self.events);
        assert!(events.iter().all(|event| event.revision() > position), "again: {batch:?} at {position}");
        // The interval is a promise, also the part of it that this client has had.
        let expected = model.events(&self.range, self.filter, batch.from, batch.to);
        assert!(self.mode == Mode::Latest || !batch.folded, "every change was asked for");
        if batch.folded {
            let last = |events: &mut dyn Iterator<Item = &Event>| {
                let about = |event: &Event| match event {
                    Event::Liveness { lease, .. } => (None, Some(*lease)),
                    event => (event.key().cloned(), None),
                };
                events.map(|event| (about(event), bare(event))).collect::<BTreeMap<_, _>>()
            };
            let (got, expected) = (last(&mut events.iter()), last(&mut expected.iter().copied()));
            assert_eq!(got, expected, "the last event about each key");
            assert_eq!(events.len(), got.len(), "folded means one each");
        } else {
            let bare_of = |events: &mut dyn Iterator<Item = &Event>| events.map(bare).collect::<Vec<_>>();
            let (got, expected) = (bare_of(&mut events.iter()), bare_of(&mut expected.iter().copied()));
            assert_eq!(got, expected, "the events of ({}, {}]", batch.from, batch.to);
        }
        for event in &events {
            let asked = expected.iter().find(|expected| bare(expected) == bare(event)).expect("compared above");
            self.judge_previous(event, asked, batch.folded);
        }
        self.position = Some(batch.to);
    }

    fn judge_previous(&self, event: &Event, expected: &Event, folded: bool) {
        let (Some(got), Some(expected)) = (previous(event), previous(expected)) else { return };
        match got {
            Previous::NotAsked => assert!(!self.previous, "it was asked for"),
            // History was read from disk, or the two do not fit one frame.
            Previous::Forgotten => assert!(self.previous && *expected != Previous::None || folded),
            got => assert!(self.previous && (folded || got == expected), "{got:?} instead of {expected:?}"),
        }
    }

    /// Every frame handed out was received, so the beat holds at once.
    pub(crate) fn beat(&mut self, watch: WatchId, beat: &HubBeat, model: &Model) {
        if let Some(&(_, frames)) = beat.sent.iter().find(|&&(sent, _)| sent == watch) {
            self.frames_told = frames;
        }
        if beat.behind.contains(&watch) {
            return;
        }
        assert_eq!(self.frames_told, self.frames, "a beat counts what was sent");
        let position = self.position.expect("who waits for a snapshot is behind");
        assert!(!self.elsewhere, "who waits for a reset is behind");
        let missed = model.events(&self.range, self.filter, position, beat.revision);
        assert!(missed.is_empty(), "the beat covers up missed events: {missed:?}");
        self.position = Some(position.max(beat.revision));
    }

    pub(crate) fn is_complete(&self, head: Revision, model: &Model) {
        let position = self.position.expect("the snapshot came");
        assert!(!self.elsewhere, "the reset came");
        let missed = model.events(&self.range, self.filter, position, head);
        assert!(missed.is_empty(), "nobody says so, but these are missing: {missed:?}");
    }
}

fn previous(event: &Event) -> Option<&Previous> {
    match event {
        Event::Put { previous, .. } | Event::Delete { previous, .. } => Some(previous),
        Event::Liveness { .. } => None,
    }
}

/// The event without the entry before it.
fn bare(event: &Event) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Put { previous, .. } | Event::Delete { previous, .. } => *previous = Previous::NotAsked,
        Event::Liveness { .. } => {}
    }
    event
}
