//! Updates of a watch as they cross to JavaScript: one block of bytes for all that wait, since a value that is made at
//! the border costs as much as a hundred bytes that are copied. `ts/batch.ts` reads it; this page has the layout.
//!
//! Numbers are little-endian. What has a length is found by order: each text begins where the one before it ended.
//!
//! ```text
//! batch     values      the bytes of values, and of keys that are not UTF-8
//!           texts       keys and leases, UTF-8
//!           updates
//!           u32 u32 u32 where the texts begin, where the updates begin, how many there are
//! update    u64 revision, u32 events, u16 kind (0 snapshot, 1 changes, 2 reset), u16 folded (0 or 1), the events
//! event     u32 kind (0 put, 1 delete, 2 liveness)
//!           put        u32 previous, entry
//!           delete     u32 previous, u32 key's form, u32 key's length, u64 revision
//!           liveness   u32 state (0 alive, 1 suspect, 2 expired), u32 lease's length, u64 revision
//!           then, if previous is 3, the entry before it
//! previous  0 not asked, 1 none, 2 forgotten, 3 an entry
//! entry     u32 key's form, u32 key's length, u32 lease's length (0: none), u32 value's length,
//!           u64 create revision, u64 mod revision, u64 version
//! form      0 a text, 1 bytes among the values, before the entry's own, 2 the key before it in this batch
//! ```
//!
//! The length of a text is in UTF-16 units, as JavaScript counts. A value of [`APART_MIN`] bytes or more is not among
//! the values: it is the next buffer of those that come with the batch.

use std::cell::Cell;

use hither::{Entry, Event, Key, LeaseId, LeaseState, Previous, Update, UpdateKind};
use napi::bindgen_prelude::{BufferSlice, ToNapiValue};

use crate::port::{Tell, heavy};
use crate::tell::{self, Value};

/// From here on a value is a buffer of its own: it is not copied on JavaScript's thread, and who keeps it keeps no more.
const APART_MIN: usize = tell::EXTERNAL_MIN;

const KEY_TEXT: u32 = 0;
const KEY_BYTES: u32 = 1;
const KEY_AGAIN: u32 = 2;

const PREVIOUS_ENTRY: u32 = 3;

/// A sheet that is larger is not kept.
const SHEET_BYTES_MAX: usize = 256 << 10;

thread_local! {
    /// Written on by every batch of a thread in turn, so that it grows once.
    static SHEET: Cell<Sheet> = const { Cell::new(Sheet { values: Vec::new(), texts: String::new(), updates: Vec::new() }) };
}

/// What a batch is written on. The parts are put together when each has its size.
#[derive(Debug, Default)]
struct Sheet {
    values: Vec<u8>,
    texts: String,
    updates: Vec<u8>,
}

impl Sheet {
    const fn len(&self) -> usize {
        self.values.len() + self.texts.len() + self.updates.len()
    }

    fn wipe(&mut self) {
        self.values.clear();
        self.texts.clear();
        self.updates.clear();
    }
}

/// Updates, written down.
#[derive(Debug)]
pub(crate) struct Batch {
    sheet: Sheet,
    count: u32,
    events: usize,
    apart: Vec<Value>,
    key: Option<Key>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { sheet: SHEET.take(), count: 0, events: 0, apart: Vec::new(), key: None }
    }

    /// Whether nothing was written down.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Events so far; an update without one counts too.
    pub(crate) const fn events(&self) -> usize {
        self.events
    }

    /// Bytes so far.
    pub(crate) const fn bytes(&self) -> usize {
        self.sheet.len()
    }

    /// Writes an update down.
    pub(crate) fn push(&mut self, update: Update) {
        let Update { revision, kind, events, folded } = update;
        self.count += 1;
        self.events += events.len().max(1);
        self.u64(revision.0);
        self.length(events.len());
        let kind: u32 = match kind {
            UpdateKind::Snapshot => 0,
            UpdateKind::Changes => 1,
            UpdateKind::Reset => 2,
        };
        self.u32(kind | u32::from(folded) << 16);
        for event in events {
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Put { entry, previous } => {
                self.u32(0);
                self.u32(form(&previous));
                self.entry(entry);
                self.previous(previous);
            }
            Event::Delete { key, revision, previous } => {
                self.u32(1);
                self.u32(form(&previous));
                self.key(key);
                self.u64(revision.0);
                self.previous(previous);
            }
            Event::Liveness { lease, state, revision } => {
                self.u32(2);
                self.u32(match state {
                    LeaseState::Alive => 0,
                    LeaseState::Suspect => 1,
                    LeaseState::Expired => 2,
                });
                self.lease(Some(lease));
                self.u64(revision.0);
            }
        }
    }

    fn previous(&mut self, previous: Previous) {
        if let Previous::Entry(entry) = previous {
            self.entry(*entry);
        }
    }

    fn entry(&mut self, entry: Entry) {
        let Entry { key, value, create_revision, mod_revision, version, lease } = entry;
        self.key(key);
        self.lease(lease);
        self.length(value.len());
        self.u64(create_revision.0);
        self.u64(mod_revision.0);
        self.u64(version.0);
        if value.len() < APART_MIN {
            self.sheet.values.extend_from_slice(&value);
        } else {
            self.apart.push(value.into());
        }
    }

    fn key(&mut self, key: Key) {
        if self.key.as_ref() == Some(&key) {
            self.u32(KEY_AGAIN);
            self.u32(0);
            return;
        }
        if let Ok(text) = std::str::from_utf8(key.as_bytes()) {
            self.u32(KEY_TEXT);
            self.text(text);
        } else {
            self.u32(KEY_BYTES);
            self.length(key.as_bytes().len());
            self.sheet.values.extend_from_slice(key.as_bytes());
        }
        self.key = Some(key);
    }

    fn lease(&mut self, lease: Option<LeaseId>) {
        match lease {
            Some(lease) => self.text(&lease.to_string()),
            None => self.u32(0),
        }
    }

    /// Its length among the updates, itself among the texts.
    fn text(&mut self, text: &str) {
        self.length(if text.is_ascii() { text.len() } else { text.encode_utf16().count() });
        self.sheet.texts.push_str(text);
    }

    fn length(&mut self, length: usize) {
        // What the core holds of a watch is bounded far below.
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn u32(&mut self, number: u32) {
        self.sheet.updates.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.sheet.updates.extend_from_slice(&number.to_le_bytes());
    }

    /// The batch, and after it the values that are apart.
    pub(crate) fn into_tell(mut self) -> Tell {
        let texts = self.sheet.values.len();
        let updates = texts + self.sheet.texts.len();
        self.length(texts);
        self.length(updates);
        self.u32(self.count);
        let bytes = [&self.sheet.values, self.sheet.texts.as_bytes(), &self.sheet.updates].concat();
        let apart = std::mem::take(&mut self.apart);
        heavy(self.events, move |env| {
            let mut list = env.create_array(1)?;
            // Not copied into JavaScript's heap, however small: what it shares its memory with must not be taken away by
            // who transfers one value to another thread, and Node does not transfer what it does not own.
            list.set(0, BufferSlice::from_data(env, bytes)?)?;
            for value in apart {
                list.insert(value.tell(env)?)?;
            }
            list.into_unknown(env)
        })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.sheet.len() <= SHEET_BYTES_MAX {
            let mut sheet = std::mem::take(&mut self.sheet);
            sheet.wipe();
            SHEET.set(sheet);
        }
    }
}

const fn form(previous: &Previous) -> u32 {
    match previous {
        Previous::NotAsked => 0,
        Previous::None => 1,
        Previous::Forgotten => 2,
        Previous::Entry(_) => PREVIOUS_ENTRY,
    }
}
