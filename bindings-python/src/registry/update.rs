//! Changes of a record.

use std::collections::BTreeMap;

use hither::{Instance, InstanceStatus, ServiceEndpoint};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Failure;

/// New values of some fields.
#[derive(Default)]
pub(super) struct Changes {
    endpoints: Option<Vec<ServiceEndpoint>>,
    version: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<BTreeMap<String, String>>,
    zone: Option<String>,
    region: Option<String>,
    weight: Option<u32>,
    status: Option<InstanceStatus>,
}

impl Changes {
    /// From the fields that were given.
    pub(super) fn read(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut changes = Self::default();
        for (name, value) in given {
            let name: String = name.extract()?;
            match name.as_str() {
                "endpoints" => {
                    let parse =
                        |text: String| text.parse::<ServiceEndpoint>().map_err(|refusal| Failure::Core(refusal.into()));
                    let endpoints: Result<Vec<_>, _> = value.extract::<Vec<String>>()?.into_iter().map(parse).collect();
                    changes.endpoints = Some(endpoints?);
                }
                "version" => changes.version = Some(value.extract()?),
                "tags" => changes.tags = Some(value.extract()?),
                "metadata" => changes.metadata = Some(value.extract()?),
                "zone" => changes.zone = Some(value.extract()?),
                "region" => changes.region = Some(value.extract()?),
                "weight" => changes.weight = Some(value.extract()?),
                "status" => changes.status = Some(value.extract::<String>()?.as_str().into()),
                _ => return Err(PyTypeError::new_err(format!("{name:?} of a registration cannot be changed"))),
            }
        }
        Ok(changes)
    }

    /// Makes them.
    pub(super) fn apply(self, instance: &mut Instance) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut instance.endpoints, self.endpoints);
        set(&mut instance.version, self.version);
        set(&mut instance.tags, self.tags);
        set(&mut instance.metadata, self.metadata);
        set(&mut instance.zone, self.zone);
        set(&mut instance.region, self.region);
        set(&mut instance.weight, self.weight);
        set(&mut instance.status, self.status);
    }
}
