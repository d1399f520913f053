//! The two device traits of [`hither_state::device`], in one data directory.
//!
//! The server opens a [`DataDir`] and takes its two devices: [`FileLog`], which waits for the disk, and
//! [`RocksState`], which is written behind. Neither ever repairs by leaving out: what is damaged does not open, except
//! an end of the log that nobody was told of. After an error of a write the process ends.
//!
//! ```text
//! IDENT           cluster, node, format; written once            [ident]
//! LOCK            the process that has it                        [lock]
//! log/            the log, in files of our own                   [log]
//! durable.mark    how far the log was durable                    [mark]
//! state-<n>/      RocksDB without one                            [state]
//! CURRENT_STATE   which n counts
//! reserve         room for when the disk is full            [reserve]
//! ```

mod directory;
mod error;
mod exit;
mod files;
mod ident;
mod lock;
mod log;
mod mark;
mod reserve;
mod rocks;
mod space;
mod state;

pub use directory::{DataDir, Vacancy};
pub use error::StorageError;
pub use ident::Identity;
pub use log::{FileLog, FileLogReader};
pub use reserve::Reserve;
pub use state::RocksState;
