//! The native half of the npm package `hither`: it turns JavaScript's arguments into calls of the crate `hither`, and
//! what they bring into JavaScript's values. It decides nothing; `bindings-node/ts` is the half that people see.
//!
//! No thread but JavaScript's own ever touches JavaScript. A call names itself by a number; JavaScript's thread polls it,
//! and goes on with it when one weak threadsafe function says that what it waited for has come. See [`port`].

#![cfg_attr(
    test,
    allow(dead_code, reason = "where nothing is registered with Node, nobody uses what is to be registered")
)]

mod batch;
mod client;
mod hear;
mod kv;
mod lease;
mod port;
mod registration;
mod runtime;
mod service;
mod tell;
mod txn;
mod watch;

use hither::{ErrorCode, Retry};
use napi_derive::napi;

/// The version of this build, which must be that of the JavaScript beside it.
#[napi(catch_unwind)]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The table of errors: number, name, what may be done, what it means.
#[napi(catch_unwind)]
pub fn error_codes() -> Vec<(u32, &'static str, &'static str, &'static str)> {
    let row = |code: &ErrorCode| (u32::from(code.number()), code.name(), retry(code.retry()), code.meaning());
    ErrorCode::ALL.iter().map(row).collect()
}

const fn retry(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Later => "later",
        Retry::Elsewhere => "elsewhere",
    }
}
