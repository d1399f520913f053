//! Why a run did not pass.

use std::fmt;

/// Why a run did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Something is not as the scenario says. It may become so.
    Differs(String),
    /// A promise that holds for every watch is broken, or a driver is: asking again mends neither.
    Broken(String),
    /// A language has no such thing.
    Unsupported(String),
}

impl Fault {
    /// The same, and where it happened.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        let with = |text: String| format!("{place}: {text}");
        match self {
            Self::Differs(text) => Self::Differs(with(text)),
            Self::Broken(text) => Self::Broken(with(text)),
            Self::Unsupported(text) => Self::Unsupported(with(text)),
        }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Differs(text)
    }
}

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self::Differs(text.to_owned())
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Differs(format!("{error:#}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs(text) | Self::Unsupported(text) | Self::Broken(text) => f.write_str(text),
        }
    }
}
