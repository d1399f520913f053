//! Identifiers, a type each, so that one cannot stand where another belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! decimal_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

decimal_id! {
    /// A server node. Node 1 is the first; later ids are log indexes, and none is used twice.
    NodeId
}
decimal_id! {
    /// Numbers the requests of one lane; a reply carries the number of its request.
    RequestNumber
}
decimal_id! {
    /// Numbers the mutations of one session, so that a retry is recognised on any node.
    SequenceNumber
}
decimal_id! {
    /// A watch on one connection, chosen by the client.
    WatchId
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }
    };
}

hex_id! {
    /// A lease. Shown and parsed in hexadecimal. Never zero.
    LeaseId
}
hex_id! {
    /// A client's standing at the cluster, outliving its connections. Its own lease has the same number.
    SessionId
}

impl SessionId {
    /// The lease that lives as long as this session.
    #[must_use]
    pub const fn lease(self) -> LeaseId {
        LeaseId(self.0)
    }
}

/// A cluster, for ever: drawn at random when its first node starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 32 hexadecimal digits")]
pub struct ParseClusterIdError;

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseClusterIdError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| ParseClusterIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_reads_back_what_it_shows() {
        let id = ClusterId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<ClusterId>(), Err(ParseClusterIdError));
        assert_eq!("+0000000000000000000000000000001".parse::<ClusterId>(), Err(ParseClusterIdError));
    }

    #[test]
    fn a_lease_is_shown_in_hexadecimal() {
        assert_eq!(LeaseId(0xbeef).to_string(), "beef");
        assert_eq!("beef".parse(), Ok(LeaseId(0xbeef)));
    }
}
