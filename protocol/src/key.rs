//! Keys and ranges of keys.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, Refusal};
use crate::limits::KEY_BYTES_MAX;

/// A key: any bytes, 1 to 4,096 of them. `/` is a convention, not a rule.
///
/// A key off the wire is unchecked until [`check`](Self::check), which the server does once, at its door.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub Bytes);

impl Key {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the key may be stored.
    ///
    /// # Errors
    /// `KeyEmpty` and `KeyTooLong`.
    pub fn check(&self) -> Result<(), Refusal> {
        check_bytes(&self.0)
    }
}

fn check_bytes(key: &[u8]) -> Result<(), Refusal> {
    match key.len() {
        0 => Err(Refusal::new(ErrorCode::KeyEmpty, "a key has at least one byte")),
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => {
            Err(Refusal::new(ErrorCode::KeyTooLong, format!("the key has {bytes} bytes, the limit is {KEY_BYTES_MAX}")))
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Escaped: bytes that are not printable ASCII show as `\xNN`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

/// A set of keys. Each shape says what it is: no empty end that means "one key" to one reader and "all" to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyRange {
    /// One key.
    One(Key),
    /// Every key that begins with these bytes, of which there is at least one.
    Prefix(Bytes),
    /// From the first, which it includes, to the second, which it does not.
    Span(Bytes, Bytes),
    /// Every key of the namespace.
    All,
}

impl KeyRange {
    /// The keys that begin with `prefix`; all of them if it is empty.
    #[must_use]
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let Key(bytes) = prefix.into();
        if bytes.is_empty() { Self::All } else { Self::Prefix(bytes) }
    }

    /// Whether the range can be asked for.
    ///
    /// # Errors
    /// `KeyEmpty` or `KeyTooLong` for a bad bound, `InvalidRange` for a span that ends before it begins.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::One(key) => key.check(),
            Self::Prefix(prefix) => check_bytes(prefix),
            Self::Span(start, end) => {
                check_bytes(start)?;
                check_bytes(end)?;
                if start > end {
                    return Err(Refusal::new(ErrorCode::InvalidRange, "the range ends before it begins"));
                }
                Ok(())
            }
            Self::All => Ok(()),
        }
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one.as_bytes() == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Span(start, end) => **start <= *key && *key < **end,
            Self::All => true,
        }
    }

    /// The range as bounds of an ordered map.
    #[must_use]
    pub fn bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        match self {
            Self::One(Key(key)) => (Bound::Included(key.clone()), Bound::Included(key.clone())),
            Self::Prefix(prefix) => {
                (Bound::Included(prefix.clone()), after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded))
            }
            Self::Span(start, end) => (Bound::Included(start.clone()), Bound::Excluded(end.clone())),
            Self::All => (Bound::Unbounded, Bound::Unbounded),
        }
    }
}

impl From<Key> for KeyRange {
    fn from(key: Key) -> Self {
        Self::One(key)
    }
}

/// The first byte string after every one that begins with `prefix`; none if `prefix` is all `0xff`.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(after_prefix(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(after_prefix(b"a\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(after_prefix(b"\xff\xff"), None);
    }

    #[test]
    fn one_key_is_one_key() {
        let range = KeyRange::One("a".into());
        assert!(range.contains(b"a"));
        assert!(!range.contains(b"a\0"));
        assert!(!range.contains(b"b"));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_refused() {
        let backwards = KeyRange::Span("b".into(), "a".into());
        assert_eq!(backwards.check().map_err(|refusal| refusal.code), Err(ErrorCode::InvalidRange));
        assert_eq!(KeyRange::Span("a".into(), "a".into()).check(), Ok(()));
    }

    #[test]
    fn an_empty_prefix_is_everything_by_name() {
        assert_eq!(KeyRange::prefix(""), KeyRange::All);
        assert_eq!(KeyRange::Prefix(Bytes::new()).check().map_err(|refusal| refusal.code), Err(ErrorCode::KeyEmpty));
    }
}
