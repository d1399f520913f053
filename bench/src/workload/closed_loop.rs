//! Puts or gets, each caller one at a time, for some seconds.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::{Figures, VALUE_BYTES, key};
use crate::latency::Latencies;
use crate::process::Server;
use crate::spent::Spent;
use crate::target::{Connection, System};

/// Which operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Get,
}

/// Runs `in_flight` callers over `connections` connections.
pub(crate) async fn run(
    system: System,
    server: &Server,
    op: Op,
    in_flight: usize,
    connections: usize,
    seconds: f64,
) -> anyhow::Result<Figures> {
    let pool = Connection::pool(system, server, connections).await?;
    let value = vec![b'v'; VALUE_BYTES];
    if op == Op::Get {
        let mut connection = pool[0].clone();
        for n in 0..1_000 {
            connection.put(&key(n), &value).await?;
        }
    }

    let latencies = Rc::new(RefCell::new(Latencies::new()));
    let warm_until = Instant::now() + Duration::from_secs_f64(seconds / 10.0);
    let end = warm_until + Duration::from_secs_f64(seconds);
    let callers = LocalSet::new();
    let mut tasks = Vec::new();
    for caller in 0..in_flight {
        let mut connection = pool[caller % connections].clone();
        let (value, latencies) = (value.clone(), Rc::clone(&latencies));
        tasks.push(callers.spawn_local(async move {
            let mut own = Latencies::new();
            let mut n = caller * 7_919;
            loop {
                let start = Instant::now();
                if start >= end {
                    break;
                }
                n += 1;
                match op {
                    Op::Put => connection.put(&key(n), &value).await?,
                    Op::Get => connection.get(&key(n)).await?,
                }
                if start >= warm_until {
                    own.record(start.elapsed());
                }
            }
            latencies.borrow_mut().add(&own);
            anyhow::Ok(())
        }));
    }
    let spent = callers
        .run_until(async {
            tokio::time::sleep_until(warm_until.into()).await;
            let spent = Spent::by(server)?;
            tokio::time::sleep_until(end.into()).await;
            let spent = spent.since(server)?;
            for task in tasks {
                task.await??;
            }
            anyhow::Ok(spent)
        })
        .await?;

    let latencies = latencies.borrow();
    let operations = usize::try_from(latencies.count())?;
    Ok(Figures::from([
        ("operations/s", operations as f64 / seconds),
        ("p50 ms", latencies.quantile_ms(0.5)),
        ("p99 ms", latencies.quantile_ms(0.99)),
        ("server CPU us/op", spent.server_us(operations)),
        ("client CPU us/op", spent.own_us(operations)),
    ]))
}
