//! What JavaScript says, in Rust's terms. The TypeScript beside it has checked it already; what it could not know, such
//! as the length of a key, the core checks.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use hither::{Consistency, Error, ErrorCode, Key, KeyRange, LeaseId, Revision};
use napi::bindgen_prelude::{BigInt, Either, FromNapiValue, TypeName, Uint8ArraySlice, ValidateNapiValue};
use napi::{ValueType, sys};

/// Bytes of a key or a value: from a string, as UTF-8, or from a `Uint8Array`, such as a `Buffer`. Always copied:
/// JavaScript may write to its array while the call runs.
#[derive(Clone, Debug)]
pub struct Octets(pub(crate) Bytes);

impl TypeName for Octets {
    fn type_name() -> &'static str {
        "string | Uint8Array"
    }

    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}

impl ValidateNapiValue for Octets {}

impl FromNapiValue for Octets {
    #[allow(unsafe_code, reason = "the trait is; both values are the caller's, and go on as they came")]
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: as this function's own contract.
        match unsafe { Either::<String, Uint8ArraySlice<'_>>::from_napi_value(env, value) }? {
            Either::A(text) => Ok(Self(text.into())),
            Either::B(bytes) => Ok(Self(Bytes::copy_from_slice(&bytes))),
        }
    }
}

impl From<Octets> for Key {
    fn from(octets: Octets) -> Self {
        Self(octets.0)
    }
}

/// Keys: one, those that begin so, those from the first up to the second, or all.
#[napi_derive::napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
pub struct Range {
    /// `one`, `prefix`, `span` or `all`.
    pub kind: String,
    /// The key, the prefix, or the first key.
    pub start: Option<Octets>,
    /// The key after the last one of a span.
    pub end: Option<Octets>,
}

impl TryFrom<Range> for KeyRange {
    type Error = Error;

    fn try_from(range: Range) -> Result<Self, Error> {
        match (range.kind.as_str(), range.start, range.end) {
            ("one", Some(key), None) => Ok(Self::One(key.into())),
            ("prefix", Some(prefix), None) => Ok(Self::prefix(prefix)),
            ("span", Some(start), Some(end)) => Ok(Self::Span(start.0, end.0)),
            ("all", None, None) => Ok(Self::All),
            (kind, ..) => Err(invalid(format!("there is no range {kind} of these keys"))),
        }
    }
}

/// A bigint: reads see at least this revision. A number: they may be as old as that many milliseconds.
pub(crate) fn consistency(asked: Option<Either<BigInt, f64>>) -> Result<Consistency, Error> {
    Ok(match asked {
        None => Consistency::Linearizable,
        Some(Either::A(revision)) => Consistency::AtLeast(self::revision(&revision)?),
        Some(Either::B(max_age)) => Consistency::Stale { max_age_ms: whole(max_age) },
    })
}

pub(crate) fn revision(number: &BigInt) -> Result<Revision, Error> {
    self::number(number).map(Revision)
}

pub(crate) fn number(number: &BigInt) -> Result<u64, Error> {
    match number.get_u64() {
        (false, value, true) => Ok(value),
        _ => Err(invalid("a number must be 0n to 18446744073709551615n")),
    }
}

pub(crate) fn lease(text: Option<String>) -> Result<Option<LeaseId>, Error> {
    text.map(one_lease).transpose()
}

pub(crate) fn one_lease(text: String) -> Result<LeaseId, Error> {
    text.parse().map_err(|_| invalid(format!("{text:?} is no lease: it is hexadecimal")))
}

pub(crate) fn duration(milliseconds: f64) -> Duration {
    Duration::from_millis(whole(milliseconds))
}

/// A number that JavaScript has checked to be no less than 0: a part counts as a whole.
pub(crate) fn whole(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
    let whole = number.ceil() as u64;
    whole
}

/// A deadline for a call that has none of its own in the core.
pub(crate) async fn within<T>(timeout: Option<f64>, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let Some(timeout) = timeout.map(duration) else { return call.await };
    let late = || Error::unknown(ErrorCode::Timeout, format!("no answer within {timeout:?}"));
    tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(late()))
}

pub(crate) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidArgument, detail)
}
