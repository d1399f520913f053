//! What the wire costs both sides for each put and each watch event: `cargo bench -p hither-protocol`.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hither_protocol::codec::{Decoder, Frame, decode, encode, encode_body};
use hither_protocol::message::{Batch, Context, Put, PutReply, Reply, Request, RetryToken, Stamp};
use hither_protocol::{Entry, Event, NodeId, Previous, RequestNumber, Revision, SequenceNumber, SessionId, Version};

const VALUE: [u8; 256] = [7; 256];
/// What one read of a stream takes: a datagram of the Internet, one of the loopback, what gathers on a busy lane.
const PIECES: [usize; 3] = [1_200, 6_500, 64 * 1024];
const FRAMES: u64 = 256;

fn put() -> (Context, Request) {
    let token = RetryToken {
        session: SessionId(0x2_0001),
        sequence: SequenceNumber(70_000),
        acknowledged: SequenceNumber(69_999),
    };
    let put = Put {
        key: "services/api-gateway/000001".into(),
        value: Bytes::from_static(&VALUE),
        lease: None,
        previous: false,
    };
    (Context { deadline_ms: Some(10_000), retry: Some(token), ..Context::default() }, put.into())
}

fn reply() -> (Stamp, Reply) {
    let stamp = Stamp { revision: Revision(70_000), term: 2, node: NodeId(1), age_ms: 0 };
    (stamp, Reply::Put(PutReply { revision: Revision(70_000), previous: None }))
}

fn event(revision: u64) -> Event {
    let entry = Entry {
        key: "services/api-gateway/000001".into(),
        value: Bytes::from_static(&VALUE),
        create_revision: Revision(7),
        mod_revision: Revision(revision),
        version: Version(revision),
        lease: None,
    };
    Event::Put { entry, previous: Previous::NotAsked }
}

/// The one frame of these bytes.
fn frame(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.next_frame().expect("within the limit").expect("a whole frame")
}

/// A put as the client writes it and the server reads it, and the answer to it the other way round.
fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put of 256 bytes");
    group.throughput(Throughput::Elements(1));
    let (context, request) = put();
    let (stamp, reply) = reply();
    let mut out = BytesMut::new();
    group.bench_function("encode the request", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&request).encode(&mut out, RequestNumber(9), &context);
        });
    });
    let asked = frame(&out);
    group.bench_function("decode the request", |bencher| {
        bencher.iter(|| Request::decode(black_box(&asked)).expect("it is one"));
    });
    group.bench_function("encode the reply", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&reply).encode(&mut out, RequestNumber(9), &stamp, false);
        });
    });
    let answered = frame(&out);
    group.bench_function("decode the reply", |bencher| {
        bencher.iter(|| Reply::decode(black_box(&answered)).expect("it is one").expect("it says yes"));
    });
    group.finish();
}

/// A batch of a watch: put together from events that were encoded once for all watchers, and decoded by each of them.
fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch batch");
    group.bench_function("encode an event", |bencher| {
        let (event, mut out) = (event(70_000), BytesMut::new());
        bencher.iter(|| {
            out.clear();
            encode_body(&mut out, black_box(&event));
        });
    });
    for count in [1, 64] {
        let (from, to) = (Revision(70_000), Revision(70_000 + count));
        let events: Vec<Event> = (from.0 + 1..=to.0).map(event).collect();
        let encoded: Vec<Bytes> = events
            .iter()
            .map(|event| {
                let mut out = BytesMut::new();
                encode_body(&mut out, event);
                out.freeze()
            })
            .collect();
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("put together", count), &encoded, |bencher, encoded| {
            bencher.iter(|| Batch::encode_parts(from, to, false, count, black_box(encoded)));
        });
        let mut out = BytesMut::new();
        encode(&mut out, 9, &Batch { from, to, folded: false, events });
        let sent = frame(&out);
        group.bench_with_input(BenchmarkId::new("decode", count), &sent, |bencher, sent| {
            bencher.iter(|| decode::<Batch>(black_box(sent)).expect("it is one"));
        });
    }
    group.finish();
}

/// Cutting a stream of puts into frames: the server copies what comes, the client keeps what lies within one piece.
fn frames(criterion: &mut Criterion) {
    let (context, request) = put();
    let mut stream = BytesMut::new();
    (0..FRAMES).for_each(|number| request.encode(&mut stream, RequestNumber(number), &context));
    let stream = stream.freeze();
    let mut group = criterion.benchmark_group("cut a stream into frames");
    group.throughput(Throughput::Elements(FRAMES));
    for size in PIECES {
        let pieces: Vec<Bytes> = stream.chunks(size).map(|piece| stream.slice_ref(piece)).collect();
        group.bench_with_input(BenchmarkId::new("server", size), &pieces, |bencher, pieces| {
            bencher.iter(|| {
                let (mut decoder, mut count) = (Decoder::default(), 0);
                for piece in pieces {
                    decoder.push(piece);
                    while let Some(frame) = decoder.next_frame().expect("within the limit") {
                        count += 1;
                        black_box(frame);
                    }
                }
                assert_eq!(count, FRAMES, "none is lost");
            });
        });
        group.bench_with_input(BenchmarkId::new("client", size), &pieces, |bencher, pieces| {
            bencher.iter(|| {
                let (mut decoder, mut count) = (Decoder::default(), 0);
                for piece in pieces {
                    let mut piece = piece.clone();
                    while let Some(frame) = decoder.next_frame_of(&mut piece).expect("within the limit") {
                        count += 1;
                        black_box(frame);
                    }
                }
                assert_eq!(count, FRAMES, "none is lost");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, batches, frames);
criterion_main!(benches);
