//! The native half of the Python package `hither`: calls of the crate `hither`, in Python's types.
//!
//! It decides nothing. What Python sees and what is documented is written in Python (`python/hither`); this module is
//! private to it. Three rules keep the two runtimes apart:
//!
//! - No thread of ours ever touches Python. Who is woken is put on a queue ([`port`]), and the event loop's own thread goes
//!   on from there; a blocking call waits in the thread that makes it ([`call`]).
//! - Nothing that another thread may hold is used after a fork ([`process`]).
//! - Dropping is taking back: a cancelled call is dropped in the core too, an unused watch is closed.

mod call;
mod client;
mod convert;
mod errors;
mod kv;
mod lease;
mod logs;
mod port;
mod process;
mod record;
mod registry;
mod settings;
mod states;
mod txn;
mod types;
mod watch;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// For this module alone: Python goes on with its own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Private to the package `hither`.
#[pymodule(gil_used = false)]
mod _native {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::call::{live_calls, panic_in_a_task};
    #[pymodule_export]
    use super::client::Core;
    #[pymodule_export]
    use super::errors::error_codes;
    #[pymodule_export]
    use super::kv::{kv_delete, kv_get, kv_list, kv_put};
    #[pymodule_export]
    use super::lease::{Lease, lease_grant, lease_info, lease_list, lease_renew, lease_revoke};
    #[pymodule_export]
    use super::port::Port;
    #[pymodule_export]
    use super::process::shutdown;
    #[pymodule_export]
    use super::registry::{
        Followed, Picker, Registration, ServiceWatch, View, discover, pick, services, view_now, wait_for,
    };
    #[pymodule_export]
    use super::states::States;
    #[pymodule_export]
    use super::txn::kv_txn;
    #[pymodule_export]
    use super::watch::Watch;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::process::notice_forks();
        super::logs::collect();
        Ok(())
    }
}
