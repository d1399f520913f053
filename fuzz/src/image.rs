//! The loader of the state's image: rows that are not what was written end a start in order, never by a panic.

use bytes::Bytes;
use hither_state::device::{MemoryState, RowChange, Space, StateDevice};
use hither_state::image::{self, Meta};
use hither_state::{State, StateLimits};

/// A meta row, or a row of some table in an image that is empty beside it: which, says the first byte.
pub fn image(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let Some(&space) = Space::ALL.get(usize::from(kind % 4)) else { return };
    if space == Space::History {
        if let Ok(meta) = Meta::decode(data) {
            assert_eq!(meta.encode(), data);
        }
        return;
    }
    let Some((&length, data)) = data.split_first() else { return };
    let (key, value) = data.split_at(data.len().min(usize::from(length)));
    let row = RowChange::Put(space, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    let meta = Meta::of(&State::new(StateLimits::default()), 0, Bytes::new());
    let mut device = MemoryState::default();
    device.write(&[row], &meta.encode()).expect("memory takes every row");
    // The hash of nothing is not the hash of this row, so none is ever taken for a whole image.
    assert!(image::load(&device).is_err());
}
