//! Whatever is done to the log on disk, it is the log in memory that forgets nothing.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use common::*;
use hither_state::device::{LogDevice, LogItem, LogReader, LogRecord, MemoryLog};
use proptest::prelude::*;

/// What may be done next, in numbers relative to where the log is.
#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, size: usize },
    Truncate { back: u64 },
    Purge { forth: u64 },
    Vote,
    Committed,
    Write { sync: bool },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..20_u64, prop_oneof![0..50_usize, 60_000..70_000_usize]).prop_map(|(count, size)| Step::Append { count, size }),
        2 => (0..30_u64).prop_map(|back| Step::Truncate { back }),
        2 => (0..20_u64).prop_map(|forth| Step::Purge { forth }),
        1 => Just(Step::Vote),
        1 => Just(Step::Committed),
        4 => any::<bool>().prop_map(|sync| Step::Write { sync }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_on_disk_and_the_one_in_memory_say_the_same(steps in steps(), start in 0..3_u64) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        drop(create(&path));
        let (mut disk, mut state) = open(&path).unwrap();
        let mut memory = MemoryLog::default();
        let mut items = Vec::new();
        // Records from `first` to before `next`, if any.
        let (mut first, mut next, mut purged, mut number) = (start, start, None, 0_u64);
        for step in steps {
            number += 1;
            match step {
                Step::Append { count, size } => {
                    let record = |index| LogRecord { index, payload: vec![number as u8; size].into() };
                    items.push(LogItem::Append((next..next + count).map(record).collect()));
                    next += count;
                }
                Step::Truncate { back } => {
                    let floor = purged.map_or(0, |purged| purged + 1);
                    next = next.saturating_sub(back).max(floor);
                    first = first.min(next);
                    items.push(LogItem::TruncateAfter(next.checked_sub(1)));
                }
                Step::Purge { forth } => {
                    let up_to = purged.map_or(0, |purged| purged + 1) + forth;
                    purged = Some(up_to);
                    // A log that has no record any more goes on after what was purged.
                    let is_left = first < next && up_to + 1 < next;
                    (first, next) = if is_left { (first.max(up_to + 1), next) } else { (up_to + 1, up_to + 1) };
                    items.push(LogItem::Purge { up_to, last: number.to_string().into() });
                }
                Step::Vote => items.push(LogItem::Vote(number.to_string().into())),
                Step::Committed => items.push(LogItem::Committed(number.to_string().into())),
                Step::Write { sync } => {
                    disk.write(&items, sync).unwrap();
                    memory.write(&items, sync).unwrap();
                    items.clear();
                }
                Step::Restart => {
                    drop((disk, state));
                    (disk, state) = open(&path).unwrap();
                    prop_assert_eq!(disk.recover().unwrap(), memory.recover().unwrap());
                }
            }
            let (disk, memory) = (disk.reader(), memory.reader());
            for (first, end, limit) in [(0, u64::MAX, usize::MAX), (next / 2, next, 100_000), (next / 3, next / 2, 0)] {
                prop_assert_eq!(disk.read(first, end, limit).unwrap(), memory.read(first, end, limit).unwrap());
            }
        }
    }
}
