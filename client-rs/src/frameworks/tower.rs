//! A service as a stream of changes for tower's balancers (feature `tower`).
//!
//! ```no_run
//! # async fn example(client: hither::Client) -> Result<(), hither::Error> {
//! use futures_core::Stream;
//!
//! // What a balancer such as `tower::balance::p2c::Balance` takes.
//! let changes = hither::tower::discover(client.watch_service("api").await?, |instance| {
//!     let url = instance.url().unwrap_or_default();
//!     tower::service_fn(move |path: String| {
//!         let url = url.clone();
//!         async move { Ok::<_, std::convert::Infallible>(format!("{url}{path}")) }
//!     })
//! });
//! # fn is_discover<D: tower::discover::Discover>(_: D) {}
//! # is_discover(changes);
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tower::discover::Change;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use hither_client_core::{Delta, Error, Instance};

use crate::registry::ServiceWatch;

/// The instances of a service that want traffic, as they come and go: a [`Discover`](::tower::discover::Discover) with
/// the instances' ids for keys. `make`: the tower service of an instance; it is made again when the instance listens
/// elsewhere. As long as none works, those that are merely silent are in it: see [`Pick`](crate::Pick).
pub fn discover<S, F>(watch: ServiceWatch, make: F) -> Changes<S>
where
    S: Send + 'static,
    F: FnMut(&Arc<Instance>) -> S + Send + 'static,
{
    let state = State { watch, make, known: Vec::new(), changes: VecDeque::new() };
    Changes(unfold(state, State::next).boxed())
}

/// Changes of a service. Made by [`discover`].
pub struct Changes<S>(BoxStream<'static, Result<Change<String, S>, Error>>);

impl<S> Stream for Changes<S> {
    type Item = Result<Change<String, S>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl<S> fmt::Debug for Changes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

struct State<S, F> {
    watch: ServiceWatch,
    make: F,
    known: Vec<Arc<Instance>>,
    changes: VecDeque<Change<String, S>>,
}

impl<S, F: FnMut(&Arc<Instance>) -> S> State<S, F> {
    async fn next(mut self) -> Option<(Result<Change<String, S>, Error>, Self)> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Some((Ok(change), self));
            }
            let update = match self.watch.next().await? {
                Ok(update) => update,
                Err(error) => return Some((Err(error), self)),
            };
            let candidates = update.view.candidates();
            let Delta { added, changed, removed } = Delta::between(&self.known, candidates);
            let before = |id: &str| self.known.iter().find(|known| known.id == id);
            let moved = changed.into_iter().filter(|is| before(&is.id).is_none_or(|was| was.endpoints != is.endpoints));
            // First those that come: a balancer is not left without any.
            let come: Vec<Arc<Instance>> = added.into_iter().chain(moved).collect();
            for instance in come {
                self.changes.push_back(Change::Insert(instance.id.clone(), (self.make)(&instance)));
            }
            self.changes.extend(removed.iter().map(|instance| Change::Remove(instance.id.clone())));
            self.known = candidates.to_vec();
        }
    }
}
