//! The one error of a client.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use hither_protocol::error::LeaderHint;
use hither_protocol::{Applied, ErrorCode, Refusal, Retry, Revision};

use crate::registry::NoInstances;

/// Why a call failed: a number, whether it changed anything, what may be done, and a sentence that says what to do.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    refusal: Refusal,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that changed nothing. What is said here never crosses the wire, so it may be as long as it needs.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::from(Refusal { detail: detail.into(), ..Refusal::new(code, "") })
    }

    /// An error after which the request may yet take effect.
    #[must_use]
    pub fn unknown(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::new(code, detail).maybe_applied()
    }

    /// An error with the one that caused it.
    #[must_use]
    pub fn caused_by(
        code: ErrorCode,
        detail: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let refusal = Refusal { detail: detail.into(), ..Refusal::new(code, "") };
        Self(Arc::new(Inner { refusal, source: Some(source.into()) }))
    }

    /// The number, the same in every language.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.refusal.code
    }

    /// Whether the request changed anything.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.0.refusal.applied
    }

    /// What a caller may do.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.refusal.retry
    }

    /// Whether the same call may succeed later. After `applied() == Unknown` a new call is a new mutation: the client
    /// has already retried under the old number for as long as the call's deadline allowed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retry() != Retry::Never
    }

    /// What exactly is wrong and what to do.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.refusal.detail
    }

    /// The revision that the error speaks of.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.0.refusal.revision
    }

    /// Who leads, if the server said so.
    #[must_use]
    pub fn leader(&self) -> Option<&LeaderHint> {
        self.0.refusal.leader.as_ref()
    }

    /// For `NoInstances`: what is known of the service.
    #[must_use]
    pub fn no_instances(&self) -> Option<&NoInstances> {
        self.0.source.as_deref()?.downcast_ref()
    }

    /// The same error, but the request may have taken effect.
    #[must_use]
    pub fn maybe_applied(&self) -> Self {
        let refusal = Refusal { applied: Applied::Unknown, ..self.0.refusal.clone() };
        Self(Arc::new(Inner { refusal, source: None }))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self(Arc::new(Inner { refusal, source: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.refusal.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.code())
            .field("applied", &self.applied())
            .field("retry", &self.retry())
            .field("detail", &self.detail())
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_number_its_effect_and_its_cause() {
        let cause = std::io::Error::other("the cable is cut");
        let error = Error::caused_by(ErrorCode::Unavailable, "no answer from a:1", cause);
        assert_eq!(error.to_string(), "Unavailable (6002): no answer from a:1");
        assert!(error.is_retryable());
        assert_eq!(error.applied(), Applied::No);
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("the cable is cut"));
        assert_eq!(error.maybe_applied().applied(), Applied::Unknown);
    }
}
