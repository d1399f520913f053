use std::time::Duration;

use hither_protocol::codec::decode;
use hither_protocol::frame::Flags;
use hither_protocol::limits::WATCHES_PER_CONNECTION_MAX;
use hither_protocol::message::{
    Batch, Beat, CancelWatch, Created, End, EndReason, KeepAlive, SnapshotPage, Start, SubscribeRefused, op,
};
use hither_protocol::{ErrorCode, Event, KeyRange, Revision, WatchId};

use crate::harness::{Client, Incoming, Server, until, within};

/// The events of the next batch, and the interval that it covers.
async fn batch(stream: &mut Incoming) -> Batch {
    stream.message::<Batch>().await
}

fn puts(batch: &Batch) -> Vec<(String, Revision)> {
    let event = |event: &Event| match event {
        Event::Put { entry, .. } => (entry.key.to_string(), entry.mod_revision),
        other => panic!("{other:?}"),
    };
    batch.events.iter().map(event).collect()
}

#[tokio::test]
async fn a_watch_sees_what_is_written_and_nothing_else() {
    let server = Server::start().await;
    let mut watcher = server.client().await;
    let mut writer = server.client().await;
    let (mut stream, created) = watcher.watch(1, KeyRange::prefix("a/"), Start::Now).await;
    writer.put("b/1", "other").await;
    let first = writer.put("a/1", "mine").await;
    let batch = batch(&mut stream).await;
    assert!(batch.from <= created.revision && batch.to >= first);
    assert_eq!(puts(&batch), [("a/1".to_owned(), first)]);
}

#[tokio::test]
async fn a_watch_begins_with_the_state_if_asked_to() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.put_all((0..2_000).map(|number| format!("a/{number:04}")), &[0; 100]).await;
    let (mut stream, created) = client.watch(1, KeyRange::prefix("a/"), Start::Snapshot).await;
    let mut entries = 0;
    loop {
        let frame = stream.next_of(op::SNAPSHOT).await;
        let page: SnapshotPage = decode(&frame).expect("decodes");
        assert_eq!(page.revision, created.revision);
        entries += page.entries.len();
        if !frame.header.flags.has(Flags::MORE) {
            break;
        }
    }
    assert_eq!(entries, 2_000);
    let next = client.put("a/next", "1").await;
    let batch = batch(&mut stream).await;
    assert!(batch.from <= created.revision);
    assert_eq!(puts(&batch), [("a/next".to_owned(), next)]);
}

#[tokio::test]
async fn a_watch_resumes_after_a_revision() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let seen = client.put("a/1", "1").await;
    let missed = client.put("a/2", "1").await;
    let (mut stream, _) = client.watch(1, KeyRange::prefix("a/"), Start::After(seen)).await;
    let batch = batch(&mut stream).await;
    assert!(batch.from <= seen);
    assert_eq!(puts(&batch).last(), Some(&("a/2".to_owned(), missed)));
}

#[tokio::test]
async fn a_cancelled_watch_ends_and_is_counted_no_more() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut streams = Vec::new();
    for watch in 1..=10 {
        streams.push((watch, client.watch(watch, KeyRange::All, Start::Now).await.0));
    }
    assert_eq!(server.watches(), 10);
    for (watch, stream) in &mut streams {
        client.control.tell(*watch, &CancelWatch { watch: WatchId(*watch) }).await;
        assert_eq!(stream.message::<End>().await, End { reason: EndReason::Cancelled });
        assert_eq!(stream.try_next().await, None);
    }
    assert_eq!(server.watches(), 0);
    // Twice is once.
    client.control.tell(1, &CancelWatch { watch: WatchId(1) }).await;
    client.is_undisturbed().await;
}

#[tokio::test]
async fn the_watches_of_a_lost_connection_are_gone() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let _stream = client.watch(1, KeyRange::All, Start::Now).await;
    assert_eq!(server.watches(), 1);
    client.stranger.quic.close(0u32.into(), b"");
    until("the watch is gone", || server.watches() == 0).await;
}

#[tokio::test]
async fn a_refused_watch_says_why() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_stream, _) = client.watch(1, KeyRange::All, Start::Now).await;
    for (watch, range, code) in [
        (2, KeyRange::Span("b".into(), "a".into()), ErrorCode::InvalidRange),
        (3, KeyRange::One("".into()), ErrorCode::KeyEmpty),
        (1, KeyRange::All, ErrorCode::AlreadyExists),
    ] {
        client.subscribe(watch, range, Start::Now).await;
        let refused = client.control.recv.message::<SubscribeRefused>().await;
        assert_eq!((refused.watch, refused.refusal.code), (WatchId(watch), code));
    }
    client.is_undisturbed().await;
}

#[tokio::test]
async fn ten_thousand_watches_of_a_connection_are_taken_and_no_more() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for watch in 1..=WATCHES_PER_CONNECTION_MAX + 2 {
        client.subscribe(watch, KeyRange::One("a/1".into()), Start::Now).await;
    }
    for watch in [WATCHES_PER_CONNECTION_MAX + 1, WATCHES_PER_CONNECTION_MAX + 2] {
        let refused = client.control.recv.message::<SubscribeRefused>().await;
        assert_eq!((refused.watch, refused.refusal.code), (WatchId(watch), ErrorCode::TooManyWatches));
        assert!(refused.refusal.detail.contains("10000"), "{}", refused.refusal.detail);
    }
    // Whoever has none of its own is not asked to pay for it.
    let mut other = server.client().await;
    let (mut stream, _) = other.watch(1, KeyRange::prefix("a/"), Start::Now).await;
    let put = client.put("a/1", "1").await;
    assert_eq!(batch(&mut stream).await.to, put);
}

#[tokio::test]
async fn a_beat_says_how_far_every_watch_is() {
    let server = Server::start_with(|config| config.clients.beat_interval = Duration::from_millis(50)).await;
    let mut client = server.client().await;
    let (mut stream, _) = client.watch(5, KeyRange::prefix("a/"), Start::Now).await;
    let mine = client.put("a/1", "1").await;
    let others = client.put("b/1", "1").await;
    assert_eq!(batch(&mut stream).await.to, mine);
    let mut sent = 0;
    within("a beat", async {
        loop {
            let beat = client.control.recv.message::<Beat>().await;
            sent = beat.sent.iter().find(|(watch, _)| *watch == WatchId(5)).map_or(sent, |(_, sent)| *sent);
            if beat.revision >= others && beat.behind.is_empty() {
                break;
            }
        }
    })
    .await;
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn a_connection_gets_beats_while_it_has_a_watch() {
    let beat_interval = Duration::from_millis(20);
    let server = Server::start_with(|config| config.clients.beat_interval = beat_interval).await;
    let mut client = server.client().await;
    tokio::time::sleep(beat_interval * 10).await;
    client.control.tell(0, &KeepAlive { number: 1 }).await;
    assert_eq!(client.control.recv.next().await.header.op, op::KEEP_ALIVE_REPLY, "ten beats for nobody");
    let _watch = client.watch(5, KeyRange::prefix("a/"), Start::Now).await;
    client.control.recv.message::<Beat>().await;
    client.control.tell(0, &CancelWatch { watch: WatchId(5) }).await;
    within("silence", async {
        while tokio::time::timeout(beat_interval * 10, client.control.recv.next()).await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_said_is_kept_for_as_long_as_its_client_is_there() {
    let idle_timeout = Duration::from_millis(300);
    let server = Server::start_with(|config| config.clients.idle_timeout = idle_timeout).await;
    let mut client = server.client().await;
    tokio::time::sleep(idle_timeout * 5).await;
    client.is_undisturbed().await;
}

#[tokio::test]
async fn a_watch_that_is_not_read_holds_up_nobody_and_misses_nothing() {
    let server = Server::start().await;
    let mut watcher = server.client().await;
    let mut writer = server.client().await;
    let (mut unread, created) = watcher.watch(1, KeyRange::prefix("a/"), Start::Now).await;
    let (mut read, _) = watcher.watch(2, KeyRange::prefix("b/"), Start::Now).await;
    // More than every buffer between here and there.
    let value = vec![7; 60_000];
    let keys = || (0..200).map(|number| format!("a/{number:03}"));
    let mut written: Vec<_> = keys().zip(writer.put_all(keys(), &value).await).collect();
    written.sort_by_key(|(_, revision)| *revision);
    let other = writer.put("b/1", "1").await;
    assert_eq!(puts(&batch(&mut read).await), [("b/1".to_owned(), other)]);
    watcher.is_undisturbed().await;
    let mut position = created.revision;
    let mut seen = Vec::new();
    while seen.len() < written.len() {
        let batch = batch(&mut unread).await;
        assert!(batch.from <= position, "a gap");
        position = batch.to;
        seen.extend(puts(&batch));
    }
    assert_eq!(seen, written);
}

#[tokio::test]
async fn a_thousand_watches_of_one_connection_see_one_write() {
    let server = Server::start().await;
    let mut watcher = server.client().await;
    let mut writer = server.client().await;
    for watch in 1..=1_000 {
        watcher.subscribe(watch, KeyRange::One("key".into()), Start::Now).await;
    }
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        let mut stream = watcher.accept().await;
        let created: Created = stream.message().await;
        assert!(created.revision > Revision::ZERO);
        streams.push(stream);
    }
    assert_eq!(server.watches(), 1_000);
    let revision = writer.put("key", "value").await;
    for stream in &mut streams {
        assert_eq!(puts(&batch(stream).await), [("key".to_owned(), revision)]);
    }
}

#[tokio::test]
async fn watches_wait_for_streams_and_for_nobody_elses() {
    let server = Server::start().await;
    let credentials = server.admin();
    let mut watcher = Client::connect(server.node.client_addr(), &credentials).await;
    watcher.stranger.quic.set_max_concurrent_uni_streams(2_001u32.into());
    for watch in 1..=2_050 {
        watcher.subscribe(watch, KeyRange::One("key".into()), Start::Now).await;
    }
    let mut first = watcher.accept().await;
    first.message::<Created>().await;
    let revision = watcher.put("key", "value").await;
    assert_eq!(puts(&batch(&mut first).await), [("key".to_owned(), revision)]);
    watcher.stranger.quic.set_max_concurrent_uni_streams(3_000u32.into());
    for _ in 1..2_050 {
        let mut stream = watcher.accept().await;
        stream.message::<Created>().await;
    }
}
