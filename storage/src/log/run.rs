//! A run: the records of one row of the log.
//!
//! A cycle of the log writes one row, not one for each record, so that the work of RocksDB is that of a row. The key is
//! the index of the first record, big-endian. The value, numbers big-endian:
//!
//! ```text
//! version u8 | count u32 | chain u32 | count times: length u32, payload | crc32c u32
//! ```
//!
//! The checksum covers key and value. `chain` is the checksum of the run before, so that a run that is missing, or is
//! from before a truncation, breaks the chain.

use bytes::{BufMut, Bytes};
use hither_state::device::LogRecord;

const VERSION: u8 = 1;
const HEADER: usize = 9;
const TRAILER: usize = 4;

/// Consecutive records, and the checksum of the run before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) chain: u32,
    pub(crate) payloads: Vec<Bytes>,
}

impl Run {
    /// One more than the index of its last record.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.payloads.len() as u64
    }

    /// Its value, and the checksum that the next run continues.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let bytes = self.payloads.iter().map(|payload| 4 + payload.len()).sum::<usize>();
        let mut value = Vec::with_capacity(HEADER + bytes + TRAILER);
        value.put_u8(VERSION);
        value.put_u32(len_u32(self.payloads.len()));
        value.put_u32(self.chain);
        for payload in &self.payloads {
            value.put_u32(len_u32(payload.len()));
            value.put_slice(payload);
        }
        let crc = checksum(self.first, &value);
        value.put_u32(crc);
        (value, crc)
    }

    /// Reads a row. On failure says what is wrong with it.
    pub(crate) fn decode(key: &[u8], value: Bytes) -> Result<(Self, u32), &'static str> {
        let first = u64::from_be_bytes(key.try_into().map_err(|_| "its key is not an index")?);
        if value.len() < HEADER + TRAILER {
            return Err("it is too short");
        }
        let crc = number(&value[value.len() - TRAILER..]);
        let body = value.slice(..value.len() - TRAILER);
        if checksum(first, &body) != crc {
            return Err("its checksum is wrong");
        }
        if body[0] != VERSION {
            return Err("it has an unknown version");
        }
        let (count, chain) = (number(&body[1..5]), number(&body[5..9]));
        let mut payloads = Vec::new();
        let mut at = HEADER;
        for _ in 0..count {
            let length = body.get(at..at + 4).map(number).ok_or("it ends inside a record")? as usize;
            at += 4;
            if body.len() - at < length {
                return Err("it ends inside a record");
            }
            payloads.push(body.slice(at..at + length));
            at += length;
        }
        if payloads.is_empty() || at != body.len() {
            return Err("its records do not fill it");
        }
        Ok((Self { first, chain, payloads }, crc))
    }

    /// Hands out the records.
    pub(crate) fn into_records(self) -> impl Iterator<Item = LogRecord> {
        (self.first..).zip(self.payloads).map(|(index, payload)| LogRecord { index, payload })
    }
}

fn checksum(first: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&first.to_be_bytes()), body)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte))
}

/// Frames are bounded far below 4 GiB, and so are the records made of them.
fn len_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a record is smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_reads_back_and_every_flipped_bit_is_noticed() {
        let run = Run { first: 300, chain: 0xfeed, payloads: vec!["a".into(), "".into(), "ccc".into()] };
        let (value, crc) = run.encode();
        let key = 300_u64.to_be_bytes();
        assert_eq!(Run::decode(&key, value.clone().into()), Ok((run, crc)));
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Run::decode(&key, bad.into()).is_err(), "bit {bit}");
        }
        assert!(Run::decode(&301_u64.to_be_bytes(), value.clone().into()).is_err(), "a row under another key");
        for length in 0..value.len() {
            assert!(Run::decode(&key, Bytes::copy_from_slice(&value[..length])).is_err(), "cut to {length}");
        }
    }
}
