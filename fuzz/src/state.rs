//! The decoder of the log: what is damaged must stop a replica in order, never by a panic, and never be applied as
//! something else.

use hither_state::{decode_batch, encode_batch};

/// The payload of a log entry.
pub fn batch(data: &[u8]) {
    let Ok(commands) = decode_batch(data) else { return };
    assert_eq!(decode_batch(&encode_batch(&commands)), Ok(commands));
}
