//! The registry's heart: what a finder knows of a service, and which of its instances it wants.

mod declarations;
mod filter;
mod roster;
mod tombstone;
mod view;

pub use declarations::{Declarations, Need, Note as RegistryNote, Tie};
pub use filter::InstanceFilter;
pub use roster::{Roster, RosterOptions};
pub use tombstone::{TOMBSTONE_TTL, tombstone};
pub use view::{Delta, Freshness, Invalid, NoInstances, ServiceView, Source, ViewState};
