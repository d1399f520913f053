//! A frame: one write of the log, as it lies in a [segment](super::segment).
//!
//! Numbers are big-endian.
//!
//! ```text
//! magic 4 | length of the body u32 | cycle u64 | synced u64 | segment u64 | crc of the frame u32 | crc of these u32
//! body: items, each a kind u8 and what it needs
//! ```
//!
//! The checksum of the frame continues that of the frame before, so that a frame that is missing, or is from another
//! time, breaks the chain. The header has a checksum of its own, so that it is believed even where the chain is broken:
//! `synced` then still says what was durable when it was written.

use std::io;

use bytes::{Buf, BufMut, Bytes};

/// What a frame begins with: the version, and the way to find headers in a file that is too damaged to be parsed.
const MAGIC: [u8; 4] = *b"Hlg1";
pub(super) const HEADER_BYTES: usize = 40;
/// What the checksum of the frame covers of its header.
const COVERED: std::ops::Range<usize> = 4..32;
/// Of a record, beside its payload: length and checksum.
pub(super) const RECORD_BYTES: usize = 8;

const STATE: u8 = 0;
const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;
const VOTE: u8 = 4;
const COMMITTED: u8 = 5;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the body.
    pub(super) length: u32,
    /// The number of the write.
    pub(super) cycle: u64,
    /// The last cycle that was known to be durable then.
    pub(super) synced: u64,
    /// The segment that it was written to.
    pub(super) segment: u64,
    /// The checksum of the frame and all before it.
    pub(super) chain: u32,
}

impl Header {
    /// Completes a frame whose body follows the room for its header. `chain` is that of the frame before.
    pub(super) fn seal(mut self, frame: &mut [u8], chain: u32) -> Self {
        self.put(&mut frame[..HEADER_BYTES]);
        self.chain = checksum(chain, frame);
        self.put(&mut frame[..HEADER_BYTES]);
        self
    }

    fn put(&self, mut out: &mut [u8]) {
        let Self { length, cycle, synced, segment, chain } = *self;
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u32(length);
        [cycle, synced, segment].into_iter().for_each(|number| bytes.put_u64(number));
        bytes.put_u32(chain);
        bytes.put_u32(crc32c::crc32c(&bytes));
        out.put_slice(&bytes);
    }

    /// A header that is whole; what follows it may not be.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let (covered, mut crc) = bytes.split_at(HEADER_BYTES - 4);
        if !bytes.starts_with(&MAGIC) || crc32c::crc32c(covered) != crc.get_u32() {
            return None;
        }
        let mut fields = &covered[MAGIC.len()..];
        Some(Self {
            length: fields.get_u32(),
            cycle: fields.get_u64(),
            synced: fields.get_u64(),
            segment: fields.get_u64(),
            chain: fields.get_u32(),
        })
    }

    /// The body of a frame that is whole and follows one whose checksum was `chain`.
    pub(super) fn body(&self, bytes: &Bytes, at: usize, chain: u32) -> Option<Bytes> {
        let end = at.checked_add(HEADER_BYTES)?.checked_add(self.length as usize)?;
        let frame = bytes.get(at..end)?;
        (checksum(chain, frame) == self.chain).then(|| bytes.slice(at + HEADER_BYTES..end))
    }

    /// Every whole header among these bytes, wherever it lies.
    pub(super) fn find_all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        let candidates = bytes.windows(HEADER_BYTES).filter(|window| window.starts_with(&MAGIC));
        candidates.filter_map(Self::read)
    }
}

fn checksum(chain: u32, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &frame[COVERED]), &frame[HEADER_BYTES..])
}

/// The checksum of a record, which a reader checks without the rest of its frame.
pub(super) fn record_checksum(index: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&index.to_be_bytes()), payload)
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Everything there is to know without the segments before; the first frame of a segment is this and no more.
    State(Box<State>),
    /// Records, from this index on: where the payload of each lies in the body.
    Append(u64, Vec<std::ops::Range<usize>>),
    /// Records from this index on are gone.
    Truncate(u64),
    /// Records before this index are gone; how far the state was durable, and what to remember of the last one.
    Purge(u64, u64, Bytes),
    Vote(Bytes),
    Committed(Bytes),
}

/// What a log is, its records aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The row of the data directory's identity.
    pub(super) identity: [u8; 32],
    /// The checksum of the frame before.
    pub(super) chain: u32,
    /// Index of the first record.
    pub(super) first: u64,
    /// One more than the index of the last record; `first` if there is none.
    pub(super) next: u64,
    /// Whether the next record has to be `next`. Only a log that never had a record, or lost all to a truncation
    /// without ever being purged, begins anywhere.
    pub(super) anchored: bool,
    /// One more than the last purged index; 0 if nothing was purged.
    pub(super) purged: u64,
    /// How far the state was durable when the log was last purged.
    pub(super) state_cut: u64,
    /// What to remember of the last purged record.
    pub(super) last_purged: Option<Bytes>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
}

impl State {
    pub(super) const fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// # Errors
    /// The records do not follow those that are there.
    pub(super) fn append(&mut self, first: u64, count: usize) -> io::Result<()> {
        if self.anchored && first != self.next {
            let next = self.next;
            return Err(io::Error::other(format!("record {first} cannot follow: the log goes on at {next}")));
        }
        if self.is_empty() {
            (self.first, self.anchored) = (first, true);
        }
        self.next = first + count as u64;
        Ok(())
    }

    /// Records from `next` on are gone.
    pub(super) fn truncate(&mut self, next: u64) {
        if self.is_empty() || next >= self.next {
            return;
        }
        if next <= self.first {
            (self.first, self.next) = (self.purged, self.purged);
            self.anchored = self.purged > 0;
        } else {
            self.next = next;
        }
    }

    /// Records before `purged` are gone. False if they were before.
    pub(super) fn purge(&mut self, purged: u64, state_cut: u64, last: Bytes) -> bool {
        if purged <= self.purged {
            return false;
        }
        if self.is_empty() || purged >= self.next {
            (self.first, self.next, self.anchored) = (purged, purged, true);
        } else {
            self.first = self.first.max(purged);
        }
        (self.purged, self.state_cut, self.last_purged) = (purged, state_cut, Some(last));
        true
    }
}

pub(super) fn put_state(out: &mut Vec<u8>, state: &State) {
    let State { identity, chain, first, next, anchored, purged, state_cut, last_purged, vote, committed } = state;
    out.put_u8(STATE);
    out.put_slice(identity);
    out.put_u32(*chain);
    [*first, *next, u64::from(*anchored), *purged, *state_cut].into_iter().for_each(|number| out.put_u64(number));
    for row in [last_purged, vote, committed] {
        out.put_u8(u8::from(row.is_some()));
        put_bytes(out, row.as_deref().unwrap_or_default());
    }
}

/// `payloads` are those of consecutive records; says where in `out` each record begins.
pub(super) fn put_append<'p>(
    out: &mut Vec<u8>,
    first: u64,
    payloads: impl ExactSizeIterator<Item = &'p Bytes>,
    mut begins: impl FnMut(usize),
) {
    out.put_u8(APPEND);
    out.put_u64(first);
    out.put_u32(len_u32(payloads.len()));
    for (index, payload) in (first..).zip(payloads) {
        begins(out.len());
        out.put_u32(len_u32(payload.len()));
        out.put_u32(record_checksum(index, payload));
        out.put_slice(payload);
    }
}

pub(super) fn put_truncate(out: &mut Vec<u8>, next: u64) {
    out.put_u8(TRUNCATE);
    out.put_u64(next);
}

pub(super) fn put_purge(out: &mut Vec<u8>, purged: u64, state_cut: u64, last: &[u8]) {
    out.put_u8(PURGE);
    out.put_u64(purged);
    out.put_u64(state_cut);
    put_bytes(out, last);
}

pub(super) fn put_vote(out: &mut Vec<u8>, vote: &[u8]) {
    out.put_u8(VOTE);
    put_bytes(out, vote);
}

pub(super) fn put_committed(out: &mut Vec<u8>, committed: &[u8]) {
    out.put_u8(COMMITTED);
    put_bytes(out, committed);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(len_u32(bytes.len()));
    out.put_slice(bytes);
}

/// The items of a body; none if it is not one.
pub(super) fn items(body: &Bytes) -> Option<Vec<Item>> {
    let mut rest = Rest { body, at: 0 };
    let mut items = Vec::new();
    while rest.at < body.len() {
        items.push(match rest.take(1)?[0] {
            STATE => Item::State(Box::new(rest.state()?)),
            APPEND => {
                let (first, count) = (rest.u64()?, rest.u32()?);
                let mut payloads = Vec::new();
                for _ in 0..count {
                    let (length, _crc) = (rest.u32()?, rest.u32()?);
                    let from = rest.at;
                    rest.take(length as usize)?;
                    payloads.push(from..rest.at);
                }
                Item::Append(first, payloads)
            }
            TRUNCATE => Item::Truncate(rest.u64()?),
            PURGE => Item::Purge(rest.u64()?, rest.u64()?, rest.bytes()?),
            VOTE => Item::Vote(rest.bytes()?),
            COMMITTED => Item::Committed(rest.bytes()?),
            _ => return None,
        });
    }
    Some(items)
}

/// What is left of a body.
struct Rest<'b> {
    body: &'b Bytes,
    at: usize,
}

impl Rest<'_> {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.body.len())?;
        let taken = self.body.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(self.take(8)?.get_u64())
    }

    fn u32(&mut self) -> Option<u32> {
        Some(self.take(4)?.get_u32())
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()?;
        // A copy: it outlives the file that it was read with.
        self.take(length as usize).map(|bytes| Bytes::copy_from_slice(&bytes))
    }

    fn state(&mut self) -> Option<State> {
        let mut state = State { identity: self.take(32)?[..].try_into().ok()?, ..State::default() };
        state.chain = self.u32()?;
        (state.first, state.next) = (self.u64()?, self.u64()?);
        state.anchored = self.u64()? != 0;
        (state.purged, state.state_cut) = (self.u64()?, self.u64()?);
        for row in [&mut state.last_purged, &mut state.vote, &mut state.committed] {
            let is_some = self.take(1)?[0] != 0;
            *row = Some(self.bytes()?).filter(|_| is_some);
        }
        Some(state)
    }
}

/// Frames are bounded far below 4 GiB, and so is what they are made of.
fn len_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a write of the log is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(chain: u32) -> (Vec<u8>, Header) {
        let mut frame = vec![0; HEADER_BYTES];
        let state = State { first: 3, next: 9, vote: Some("me".into()), ..State::default() };
        put_state(&mut frame, &state);
        put_append(&mut frame, 9, [Bytes::from("a"), Bytes::new(), Bytes::from("ccc")].iter(), |_| {});
        put_truncate(&mut frame, 10);
        put_purge(&mut frame, 4, 7, b"last");
        put_vote(&mut frame, b"you");
        put_committed(&mut frame, b"");
        let length = (frame.len() - HEADER_BYTES) as u32;
        let header = Header { length, cycle: 5, synced: 4, segment: 2, chain: 0 }.seal(&mut frame, chain);
        (frame, header)
    }

    fn read(frame: &[u8], chain: u32) -> Option<Vec<Item>> {
        items(&Header::read(frame)?.body(&Bytes::copy_from_slice(frame), 0, chain)?)
    }

    #[test]
    fn a_frame_reads_back_and_every_flipped_bit_is_noticed() {
        let (good, header) = frame(77);
        assert_eq!(Header::read(&good), Some(header));
        let items = read(&good, 77).unwrap();
        assert_eq!(items.len(), 6);
        assert!(matches!(&items[0], Item::State(state) if state.vote.as_deref() == Some(b"me") && state.next == 9));
        assert!(matches!(&items[1], Item::Append(9, payloads) if payloads.len() == 3 && payloads[2].len() == 3));
        assert_eq!(items[3], Item::Purge(4, 7, "last".into()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad, 77), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(read(&good[..length], 77), None, "cut to {length}");
        }
        assert_eq!(read(&good, 78), None, "it follows another frame");
    }

    #[test]
    fn headers_are_found_wherever_they_lie() {
        let (good, header) = frame(0);
        let file = [b"garbage Hlg1 ".as_slice(), &good, &good[..20], &good].concat();
        assert_eq!(Header::find_all(&file).collect::<Vec<_>>(), [header, header]);
    }
}
