//! The registry's heart: what a finder knows of a service, and which of its instances it wants.

mod filter;
mod roster;
mod view;

pub use filter::InstanceFilter;
pub use roster::{Roster, RosterOptions};
pub use view::{Delta, Freshness, Invalid, NoInstances, ServiceView, Source, ViewState};
