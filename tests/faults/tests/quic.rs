//! What breaks the rules of QUIC itself: it ends the connection that it came on, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hither_faults::forger::{BYTE_OF_STREAM, Forgery, byte_of_stream, forged};
use hither_faults::stranger::Authority;
use hither_protocol::message::Get;
use hither_tests::node::Node;
use hither_tests::raw::{Lane, Raw};
use hither_tests::wait::{until, within};
use parking_lot::Mutex;
use quinn::{ConnectionError, TransportErrorCode};

const PROMPT: Duration = Duration::from_secs(20);
/// What a client may send on one stream, and on all, before it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
const STREAMS_OF_WINDOW: usize = 16;

async fn connect(node: &Node, forgery: Arc<dyn Forgery>) -> anyhow::Result<Result<Raw, ConnectionError>> {
    let tls = Authority::of(node)?.sign(|_| {})?.tls(false)?;
    Ok(Raw::connect_with(node.addr(), forged(tls, forgery)).await)
}

/// By which the server has ended the connection.
fn code(error: &ConnectionError) -> Option<TransportErrorCode> {
    if let ConnectionError::ConnectionClosed(close) = error { Some(close.error_code) } else { None }
}

async fn closed(raw: &Raw) -> Option<TransportErrorCode> {
    code(&within("the server closes", PROMPT, raw.connection().closed()).await)
}

/// The server goes on as if nothing had been.
async fn serves(node: &Node) -> anyhow::Result<()> {
    within("a real client", PROMPT, node.client().connect()).await?.put("d/after", "").await?;
    Ok(())
}

/// Says another thing in the place of the largest datagram that the client takes.
struct Parameter([u8; 4]);

impl Parameter {
    /// Parameter 3 has two bytes, which say 1,472.
    const TRUE: [u8; 4] = [3, 2, 0x45, 0xc0];
}

impl Forgery for Parameter {
    fn greeting(&self, words: &mut [u8]) {
        let at = words.windows(4).position(|words| words == Self::TRUE).expect("the client says it");
        words[at..at + 4].copy_from_slice(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_transport_parameters_end_the_connection_that_they_came_on() -> anyhow::Result<()> {
    let node = Node::start().await;
    let honest = connect(&node, Arc::new(Parameter(Parameter::TRUE))).await??;
    let _lanes = honest.greet().await;
    let cases = [
        ("datagrams may have 1,199 bytes, where 1,200 are the least", [3, 2, 0x44, 0xaf]),
        ("a number goes on after its end", [3, 2, 0x85, 0xc0]),
        ("a client says what only a server knows", [0, 2, 0x45, 0xc0]),
    ];
    for (what, parameter) in cases {
        let refused = connect(&node, Arc::new(Parameter(parameter))).await?.err();
        let refused = refused.as_ref().and_then(code);
        assert_eq!(refused, Some(TransportErrorCode::TRANSPORT_PARAMETER_ERROR), "{what}");
    }
    assert!(honest.is_open(), "another connection ended too");
    serves(&node).await
}

/// Says these bytes in each packet, once told to.
struct Said {
    bytes: &'static [u8],
    is_on: AtomicBool,
}

impl Forgery for Said {
    fn frames(&self, frames: &mut [u8]) {
        if self.is_on.load(Ordering::SeqCst) && frames.len() >= self.bytes.len() {
            frames.fill(0);
            frames[..self.bytes.len()].copy_from_slice(self.bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_quic_does_not_know_end_the_connection_that_they_came_on() -> anyhow::Result<()> {
    let node = Node::start().await;
    let cases: [(&str, &'static [u8]); 4] = [
        ("of a type of one byte", &[0x21]),
        ("of a type of two bytes", &[0x40, 0x21]),
        ("of a type of eight bytes", &[0xff; 8]),
        ("an acknowledgement of more packets than there are numbers", &[0x02, 0x00, 0x00, 0x3f, 0x00]),
    ];
    for (what, bytes) in cases {
        let said = Arc::new(Said { bytes, is_on: AtomicBool::new(false) });
        let raw = connect(&node, said.clone()).await??;
        let (_control, mut lane) = raw.greet().await;
        alive(&mut lane, 1).await;
        said.is_on.store(true, Ordering::SeqCst);
        lane.ask(2, get()).await;
        assert_eq!(closed(&raw).await, Some(TransportErrorCode::FRAME_ENCODING_ERROR), "{what}");
    }
    serves(&node).await
}

/// Sends single bytes of streams, whatever the windows are, in one packet.
#[derive(Default)]
struct Pieces(Mutex<Vec<(u64, u32)>>);

impl Forgery for Pieces {
    fn frames(&self, frames: &mut [u8]) {
        let mut pieces = self.0.lock();
        if pieces.is_empty() || frames.len() < pieces.len() * BYTE_OF_STREAM {
            return;
        }
        frames.fill(0);
        for ((stream, offset), frame) in pieces.drain(..).zip(frames.chunks_exact_mut(BYTE_OF_STREAM)) {
            byte_of_stream(frame, stream, offset);
        }
    }
}

/// Sends these, and no more until it is done.
async fn send(raw: &Raw, pieces: &Pieces, places: &[(u64, u32)]) -> anyhow::Result<()> {
    *pieces.0.lock() = places.to_vec();
    // Something that fills a packet, to be forged.
    let (mut filler, _receive) = raw.connection().open_bi().await?;
    filler.write_all(&[0; 1_000]).await?;
    until("it was sent", PROMPT, async || pieces.0.lock().is_empty().then_some(())).await;
    Ok(())
}

fn get() -> Get {
    Get { key: "a".into(), consistency: Default::default() }
}

async fn alive(lane: &mut Lane, number: u64) {
    lane.ask(number, get()).await;
    lane.answer(number).await.expect("the lane goes on");
}

/// Of what a client sends the server keeps no more than the windows that it granted, wherever the gaps are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_beyond_a_window_ends_the_connection() -> anyhow::Result<()> {
    let node = Node::start().await;
    let last = STREAM_WINDOW - 1;
    // How many streams are sent a byte of, at which place in each, and how many the server bears.
    for (what, streams, offset, borne) in [
        ("the byte after the window of a stream", 1, STREAM_WINDOW, 0),
        ("the last bytes of more windows than all streams have together", STREAMS_OF_WINDOW + 1, last, 15),
    ] {
        let pieces = Arc::new(Pieces::default());
        let raw = connect(&node, pieces.clone()).await??;
        let (_control, mut lane) = raw.greet().await;
        let mut open = Vec::new();
        for _ in 0..streams {
            open.push(raw.connection().open_bi().await?);
        }
        let places: Vec<_> = open.iter().map(|(send, _)| (u64::from(send.id()), offset)).collect();
        let (within_it, beyond) = places.split_at(borne);
        send(&raw, &pieces, within_it).await?;
        alive(&mut lane, 1).await;
        send(&raw, &pieces, beyond).await?;
        assert_eq!(closed(&raw).await, Some(TransportErrorCode::FLOW_CONTROL_ERROR), "{what}");
    }
    serves(&node).await
}
