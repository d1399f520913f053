//! The core's values as Python's. The classes are Python's (`hither._types` and `hither._services`), so that types, documentation and pickling
//! are too.

use bytes::Bytes;
use hither::{
    DeleteReply, Entry, Event, GetReply, LeaseGrantReply, LeaseInfoReply, LeaseKind, LeaseRenewReply, LeaseRevokeReply,
    LeaseStatus, Previous, PutReply, RangeReply, Stamp, TxnReply, TxnResult, Update,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use crate::call::Brought;
use crate::convert::text;
use crate::record::Record;

/// A class of the package, looked up once.
pub(crate) struct Class {
    module: &'static str,
    name: &'static str,
    class: PyOnceLock<Py<PyType>>,
}

impl Class {
    /// The class of this name in a module.
    pub(crate) const fn of(module: &'static str, name: &'static str) -> Self {
        Self { module, name, class: PyOnceLock::new() }
    }

    /// An object of it.
    pub(crate) fn make<'py>(
        &self,
        py: Python<'py>,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.class.import(py, self.module, self.name)?.call1(arguments)
    }

    /// What its class method makes.
    pub(crate) fn call_method<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.class.import(py, self.module, self.name)?.call_method1(method, arguments)
    }
}

static ENTRY: Record = Record::named("Entry");
static STAMP: Record = Record::named("Stamp");
static PUT_REPLY: Record = Record::named("PutReply");
static DELETE_REPLY: Record = Record::named("DeleteReply");
static LISTING: Record = Record::named("Listing");
static TXN_REPLY: Record = Record::named("TxnReply");
static PUT_EVENT: Record = Record::named("PutEvent");
static DELETE_EVENT: Record = Record::named("DeleteEvent");
static LIVENESS_EVENT: Record = Record::named("LivenessEvent");
static UPDATE: Record = Record::named("Update");
static LEASE_INFO: Record = Record::named("LeaseInfo");
static LEASE_GRANT: Record = Record::named("LeaseGrant");

fn value<'py>(py: Python<'py>, bytes: &Bytes) -> Bound<'py, PyBytes> {
    PyBytes::new(py, bytes)
}

fn entry<'py>(py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyAny>> {
    ENTRY.make(
        py,
        (
            text(py, entry.key.as_bytes())?,
            value(py, &entry.value),
            entry.create_revision.0,
            entry.mod_revision.0,
            entry.version.0,
            entry.lease.map(|lease| lease.0),
        ),
    )
}

fn maybe_entry<'py>(py: Python<'py>, found: Option<&Entry>) -> PyResult<Bound<'py, PyAny>> {
    found.map_or_else(|| Ok(py.None().into_bound(py)), |found| entry(py, found))
}

fn entries<'py>(py: Python<'py>, entries: &[Entry]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, entries.iter().map(|one| entry(py, one)).collect::<PyResult<Vec<_>>>()?)
}

fn stamped<'py>(py: Python<'py>, stamp: Option<&Stamp>) -> PyResult<Bound<'py, PyAny>> {
    let Some(stamp) = stamp else { return Ok(py.None().into_bound(py)) };
    STAMP.make(py, (stamp.revision.0, stamp.term, stamp.node.0, seconds(stamp.age_ms)))
}

/// Python counts in seconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 milliseconds: the age of continents")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

/// A reply, and where it comes from.
pub(crate) struct Stamped<T>(pub(crate) Stamp, pub(crate) T);

/// A read of one key with nothing but the entry.
pub(crate) struct Found(pub(crate) Option<Entry>);

/// A count of keys.
pub(crate) struct Count(pub(crate) u64);

impl Brought for Found {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        maybe_entry(py, self.0.as_ref()).map(Bound::unbind)
    }
}

impl Brought for Count {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.0.into_pyobject(py)?.into_any().unbind())
    }
}

impl Brought for Stamped<Option<Entry>> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let pair = (maybe_entry(py, self.1.as_ref())?, stamped(py, Some(&self.0))?);
        Ok(pair.into_pyobject(py)?.into_any().unbind())
    }
}

impl Brought for Stamped<PutReply> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        put_reply(py, &self.1, Some(&self.0)).map(Bound::unbind)
    }
}

impl Brought for Stamped<DeleteReply> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        delete_reply(py, &self.1, Some(&self.0)).map(Bound::unbind)
    }
}

impl Brought for Stamped<RangeReply> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        listing(py, &self.1, Some(&self.0)).map(Bound::unbind)
    }
}

impl Brought for Stamped<TxnReply> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Self(stamp, reply) = self;
        let result = |result: &TxnResult| match result {
            TxnResult::Get(GetReply { entry }) => maybe_entry(py, entry.as_ref()),
            TxnResult::Range(reply) => listing(py, reply, None),
            TxnResult::Put(reply) => put_reply(py, reply, None),
            TxnResult::Delete(reply) => delete_reply(py, reply, None),
        };
        let results = PyTuple::new(py, reply.results.iter().map(result).collect::<PyResult<Vec<_>>>()?)?;
        let stamp = stamped(py, Some(&stamp))?;
        TXN_REPLY
            .make(py, (reply.revision.0, reply.succeeded, results, reply.results_forgotten, stamp))
            .map(Bound::unbind)
    }
}

fn put_reply<'py>(py: Python<'py>, reply: &PutReply, stamp: Option<&Stamp>) -> PyResult<Bound<'py, PyAny>> {
    PUT_REPLY.make(py, (reply.revision.0, maybe_entry(py, reply.previous.as_ref())?, stamped(py, stamp)?))
}

fn delete_reply<'py>(py: Python<'py>, reply: &DeleteReply, stamp: Option<&Stamp>) -> PyResult<Bound<'py, PyAny>> {
    DELETE_REPLY.make(py, (reply.revision.0, reply.deleted, entries(py, &reply.previous)?, stamped(py, stamp)?))
}

fn listing<'py>(py: Python<'py>, reply: &RangeReply, stamp: Option<&Stamp>) -> PyResult<Bound<'py, PyAny>> {
    LISTING.make(py, (entries(py, &reply.entries)?, reply.count, reply.more, stamped(py, stamp)?))
}

fn event<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    let before = |previous: &Previous| match previous {
        Previous::Entry(previous) => Ok((entry(py, previous)?, false)),
        Previous::NotAsked | Previous::None => Ok::<_, PyErr>((py.None().into_bound(py), false)),
        Previous::Forgotten => Ok((py.None().into_bound(py), true)),
    };
    match event {
        Event::Put { entry: now, previous } => {
            let (previous, forgotten) = before(previous)?;
            PUT_EVENT.make(py, (entry(py, now)?, previous, forgotten))
        }
        Event::Delete { key, revision, previous } => {
            let (previous, forgotten) = before(previous)?;
            DELETE_EVENT.make(py, (text(py, key.as_bytes())?, revision.0, previous, forgotten))
        }
        Event::Liveness { lease, state, revision } => LIVENESS_EVENT.make(py, (lease.0, state.as_str(), revision.0)),
    }
}

/// An update of a watch.
pub(crate) fn update(py: Python<'_>, update: &Update) -> PyResult<Py<PyAny>> {
    let events = PyTuple::new(py, update.events.iter().map(|one| event(py, one)).collect::<PyResult<Vec<_>>>()?)?;
    UPDATE.make(py, (update.revision.0, update.kind.as_str(), events, update.folded)).map(Bound::unbind)
}

impl Brought for LeaseGrantReply {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        LEASE_GRANT.make(py, (self.lease.0, seconds(self.ttl_ms), self.epoch)).map(Bound::unbind)
    }
}

impl Brought for LeaseRenewReply {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(seconds(self.ttl_ms).into_pyobject(py)?.into_any().unbind())
    }
}

impl Brought for LeaseRevokeReply {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.deleted.into_pyobject(py)?.into_any().unbind())
    }
}

impl Brought for LeaseInfoReply {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let keys = self.keys.iter().map(|key| text(py, key.as_bytes())).collect::<PyResult<Vec<_>>>()?;
        lease_status(py, &self.lease, Some(PyTuple::new(py, keys)?)).map(Bound::unbind)
    }
}

impl Brought for Vec<LeaseStatus> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let all = self.iter().map(|lease| lease_status(py, lease, None)).collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, all)?.into_any().unbind())
    }
}

fn lease_status<'py>(
    py: Python<'py>,
    lease: &LeaseStatus,
    keys: Option<Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = match lease.kind {
        LeaseKind::Ttl => "ttl",
        LeaseKind::Bound => "bound",
    };
    LEASE_INFO.make(
        py,
        (
            lease.lease.0,
            seconds(lease.ttl_ms),
            lease.remaining_ms.map(seconds),
            kind,
            lease.state.as_str(),
            lease.epoch,
            lease.session.map(|session| session.0),
            lease.keys,
            &lease.owner,
            seconds(lease.granted_at.0),
            keys,
        ),
    )
}
