//! Round trips.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::{MESSAGE_BYTES, bytes, connect};
use crate::latency::Latencies;
use crate::process::Server;
use crate::workload::Figures;

/// Round trips over one connection.
pub(crate) async fn echo_loop(server: &Server, in_flight: usize, seconds: f64) -> anyhow::Result<Figures> {
    let connection = connect(server).await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"E").await?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let permits = Arc::new(Semaphore::new(in_flight));
    let (sent, mut order) = mpsc::unbounded_channel();
    let latencies = Rc::new(RefCell::new(Latencies::new()));
    let cpu = server.cpu()?;
    let writing = async {
        let message = bytes();
        while Instant::now() < end {
            permits.acquire().await?.forget();
            // Every message that has a permit goes out with one write.
            let more = permits.available_permits();
            permits.forget_permits(more);
            let now = Instant::now();
            (0..=more).try_for_each(|_| sent.send(now))?;
            send.write_all(&message.repeat(more + 1)).await?;
        }
        drop(sent);
        anyhow::Ok(())
    };
    let reading = async {
        let mut held = 0;
        while let Some(chunk) = receive.read_chunk(64 * 1024, true).await? {
            held += chunk.bytes.len();
            while held >= MESSAGE_BYTES {
                held -= MESSAGE_BYTES;
                let Some(start) = order.recv().await else { return anyhow::Ok(()) };
                latencies.borrow_mut().record(start.elapsed());
                permits.add_permits(1);
            }
            if order.is_closed() && order.is_empty() {
                break;
            }
        }
        Ok(())
    };
    tokio::try_join!(writing, reading)?;
    let cpu = server.cpu()? - cpu;
    let latencies = latencies.borrow();
    let operations = latencies.count() as f64;
    Ok(Figures::from([
        ("operations/s", operations / seconds),
        ("p50 ms", latencies.quantile_ms(0.5)),
        ("p99 ms", latencies.quantile_ms(0.99)),
        ("server CPU us/op", cpu.as_secs_f64() * 1e6 / operations),
    ]))
}
