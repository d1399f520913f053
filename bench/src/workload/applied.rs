//! From the moment that the server applied a put to its event at a watcher, at a steady 200 puts a second.
//!
//! The server logs when it applied which revision; both processes read the same clock.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use hither::KeyRange;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::event::{self, PUTS_PER_SECOND};
use super::{Figures, VALUE_BYTES};
use crate::latency::Latencies;
use crate::process::Server;
use crate::target;

/// What the server is to log.
pub(crate) const FILTER: &str = "error,hither_server::machine=trace";

/// A line of the log.
#[derive(Deserialize)]
struct Line {
    timestamp: String,
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    message: String,
    revision: Option<u64>,
}

pub(crate) async fn run(server: &Server, seconds: f64) -> anyhow::Result<Figures> {
    let client = target::hither(&server.address, server.home.path()).await?;
    let watching = target::hither(&server.address, server.home.path()).await?;
    let mut watch = watching.watch(KeyRange::One("bench/applied".into())).await?;
    let puts = event::puts(seconds);
    let warm_up = puts / 10;
    let mut seen = Vec::with_capacity(puts);
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / PUTS_PER_SECOND));
    // The state as it was.
    watch.next().await.context("the watch goes on")??;
    for n in 0..puts + warm_up {
        tick.tick().await;
        let (put, event) = tokio::join!(client.put("bench/applied", vec![b'v'; VALUE_BYTES]), async {
            let update = watch.next().await;
            (update, OffsetDateTime::now_utc())
        });
        put?;
        let (update, at) = event;
        if n >= warm_up {
            seen.push((update.context("the watch goes on")??.revision.0, at));
        }
    }
    let applied = applied(&server.log()?)?;
    let mut latencies = Latencies::new();
    for (revision, at) in seen {
        let since = applied.get(&revision).with_context(|| format!("the log has no revision {revision}"))?;
        // The log has microseconds, cut off.
        latencies.record((at - *since).try_into().unwrap_or_default());
    }
    Ok(Figures::from([
        ("apply to event p50 ms", latencies.quantile_ms(0.5)),
        ("apply to event p99 ms", latencies.quantile_ms(0.99)),
    ]))
}

/// When each revision was applied.
fn applied(log: &str) -> anyhow::Result<HashMap<u64, OffsetDateTime>> {
    let mut applied = HashMap::new();
    for line in log.lines() {
        let Line { timestamp, fields } = serde_json::from_str(line).with_context(|| format!("in the log: {line}"))?;
        if let (Some(revision), "applied") = (fields.revision, fields.message.as_str()) {
            applied.insert(revision, OffsetDateTime::parse(&timestamp, &Rfc3339)?);
        }
    }
    Ok(applied)
}
