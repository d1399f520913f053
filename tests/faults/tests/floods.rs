//! Very much of something, from clients with a good certificate: those beside them hardly notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hither::Client;
use hither_faults::forger::{BYTE_OF_STREAM, Forgery, byte_of_stream, forged};
use hither_faults::machine::usage;
use hither_faults::stalled;
use hither_faults::stranger::Authority;
use hither_protocol::ALPN_CLIENT;
use hither_protocol::error::CloseCode;
use hither_protocol::message::Get;
use hither_tests::node::Node;
use hither_tests::raw::{Certificates, Raw};
use hither_tests::wait::{until, within};
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

const STREAMS: usize = 10_000;
/// Streams that a client may have open.
const GRANTED: usize = 32;
/// Of them, the lanes of every client.
const LANES: usize = 2;
/// Those whose requests a server reads at once.
const READ_AT_ONCE: usize = 8;
/// How long a request may take to arrive, and what clocks of both sides may differ by.
const ARRIVAL: Duration = Duration::from_secs(10);
const LOOSE: Duration = Duration::from_millis(500);
/// What the stream of such a request ends with.
const GIVEN_UP: u64 = 0x40;
/// Floods and reconnections of those who were closed for one.
const FLOODS: usize = 20;
const PROMPT: Duration = Duration::from_secs(60);
/// For a call of somebody else meanwhile, on a machine that runs other tests too.
const NEIGHBOUR: Duration = Duration::from_secs(2);
/// What the server may have grown by meanwhile, and once it is over, at the latest after so long. Seen: 1 MiB.
const GROWTH_MIB: f64 = 16.0;
const SETTLED: Duration = Duration::from_secs(30);

/// Somebody who goes on with their work.
struct Neighbour {
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Vec<Duration>>>,
    client: Client,
}

impl Neighbour {
    async fn of(node: &Node) -> anyhow::Result<Self> {
        let client = node.client().connect().await?;
        client.put("n/warm", "").await?;
        let stop = Arc::<AtomicBool>::default();
        let task = tokio::spawn(work(client.clone(), stop.clone()));
        Ok(Self { stop, task, client })
    }

    /// How long 99 of 100 of their calls took at most.
    async fn unharmed(self) -> anyhow::Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = within("the neighbour ends", PROMPT, self.task).await??;
        took.sort();
        assert_eq!(self.client.metrics().reconnects, 0, "a neighbour lost its connection");
        let p99 = took[(took.len() - 1) * 99 / 100];
        assert!(p99 < NEIGHBOUR, "{p99:?} for 99 of 100 of {} calls", took.len());
        Ok(p99)
    }
}

async fn work(client: Client, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while took.is_empty() || !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        client.put("n/key", "value").await?;
        took.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(took)
}

async fn settles(node: &Node, before: f64) {
    until("the server's memory comes back", SETTLED, async || {
        (usage(node.id()).ok()?.memory_mib < before + GROWTH_MIB).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_of_one_byte_are_held_back_and_given_up() -> anyhow::Result<()> {
    let node = Node::start().await;
    let neighbour = Neighbour::of(&node).await?;
    let before = usage(node.id())?.memory_mib;
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
    let (_control, mut lane) = raw.greet().await;
    let connection = raw.connection().clone();
    let (opened, mut streams) = unbounded_channel();
    let start = Instant::now();
    let flood = tokio::spawn(async move {
        for _ in 0..STREAMS {
            let Ok((mut send, receive)) = connection.open_bi().await else { break };
            if send.write_all(&[1]).await.is_err() || opened.send((send, receive)).is_err() {
                break;
            }
        }
    });
    let mut held = Vec::new();
    for _ in 0..READ_AT_ONCE {
        held.push(within("a stream", PROMPT, streams.recv()).await.expect("the flood goes on"));
    }
    for (send, receive) in &mut held {
        let end = within("a stream is given up", ARRIVAL * 2, receive.received_reset()).await?;
        assert_eq!(end.map(VarInt::into_inner), Some(GIVEN_UP));
        assert_eq!(within("it is not read", PROMPT, send.stopped()).await?.map(VarInt::into_inner), Some(GIVEN_UP));
    }
    let took = start.elapsed();
    assert!(took > ARRIVAL - LOOSE && took < ARRIVAL + NEIGHBOUR, "streams were given up after {took:?}");
    assert!(node.log().contains("a request took too long to arrive"), "{}", node.log());
    let most = usage(node.id())?.memory_mib;
    let waiting = streams.len();
    assert_eq!(waiting, GRANTED - READ_AT_ONCE - LANES, "streams are granted beyond those");
    // Whoever takes note of it may go on with others.
    held.clear();
    until("others are granted", PROMPT, async || (streams.len() >= waiting + READ_AT_ONCE).then_some(())).await;
    // It costs that client its streams, and nothing else.
    lane.ask(1, Get { key: "n/key".into(), consistency: Default::default() }).await;
    lane.answer(1).await.expect("the lane goes on");
    flood.abort();
    println!("p99 beside ten thousand streams: {:?}, {:.1} MiB more", neighbour.unharmed().await?, most - before);
    assert!(most < before + GROWTH_MIB, "from {before} to {most} MiB");
    drop(raw);
    settles(&node, before).await;
    Ok(())
}

/// One client never has more than it is granted, so it takes hundreds to have ten thousand at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_of_one_byte_at_the_same_time_are_given_up_too() -> anyhow::Result<()> {
    const EACH: usize = GRANTED - LANES;
    /// A stream costs 2 KiB for as long as it is there.
    const ALL_GROWTH_MIB: f64 = 32.0;
    let node = Node::start().await;
    let neighbour = Neighbour::of(&node).await?;
    let certificates = Certificates::of(node.home());
    let mut clients = Vec::new();
    while clients.len() * EACH < STREAMS {
        let raw = Raw::connect(node.addr(), ALPN_CLIENT, &certificates).await?;
        let lanes = raw.greet().await;
        clients.push((raw, lanes));
    }
    let before = usage(node.id())?.memory_mib;
    let mut held = Vec::new();
    for (raw, _) in &clients {
        for _ in 0..EACH {
            let (mut send, receive) = within("a stream", PROMPT, raw.connection().open_bi()).await?;
            send.write_all(&[1]).await?;
            held.push((send, receive));
        }
    }
    assert!(held.len() >= STREAMS, "{} streams", held.len());
    let mut most = before;
    for (_, receive) in held.iter_mut().step_by(EACH) {
        let end = within("a stream of each client is given up", PROMPT, receive.received_reset()).await?;
        assert_eq!(end.map(VarInt::into_inner), Some(GIVEN_UP));
        most = most.max(usage(node.id())?.memory_mib);
    }
    assert!(clients.iter().all(|(raw, _)| raw.is_open()), "a client was closed for what cost only itself");
    let p99 = neighbour.unharmed().await?;
    println!("p99 beside {} streams at once: {p99:?}, {:.1} MiB more", held.len(), most - before);
    assert!(most < before + ALL_GROWTH_MIB, "from {before} to {most} MiB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_and_reset_end_the_connection_again_and_again() -> anyhow::Result<()> {
    let node = Node::start().await;
    let neighbour = Neighbour::of(&node).await?;
    let before = usage(node.id())?.memory_mib;
    let certificates = Certificates::of(node.home());
    let mut opened = 0_u64;
    for _ in 0..FLOODS {
        let raw = Raw::connect(node.addr(), ALPN_CLIENT, &certificates).await?;
        let _lanes = raw.greet().await;
        within("the server has enough of it", PROMPT, async {
            while let Ok((mut send, mut receive)) = raw.connection().open_bi().await {
                let _ = send.write_all(&[1]).await;
                let _ = (send.reset(1_u32.into()), receive.stop(1_u32.into()));
                opened += 1;
            }
        })
        .await;
        assert_eq!(raw.closed().await, Some(CloseCode::ExcessiveErrors));
    }
    println!("p99 beside {opened} streams that were reset: {:?}", neighbour.unharmed().await?);
    settles(&node, before).await;
    Ok(())
}

/// Noise: what it is worth to the server, by what is sent back and by what is said of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_datagrams_of_noise_a_second_are_worth_no_answer() -> anyhow::Result<()> {
    const DATAGRAMS: usize = 30_000;
    const AT_ONCE: usize = 100;
    let node = Node::start().await;
    let neighbour = Neighbour::of(&node).await?;
    let before = (usage(node.id())?.memory_mib, node.log().lines().count());
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    let mut rng = SmallRng::seed_from_u64(52);
    let (mut sent, mut answered) = (0, 0);
    let (mut noise, mut answer) = ([0; 1_500], [0; 2_048]);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for number in 0..DATAGRAMS {
        if number % AT_ONCE == 0 {
            tick.tick().await;
            while let Ok(length) = socket.try_recv(&mut answer) {
                answered += length;
            }
        }
        let length = rng.random_range(0..noise.len());
        rng.fill(&mut noise[..length]);
        sent += socket.send_to(&noise[..length], node.addr()).await?;
    }
    let missed = never_read(node.addr())?;
    let most = usage(node.id())?.memory_mib;
    let p99 = neighbour.unharmed().await?;
    let lines = node.log().lines().count() - before.1;
    println!("p99 beside {DATAGRAMS} datagrams, {missed} of them never read: {p99:?}, {answered} bytes for {sent}");
    assert!(missed < DATAGRAMS / 2, "the server saw too little of it");
    // Some are by chance of a version that is none, or of a connection that is none: QUIC has an answer for these.
    assert!(answered < sent / 20, "{answered} bytes for {sent}");
    assert!(lines < 50, "{lines} lines of log for noise");
    assert!(most < before.0 + GROWTH_MIB, "from {} to {most} MiB", before.0);
    Ok(())
}

/// Datagrams that the system has thrown away since nobody read them in time.
fn never_read(address: SocketAddr) -> anyhow::Result<usize> {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1).is_some_and(|local| local.ends_with(&port)));
    Ok(row.and_then(|row| row.last().copied()).context("the server has no socket")?.parse()?)
}

/// Of one stream every second byte, once told to; the bytes between them never come.
#[derive(Default)]
struct Gaps {
    is_on: AtomicBool,
    sent: AtomicU32,
}

impl Gaps {
    /// The first stream after the lanes.
    const STREAM: u64 = 8;
    /// Within the window of the stream.
    const MAX: u32 = 100_000;
    /// What is smaller acknowledges something.
    const PACKET_BYTES_MIN: usize = 1_000;
}

impl Forgery for Gaps {
    fn frames(&self, frames: &mut [u8]) {
        if !self.is_on.load(Ordering::SeqCst) || frames.len() < Self::PACKET_BYTES_MIN {
            return;
        }
        frames.fill(0);
        for frame in frames.chunks_exact_mut(BYTE_OF_STREAM) {
            let number = self.sent.fetch_add(1, Ordering::SeqCst) % Self::MAX;
            byte_of_stream(frame, Self::STREAM, 2 * number + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_full_of_gaps_ends_the_connection_again_and_again() -> anyhow::Result<()> {
    let node = Node::start().await;
    let neighbour = Neighbour::of(&node).await?;
    let before = usage(node.id())?.memory_mib;
    let shown = Authority::of(&node)?.sign(|_| {})?;
    let gaps = Arc::<Gaps>::default();
    let mut most = before;
    for _ in 0..FLOODS {
        gaps.is_on.store(false, Ordering::SeqCst);
        let raw = Raw::connect_with(node.addr(), forged(shown.tls(false)?, gaps.clone())).await?;
        let _lanes = raw.greet().await;
        gaps.is_on.store(true, Ordering::SeqCst);
        let mut held = Vec::new();
        let end = within("the server has enough of it", PROMPT, async {
            // What is written here fills packets, and none of it arrives.
            while let Ok((mut send, receive)) = raw.connection().open_bi().await {
                let _ = send.write_all(&[0; 256 * 1024]).await;
                held.push((send, receive));
            }
            raw.connection().closed().await
        })
        .await;
        let ConnectionError::ConnectionClosed(close) = end else { panic!("{end:?}") };
        assert_eq!(close.error_code, TransportErrorCode::INTERNAL_ERROR, "{close}");
        most = most.max(usage(node.id())?.memory_mib);
    }
    let p99 = neighbour.unharmed().await?;
    let sent = gaps.sent.load(Ordering::SeqCst);
    println!("p99 beside {sent} gaps in {FLOODS} streams: {p99:?}, {:.1} MiB more", most - before);
    assert!(most < before + GROWTH_MIB, "from {before} to {most} MiB");
    settles(&node, before).await;
    Ok(())
}

/// The long form has a thousand: `hither-faults stalled`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_never_read_cost_little_and_nobody_else_anything() -> anyhow::Result<()> {
    let figures = stalled::run(100, 20, 50, 4).await?;
    println!("{figures:?}");
    assert!(figures.latency.1 < NEIGHBOUR, "{:?}", figures.latency);
    assert!(figures.grown_mib < GROWTH_MIB, "{} MiB", figures.grown_mib);
    assert_eq!(figures.late, (10, 0), "those who asked late, and those of them who had fallen behind what is kept");
    Ok(())
}
