//! What a watch is handed, and how it moves between lists, history and its topic.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::encode_body;
use hither_protocol::frame::Flags;
use hither_protocol::message::{End, Mode, ResetPage, SnapshotPage, op};
use hither_protocol::{Entry, Key, Lineage, Moment, Revision};

use super::batch::{self, ENVELOPE_BYTES};
use super::block::Record;
use super::history::ChangeLog;
use super::hub::WatchHub;
use super::listing::{ListId, Lists, Place, Progress};
use super::spec::{Frames, HubConfig, SubscriberId, WatchFrame};
use super::subscriber::{Pages, Phase, Subscriber};
use super::topic::{Ledger, Topic, Unread};
use crate::State;

/// When a watch asks again whose list waits for memory.
const LIST_PATIENCE: Duration = Duration::from_millis(20);

/// What one step came to.
enum Step {
    /// Something was handed out, or the watch is in another phase.
    Moved,
    /// There is more, but not in this poll.
    More,
    /// Everything was handed out.
    Done,
    /// Nothing before this moment.
    NotBefore(Moment),
}

/// What a step works with: everything of the hub but the watch itself.
struct Delivery<'a> {
    config: &'a HubConfig,
    lineage: Lineage,
    log: &'a ChangeLog,
    lists: &'a mut Lists,
    ledger: &'a mut Ledger,
    topic: &'a mut Topic,
    state: &'a State,
    now: Moment,
    out: Vec<WatchFrame>,
}

impl WatchHub {
    /// Hands out what a watch has to send: whole frames, about `bytes_max` bytes of them, at least one if there is one.
    /// What it returns is counted as sent. Unknown ids are idle.
    pub fn poll_frames(&mut self, state: &State, id: SubscriberId, bytes_max: usize, now: Moment) -> Frames {
        let Self { config, lineage, log, lists, ledger, topics, subscribers, ahead, .. } = self;
        let Some(subscriber) = subscribers.get_mut(id) else { return Frames::Idle };
        if let Some(reason) = subscriber.ending {
            self.cancel(id);
            return Frames::Ended(End { reason });
        }
        let (Some(topic), Some(lineage)) = (topics.get_mut(&subscriber.topic), *lineage) else { return Frames::Idle };
        let mut delivery = Delivery { config, lineage, log, lists, ledger, topic, state, now, out: Vec::new() };
        let step = loop {
            match delivery.step(subscriber) {
                Step::Moved if bytes(&delivery.out) >= bytes_max => {
                    break if delivery.is_done(subscriber) { Step::Done } else { Step::More };
                }
                Step::Moved => {}
                step => break step,
            }
        };
        let frames = delivery.out;
        subscriber.frames += frames.len() as u64;
        let done = matches!(step, Step::Done);
        if done {
            match subscriber.phase {
                Phase::Ahead => drop(ahead.insert((subscriber.sent_to, id))),
                _ if !std::mem::replace(&mut subscriber.waits, true) => topic.waiting.push(id),
                _ => {}
            }
            if frames.iter().any(|frame| frame.op == op::BATCH) {
                subscriber.not_before = now + subscriber.min_interval;
            }
        }
        match step {
            Step::NotBefore(moment) if frames.is_empty() => Frames::NotBefore(moment),
            Step::Done if frames.is_empty() => Frames::Idle,
            _ => Frames::Frames { frames, more: !done },
        }
    }
}

fn bytes(frames: &[WatchFrame]) -> usize {
    frames.iter().map(|frame| frame.body.len()).sum()
}

impl Delivery<'_> {
    fn step(&mut self, subscriber: &mut Subscriber) -> Step {
        match subscriber.phase {
            Phase::Stale { pages } => self.open_list(subscriber, pages),
            Phase::Listing { list, pages } => self.list(subscriber, list, pages),
            Phase::CatchUp { position } => self.catch_up(subscriber, position),
            Phase::Live { place } => self.follow(subscriber, place),
            Phase::Ahead => Step::Done,
        }
    }

    fn is_done(&self, subscriber: &Subscriber) -> bool {
        matches!(subscriber.phase, Phase::Live { place } if matches!(self.topic.unread(place), Unread::Nothing))
    }

    fn open_list(&mut self, subscriber: &mut Subscriber, pages: Pages) -> Step {
        let selector = (&self.topic.key.namespace, &self.topic.key.range);
        let Some((list, revision)) = self.lists.open(self.state, self.log, self.config, selector, self.now) else {
            return Step::NotBefore(self.now + LIST_PATIENCE);
        };
        subscriber.phase = Phase::Listing { list, pages: pages.anew(revision) };
        Step::Moved
    }

    /// The next page of a snapshot or a reset.
    fn list(&mut self, subscriber: &mut Subscriber, id: ListId, pages: Pages) -> Step {
        match self.lists.gather(id, self.state, self.config, self.now) {
            Progress::Partial => return Step::More,
            Progress::Waits => return Step::NotBefore(self.now + LIST_PATIENCE),
            Progress::Whole => {}
            // The list was kept for too long.
            Progress::Gone => {
                subscriber.phase = Phase::Stale { pages };
                return Step::Moved;
            }
        }
        let Some(list) = self.lists.get(id) else { return Step::Moved };
        let revision = list.revision;
        let Pages { base, sent } = pages;
        let page = Page::cut(&list.entries, sent.map(|(_, place)| place), base, self.config.page_bytes);
        let flags = if page.is_last { Flags::default() } else { Flags::MORE };
        let sent = page.after.map(|place| (revision, place));
        let (op, body) = page.encode(revision, base, self.lineage);
        self.out.push(WatchFrame { op, flags, body });
        if flags.has(Flags::MORE) {
            subscriber.phase = Phase::Listing { list: id, pages: Pages { base, sent } };
        } else {
            self.lists.release(id);
            subscriber.sent_to = revision;
            subscriber.phase = Phase::CatchUp { position: revision };
        }
        Step::Moved
    }

    /// The next batch out of history.
    fn catch_up(&mut self, subscriber: &mut Subscriber, position: Revision) -> Step {
        let head = self.log.head();
        if position == head {
            if subscriber.sent_to < head {
                // The topic's next batch may begin here: without this one it would look like a gap.
                let from = std::mem::replace(&mut subscriber.sent_to, head);
                self.out.extend(batch::frames(from, head, false, &[], self.config.frame_bytes_max));
            }
            let place = self.topic.join(head, self.config.frame_bytes_max, self.ledger);
            subscriber.phase = Phase::Live { place };
            return Step::Moved;
        }
        if position > head {
            subscriber.phase = Phase::Ahead;
            return Step::Moved;
        }
        if position < self.log.floor() {
            subscriber.phase = Phase::Stale { pages: Pages::reset(subscriber.sent_to) };
            return Step::Moved;
        }
        let found = Found::scan(self.log, position, self.topic, self.config);
        if !found.records.is_empty() {
            if self.now < subscriber.not_before {
                return Step::NotBefore(subscriber.not_before);
            }
            let (events, folded) = found.encode(subscriber.mode, self.topic.key.previous, self.config);
            let from = subscriber.sent_to;
            self.out.extend(batch::frames(from, found.to, folded, &events, self.config.frame_bytes_max));
            subscriber.sent_to = found.to;
        }
        subscriber.phase = Phase::CatchUp { position: found.to };
        // Others wait for the hub: a long way through history is made in pieces.
        if found.to < head && found.records.is_empty() { Step::More } else { Step::Moved }
    }

    /// The next batch of the topic's list.
    fn follow(&mut self, subscriber: &mut Subscriber, place: u64) -> Step {
        let behind = match self.topic.unread(place) {
            Unread::Nothing => return Step::Done,
            Unread::Lost(begin) => Some(begin.previous()),
            // Several batches at once can be folded into one, if history still has them.
            Unread::Batches(count, begin) => (subscriber.mode == Mode::Latest && count > 1)
                .then(|| begin.previous())
                .filter(|&position| position >= self.log.floor()),
        };
        if self.now < subscriber.not_before {
            return Step::NotBefore(subscriber.not_before);
        }
        if let Some(position) = behind {
            self.topic.leave(place, self.ledger);
            subscriber.phase = Phase::CatchUp { position: position.max(subscriber.sent_to) };
            return Step::Moved;
        }
        if let Some(to) = self.topic.read(place, self.config.frame_bytes_max, self.ledger, &mut self.out) {
            subscriber.sent_to = to;
            subscriber.phase = Phase::Live { place: place + 1 };
        }
        Step::Moved
    }
}

/// Events of history that a topic sees.
struct Found<'a> {
    records: Vec<&'a Record>,
    /// Everything up to here was looked at.
    to: Revision,
}

impl<'a> Found<'a> {
    /// Whole revisions after `position`, until there are enough for a batch or enough was looked at.
    fn scan(log: &'a ChangeLog, position: Revision, topic: &Topic, config: &HubConfig) -> Self {
        let mut records = Vec::new();
        let (mut bytes, mut scanned) = (0, 0);
        for block in log.after(position) {
            for record in block.records.iter() {
                if record.is_for(&topic.key.namespace, &topic.key.range, topic.key.filter) {
                    bytes += record.body_bytes();
                    records.push(record);
                }
            }
            scanned += block.records.len();
            if bytes >= config.page_bytes || scanned >= config.scan_max {
                return Self { records, to: block.revision };
            }
        }
        Self { records, to: log.head() }
    }

    /// The events, and whether some were folded: of those about the same key, `Latest` gets the last, with the entry
    /// before the first.
    fn encode(&self, mode: Mode, previous: bool, config: &HubConfig) -> (Vec<Bytes>, bool) {
        let bytes_max = config.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        if mode == Mode::Every {
            return (self.records.iter().map(|record| record.encoded(previous, bytes_max)).collect(), false);
        }
        let mut ends = BTreeMap::new();
        for (index, record) in self.records.iter().enumerate() {
            ends.entry(record.about()).or_insert((index, index)).1 = index;
        }
        let folded = ends.len() < self.records.len();
        let kept = self.records.iter().enumerate().filter_map(|(index, record)| {
            let &(first, last) = ends.get(&record.about())?;
            if index != last {
                return None;
            }
            Some(match self.records.get(first).and_then(|first| first.before()) {
                Some(before) if previous => record.encoded_after(before, bytes_max),
                _ => record.encoded(false, bytes_max),
            })
        });
        (kept.collect(), folded)
    }
}

/// A page of a list.
struct Page {
    unchanged: Vec<Key>,
    changed: Vec<Entry>,
    after: Option<Place>,
    is_last: bool,
}

impl Page {
    /// What follows `after`, up to about `bytes_max` bytes. With a base, entries from before it are only named.
    fn cut(entries: &BTreeMap<Place, Entry>, after: Option<Place>, base: Option<Revision>, bytes_max: usize) -> Self {
        let mut page = Self { unchanged: Vec::new(), changed: Vec::new(), after, is_last: true };
        let mut bytes = 0;
        let first = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        for (&place, entry) in entries.range((first, std::ops::Bound::Unbounded)) {
            if bytes >= bytes_max {
                page.is_last = false;
                break;
            }
            page.after = Some(place);
            if base.is_some_and(|base| entry.mod_revision <= base) {
                bytes += size_of::<u16>() + entry.key.as_bytes().len();
                page.unchanged.push(entry.key.clone());
            } else {
                bytes += size_of::<Entry>() / 2 + entry.key.as_bytes().len() + entry.value.len();
                page.changed.push(entry.clone());
            }
        }
        page
    }

    fn encode(self, revision: Revision, base: Option<Revision>, lineage: Lineage) -> (u16, Bytes) {
        let Self { unchanged, changed, .. } = self;
        let mut body = BytesMut::new();
        if let Some(base) = base {
            encode_body(&mut body, &ResetPage { revision, base, lineage, unchanged, changed });
            return (op::RESET, body.freeze());
        }
        encode_body(&mut body, &SnapshotPage { revision, entries: changed });
        (op::SNAPSHOT, body.freeze())
    }
}
