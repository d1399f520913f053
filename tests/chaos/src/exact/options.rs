//! What a run is told.

use std::time::Duration;

/// How long, how many of what, and the seed that everything is drawn from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How long writers and faults go on. If the faults asked for take longer, so does the run.
    #[arg(long, default_value_t = 120)]
    pub(crate) seconds: u64,
    /// Which keys, which watchers, which faults and when. The kernel's scheduling is not drawn from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Watchers, of every kind.
    #[arg(long, default_value_t = 64)]
    pub(crate) watchers: usize,
    /// Times that the way between a client and the server is cut.
    #[arg(long, default_value_t = 100)]
    pub(crate) cuts: usize,
    /// Times that the server is killed with `kill -9` and started again where it was.
    #[arg(long, default_value_t = 10)]
    pub(crate) kills: usize,
    /// Writes that are asked for in a second.
    #[arg(long, default_value_t = 400)]
    pub(crate) rate: u64,
}

impl Options {
    pub(crate) const fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
