//! Processor time of the server and of this process, which is its clients.

use std::time::Duration;

use crate::process::{Server, own_cpu};

/// What both have used.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    server: Duration,
    own: Duration,
}

impl Spent {
    /// Until now.
    pub(crate) fn by(server: &Server) -> anyhow::Result<Self> {
        Ok(Self { server: server.cpu()?, own: own_cpu()? })
    }

    /// From then until now.
    pub(crate) fn since(self, server: &Server) -> anyhow::Result<Self> {
        let now = Self::by(server)?;
        Ok(Self { server: now.server - self.server, own: now.own - self.own })
    }

    /// The server's for each of so many, in µs.
    pub(crate) fn server_us(self, count: usize) -> f64 {
        each(self.server, count)
    }

    /// The clients' for each of so many, in µs.
    pub(crate) fn own_us(self, count: usize) -> f64 {
        each(self.own, count)
    }
}

fn each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}
