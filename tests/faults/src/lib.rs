//! Faults of the machine, and what a node makes of them.
//!
//! Each module is a fault and the judge of it. Short forms of them run with every `make test`; the long forms are
//! subcommands of `hither-faults`. A judge returns what it found wrong instead of panicking where a test has to show
//! that it can find it.

pub mod cut;
pub mod disk;
pub mod forger;
pub mod full;
pub mod ledger;
pub mod load;
pub mod losses;
pub mod machine;
pub mod power;
pub mod report;
pub mod soak;
pub mod stalled;
pub mod storm;
pub mod stranger;
