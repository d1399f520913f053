//! A list of any length, read a page at a time at one revision, so that nobody waits for it and it is never in memory
//! as a whole.

use std::collections::VecDeque;

use hither_protocol::limits::LANE_BODY_BYTES_MAX;
use hither_protocol::message::{Projection, Range, RangeReply, Stamp};
use hither_protocol::{Entry, Key, Namespace};
use hither_state::{Pin, RangeQuery};

use crate::engine::Engine;

/// Bytes of entries after which a frame of a long list ends: large enough to be worth its header, small enough that a
/// page of a thousand large values is not copied at once.
const FRAME_BYTES: usize = 256 * 1024;
/// What an entry costs on the wire beside its key and value, at most.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A list under way.
pub(crate) struct Pages {
    engine: Engine,
    namespace: Namespace,
    range: Range,
    stamp: Stamp,
    /// Keeps the revision readable once there is more than one page.
    pin: Option<Pin>,
    /// Read and not yet handed out.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries that may still be read.
    left: u64,
    count: u64,
    /// The last key that was read or counted.
    after: Option<Key>,
    /// Nothing is left to read or count.
    is_read: bool,
    /// The limit left entries out.
    more: bool,
    is_over: bool,
}

impl Pages {
    pub(super) fn new(engine: Engine, namespace: Namespace, range: Range, stamp: Stamp) -> Self {
        let left = match range.projection {
            Projection::CountOnly => 0,
            _ if range.limit == 0 => u64::MAX,
            _ => range.limit,
        };
        Self {
            engine,
            namespace,
            range,
            stamp,
            pin: None,
            entries: VecDeque::new(),
            bytes: 0,
            left,
            count: 0,
            after: None,
            is_read: false,
            more: false,
            is_over: false,
        }
    }

    /// Where the list comes from.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The whole list, if it is small enough for a lane.
    pub(super) async fn gather(&mut self) -> Option<RangeReply> {
        const BYTES_MAX: usize = LANE_BODY_BYTES_MAX - ENTRY_OVERHEAD_BYTES;
        while !self.is_read && self.bytes <= BYTES_MAX {
            self.read_page();
            if !self.is_read {
                tokio::task::yield_now().await;
            }
        }
        (self.is_read && self.bytes <= BYTES_MAX).then(|| self.take(usize::MAX).0)
    }

    /// The next frame's worth of the list, and whether another follows.
    pub(crate) async fn next(&mut self) -> Option<(RangeReply, bool)> {
        if self.is_over {
            return None;
        }
        while !self.is_read && self.bytes < FRAME_BYTES {
            self.read_page();
            tokio::task::yield_now().await;
        }
        let (reply, is_last) = self.take(FRAME_BYTES);
        self.is_over = is_last;
        Some((reply, !is_last))
    }

    fn take(&mut self, bytes_max: usize) -> (RangeReply, bool) {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.entries.front() {
            let weight = weight(entry);
            if bytes > 0 && bytes + weight > bytes_max {
                break;
            }
            bytes += weight;
            entries.extend(self.entries.pop_front());
        }
        self.bytes -= bytes;
        let is_last = self.is_read && self.entries.is_empty();
        let (count, more) = if is_last { (self.count, self.more) } else { (0, false) };
        (RangeReply { entries, count, more }, is_last)
    }

    /// Reads or counts one page.
    fn read_page(&mut self) {
        let state = self.engine.machine().state.read();
        let projection = if self.left == 0 { Projection::CountOnly } else { self.range.projection };
        let query = RangeQuery {
            after: self.after.take(),
            limit: usize::try_from(self.left).unwrap_or(usize::MAX),
            reverse: self.range.reverse,
            projection,
            pin: self.pin.as_ref(),
            ..RangeQuery::new(&self.range.range)
        };
        let page = state.range(&self.namespace, &query);
        if self.pin.is_none() {
            self.stamp.revision = page.revision;
            if page.next.is_some() {
                self.pin = Some(state.pin());
            }
        }
        drop(state);
        self.count += page.count;
        if projection == Projection::CountOnly {
            self.more |= page.count > 0 && self.range.projection != Projection::CountOnly;
        }
        self.left = self.left.saturating_sub(page.entries.len() as u64);
        self.bytes += page.entries.iter().map(weight).sum::<usize>();
        self.entries.extend(page.entries);
        self.after = page.next;
        self.is_read = self.after.is_none();
        if self.is_read {
            self.pin = None;
        }
    }
}

fn weight(entry: &Entry) -> usize {
    entry.key.as_bytes().len() + entry.value.len() + ENTRY_OVERHEAD_BYTES
}
