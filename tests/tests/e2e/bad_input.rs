//! Bytes that no client would send: each is answered with its number, the connection goes on where it can, and nobody
//! else notices.

use bytes::Bytes;
use hither_protocol::error::CloseCode;
use hither_protocol::frame::{Flags, Header};
use hither_protocol::limits::{FRAME_BYTES_MAX, KEY_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use hither_protocol::message::{Delete, Get, Put, Request, Txn, TxnOp, op};
use hither_protocol::{ALPN_CLIENT, ErrorCode, Key, KeyRange};
use hither_tests::node::Node;
use hither_tests::raw::{Certificates, Lane, Raw, hello};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A node, somebody who behaves, and somebody who does not.
struct Scene {
    node: Node,
    friend: hither::Client,
    raw: Raw,
}

impl Scene {
    async fn open() -> anyhow::Result<Self> {
        let node = Node::start().await;
        let friend = node.client().connect().await?;
        let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
        Ok(Self { node, friend, raw })
    }

    /// Nobody else noticed.
    async fn unharmed(&self) -> anyhow::Result<()> {
        self.friend.put("b/friend", "1").await?;
        assert_eq!(self.friend.metrics().reconnects, 0, "a bad client disturbed a good one");
        assert!(!self.node.log().contains("panicked"), "the server panicked:\n{}", self.node.log());
        Ok(())
    }
}

fn frame(op: u16, version: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let header = Header { length: body.len() as u32, op, version, flags: Flags::default(), id };
    [&header.to_bytes()[..], body].concat()
}

fn get(key: &str) -> Request {
    Get { key: key.into(), consistency: Default::default() }.into()
}

/// The lane still answers.
async fn still_serves(lane: &mut Lane, number: u64) {
    lane.ask(number, get("b/any")).await;
    lane.answer(number).await.expect("the lane goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_is_refused_by_number_and_the_lane_goes_on() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let (_control, mut lane) = scene.raw.greet().await;
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    let cases: [(&str, Vec<u8>, ErrorCode); 8] = [
        ("unknown operation", frame(0x0199, 1, 1, b""), ErrorCode::UnknownOperation),
        ("newer version", frame(op::GET, 2, 2, b"\x01a\x00"), ErrorCode::UnsupportedVersion),
        ("empty body", frame(op::GET, 1, 3, b""), ErrorCode::InvalidFrame),
        ("truncated body", frame(op::GET, 1, 4, b"\x05a"), ErrorCode::InvalidFrame),
        ("trailing byte", frame(op::GET, 1, 5, b"\x01a\x00\x00"), ErrorCode::TrailingBytes),
        ("lying length", frame(op::TXN, 1, 6, &huge), ErrorCode::InvalidFrame),
        ("unknown variant", frame(op::DELETE, 1, 7, b"\x09\x01a\x00"), ErrorCode::InvalidFrame),
        ("overlong number", frame(op::LEASE_RENEW, 1, 8, &[0x80; 11]), ErrorCode::InvalidFrame),
    ];
    for (number, (what, bytes, code)) in (1..).zip(cases) {
        lane.send(&bytes).await;
        let refusal = lane.answer(number).await.expect_err(what);
        assert_eq!((refusal.code, refusal.applied), (code, hither::Applied::No), "{what}: {refusal}");
        still_serves(&mut lane, 100 + number).await;
    }
    scene.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_values_and_transactions_over_the_limit_are_refused_and_at_the_limit_accepted() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let (_control, mut lane) = scene.raw.greet().await;
    let put = |key: Key, bytes: usize| -> Request {
        Put { key, value: Bytes::from(vec![b'v'; bytes]), lease: None, previous: false }.into()
    };
    let key = |bytes: usize| Key::from(vec![b'k'; bytes]);
    let gets = |count: usize| Txn { then: vec![TxnOp::Get("a".into()); count], ..Txn::default() };
    let twice = Put { key: key(1), value: Bytes::new(), lease: None, previous: false };
    let cases: [(Request, Option<ErrorCode>); 10] = [
        (put(key(0), 1), Some(ErrorCode::KeyEmpty)),
        (put(key(KEY_BYTES_MAX), 1), None),
        (put(key(KEY_BYTES_MAX + 1), 1), Some(ErrorCode::KeyTooLong)),
        (
            Delete { range: KeyRange::Span("b".into(), "a".into()), previous: false }.into(),
            Some(ErrorCode::InvalidRange),
        ),
        (gets(TXN_OPS_MAX).into(), None),
        (gets(TXN_OPS_MAX + 1).into(), Some(ErrorCode::TooManyOps)),
        (gets(20_000).into(), Some(ErrorCode::TooManyOps)),
        (
            Txn { then: vec![TxnOp::Put(twice.clone()), TxnOp::Put(twice)], ..Txn::default() }.into(),
            Some(ErrorCode::DuplicateKeyInTxn),
        ),
        (put(Key::from(&b"\0\xff../\r\n%00"[..]), 1), None),
        (get(""), Some(ErrorCode::KeyEmpty)),
    ];
    for (number, (request, code)) in (1..).zip(cases) {
        let what = request.name();
        lane.ask(number, request).await;
        assert_eq!(lane.answer(number).await.err().map(|refusal| refusal.code), code, "case {number}, a {what}");
    }
    // Bodies over 64 KiB have a stream of their own.
    for (number, (bytes, code)) in
        (50..).zip([(VALUE_BYTES_MAX, None), (VALUE_BYTES_MAX + 1, Some(ErrorCode::ValueTooLarge))])
    {
        let mut own = scene.raw.lane().await;
        own.ask(number, put("b/large".into(), bytes)).await;
        own.finish();
        assert_eq!(own.answer(number).await.err().map(|refusal| refusal.code), code, "a value of {bytes} bytes");
    }
    still_serves(&mut lane, 99).await;
    scene.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_over_the_limit_ends_the_connection() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let (_control, mut lane) = scene.raw.greet().await;
    let length = FRAME_BYTES_MAX as u32 + 1;
    lane.send(&Header { length, op: op::PUT, version: 1, flags: Flags::default(), id: 1 }.to_bytes()).await;
    assert_eq!(scene.raw.closed().await, Some(CloseCode::FrameTooLarge));
    scene.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_greeting_ends_the_connection() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let certificates = Certificates::of(scene.node.home());
    let garbage = [0xff; 64];
    let beat = frame(op::BEAT, 1, 0, b"\0\0\0\0\0");
    let newer = frame(op::HELLO, 9, 0, b"");
    let older = frame(op::HELLO, 0, 0, b"");
    let malformed = frame(op::HELLO, 1, 0, &[0xff; 32]);
    let cases: [(&str, &[u8], &[CloseCode]); 5] = [
        ("garbage", &garbage, &[CloseCode::FrameTooLarge]),
        ("another message", &beat, &[CloseCode::ProtocolViolation]),
        ("a newer hello", &newer, &[CloseCode::VersionUnsupported]),
        ("an older hello", &older, &[CloseCode::VersionUnsupported]),
        ("a broken hello", &malformed, &[CloseCode::MalformedFrame, CloseCode::ProtocolViolation]),
    ];
    for (what, bytes, codes) in cases {
        let raw = Raw::connect(scene.node.addr(), ALPN_CLIENT, &certificates).await?;
        raw.lane().await.send(bytes).await;
        let code = raw.closed().await.unwrap_or_else(|| panic!("{what}: closed without a code"));
        assert!(codes.contains(&code), "{what}: {code:?}");
    }
    scene.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_of_another_version_is_told_both_versions() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let certificates = Certificates::of(scene.node.home());
    for version in [0, 9] {
        let raw = Raw::connect(scene.node.addr(), ALPN_CLIENT, &certificates).await?;
        let mut lane = raw.lane().await;
        lane.send(&frame(op::HELLO, version, 0, b"")).await;
        let refusal = lane.answer(0).await.expect_err("another version");
        assert_eq!(refusal.code, ErrorCode::UnsupportedVersion);
        let theirs = format!("version {version} ");
        assert!(refusal.detail.contains(&theirs) && refusal.detail.contains("version 1 is"), "{refusal}");
        assert_eq!(raw.closed().await, Some(CloseCode::VersionUnsupported));
    }
    scene.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_says_hello_is_let_go() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let start = std::time::Instant::now();
    assert_eq!(scene.raw.closed().await, Some(CloseCode::HelloTimeout));
    assert!(start.elapsed() < std::time::Duration::from_secs(6), "{:?}", start.elapsed());
    scene.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_clients_may_not_name_is_refused() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let mut lane = scene.raw.lane().await;
    lane.say(0, &hither_protocol::message::Hello { namespace: ".system".into(), ..hello() }).await;
    let refusal = lane.answer(0).await.expect_err("the server's own namespace");
    assert_eq!(refusal.code, ErrorCode::InvalidName, "{refusal}");
    scene.raw.closed().await;
    scene.unharmed().await
}

/// Most that a server may have grown by after all of it.
const GROWTH_BYTES: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_frames_on_a_live_server_harm_nobody() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let certificates = Certificates::of(scene.node.home());
    let mut rng = SmallRng::seed_from_u64(51);
    let before = resident_bytes(&scene.node)?;
    for _ in 0..100 {
        let raw = Raw::connect(scene.node.addr(), ALPN_CLIENT, &certificates).await?;
        let (mut control, mut lane) = raw.greet().await;
        for number in 0..20 {
            let bytes = random_frame(&mut rng, number);
            if rng.random() { control.send(&bytes).await } else { lane.send(&bytes).await }
        }
        if rng.random() {
            // Cut off in the middle of a frame.
            lane.send(&frame(op::PUT, 1, 99, &[1; 100])[..rng.random_range(1..116)]).await;
            lane.finish();
        }
    }
    scene.unharmed().await?;
    let after = resident_bytes(&scene.node)?;
    println!("{} KiB more", after.saturating_sub(before) >> 10);
    assert!(after < before + GROWTH_BYTES, "the server grew from {before} to {after} bytes");
    Ok(())
}

/// A frame whose length is honest and whose rest is anything, more often of an operation that exists.
fn random_frame(rng: &mut SmallRng, number: u64) -> Vec<u8> {
    let op = match rng.random_range(0..4) {
        0 => rng.random(),
        1 => rng.random_range(op::HELLO..=op::GO_AWAY),
        2 => rng.random_range(op::GET..=op::TXN),
        _ => rng.random_range(op::LEASE_GRANT..=op::SESSION_CLOSE),
    };
    let mut body = vec![0; rng.random_range(0..60)];
    rng.fill(&mut body[..]);
    let flags = Flags(if rng.random_ratio(1, 4) { rng.random() } else { 0 });
    let header = Header { length: body.len() as u32, op, version: 1, flags, id: number };
    [&header.to_bytes()[..], &body].concat()
}

fn resident_bytes(node: &Node) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
