//! What a client can make the server keep, and how long it can make it work, is bounded.

use bytes::Bytes;
use hither_protocol::limits::{OUTCOME_BYTES_MAX, SESSION_WINDOW};
use hither_protocol::message::{Projection, Put, Reply, RetryToken, Txn, TxnOp};
use hither_protocol::{ErrorCode, KeyRange, Namespace, Refusal, SequenceNumber, SessionId, UnixMillis};
use hither_state::{Action, Change, Command, Position, State, StateLimits};

fn apply(state: &mut State, index: u64, sequence: u64, action: Action) -> (Reply, usize) {
    let (outcome, kept) = attempt(state, index, sequence, action);
    (outcome.expect("it is not refused"), kept)
}

fn attempt(state: &mut State, index: u64, sequence: u64, action: Action) -> (Result<Reply, Refusal>, usize) {
    let token =
        RetryToken { session: SessionId(1 << 16), sequence: SequenceNumber(sequence), acknowledged: SequenceNumber(0) };
    let command = Command {
        namespace: Namespace::default(),
        principal: "alice".into(),
        retry: (sequence > 0).then_some(token),
        at: UnixMillis(1),
        action,
    };
    let applied = state.apply(Position { index, offset: 0 }, &command);
    let kept = applied.delta.changes.iter().map(|change| match change {
        Change::Outcome { outcome, .. } => outcome.len(),
        _ => 0,
    });
    (applied.outcome, kept.sum())
}

#[test]
fn a_session_remembers_so_many_bytes_and_no_more_and_still_executes_once() {
    let mut state = State::new(StateLimits::default());
    apply(&mut state, 1, 0, Action::SessionOpen { ttl_ms: 10_000, nonce: [1; 16] });
    let value = Bytes::from(vec![7; OUTCOME_BYTES_MAX - 100]);
    apply(&mut state, 2, 0, Action::Put(Put { key: "big".into(), value, lease: None, previous: false }));
    let read = |sequence: u64| {
        let put = Put { key: "n".into(), value: sequence.to_string().into(), lease: None, previous: false };
        Action::Txn(Txn { then: vec![TxnOp::Get("big".into()), TxnOp::Put(put)], ..Txn::default() })
    };
    let mut remembered = 0;
    let mut replies = Vec::new();
    for sequence in 1..=SESSION_WINDOW {
        let (reply, kept) = apply(&mut state, 2 + sequence, sequence, read(sequence));
        remembered += kept;
        replies.push(reply);
    }
    assert!((200_000..300_000).contains(&remembered), "{remembered} bytes are remembered");
    let revision = state.revision();
    for (first, sequence) in replies.iter().zip(1..) {
        let (again, _) = apply(&mut state, 9_999, sequence, read(sequence));
        let (Reply::Txn(first), Reply::Txn(again)) = (first, again) else { panic!("not a transaction") };
        assert_eq!((again.revision, again.succeeded), (first.revision, first.succeeded));
        assert!(again.results_forgotten || again.results == first.results);
        // Sixty-five times 4 KiB fit.
        assert_eq!(again.results_forgotten, sequence > 65, "{sequence}");
    }
    assert_eq!(state.revision(), revision);
}

#[test]
fn a_transaction_passes_over_so_many_keys_and_no_more() {
    let mut state = State::new(StateLimits::default());
    let put = |number: u64| {
        TxnOp::Put(Put { key: format!("{number:06}").into(), value: Bytes::new(), lease: None, previous: false })
    };
    let txn = |ops: Vec<TxnOp>| Action::Txn(Txn { then: ops, ..Txn::default() });
    for index in 1..=200 {
        apply(&mut state, index, 0, txn((250 * index..250 * (index + 1)).map(put).collect()));
    }
    assert_eq!(state.keys(), 50_000);
    let count = |range: KeyRange| TxnOp::Range { range, limit: 1, reverse: false, projection: Projection::CountOnly };
    let twice = vec![count(KeyRange::All), count(KeyRange::All)];
    apply(&mut state, 201, 0, txn(twice.clone()));
    let once_more = [twice, vec![put(1), count(KeyRange::prefix("0500"))]].concat();
    let (outcome, _) = attempt(&mut state, 202, 0, txn(once_more));
    assert_eq!(outcome.map_err(|refusal| refusal.code), Err(ErrorCode::InvalidArgument));
    assert_eq!(state.keys(), 50_000, "nothing was changed");
}

#[test]
fn what_a_list_kept_is_forgotten_piece_by_piece_and_all_of_it_in_the_end() {
    let mut state = State::new(StateLimits::default());
    let put = |number: u64| {
        TxnOp::Put(Put { key: format!("{number:06}").into(), value: Bytes::new(), lease: None, previous: false })
    };
    let mut index = 0;
    let mut write = |state: &mut State, hundred: u64| {
        index += 1;
        let then = (100 * hundred..100 * (hundred + 1)).map(put).collect();
        apply(state, index, 0, Action::Txn(Txn { then, ..Txn::default() }));
    };
    (0..100).for_each(|hundred| write(&mut state, hundred));
    let list = state.pin();
    (0..100).for_each(|hundred| write(&mut state, hundred));
    assert_eq!(state.retained(), 10_000, "the list sees each key as it was");
    drop(list);
    let mut left = vec![state.retained()];
    while state.retained() > 0 {
        write(&mut state, 100 + left.len() as u64);
        left.push(state.retained());
    }
    assert!(left.windows(2).all(|two| two[0] - two[1] <= 4_096), "one command forgets a part: {left:?}");
    assert_eq!(left.len(), 4, "and no command forgets nothing: {left:?}");
}
