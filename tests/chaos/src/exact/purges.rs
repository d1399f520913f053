//! Where the log on disk was purged: read from its files while no server runs, in which each write is a frame (head of
//! storage/src/log/frame.rs). Frames that were torn or are of another time are for the server to judge.

use std::path::Path;
use std::{fs, io};

use bytes::{Buf, Bytes};

const MAGIC: &[u8] = b"Hlg1";
/// What follows magic and length in the header of a frame.
const HEADER_REST: usize = 32;
/// Identity, chain, first, next, anchored; then what was purged, how far the state was durable, and three rows.
const STATE_BEFORE_PURGED: usize = 32 + 4 + 3 * 8;
const STATE_ROWS: usize = 3;

/// First entries of the log, each after a purge.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Purges(Vec<u64>);

impl Purges {
    /// What the log in this data directory says.
    pub(crate) fn read(data: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        for file in fs::read_dir(data.join("log"))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                segments.push(path);
            }
        }
        segments.sort_unstable();
        let mut purges = Self::default();
        for segment in segments {
            purges.take(Bytes::from(fs::read(segment)?));
        }
        Ok(purges)
    }

    /// The last; 0 if the log was never purged.
    pub(crate) fn last(&self) -> u64 {
        self.0.last().copied().unwrap_or_default()
    }

    /// How many there were after the one that left this entry as the first.
    pub(crate) fn since(&self, first: u64) -> u64 {
        self.0.iter().filter(|purged| **purged > first).count() as u64
    }

    /// Reads a segment as far as it is written.
    fn take(&mut self, mut segment: Bytes) {
        while segment.starts_with(MAGIC) && segment.len() >= MAGIC.len() + 4 + HEADER_REST {
            segment.advance(MAGIC.len());
            let length = segment.get_u32() as usize;
            segment.advance(HEADER_REST);
            if segment.len() < length || self.take_items(segment.split_to(length)).is_none() {
                return;
            }
        }
    }

    fn take_items(&mut self, mut body: Bytes) -> Option<()> {
        while let Ok(kind) = body.try_get_u8() {
            match kind {
                // The first of each segment repeats what was said before.
                0 => {
                    skip(&mut body, STATE_BEFORE_PURGED)?;
                    self.note(body.try_get_u64().ok()?);
                    skip(&mut body, 8)?;
                    for _ in 0..STATE_ROWS {
                        skip(&mut body, 1)?;
                        skip_row(&mut body)?;
                    }
                }
                1 => {
                    skip(&mut body, 8)?;
                    for _ in 0..body.try_get_u32().ok()? {
                        let length = body.try_get_u32().ok()? as usize;
                        skip(&mut body, 4 + length)?;
                    }
                }
                2 => skip(&mut body, 8)?,
                3 => {
                    self.note(body.try_get_u64().ok()?);
                    skip(&mut body, 8)?;
                    skip_row(&mut body)?;
                }
                4 | 5 => skip_row(&mut body)?,
                _ => return None,
            }
        }
        Some(())
    }

    fn note(&mut self, first: u64) {
        if first > self.last() {
            self.0.push(first);
        }
    }
}

fn skip(body: &mut Bytes, bytes: usize) -> Option<()> {
    (body.len() >= bytes).then(|| body.advance(bytes))
}

fn skip_row(body: &mut Bytes) -> Option<()> {
    let length = body.try_get_u32().ok()? as usize;
    skip(body, length)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = BytesMut::from(MAGIC);
        frame.put_u32(u32::try_from(body.len()).expect("short"));
        frame.put_bytes(7, HEADER_REST);
        frame.put_slice(body);
        frame.to_vec()
    }

    #[test]
    fn purges_are_found_among_everything_else_in_a_segment() {
        let mut begin = BytesMut::new();
        begin.put_u8(0);
        begin.put_bytes(7, STATE_BEFORE_PURGED);
        begin.put_u64(40);
        begin.put_u64(9);
        for row in [&b"last"[..], b"", b"committed"] {
            begin.put_u8(1);
            begin.put_u32(u32::try_from(row.len()).expect("short"));
            begin.put_slice(row);
        }
        let number = u64::to_be_bytes;
        let append = [&[1][..], &number(3), &[0, 0, 0, 1], &[0, 0, 0, 2], b"sums", b"ab"].concat();
        let truncate = [&[2][..], &number(8)].concat();
        let purge = [&[3][..], &number(90), &number(1), &[0, 0, 0, 1], b"l"].concat();
        let committed = [&[5][..], &[0, 0, 0, 0]].concat();
        let body = [append, purge, truncate, committed].concat();
        let torn = &frame(&body)[..60];
        let segment = [frame(&begin), frame(&body), torn.to_vec(), vec![0; 100]].concat();
        let mut purges = Purges::default();
        purges.take(segment.into());
        assert_eq!(purges, Purges(vec![40, 90]));
        assert_eq!((purges.last(), purges.since(40), purges.since(90)), (90, 1, 0));
    }
}
