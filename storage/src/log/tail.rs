//! The end of the newest segment, where frames are appended: past the page cache, where the file system allows it.
//!
//! What is written here is synced at once and hardly ever read again, so the page cache is only a detour. On the way to
//! the disk its pages are looked up, marked, collected and waited for, which is a tenth of the time of a write that is
//! alone. What goes past it goes in whole blocks: that in which the last frame ended is written again, its first bytes as
//! they were, and zeros behind the new end. The page cache would write the same blocks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// No file system asks for more; one that did would refuse the first write.
const BLOCK_BYTES: usize = 4096;
/// Memory that is kept for the next frame.
const KEPT_BYTES: usize = 256 << 10;

/// Appends to one segment.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    /// None where the page cache is the only way.
    direct: Option<Direct>,
    end: u64,
}

#[derive(Debug)]
struct Direct {
    file: File,
    /// What the block at the end has already, and room for what follows.
    blocks: Blocks,
    /// How many bytes it has.
    begun: usize,
}

/// Memory that begins where a block may, all of it zeros at first.
#[derive(Debug)]
struct Blocks {
    memory: Vec<u8>,
    begin: usize,
}

impl Tail {
    /// At `end` in the segment `file`, which is at `path`.
    pub(super) fn open(path: &Path, file: File, end: u64) -> io::Result<Self> {
        let direct = match open_direct(path) {
            Ok(direct) => Some(Direct::new(direct, &file, end)?),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "the log is written through the page cache");
                None
            }
        };
        Ok(Self { file, direct, end })
    }

    /// Where the next frame goes.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Writes a frame, which is durable after the next [`sync`](Self::sync); returns where it is.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<u64> {
        let at = self.end;
        if let Some(direct) = &mut self.direct
            && let Err(error) = direct.append(frame, at)
        {
            if error.kind() != io::ErrorKind::InvalidInput {
                return Err(error);
            }
            // Its blocks are larger, or it lets one open such a file and not write it.
            self.direct = None;
        }
        if self.direct.is_none() {
            self.file.write_all_at(frame, at)?;
        }
        self.end += frame.len() as u64;
        Ok(at)
    }

    /// Makes all that was appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Direct {
    fn new(direct: File, file: &File, end: u64) -> io::Result<Self> {
        let begun = (end % BLOCK_BYTES as u64) as usize;
        let mut blocks = Blocks::new(KEPT_BYTES);
        file.read_exact_at(&mut blocks.first(BLOCK_BYTES)[..begun], end - begun as u64)?;
        Ok(Self { file: direct, blocks, begun })
    }

    fn append(&mut self, frame: &[u8], at: u64) -> io::Result<()> {
        let end = self.begun + frame.len();
        let bytes = end.next_multiple_of(BLOCK_BYTES);
        if bytes > self.blocks.room() {
            self.resize(bytes);
        }
        let blocks = self.blocks.first(bytes);
        blocks[self.begun..end].copy_from_slice(frame);
        blocks[end..].fill(0);
        self.file.write_all_at(blocks, at - self.begun as u64)?;
        let last = end - end % BLOCK_BYTES;
        blocks.copy_within(last..end, 0);
        self.begun = end - last;
        if self.blocks.room() > KEPT_BYTES {
            self.resize(KEPT_BYTES);
        }
        Ok(())
    }

    fn resize(&mut self, bytes: usize) {
        let mut blocks = Blocks::new(bytes);
        blocks.first(self.begun).copy_from_slice(self.blocks.first(self.begun));
        self.blocks = blocks;
    }
}

impl Blocks {
    fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + BLOCK_BYTES];
        let begin = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, begin }
    }

    fn room(&self) -> usize {
        self.memory.len() - BLOCK_BYTES
    }

    fn first(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.memory[self.begin..][..bytes]
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(path: &Path) -> io::Result<File> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of zeros, appended to in pieces of these many bytes, each its own byte; what the file has then.
    fn appended(end: u64, pieces: &[usize], is_direct: bool) -> (Vec<u8>, Tail) {
        // Beside the sources, on a disk: what is for temporary files may be memory, which knows no direct writes.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("segment");
        std::fs::write(&path, [vec![7; end as usize], vec![0; (64 << 10) - end as usize]].concat()).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut tail = Tail::open(&path, file, end).unwrap();
        if !is_direct {
            tail.direct = None;
        }
        for (n, &piece) in pieces.iter().enumerate() {
            let before = tail.end();
            assert_eq!(tail.append(&vec![n as u8 + 10; piece]).unwrap(), before);
            assert_eq!(tail.end(), before + piece as u64);
        }
        tail.sync().unwrap();
        (std::fs::read(&path).unwrap(), tail)
    }

    #[test]
    fn past_the_page_cache_the_same_is_written() {
        for end in [0, 1, 4095, 4096, 9000] {
            for pieces in [&[1, 1, 1][..], &[4096, 1], &[4095, 1, 4096], &[100, 12_288, 3996, 5], &[20_000, 20_000]] {
                let (direct, tail) = appended(end, pieces, true);
                assert!(
                    tail.direct.is_some(),
                    "the file system of the sources allows no direct writes: nothing is tested"
                );
                assert!(direct == appended(end, pieces, false).0, "from {end} on in pieces of {pieces:?}");
            }
        }
    }

    #[test]
    fn a_large_frame_goes_beyond_the_end_and_its_memory_is_given_back() {
        let (file, tail) = appended(5000, &[3, 2 << 20, 3], true);
        let end = 5006 + (2 << 20);
        assert_eq!(file.len(), usize::next_multiple_of(end, BLOCK_BYTES));
        assert!(file[5003..end - 3].iter().all(|&byte| byte == 11));
        assert_eq!(file[end - 3..end], [12; 3]);
        assert!(file[end..].iter().all(|&byte| byte == 0));
        assert_eq!(tail.direct.unwrap().blocks.room(), KEPT_BYTES);
    }

    #[test]
    fn where_direct_writes_are_refused_the_page_cache_takes_them() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("segment");
        std::fs::write(&path, vec![0; 8192]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut tail = Tail::open(&path, file, 0).unwrap();
        // Memory that begins anywhere is what a larger block looks like.
        tail.direct.as_mut().unwrap().blocks.begin += 1;
        tail.append(b"one").unwrap();
        assert!(tail.direct.is_none());
        tail.append(b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[..7], *b"onetwo\0");
    }
}
