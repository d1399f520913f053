//! Registering an instance.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hither::{Error, ErrorCode, Registered};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::shown::build;
use super::update::Changes;
use crate::call::{Brought, run_on, within};
use crate::client::Core;
use crate::convert::{LeaseArgument, Seconds};
use crate::errors::Failure;
use crate::port::Port;
use crate::process::Owned;

/// A registered instance: made first, then registered. Dropping it deregisters, as well as that can be done.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct Registration {
    slot: Owned<Arc<OnceLock<Arc<Registered>>>>,
    port: Option<Py<Port>>,
}

impl Registration {
    fn registered(&self) -> Result<&Arc<Registered>, Failure> {
        let registered = self.slot.get()?.get();
        registered.ok_or_else(|| Error::new(ErrorCode::NotFound, "nothing is registered yet").into())
    }
}

#[pymethods]
impl Registration {
    #[new]
    fn new(py: Python<'_>, core: &Core) -> PyResult<Self> {
        core.client()?;
        Ok(Self { slot: Owned::new(Arc::default()), port: core.port().map(|port| port.clone_ref(py)) })
    }

    /// Registers. Once. `record`: the fields that were given.
    fn open(&self, py: Python<'_>, core: &Core, service: &str, record: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
        let client = core.client()?.clone();
        let registration = read(service, record)?;
        let slot = Arc::clone(self.slot.get()?);
        run_on(self.port.as_ref(), py, async move {
            let registered = client.register(registration).await?;
            // A second one has no place, and is let go of here.
            let _ = slot.set(Arc::new(registered));
            Ok(())
        })
    }

    /// The record, as it is stored.
    fn instance(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        build(py, &self.registered()?.instance())
    }

    /// Which registration under its id it is.
    #[getter]
    fn epoch(&self) -> Result<u64, Failure> {
        Ok(self.registered()?.epoch().0)
    }

    /// How it stands, as a word.
    #[getter]
    fn state(&self) -> Result<&'static str, Failure> {
        Ok(self.registered()?.state().as_str())
    }

    /// Waits until it must be taken as lost: false if the time passed.
    #[pyo3(signature = (timeout))]
    fn lost(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let registered = Arc::clone(self.registered()?);
        run_on(self.port.as_ref(), py, async move { Ok(within(timeout, registered.lost()).await.is_some()) })
    }

    /// Waits until it is in the registry: false if it never will be, none if the time passed.
    #[pyo3(signature = (timeout))]
    fn found(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let registered = Arc::clone(self.registered()?);
        run_on(self.port.as_ref(), py, async move { Ok(within(timeout, registered.found()).await) })
    }

    /// Changes fields of the record.
    fn update(&self, py: Python<'_>, changes: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
        let registered = Arc::clone(self.registered()?);
        let changes = Changes::read(changes)?;
        run_on(self.port.as_ref(), py, async move {
            registered.update(|instance| changes.apply(instance)).await?;
            Ok(Record(registered.instance()))
        })
    }

    /// Wants nothing new.
    fn drain(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let registered = Arc::clone(self.registered()?);
        run_on(self.port.as_ref(), py, async move {
            registered.drain().await?;
            Ok(Record(registered.instance()))
        })
    }

    /// Takes it out: whether it was there.
    fn deregister(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let registered = Arc::clone(self.registered()?);
        run_on(self.port.as_ref(), py, async move { registered.deregister().await })
    }
}

/// A record as it is now stored.
struct Record(hither::Instance);

impl Brought for Record {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        build(py, &self.0)
    }
}

fn read(service: &str, record: &Bound<'_, PyDict>) -> PyResult<hither::Registration> {
    let mut registration = hither::Registration::new(service);
    for (name, value) in record {
        let name: String = name.extract()?;
        let text = || value.extract::<String>();
        registration = match name.as_str() {
            "id" => registration.id(text()?),
            "port" => registration.port(value.extract()?),
            "address" => registration.address(text()?),
            "scheme" => registration.scheme(text()?),
            "endpoints" => {
                value.extract::<Vec<String>>()?.into_iter().fold(registration, hither::Registration::endpoint)
            }
            "version" => registration.version(text()?),
            "tags" => value.extract::<Vec<String>>()?.into_iter().fold(registration, hither::Registration::tag),
            "metadata" => value
                .extract::<BTreeMap<String, String>>()?
                .into_iter()
                .fold(registration, |registration, (name, value)| registration.metadata(name, value)),
            "zone" => registration.zone(text()?),
            "region" => registration.region(text()?),
            "weight" => registration.weight(value.extract()?),
            "ttl" => registration.ttl(value.extract::<Seconds>()?.0),
            "lease" => registration.lease(value.extract::<LeaseArgument>()?.0),
            "permanent" if value.is_truthy()? => registration.permanent(),
            "permanent" => registration,
            _ => return Err(PyTypeError::new_err(format!("a registration has no {name:?}"))),
        };
    }
    Ok(registration)
}
