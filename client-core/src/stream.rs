//! The arithmetic of one watch: where it is, and whether what arrives follows.

use hither_protocol::message::{Batch, Created, ResetPage, SnapshotPage, Start};
use hither_protocol::{Entry, Lineage, Revision};

use crate::spec::WatchSpec;
use crate::update::{Update, UpdateKind};
use crate::view::{View, told};

/// One watch, across all the streams that carry it: each connection has another.
///
/// Its position is the revision up to which the application was told everything. Only whole revisions move it, so what
/// a broken stream left half-told is fetched again.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    spec: WatchSpec,
    view: View,
    position: Option<Revision>,
    lineage: Option<Lineage>,
    /// The newest revision told in `lineage`: never told less, whatever a server that lags says.
    told: Revision,
    created: Option<Lineage>,
    /// The server that carries it now has confirmed the position.
    live: bool,
    assembly: Assembly,
}

/// What has arrived of something that takes several frames.
#[derive(Clone, Debug, Default)]
enum Assembly {
    #[default]
    Nothing,
    Snapshot(Revision, Vec<Entry>),
    Batch(Batch),
    Reset(ResetPage),
}

/// What a frame came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More is to come.
    Wait,
    /// The application is told this.
    Tell(Update),
    /// It does not follow: the watch must be opened again where it is.
    Gap(&'static str),
    /// What the application knows is no longer known here: the watch must be opened again from a snapshot.
    Restart,
}

impl Stream {
    pub(crate) fn new(spec: WatchSpec, view: View) -> Self {
        let position = match spec.start {
            Start::After(revision) => Some(revision),
            Start::Now | Start::Snapshot => None,
        };
        let told = Revision::ZERO;
        Self { spec, view, position, lineage: None, told, created: None, live: false, assembly: Assembly::Nothing }
    }

    pub(crate) const fn spec(&self) -> &WatchSpec {
        &self.spec
    }

    pub(crate) const fn view(&self) -> &View {
        &self.view
    }

    pub(crate) const fn position(&self) -> Option<Revision> {
        self.position
    }

    /// Whether a server has opened the stream that carries it now.
    pub(crate) const fn is_created(&self) -> bool {
        self.created.is_some()
    }

    /// Whether the position is the present, as of the last beat.
    pub(crate) const fn is_live(&self) -> bool {
        self.live
    }

    /// A copy that goes its own way from here, for one application that cannot keep up.
    pub(crate) fn split(&self) -> Self {
        let mut copy = self.clone();
        copy.view.drop_entries();
        copy.handle_lost();
        copy
    }

    /// Others will not join.
    pub(crate) fn keep_to_itself(&mut self) {
        self.view.drop_entries();
    }

    /// From where to open it.
    pub(crate) const fn start(&self) -> (Start, Option<Lineage>) {
        match self.position {
            Some(position) => (Start::After(position), self.lineage),
            None => (self.spec.start, None),
        }
    }

    /// The stream that carried it is no more.
    pub(crate) fn handle_lost(&mut self) {
        self.created = None;
        self.live = false;
        self.assembly = Assembly::Nothing;
    }

    /// A server opened it. Returns where it begins.
    pub(crate) fn handle_created(&mut self, created: &Created) -> Revision {
        self.created = Some(created.lineage);
        if self.lineage.is_none() && self.spec.start != Start::Snapshot {
            self.lineage = Some(created.lineage);
            let position = *self.position.get_or_insert(created.revision);
            self.told = position;
        }
        self.position.unwrap_or(created.revision)
    }

    pub(crate) fn handle_snapshot(&mut self, page: SnapshotPage, more: bool) -> Step {
        let Some(lineage) = self.created else { return Step::Gap("a snapshot before the watch was opened") };
        if self.position.is_some() {
            return Step::Gap("a snapshot that was not asked for");
        }
        let entries = match std::mem::take(&mut self.assembly) {
            Assembly::Nothing => page.entries,
            Assembly::Snapshot(revision, mut entries) if revision == page.revision => {
                entries.extend(page.entries);
                entries
            }
            _ => return Step::Gap("the pages of a snapshot do not belong together"),
        };
        if more {
            self.assembly = Assembly::Snapshot(page.revision, entries);
            return Step::Wait;
        }
        if self.lineage == Some(lineage) && page.revision < self.told {
            return Step::Gap("a snapshot older than what was told");
        }
        self.view.replace(&entries);
        self.move_to(lineage, page.revision);
        let events = entries.into_iter().map(told).collect();
        Step::Tell(Update { revision: page.revision, kind: UpdateKind::Snapshot, events, folded: false })
    }

    /// Returns the step, and how many events were dropped because they were told before.
    pub(crate) fn handle_batch(&mut self, batch: Batch, more: bool) -> (Step, u64) {
        let Some(position) = self.position else { return (Step::Gap("changes before the watch has a position"), 0) };
        if self.created.is_none() || self.created != self.lineage {
            return (Step::Gap("changes of another history"), 0);
        }
        if batch.from > position {
            return (Step::Gap("changes that begin after the watch's position"), 0);
        }
        let batch = match std::mem::take(&mut self.assembly) {
            Assembly::Nothing => batch,
            Assembly::Batch(mut begun) if (begun.from, begun.to) == (batch.from, batch.to) => {
                begun.folded |= batch.folded;
                begun.events.extend(batch.events);
                begun
            }
            _ => return (Step::Gap("the frames of a batch do not belong together"), 0),
        };
        if more {
            self.assembly = Assembly::Batch(batch);
            return (Step::Wait, 0);
        }
        if !is_sound(&batch) {
            return (Step::Gap("changes that are not in the interval they name, or not in order"), 0);
        }
        let mut events = batch.events;
        let arrived = events.len();
        events.retain(|event| event.revision() > position);
        let duplicates = u64::try_from(arrived - events.len()).unwrap_or(u64::MAX);
        let to = batch.to.max(position);
        self.position = Some(to);
        self.told = self.told.max(to);
        self.view.apply(&events);
        if events.is_empty() {
            return (Step::Wait, duplicates);
        }
        (Step::Tell(Update { revision: to, kind: UpdateKind::Changes, events, folded: batch.folded }), duplicates)
    }

    pub(crate) fn handle_reset(&mut self, page: ResetPage, more: bool) -> Step {
        // In place of a snapshot that the server could not keep until it was sent: everything, then.
        let is_snapshot = self.position.is_none() && page.base == Revision::ZERO;
        if self.created.is_none() || self.position.is_none() && !is_snapshot {
            return Step::Gap("a reset before the watch has a position");
        }
        let page = match std::mem::take(&mut self.assembly) {
            Assembly::Nothing | Assembly::Snapshot(..) => page,
            Assembly::Reset(mut begun)
                if (begun.revision, begun.base, begun.lineage) == (page.revision, page.base, page.lineage) =>
            {
                begun.unchanged.extend(page.unchanged);
                begun.changed.extend(page.changed);
                begun
            }
            // What came of another reset is void.
            Assembly::Reset(_) => page,
            Assembly::Batch(_) => return Step::Gap("a reset in the middle of a batch"),
        };
        if more {
            self.assembly = Assembly::Reset(page);
            return Step::Wait;
        }
        if is_snapshot {
            self.created = Some(page.lineage);
            return self.handle_snapshot(SnapshotPage { revision: page.revision, entries: page.changed }, false);
        }
        if self.lineage == Some(page.lineage) && page.revision < self.told {
            return Step::Gap("a reset older than what was told");
        }
        let whole = self.spec.start == Start::Snapshot;
        if whole && (self.view.is_lost() || !self.view.knows(&page.unchanged)) {
            self.position = None;
            return Step::Restart;
        }
        let events = self.view.difference(&page, self.spec.filter, self.spec.previous);
        self.view.reset(&page);
        self.move_to(page.lineage, page.revision);
        self.created = Some(page.lineage);
        Step::Tell(Update { revision: page.revision, kind: UpdateKind::Reset, events, folded: true })
    }

    /// Every event up to `revision` that matches has arrived.
    pub(crate) fn handle_beat(&mut self, revision: Revision) {
        let whole = matches!(self.assembly, Assembly::Nothing);
        if let (true, true, Some(position)) = (whole, self.created == self.lineage, self.position) {
            self.position = Some(position.max(revision));
            self.told = self.told.max(revision);
            self.live = true;
        }
    }

    const fn move_to(&mut self, lineage: Lineage, revision: Revision) {
        self.live = true;
        self.lineage = Some(lineage);
        self.position = Some(revision);
        self.told = revision;
    }
}

/// Whether the events are in the interval, in order.
fn is_sound(batch: &Batch) -> bool {
    let mut last = batch.from;
    batch.from <= batch.to
        && batch.events.iter().all(|event| {
            let revision = event.revision();
            let follows = revision >= last && revision > batch.from && revision <= batch.to;
            last = revision;
            follows
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hither_protocol::Event;
    use hither_protocol::message::{Filter, Mode};
    use hither_protocol::{ClusterId, KeyRange, Previous, Version};

    fn lineage(incarnation: u64) -> Lineage {
        Lineage { cluster: ClusterId([1; 16]), incarnation }
    }

    fn stream(start: Start) -> Stream {
        let spec = WatchSpec {
            range: KeyRange::All,
            start,
            mode: Mode::Every,
            filter: Filter::default(),
            previous: false,
            min_interval_ms: 0,
        };
        Stream::new(spec, View::new(100, 10_000, false))
    }

    fn entry(key: &str, revision: u64) -> Entry {
        Entry {
            key: key.into(),
            value: "v".into(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: Version(1),
            lease: None,
        }
    }

    fn put(key: &str, revision: u64) -> Event {
        told(entry(key, revision))
    }

    fn batch(from: u64, to: u64, events: Vec<Event>) -> Batch {
        Batch { from: Revision(from), to: Revision(to), folded: false, events }
    }

    fn opened(start: Start, revision: u64) -> Stream {
        let mut stream = stream(start);
        stream.handle_created(&Created { revision: Revision(revision), lineage: lineage(1) });
        stream
    }

    fn told_revisions(step: &Step) -> Vec<u64> {
        match step {
            Step::Tell(update) => update.events.iter().map(|event| event.revision().0).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_that_begins_after_the_position_is_a_gap_and_moves_nothing() {
        let mut stream = opened(Start::Now, 5);
        assert!(matches!(stream.handle_batch(batch(6, 8, vec![put("a", 7)]), false).0, Step::Gap(_)));
        assert_eq!(stream.start(), (Start::After(Revision(5)), Some(lineage(1))));
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut stream = opened(Start::Now, 5);
        let (step, duplicates) = stream.handle_batch(batch(5, 7, vec![put("a", 6), put("b", 7)]), false);
        assert_eq!((told_revisions(&step), duplicates), (vec![6, 7], 0));
        let (step, duplicates) = stream.handle_batch(batch(4, 9, vec![put("a", 6), put("b", 7), put("c", 9)]), false);
        assert_eq!((told_revisions(&step), duplicates), (vec![9], 2));
        let (step, duplicates) = stream.handle_batch(batch(2, 6, vec![put("a", 6)]), false);
        assert_eq!((step, duplicates), (Step::Wait, 1));
        assert_eq!(stream.position(), Some(Revision(9)));
    }

    #[test]
    fn a_revision_is_told_whole_or_not_at_all() {
        let mut stream = opened(Start::Now, 5);
        assert_eq!(stream.handle_batch(batch(5, 6, vec![put("a", 6)]), true).0, Step::Wait);
        assert_eq!(stream.position(), Some(Revision(5)));
        stream.handle_lost();
        assert_eq!(stream.start().0, Start::After(Revision(5)));
        stream.handle_created(&Created { revision: Revision(5), lineage: lineage(1) });
        assert_eq!(stream.handle_batch(batch(5, 6, vec![put("a", 6)]), true).0, Step::Wait);
        let step = stream.handle_batch(batch(5, 6, vec![put("b", 6)]), false).0;
        assert_eq!(told_revisions(&step), [6, 6]);
    }

    #[test]
    fn a_batch_that_lies_about_its_interval_is_a_gap() {
        let lies = [
            batch(5, 6, vec![put("a", 7)]),
            batch(5, 9, vec![put("a", 8), put("b", 7)]),
            batch(5, 9, vec![put("a", 5)]),
            batch(5, 4, vec![]),
        ];
        for lie in lies {
            let mut stream = opened(Start::Now, 5);
            assert!(matches!(stream.handle_batch(lie.clone(), false).0, Step::Gap(_)), "{lie:?}");
        }
    }

    #[test]
    fn a_snapshot_that_broke_off_is_asked_for_again() {
        let mut stream = opened(Start::Snapshot, 5);
        let page = |key| SnapshotPage { revision: Revision(5), entries: vec![entry(key, 3)] };
        assert_eq!(stream.handle_snapshot(page("a"), true), Step::Wait);
        stream.handle_beat(Revision(9));
        stream.handle_lost();
        assert_eq!(stream.start(), (Start::Snapshot, None));
        stream.handle_created(&Created { revision: Revision(5), lineage: lineage(1) });
        assert_eq!(stream.handle_snapshot(page("a"), true), Step::Wait);
        let Step::Tell(update) = stream.handle_snapshot(page("b"), false) else { panic!("no snapshot") };
        assert_eq!((update.kind, update.events.len()), (UpdateKind::Snapshot, 2));
        assert_eq!(stream.start(), (Start::After(Revision(5)), Some(lineage(1))));
    }

    #[test]
    fn a_beat_moves_a_whole_watch_and_not_a_half_told_one() {
        let mut stream = opened(Start::Now, 5);
        stream.handle_beat(Revision(8));
        assert_eq!(stream.position(), Some(Revision(8)));
        assert_eq!(stream.handle_batch(batch(8, 9, vec![put("a", 9)]), true).0, Step::Wait);
        stream.handle_beat(Revision(12));
        assert_eq!(stream.position(), Some(Revision(8)));
    }

    #[test]
    fn another_history_is_told_as_a_reset_and_never_as_changes() {
        let mut stream = opened(Start::Now, 5);
        stream.handle_batch(batch(5, 6, vec![put("a", 6)]), false);
        stream.handle_lost();
        stream.handle_created(&Created { revision: Revision(6), lineage: lineage(2) });
        assert!(matches!(stream.handle_batch(batch(6, 8, vec![put("b", 8)]), false).0, Step::Gap(_)));
        let page = ResetPage {
            revision: Revision(3),
            base: Revision::ZERO,
            lineage: lineage(2),
            unchanged: vec![],
            changed: vec![entry("b", 2)],
        };
        let Step::Tell(update) = stream.handle_reset(page, false) else { panic!("no reset") };
        assert_eq!(update.kind, UpdateKind::Reset);
        assert_eq!(update.events.len(), 2, "b is new, a is gone: {:?}", update.events);
        assert!(matches!(&update.events[1], Event::Delete { previous: Previous::NotAsked, .. }));
        assert_eq!(stream.start(), (Start::After(Revision(3)), Some(lineage(2))));
    }

    #[test]
    fn a_list_that_the_server_begins_anew_voids_what_came_of_it() {
        let reset = |revision, base, key| ResetPage {
            revision: Revision(revision),
            base: Revision(base),
            lineage: lineage(1),
            unchanged: vec![],
            changed: vec![entry(key, 7)],
        };
        let mut stream = opened(Start::Snapshot, 5);
        let page = SnapshotPage { revision: Revision(5), entries: vec![entry("void", 3)] };
        assert_eq!(stream.handle_snapshot(page, true), Step::Wait);
        assert_eq!(stream.handle_reset(reset(8, 0, "void too"), true), Step::Wait);
        assert_eq!(stream.handle_reset(reset(9, 0, "a"), true), Step::Wait);
        let Step::Tell(update) = stream.handle_reset(reset(9, 0, "b"), false) else { panic!("no snapshot") };
        assert_eq!((update.kind, update.revision, update.events.len()), (UpdateKind::Snapshot, Revision(9), 2));
        assert_eq!(stream.start(), (Start::After(Revision(9)), Some(lineage(1))));

        let mut stream = opened(Start::Now, 5);
        assert_eq!(stream.handle_reset(reset(8, 5, "void"), true), Step::Wait);
        let Step::Tell(update) = stream.handle_reset(reset(9, 5, "a"), false) else { panic!("no reset") };
        assert_eq!((update.kind, update.events.len()), (UpdateKind::Reset, 1));
    }

    #[test]
    fn a_reset_that_names_keys_never_told_restarts_from_a_snapshot() {
        let mut stream = opened(Start::Snapshot, 5);
        stream.handle_snapshot(SnapshotPage { revision: Revision(5), entries: vec![entry("a", 3)] }, false);
        let page = ResetPage {
            revision: Revision(9),
            base: Revision(5),
            lineage: lineage(1),
            unchanged: vec!["a".into(), "never told".into()],
            changed: vec![],
        };
        assert_eq!(stream.handle_reset(page, false), Step::Restart);
        assert_eq!(stream.start(), (Start::Snapshot, None));
        let old = SnapshotPage { revision: Revision(4), entries: vec![] };
        assert!(matches!(stream.handle_snapshot(old, false), Step::Gap(_)), "time went backwards");
    }
}
