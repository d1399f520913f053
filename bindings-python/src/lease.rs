//! Leases.

use std::sync::{Arc, OnceLock};

use hither::{Error, ErrorCode, LeaseId};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::call::{run, run_on, within};
use crate::client::Core;
use crate::convert::Seconds;
use crate::errors::Failure;
use crate::port::Port;
use crate::process::Owned;
use crate::types::Count;

/// A lease that the client keeps: made first, then granted. Dropping it lets go of it.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct Lease {
    slot: Owned<Arc<OnceLock<Held>>>,
    port: Option<Py<Port>>,
}

/// The granted lease; its handle is gone once it was revoked.
struct Held {
    id: LeaseId,
    ttl: f64,
    lease: Mutex<Option<hither::Lease>>,
}

impl Lease {
    fn held(&self) -> Result<&Held, Failure> {
        let held = self.slot.get()?.get();
        held.ok_or_else(|| Error::new(ErrorCode::LeaseNotFound, "the lease is not granted yet").into())
    }
}

#[pymethods]
impl Lease {
    #[new]
    fn new(py: Python<'_>, core: &Core) -> PyResult<Self> {
        core.client()?;
        Ok(Self { slot: Owned::new(Arc::default()), port: core.port().map(|port| port.clone_ref(py)) })
    }

    /// Grants it. Once.
    fn open(&self, py: Python<'_>, core: &Core, ttl: Seconds) -> PyResult<Py<PyAny>> {
        let client = core.client()?.clone();
        let slot = Arc::clone(self.slot.get()?);
        run_on(self.port.as_ref(), py, async move {
            let lease = client.lease(ttl.0).await?;
            let held = Held { id: lease.id(), ttl: lease.ttl().as_secs_f64(), lease: Mutex::new(Some(lease)) };
            // A second one has no place, and is let go of here.
            let _ = slot.set(held);
            Ok(())
        })
    }

    /// Its id.
    #[getter]
    fn id(&self) -> Result<u64, Failure> {
        Ok(self.held()?.id.0)
    }

    /// Its time to live, as it was granted.
    #[getter]
    fn ttl(&self) -> Result<f64, Failure> {
        Ok(self.held()?.ttl)
    }

    /// Whether it must be taken as lost, or was revoked.
    #[getter]
    fn is_lost(&self) -> Result<bool, Failure> {
        Ok(self.held()?.lease.lock().as_ref().is_none_or(hither::Lease::is_lost))
    }

    /// Waits until it must be taken as lost, or is revoked: false if the time passed.
    #[pyo3(signature = (timeout))]
    fn lost(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let lost = self.held()?.lease.lock().as_ref().map(hither::Lease::lost);
        run_on(self.port.as_ref(), py, async move {
            let lost = async {
                if let Some(lost) = lost {
                    lost.await;
                }
            };
            Ok(within(timeout, lost).await.is_some())
        })
    }

    /// Ends it, and deletes its keys: how many, none if it was revoked already.
    fn revoke(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.held()?;
        let slot = Arc::clone(self.slot.get()?);
        run_on(self.port.as_ref(), py, async move {
            // Taken out within the call: one that is refused, such as that of another loop, leaves the lease as it is.
            let lease = slot.get().and_then(|held| held.lease.lock().take());
            match lease {
                Some(lease) => lease.revoke().await.map(|reply| Count(reply.deleted)),
                None => Ok(Count(0)),
            }
        })
    }
}

/// Grants a lease that nobody keeps.
#[pyfunction]
pub(crate) fn lease_grant(py: Python<'_>, core: &Core, ttl: Seconds) -> PyResult<Py<PyAny>> {
    let client = core.client()?.clone();
    run(core, py, async move { client.lease_grant(ttl.0).await })
}

/// Lets a lease live another full time: that time.
#[pyfunction]
pub(crate) fn lease_renew(py: Python<'_>, core: &Core, lease: u64) -> PyResult<Py<PyAny>> {
    let client = core.client()?.clone();
    run(core, py, async move { client.lease_renew(LeaseId(lease)).await })
}

/// Ends a lease: how many keys it had.
#[pyfunction]
pub(crate) fn lease_revoke(py: Python<'_>, core: &Core, lease: u64) -> PyResult<Py<PyAny>> {
    let client = core.client()?.clone();
    run(core, py, async move { client.lease_revoke(LeaseId(lease)).await })
}

/// A lease and its keys.
#[pyfunction]
pub(crate) fn lease_info(py: Python<'_>, core: &Core, lease: u64) -> PyResult<Py<PyAny>> {
    let client = core.client()?.clone();
    run(core, py, async move { client.lease_info(LeaseId(lease)).await })
}

/// Every lease.
#[pyfunction]
pub(crate) fn lease_list(py: Python<'_>, core: &Core) -> PyResult<Py<PyAny>> {
    let client = core.client()?.clone();
    run(core, py, async move { client.lease_list().await })
}
