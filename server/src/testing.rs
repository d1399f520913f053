//! For tests of devices: raft's own conformance suite over the log and the state machine of this crate.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::NodeId;
use hither_state::device::{LogDevice, StateDevice};
use hither_state::watch::{HubConfig, WatchHub};
use openraft::AsyncRuntime;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{ErrorSubject, ErrorVerb, StorageError};

use crate::engine::{Clock, Failing, Stats};
use crate::machine::Machine;
use crate::persister::{self, Pace, Persister, Stored};
use crate::raft::{Applier, Log, Tokio, TypeConfig};

/// Runs raft's suite of some fifty cases. `open` makes empty devices for each, and whatever must outlive them.
///
/// # Errors
/// What raft says of the first case that fails; most panic instead.
pub fn store_suite<L: LogDevice, S: StateDevice, G: Send + Sync>(
    open: impl Fn() -> (L, S, G) + Send + Sync,
) -> Result<(), String> {
    let builder = Builder { open, made: PhantomData };
    Tokio::run(async {
        Suite::test_all(builder).await.map_err(|error: StorageError<TypeConfig<Tokio>>| error.to_string())
    })
}

struct Builder<F, T> {
    open: F,
    made: PhantomData<fn() -> T>,
}

impl<L, S, G, F> StoreBuilder<TypeConfig<Tokio>, Log<Tokio, L>, Applier, G> for Builder<F, (L, S, G)>
where
    L: LogDevice,
    S: StateDevice,
    G: Send + Sync,
    F: Fn() -> (L, S, G) + Send + Sync,
{
    async fn build(&self) -> Result<(G, Log<Tokio, L>, Applier), StorageError<TypeConfig<Tokio>>> {
        let (log, device, guard) = (self.open)();
        let (stats, failing) = (Arc::new(Stats::default()), Failing::default());
        let read = |error: io::Error| StorageError::from_io_error(ErrorSubject::Store, ErrorVerb::Read, error);
        let (_, applier, _) = applier(device, stats.clone(), failing.clone()).map_err(read)?;
        let log = Log::<Tokio, L>::open(log, NodeId(1), stats, failing).map_err(read)?;
        Ok((guard, log, applier))
    }
}

/// The state that a device holds, and what drives it and writes it.
pub(crate) fn applier<S: StateDevice>(
    device: S,
    stats: Arc<Stats>,
    failing: Failing,
) -> io::Result<(Arc<Machine>, Applier, Persister)> {
    let clock = Clock::of::<Tokio>();
    let Stored { state, history, standing } = persister::load(&device)?;
    let hub = WatchHub::new(HubConfig::default(), &state, history, clock.now());
    let pace = Pace { write: Duration::from_millis(50), flush: Duration::from_secs(60) };
    let persister = Persister::start::<Tokio, S>(device, standing.clone(), pace, stats.clone(), failing.clone())?;
    let machine = Arc::new(Machine::new(state, hub, standing.clone(), clock, stats));
    let applier = Applier::new(machine.clone(), persister.clone(), standing, failing);
    Ok((machine, applier, persister))
}
