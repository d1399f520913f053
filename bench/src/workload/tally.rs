//! Events counted stream by stream, so that one lost here and one doubled there do not cancel out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Figures;

/// What comes so much later than the rest counts as lost.
const QUIET: Duration = Duration::from_secs(1);

/// The counts of all streams.
#[derive(Default)]
pub(crate) struct Tally {
    all: Arc<AtomicUsize>,
    connections: Vec<Connection>,
}

struct Connection {
    /// Watches that each of its streams stands for.
    watches: usize,
    /// Beside each other, so that counting costs little of what is measured.
    came: Arc<[AtomicUsize]>,
}

/// Where one stream's reader counts.
pub(crate) struct Counter {
    all: Arc<AtomicUsize>,
    came: Arc<[AtomicUsize]>,
    place: usize,
}

impl Tally {
    /// For so many streams of a connection, each of which stands for so many watches.
    pub(crate) fn streams(&mut self, streams: usize, watches: usize) -> impl Iterator<Item = Counter> + use<> {
        let came: Arc<[AtomicUsize]> = (0..streams).map(|_| AtomicUsize::new(0)).collect();
        self.connections.push(Connection { watches, came: Arc::clone(&came) });
        let all = Arc::clone(&self.all);
        (0..streams).map(move |place| Counter { all: Arc::clone(&all), came: Arc::clone(&came), place })
    }

    /// Events that have come, on all of them.
    pub(crate) fn came(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Waits until nothing comes any more. Then, if there were `changes` for each watch: what is missing, and what came too
    /// often.
    pub(crate) async fn settle(&self, changes: usize) -> Figures {
        let mut before = self.came();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.came();
            if now == before {
                return self.compare(changes);
            }
            before = now;
        }
    }

    fn compare(&self, changes: usize) -> Figures {
        let (mut lost, mut doubled) = (0, 0);
        for Connection { watches, came } in &self.connections {
            for came in &**came {
                let (came, owed) = (came.load(Ordering::Relaxed), changes * watches);
                lost += owed.saturating_sub(came);
                doubled += came.saturating_sub(owed);
            }
        }
        Figures::from([("lost", lost as f64), ("doubled", doubled as f64)])
    }
}

impl Counter {
    /// Counts these; returns how many have come on all streams.
    pub(crate) fn add(&self, events: usize) -> usize {
        self.came[self.place].fetch_add(events, Ordering::Relaxed);
        self.all.fetch_add(events, Ordering::Relaxed) + events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_missing_is_not_made_up_for_by_one_too_many() {
        let mut tally = Tally::default();
        let streams: Vec<Counter> = tally.streams(1, 1).chain(tally.streams(1, 3)).collect();
        streams[0].add(4);
        assert_eq!(streams[1].add(16), 20);
        assert_eq!(tally.compare(5), Figures::from([("lost", 1.0), ("doubled", 1.0)]));
    }
}
