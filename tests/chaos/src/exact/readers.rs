//! Those who hold history against the server: the reference reader, a reader of lists, a reader of the floor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hither::{Client, Entry, Filter, Key, KeyRange};
use hither_tests::node::http_get;
use parking_lot::Mutex;

use super::world::World;
use crate::finding::{Finding, Kind};

/// Between two lists.
const LIST_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks at the floor: several for each time that it may rise.
const FLOOR_INTERVAL: Duration = Duration::from_millis(50);

/// Reads all of history over a way that nothing happens to. Its watch goes on through kills like any other; writers wait
/// for it, so that it needs no reset.
pub(crate) async fn follow(world: World, client: Client, begun: tokio::sync::oneshot::Sender<()>) {
    let filter = Filter { liveness: true, ..Filter::default() };
    let mut watch = match client.watch(KeyRange::All).filter(filter).previous().await {
        Ok(watch) => watch,
        Err(error) => return world.findings.tell(Finding::new(Kind::Down, "the reference reader", error.to_string())),
    };
    let mut begun = Some(begun);
    loop {
        let taken = match watch.next().await {
            Some(Ok(update)) => world.truth.take(&update, Instant::now()),
            end => Err(Finding::new(Kind::Stuck, "the reference reader", format!("its watch ended: {end:?}"))),
        };
        if let Err(finding) = taken {
            return world.findings.tell(finding);
        }
        if let Some(begun) = begun.take() {
            // Whoever starts the run waits for it.
            let _ = begun.send(());
        }
    }
}

/// Lists all keys again and again: each list must be the state at its revision, and as new as what was acknowledged
/// before it was asked for.
pub(crate) async fn list(world: World, client: Client, lists: Arc<AtomicU64>) {
    while world.is_writing() {
        tokio::time::sleep(LIST_INTERVAL).await;
        let known = world.acknowledged();
        // While no server answers there is nothing to compare.
        let Ok((stamp, reply)) = client.range(KeyRange::All).stamped().await else { continue };
        if stamp.revision < known {
            let what = format!("{known} was acknowledged, then a list was asked for, which is of {}", stamp.revision);
            return world.findings.tell(Finding::new(Kind::Lost, "the reader of lists", what));
        }
        world.truth.reached(stamp.revision).await;
        let list = by_key(reply.entries);
        let history = world.truth.read();
        let state = history.state_at(&KeyRange::All, stamp.revision);
        if state.len() != list.len() || state.iter().any(|(key, entry)| list.get(*key) != Some(*entry)) {
            let differs = |key: &&&Key| list.get(**key) != state.get(**key).copied();
            let first = state.keys().copied().chain(list.keys()).collect::<BTreeSet<_>>();
            let first = first.iter().find(differs).map(|key| (list.get(*key), state.get(*key)));
            let what =
                format!("a list at {} differs from history, first in (list, history): {first:?}", stamp.revision);
            return world.findings.tell(Finding::new(Kind::Difference, "the reader of lists", what));
        }
        lists.fetch_add(1, Ordering::Relaxed);
    }
}

/// Entries by their key.
pub(crate) fn by_key(entries: Vec<Entry>) -> BTreeMap<Key, Entry> {
    entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
}

/// When the floor was seen to rise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floors(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    floors: BTreeSet<u64>,
    answers: u64,
}

impl Floors {
    /// Looks at the floor, as the server's admin port tells it, until writers stop.
    pub(crate) async fn follow(self, world: World, admin: SocketAddr) {
        while world.is_writing() {
            tokio::time::sleep(FLOOR_INTERVAL).await;
            let Some(page) = http_get(admin, "/metrics").await else { continue };
            let floor = page.lines().find_map(|line| line.strip_prefix("hither_floor ")?.trim().parse::<f64>().ok());
            let mut seen = self.0.lock();
            seen.answers += 1;
            seen.floors.extend(floor.map(|floor| floor as u64));
        }
    }

    /// How often history was trimmed, and how many times it was looked.
    pub(crate) fn compactions(&self) -> u64 {
        (self.0.lock().floors.len() as u64).saturating_sub(1)
    }
}
