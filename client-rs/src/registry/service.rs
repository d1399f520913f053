//! A service, held.

use std::sync::Arc;

use hither_client_core::{Error, Instance, ServiceView};

use super::discover::{Discovers, Waits};
use super::pick::Pick;
use super::slot::Pin;
use super::watch::ServiceWatches;
use crate::client::Client;

impl Client {
    /// A handle to a service. Its view is kept up to date for as long as the handle lives.
    ///
    /// # Errors
    /// `InvalidName`.
    pub fn service(&self, service: impl AsRef<str>) -> Result<Service, Error> {
        Ok(Service { client: self.clone(), pin: self.pinned(service.as_ref())? })
    }
}

/// A service whose view is kept up to date for as long as this lives. Cheap to clone. Made by [`Client::service`].
///
/// If the server or the client's limits do not let it (`PermissionDenied`, `ViewTooLarge`), there is no view, and
/// [`pick`](Self::pick) says why, until [`discover`](Self::discover) or another call that waits has begun again.
#[derive(Clone, Debug)]
pub struct Service {
    client: Client,
    pin: Pin,
}

impl Service {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.pin.slot().service
    }

    /// The view as it is known here now; none before the first state has come. See [`Client::view`].
    #[must_use]
    pub fn view(&self) -> Option<Arc<ServiceView>> {
        self.pin.slot().view.load_full().or_else(|| self.client.view(self.name()))
    }

    /// Waits for the first state, if need be. See [`Client::discover`].
    pub fn discover(&self) -> Discovers {
        self.client.discover(self.name())
    }

    /// Picks an instance, locally and at once. See [`Client::pick`].
    ///
    /// # Errors
    /// Those of [`Client::pick`].
    pub fn pick(&self, pick: &Pick) -> Result<Arc<Instance>, Error> {
        let slot = self.pin.slot();
        let picked = pick.from(slot, |_| true);
        if picked.is_err()
            && slot.has_ended()
            && let Some(another) = self.client.registry().find(self.name())
        {
            return pick.from(&another, |_| true);
        }
        picked
    }

    /// Waits until it has at least `count` instances that work. See [`Client::wait_for`].
    pub fn ready(&self, count: usize) -> Waits {
        self.client.wait_for(self.name(), count)
    }

    /// Follows its instances. See [`Client::watch_service`].
    pub fn watch(&self) -> ServiceWatches {
        self.client.watch_service(self.name())
    }
}
