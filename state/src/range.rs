//! Reading many keys, a page at a time.

use bytes::Bytes;
use hither_protocol::message::Projection;
use hither_protocol::{Entry, Key, KeyRange, Revision};

use crate::Pin;

/// Most entries of one page: how long a reader may hold the state.
pub const PAGE_KEYS_MAX: usize = 1_000;
/// Most keys that one page only counts, which is a good deal cheaper than handing them out.
pub const PAGE_COUNT_MAX: usize = 16_000;

/// Which keys of a namespace to read, and how.
#[derive(Clone, Debug)]
pub struct RangeQuery<'a> {
    /// Which keys.
    pub range: &'a KeyRange,
    /// Only those beyond this one, in the direction of the query: the `next` of the page before.
    pub after: Option<Key>,
    /// Most entries, 0 for as many as a page holds; at most [`PAGE_KEYS_MAX`] come in one page. When only counting, most keys to count, up to
    /// [`PAGE_COUNT_MAX`].
    pub limit: usize,
    /// From the last key to the first.
    pub reverse: bool,
    /// What of each.
    pub projection: Projection,
    /// As of this revision; as of now without it.
    pub pin: Option<&'a Pin>,
}

/// A page of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangePage {
    /// The revision that was read.
    pub revision: Revision,
    /// The entries, in the order asked for; none when only counting.
    pub entries: Vec<Entry>,
    /// Keys in this page.
    pub count: u64,
    /// Where the next page begins, if there are more keys.
    pub next: Option<Key>,
}

impl<'a> RangeQuery<'a> {
    /// The first full page of `range`, in order, as of now.
    #[must_use]
    pub const fn new(range: &'a KeyRange) -> Self {
        Self { range, after: None, limit: 0, reverse: false, projection: Projection::Entries, pin: None }
    }

    pub(crate) const fn page_max(&self) -> usize {
        let most = match self.projection {
            Projection::Entries | Projection::KeysOnly => PAGE_KEYS_MAX,
            Projection::CountOnly => PAGE_COUNT_MAX,
        };
        if self.limit == 0 || self.limit > most { most } else { self.limit }
    }
}

/// The entry as `projection` shows it.
pub(crate) fn project(entry: &Entry, projection: Projection) -> Option<Entry> {
    match projection {
        Projection::Entries => Some(entry.clone()),
        Projection::KeysOnly => Some(Entry { value: Bytes::new(), ..entry.clone() }),
        Projection::CountOnly => None,
    }
}
