//! The head of the log: what every write of it says about the whole.
//!
//! RocksDB's write-ahead log is a sequence of checksummed batches, and where it is damaged RocksDB may skip some and go
//! on. Every batch therefore carries a new head, and the head that survives says what has to be there with it: which
//! records, in which chain of checksums, and from which cycle the vote and the purge are. What was skipped shows.

/// What it begins with: the version, and the way to find heads in a file that is too damaged to be parsed.
const MAGIC: [u8; 4] = *b"Hhd1";
const NUMBERS: usize = MAGIC.len();
const BYTES: usize = NUMBERS + 9 * 8 + 4 + 4;

/// The state of the log after one of its cycles. A cycle is one write; the one that creates the log is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The cycle that wrote it.
    pub(crate) cycle: u64,
    /// The last cycle that was known to be durable then.
    pub(crate) synced: u64,
    /// The cycle that last wrote the vote; 0 if none did.
    pub(crate) vote: u64,
    /// The cycle that last purged; 0 if none did.
    pub(crate) purge: u64,
    /// Index of the first record.
    pub(crate) first: u64,
    /// One more than the index of the last record; `first` if there is none.
    pub(crate) next: u64,
    /// Whether the next record has to be `next`. Only a log that never had a record, or lost all to a truncation
    /// without ever being purged, begins anywhere.
    pub(crate) anchored: bool,
    /// The key of the run that has the first record: a purge may leave dead records before it in its run.
    pub(crate) row: u64,
    /// One more than the last purged index; 0 if nothing was purged.
    pub(crate) purged: u64,
    /// The checksum of the last run, which the next one continues.
    pub(crate) chain: u32,
}

impl Head {
    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// The first and the last index.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        (!self.is_empty()).then(|| (self.first, self.next - 1))
    }

    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..NUMBERS].copy_from_slice(&MAGIC);
        let Self { cycle, synced, vote, purge, first, next, anchored, row, purged, chain } = *self;
        for (at, number) in
            [cycle, synced, vote, purge, first, next, u64::from(anchored), row, purged].iter().enumerate()
        {
            bytes[NUMBERS + at * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes[BYTES - 8..BYTES - 4].copy_from_slice(&chain.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..BYTES - 4]);
        bytes[BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| bytes[NUMBERS + at * 8..][..8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let head = Self {
            cycle: number(0),
            synced: number(1),
            vote: number(2),
            purge: number(3),
            first: number(4),
            next: number(5),
            anchored: number(6) != 0,
            row: number(7),
            purged: number(8),
            chain: bytes[BYTES - 8..BYTES - 4].iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)),
        };
        (head.encode() == *bytes).then_some(head)
    }

    /// Every whole head among these bytes, wherever it lies.
    pub(crate) fn find_all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        let candidates = bytes.windows(BYTES).filter(|window| window.starts_with(&MAGIC));
        candidates.filter_map(Self::decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_every_flipped_bit_is_noticed() {
        let head = Head {
            cycle: 9,
            synced: 8,
            vote: 3,
            purge: 4,
            first: 5,
            next: 77,
            anchored: true,
            row: 4,
            purged: 5,
            chain: 0xdead_beef,
        };
        let good = head.encode();
        assert_eq!(Head::decode(&good), Some(head));
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad), None, "bit {bit}");
        }
        assert_eq!(Head::decode(&good[1..]), None);
        let file = [b"garbage Hhd1 ".as_slice(), &good, &good[..20], &good].concat();
        assert_eq!(Head::find_all(&file).collect::<Vec<_>>(), [head, head]);
    }
}
