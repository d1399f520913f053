//! Python's values as the core's: what may stand for a key, a value, a range, a time.

use std::time::Duration;

use bytes::Bytes;
use hither::{Consistency, Key, KeyRange, LeaseId, Revision};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyString};

/// `str` or bytes, copied.
pub(crate) struct Blob(pub(crate) Bytes);

impl FromPyObject<'_, '_> for Blob {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            return match text.to_str() {
                Ok(text) => Ok(Self(Bytes::copy_from_slice(text.as_bytes()))),
                // Keys that are no text are shown with escapes, which stand for those bytes again.
                Err(_) => {
                    let py = object.py();
                    let encoded = text.call_method1(intern!(py, "encode"), ("utf-8", "surrogateescape"))?;
                    Ok(Self(Bytes::copy_from_slice(encoded.cast::<PyBytes>()?.as_bytes())))
                }
            };
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(Bytes::copy_from_slice(bytes.as_bytes())));
        }
        if let Ok(bytes) = object.cast::<PyByteArray>() {
            return Ok(Self(Bytes::from(bytes.to_vec())));
        }
        let name = object.get_type().name()?;
        Err(PyTypeError::new_err(format!("str or bytes are wanted here, not {name}")))
    }
}

impl From<Blob> for Key {
    fn from(blob: Blob) -> Self {
        Self(blob.0)
    }
}

/// A key as Python's text: bytes that are no UTF-8 become escapes that [`Blob`] takes back.
pub(crate) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => {
            let text = PyBytes::new(py, bytes).call_method1(intern!(py, "decode"), ("utf-8", "surrogateescape"))?;
            Ok(text.cast_into::<PyString>()?)
        }
    }
}

/// One key, or a `hither.KeyRange`.
pub(crate) struct Keys(pub(crate) KeyRange);

impl FromPyObject<'_, '_> for Keys {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let Some(shape) = object.getattr_opt(intern!(py, "shape"))? else {
            return Ok(Self(KeyRange::One(object.extract::<Blob>()?.into())));
        };
        let part = |name| object.getattr(name)?.extract::<Blob>().map(|blob| blob.0);
        let start = part(intern!(py, "start"))?;
        let range = match shape.cast::<PyString>()?.to_str()? {
            "one" => KeyRange::One(Key(start)),
            "prefix" => KeyRange::prefix(Key(start)),
            "span" => KeyRange::Span(start, part(intern!(py, "end"))?),
            "all" => KeyRange::All,
            other => return Err(PyValueError::new_err(format!("a range has no shape {other:?}"))),
        };
        Ok(Self(range))
    }
}

/// Seconds, or a `timedelta`.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(pub(crate) Duration);

impl FromPyObject<'_, '_> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(seconds) = object.extract::<f64>() {
            let wrong = |_| PyValueError::new_err(format!("{seconds} is no time to wait: a number of seconds from 0"));
            return Duration::try_from_secs_f64(seconds).map(Self).map_err(wrong);
        }
        if let Ok(duration) = object.extract::<Duration>() {
            return Ok(Self(duration));
        }
        let name = object.get_type().name()?;
        Err(PyTypeError::new_err(format!("seconds or a timedelta are wanted here, not {name}")))
    }
}

/// What a read asks of the state that it sees.
pub(crate) fn consistency(at_least: Option<u64>, max_age: Option<Seconds>) -> PyResult<Consistency> {
    match (at_least, max_age) {
        (None, None) => Ok(Consistency::Linearizable),
        (Some(revision), None) => Ok(Consistency::AtLeast(Revision(revision))),
        (None, Some(Seconds(age))) => {
            Ok(Consistency::Stale { max_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX) })
        }
        (Some(_), Some(_)) => Err(PyValueError::new_err("at_least and max_age exclude each other")),
    }
}

/// The id of a lease: an `int`, or anything with one as its `id`.
pub(crate) struct LeaseArgument(pub(crate) LeaseId);

impl FromPyObject<'_, '_> for LeaseArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(id) = object.extract::<u64>() {
            return Ok(Self(LeaseId(id)));
        }
        let id = object.getattr_opt(intern!(object.py(), "id"))?;
        let id = id.and_then(|id| id.extract::<u64>().ok());
        id.map(|id| Self(LeaseId(id))).ok_or_else(|| PyTypeError::new_err("a lease or its id is wanted here"))
    }
}
