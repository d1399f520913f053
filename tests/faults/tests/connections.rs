//! Connections that are none of the real client's.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hither_faults::stranger::Authority;
use hither_protocol::codec::encode;
use hither_protocol::error::CloseCode;
use hither_protocol::{ALPN_CLIENT, SERVER_NAME};
use hither_tests::node::Node;
use hither_tests::raw::{Certificates, Raw, hello};
use hither_tests::wait::within;
use quinn::Endpoint;

const PROMPT: Duration = Duration::from_secs(20);
/// Far longer than a server needs for what it does at once on this machine.
const SILENCE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_that_drips_is_not_waited_for() -> anyhow::Result<()> {
    let node = Node::start().await;
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
    let (mut send, _receive) = raw.connection().open_bi().await?;
    let mut bytes = BytesMut::new();
    encode(&mut bytes, 0, &hello());
    let start = Instant::now();
    let drip = tokio::spawn(async move {
        for byte in bytes {
            if send.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    assert_eq!(raw.closed().await, Some(CloseCode::HelloTimeout));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    drip.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_one_way_streams_nor_datagrams_are_taken_from_a_client() -> anyhow::Result<()> {
    let node = Node::start().await;
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
    let (_control, mut lane) = raw.greet().await;
    assert_eq!(raw.connection().max_datagram_size(), None, "the server takes datagrams");
    let granted = tokio::time::timeout(SILENCE, raw.connection().open_uni()).await;
    assert!(granted.is_err(), "the server grants a one-way stream: {granted:?}");
    // It blocks that stream, and nothing else.
    lane.ask(1, hither_protocol::message::Get { key: "a".into(), consistency: Default::default() }).await;
    lane.answer(1).await.expect("the lane goes on");
    Ok(())
}

/// What is sent before the handshake ends could be played back by anyone who heard it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_before_the_handshake_ends() -> anyhow::Result<()> {
    let node = Node::start().await;
    let config = Authority::of(&node)?.sign(|_| {})?.config(true)?;
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let first = endpoint.connect_with(config.clone(), node.addr(), SERVER_NAME)?.await?;
    // The ticket that a second connection could begin with comes after the handshake.
    tokio::time::sleep(SILENCE).await;
    first.close(0_u32.into(), b"");
    let second = endpoint.connect_with(config, node.addr(), SERVER_NAME)?;
    assert!(second.into_0rtt().is_err(), "the server's ticket allows data before the handshake ends");
    Ok(())
}

/// Sends a datagram and returns the answers that come at once.
fn answers(server: SocketAddr, datagram: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.send_to(datagram, server)?;
    let mut answers = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok((bytes, _)) = socket.recv_from(&mut buffer) {
        answers.push(buffer[..bytes].to_vec());
    }
    Ok(answers)
}

/// The first packet of a connection, as far as anybody can read it without its keys.
fn initial(version: u32, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; bytes];
    packet[0] = 0xc0;
    packet[1..5].copy_from_slice(&version.to_be_bytes());
    // Two connection ids of eight bytes.
    (packet[5], packet[14]) = (8, 8);
    packet[6..14].copy_from_slice(b"destined");
    packet[15..23].copy_from_slice(b"sourceid");
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_version_is_told_the_one_that_is_spoken_in_fewer_bytes_than_it_sent() -> anyhow::Result<()> {
    let node = Node::start().await;
    let sent = initial(0x1a2a_3a4a, 1200);
    let answers = answers(node.addr(), &sent)?;
    let [answer] = &answers[..] else { panic!("{answers:x?}") };
    assert!(answer.len() < sent.len(), "{} bytes for {}", answer.len(), sent.len());
    assert_eq!(answer[1..5], [0; 4], "it is no negotiation of versions: {answer:x?}");
    let versions: Vec<_> = answer[23..].chunks(4).filter(|version| version[0] & 0x0f != 0x0a).collect();
    assert_eq!(versions, [[0, 0, 0, 1]], "QUIC 1, and besides it only numbers that stand for none");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_packet_is_not_answered() -> anyhow::Result<()> {
    let node = Node::start().await;
    let short = [0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let cases: [(&str, Vec<u8>); 6] = [
        ("nothing", Vec::new()),
        ("one byte", vec![0xff]),
        ("a first packet that is too small", initial(1, 1199)),
        ("a first packet of garbage", initial(1, 1200)),
        ("an unknown version that is too small", initial(0x1a2a_3a4a, 600)),
        ("a short packet of nobody", short.to_vec()),
    ];
    for (what, datagram) in cases {
        let answers = answers(node.addr(), &datagram)?;
        let bytes: usize = answers.iter().map(Vec::len).sum();
        assert!(bytes <= datagram.len(), "{what}: {bytes} bytes for {}", datagram.len());
        assert!(answers.is_empty() || what.contains("nobody"), "{what}: {answers:x?}");
    }
    within("a real client", PROMPT, node.client().connect()).await?.put("d/after", "").await?;
    Ok(())
}

/// Whoever lies about where they are gets three bytes at most for each that they send, and keeps nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_nobody_goes_on_with_keep_nobody_out() -> anyhow::Result<()> {
    const BEGUN: usize = 3_000;
    let node = Node::start().await;
    let config = Authority::of(&node)?.sign(|_| {})?.config(false)?;
    // A relay that takes what is sent to it as far as the server, and never brings anything back.
    let lost = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    lost.set_read_timeout(Some(SILENCE))?;
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let ghost = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    ghost.set_nonblocking(true)?;
    let (mut sent, mut received, mut buffer) = (0, 0, [0; 2048]);
    let mut attempts = Vec::new();
    for _ in 0..BEGUN {
        attempts.push(endpoint.connect_with(config.clone(), lost.local_addr()?, SERVER_NAME)?);
        let (bytes, _) = lost.recv_from(&mut buffer)?;
        ghost.send_to(&buffer[..bytes], node.addr())?;
        sent += bytes;
        while let Ok((bytes, _)) = ghost.recv_from(&mut buffer) {
            received += bytes;
        }
    }
    let start = Instant::now();
    within("a real client", PROMPT, node.client().connect()).await?.put("d/after", "").await?;
    println!("a real client was served after {:?}; {sent} bytes in, {received} out", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    tokio::time::sleep(SILENCE).await;
    while let Ok((bytes, _)) = ghost.recv_from(&mut buffer) {
        received += bytes;
    }
    assert!(received <= 3 * sent, "{received} bytes for {sent}");
    Ok(())
}
