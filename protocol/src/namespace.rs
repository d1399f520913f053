//! Namespaces: chosen once per connection; keys, watches, leases and services never cross.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{ErrorCode, Refusal};
use crate::limits::NAMESPACE_BYTES_MAX;

/// A namespace: 1 to 63 of `a-z 0-9 . _ -`, beginning and ending with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

/// Where the server keeps what is its own.
const SYSTEM: &str = ".system";

// Text on the wire and in the log. Written out, since every command has one: derived by way of `String`, each would be
// copied to be written and to be read.
impl Serialize for Namespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Namespace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl de::Visitor<'_> for Name {
            type Value = Namespace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a namespace")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Namespace, E> {
                Namespace::known(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl Namespace {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the server keeps what is its own (client identities). No client may name it.
    ///
    /// The leading dot keeps it apart from every name that parses.
    #[must_use]
    pub fn system() -> Self {
        Self(SYSTEM.into())
    }

    /// Whether it is the server's own.
    #[must_use]
    pub fn is_system(&self) -> bool {
        &*self.0 == SYSTEM
    }

    /// One that a client may choose, or the server's own, which the log holds too. The greeting, where a client chooses,
    /// parses with `from_str`.
    fn known(text: &str) -> Result<Self, Refusal> {
        if text == SYSTEM { Ok(Self::system()) } else { text.parse() }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Namespace {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if is_name(text, NAMESPACE_BYTES_MAX) {
            return Ok(Self(text.into()));
        }
        Err(Refusal::new(
            ErrorCode::InvalidName,
            format!(
                "the namespace must be 1 to {NAMESPACE_BYTES_MAX} of a-z 0-9 . _ - and begin and end with a letter or digit"
            ),
        ))
    }
}

impl TryFrom<String> for Namespace {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::known(&text)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.as_str().to_owned()
    }
}

/// Whether `text` is a name: DNS-safe, at most `bytes_max` long.
#[must_use]
pub fn is_name(text: &str, bytes_max: usize) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= bytes_max
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_name_the_servers_own_namespace() {
        assert!(".system".parse::<Namespace>().is_err());
        assert!("prod".parse::<Namespace>().is_ok());
        assert!("Prod".parse::<Namespace>().is_err());
        assert!("-prod".parse::<Namespace>().is_err());
        assert!("".parse::<Namespace>().is_err());
        assert!("a".repeat(64).parse::<Namespace>().is_err());
    }
}
