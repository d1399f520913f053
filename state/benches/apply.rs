//! What a command costs the state, without log, disk and network: `cargo bench -p hither-state`.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use hither_protocol::message::{Compare, Delete, LeaseKind, Put, RetryToken, Txn, TxnOp};
use hither_protocol::{Key, KeyRange, LeaseId, Namespace, SequenceNumber, SessionId, UnixMillis};
use hither_state::{Action, Command, Position, RangeQuery, State, StateLimits};

/// Keys of 31 bytes with values of 128: what the design was measured with.
const KEYS: u64 = 1_000_000;
const VALUE: [u8; 128] = [7; 128];

fn key(number: u64) -> Key {
    // A step that visits every key once, in no order.
    let number = number.wrapping_mul(7_919) % KEYS;
    format!("services/api-gateway/{number:010}").into()
}

fn command(action: Action, retry: Option<RetryToken>) -> Command {
    Command { namespace: Namespace::default(), principal: "bench".to_owned(), retry, at: UnixMillis(1), action }
}

fn put(number: u64, lease: Option<LeaseId>) -> Action {
    Action::Put(Put { key: key(number), value: Bytes::copy_from_slice(&VALUE), lease, previous: false })
}

/// Applies `count` commands that were made before the clock starts.
fn measure(name: &str, state: &mut State, index: &mut u64, count: u64, make: impl Fn(u64) -> Command) {
    let commands: Vec<Command> = (0..count).map(make).collect();
    let start = Instant::now();
    for command in &commands {
        *index += 1;
        let applied = state.apply(Position { index: *index, offset: 0 }, command);
        assert!(black_box(applied).outcome.is_ok(), "{name}");
    }
    report(name, start, count);
}

fn report(name: &str, start: Instant, count: u64) {
    println!("{name:<44} {:>7.0} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

fn main() {
    let mut state = State::new(StateLimits::default());
    let mut index = 0;
    let session = SessionId(1 << 16);
    let open = command(Action::SessionOpen { ttl_ms: 10_000, nonce: [0; 16] }, None);
    measure("session open", &mut state, &mut index, 1, |_| open.clone());
    let token = |number: u64| {
        let acknowledged = SequenceNumber(number.saturating_sub(64));
        Some(RetryToken { session, sequence: SequenceNumber(number + 1), acknowledged })
    };
    measure("put, new key", &mut state, &mut index, KEYS, |number| command(put(number, None), None));
    measure("put, key of a million", &mut state, &mut index, 500_000, |number| command(put(number, None), None));
    measure("put, the same key", &mut state, &mut index, 500_000, |_| command(put(1, None), None));
    measure("put with a retry token, 64 in flight", &mut state, &mut index, 500_000, |number| {
        command(put(number, None), token(number))
    });
    let compare_and_set = |number: u64| {
        let then = match put(number, None) {
            Action::Put(put) => vec![TxnOp::Put(put)],
            _ => Vec::new(),
        };
        Action::Txn(Txn { when: vec![Compare::Exists(key(number))], then, otherwise: Vec::new() })
    };
    measure("compare and set", &mut state, &mut index, 500_000, |number| command(compare_and_set(number), None));
    let first_lease = index + 1;
    let grant = Action::LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Ttl };
    measure("lease grant", &mut state, &mut index, 500_000, |_| command(grant.clone(), None));
    let lease = |number: u64| Some(LeaseId((first_lease + number) << 16));
    measure("put that attaches to a lease", &mut state, &mut index, 500_000, |number| {
        command(put(number, lease(number)), None)
    });
    let expire = |number: u64| Action::Expire { leases: lease(number).map(|lease| (lease, 1)).into_iter().collect() };
    measure("expire a lease with one key", &mut state, &mut index, 250_000, |number| command(expire(number), None));
    let delete = |number: u64| Action::Delete(Delete { range: KeyRange::One(key(number)), previous: false });
    measure("delete a key", &mut state, &mut index, 250_000, |number| command(delete(number + 500_000), None));

    let namespace = Namespace::default();
    let start = Instant::now();
    let found = (0..500_000).filter(|&number| state.get(&namespace, key(number).as_bytes()).is_some()).count();
    report("get, with making its key", start, 500_000);
    black_box(found);
    let start = Instant::now();
    let pages = 200;
    for number in 0..pages {
        let range = KeyRange::Span(key(number).0, "t".into());
        black_box(state.range(&namespace, &RangeQuery::new(&range)));
    }
    report("a page of 1,000 keys", start, pages);
}
