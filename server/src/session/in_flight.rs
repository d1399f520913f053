//! The requests of a connection that are being worked on, so that its control lane can take one back.

use std::collections::HashMap;

use futures_util::future::{AbortHandle, AbortRegistration};
use hither_protocol::{ErrorCode, Refusal, RequestNumber};
use parking_lot::Mutex;

/// Requests under way, by number.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    requests: Mutex<HashMap<RequestNumber, AbortHandle>>,
}

impl InFlight {
    /// Notes a request.
    ///
    /// # Errors
    /// `InvalidArgument` if its number is in use: a reply could not be told from another.
    pub(super) fn begin(&self, number: RequestNumber) -> Result<AbortRegistration, Refusal> {
        use std::collections::hash_map::Entry;
        match self.requests.lock().entry(number) {
            Entry::Occupied(_) => Err(Refusal::new(
                ErrorCode::InvalidArgument,
                format!("request {number} is still being worked on; number each request of a connection once"),
            )),
            Entry::Vacant(vacant) => {
                let (handle, registration) = AbortHandle::new_pair();
                vacant.insert(handle);
                Ok(registration)
            }
        }
    }

    pub(super) fn end(&self, number: RequestNumber) {
        self.requests.lock().remove(&number);
    }

    /// Nobody waits for it any more. Unknown numbers are ignored: its answer may be on its way.
    pub(super) fn cancel(&self, number: RequestNumber) {
        if let Some(handle) = self.requests.lock().get(&number) {
            handle.abort();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.requests.lock().len()
    }
}
