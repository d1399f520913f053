//! What Python says about a client to come.

use std::collections::BTreeMap;

use hither::context::Contexts;
use hither::{Client, ClientBuilder, Identity, Revision};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::Seconds;
use crate::errors::Failure;

/// The settings of a client, from a `dict` of those that were given.
pub(crate) fn builder(settings: &Bound<'_, PyDict>) -> PyResult<ClientBuilder> {
    let mut builder = Client::builder().agent(concat!("hither-python/", env!("CARGO_PKG_VERSION")));
    for (name, value) in settings {
        let name: String = name.extract()?;
        builder = match name.as_str() {
            "url" => builder.url(value.extract::<String>()?),
            "context" => builder.context(value.extract::<String>()?),
            "config_home" => builder.contexts(Contexts::at(value.extract::<std::path::PathBuf>()?)),
            "namespace" => builder.namespace(value.extract::<String>()?),
            "identity" => {
                let (ca, identity): (Vec<u8>, Vec<u8>) = value.extract()?;
                builder.identity(Identity::from_pem(&ca, &identity).map_err(Failure::Core)?)
            }
            "connect_timeout" => builder.connect_timeout(value.extract::<Seconds>()?.0),
            "request_timeout" => builder.request_timeout(value.extract::<Seconds>()?.0),
            "session_ttl" => builder.session_ttl(value.extract::<Seconds>()?.0),
            "beat_interval" => builder.beat_interval(value.extract::<Seconds>()?.0),
            "backoff" => {
                let (min, max): (Seconds, Seconds) = value.extract()?;
                builder.backoff(min.0, max.0)
            }
            "share_watches" => builder.share_watches(value.extract()?),
            "seen" => builder.seen(Revision(value.extract()?)),
            "agent" => builder.agent(value.extract::<String>()?),
            "options" => {
                let options: BTreeMap<String, String> = value.extract()?;
                options.into_iter().fold(builder, |builder, (name, value)| builder.option(name, value))
            }
            _ => return Err(PyTypeError::new_err(format!("a client has no setting {name:?}"))),
        };
    }
    Ok(builder)
}
