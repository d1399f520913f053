//! The server, the ways to it and what everyone who works in a run shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hither::{Client, ClientBuilder, Identity, Metrics, Revision};
use hither_tests::node::{Home, Node};
use hither_tests::relay::Relay;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Options;
use super::room::Room;
use crate::finding::Findings;
use crate::history::Truth;
use crate::ledger::Ledger;

/// How often the server looks whether its history is to be trimmed.
const TRIM_INTERVAL: Duration = Duration::from_millis(200);
/// History is a second of writes or less: who is away for longer gets a reset.
pub(super) const HISTORY_BYTES_MAX: usize = 48 << 10;
/// After three of these without a sign of life a client looks for another way. Shorter, and on a busy machine a server
/// that is merely slow is left by all its clients at once.
const BEAT: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Attempts to connect cost both sides work: on a busy machine they must not become the load.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The few on the way that nothing happens to are back at once: what the others had on their way when the server died is
/// written when they are back, and is more than half of history if the reference reader sleeps meanwhile.
const NEAR_BACKOFF_MAX: Duration = Duration::from_millis(100);
/// A call goes through a cut and a restart, and is retried meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connecting is no part of what is proved: a busy machine gets its time.
const CONNECTED: Duration = Duration::from_secs(30);

/// What the tasks of a run share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) truth: Arc<Truth>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) room: Room,
    pub(crate) findings: Findings,
    pub(crate) diary: Diary,
    /// The newest revision that a writer was told of.
    acknowledged: Arc<AtomicU64>,
    /// Until when writers write.
    writing: watch::Sender<bool>,
    /// Until when watchers watch.
    watching: watch::Sender<bool>,
    relays: Arc<Vec<Relay>>,
    address: std::net::SocketAddr,
    identity: Identity,
    clients: Arc<Mutex<Vec<Client>>>,
}

impl World {
    /// Starts a server with nothing in it, and `relays` ways to it.
    pub(crate) async fn start(options: &Options, relays: usize) -> anyhow::Result<(Self, Node)> {
        let mut home = Home::new();
        home.set("HITHER_WATCH_TRIM_INTERVAL", format!("{}ms", TRIM_INTERVAL.as_millis()));
        home.set("HITHER_WATCH_HISTORY_BYTES_MAX", HISTORY_BYTES_MAX.to_string());
        home.set("HITHER_CLIENTS_BEAT_INTERVAL", format!("{}ms", BEAT.as_millis()));
        // Every kill finds a state on disk, and a log that begins somewhere.
        home.set("HITHER_STATE_PERSIST_INTERVAL", "100ms");
        home.set("HITHER_STATE_FLUSH_INTERVAL", "150ms");
        home.set("HITHER_RAFT_SNAPSHOT_ENTRIES", "300");
        home.set("HITHER_RAFT_LOG_ENTRIES_KEPT", "100");
        // A handshake that is given up is work done in vain, of which a busy machine has none to spare.
        home.set("HITHER_CLIENTS_HANDSHAKE_TIMEOUT", "30s");
        home.set("HITHER_CLIENTS_HELLO_TIMEOUT", "30s");
        let node = Node::start_in(home, &[]).await;
        let start = |number| Relay::start(node.addr(), options.seed ^ number);
        let relays = (0..relays as u64).map(start).collect::<Result<Vec<_>, _>>()?;
        let truth = Arc::new(Truth::new());
        let world = Self {
            options: options.clone(),
            room: Room::new(Arc::clone(&truth)),
            truth,
            ledger: Arc::default(),
            findings: Findings::default(),
            diary: Diary::new(),
            acknowledged: Arc::default(),
            writing: watch::Sender::new(true),
            watching: watch::Sender::new(true),
            relays: Arc::new(relays),
            address: node.addr(),
            identity: node.home().identity(),
            clients: Arc::default(),
        };
        Ok((world, node))
    }

    pub(crate) fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// Connects on the way that nothing happens to.
    pub(crate) async fn near(&self) -> anyhow::Result<Client> {
        Ok(self.builder(self.address).backoff(BACKOFF_MIN, NEAR_BACKOFF_MAX).connect().await?)
    }

    /// Connects through a relay. Its figures count.
    pub(crate) async fn far(&self, relay: usize, settings: &[(&str, &str)]) -> anyhow::Result<Client> {
        let builder = self.builder(self.relays[relay % self.relays.len()].addr());
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.option(*name, *value));
        let client = builder.connect().await?;
        self.clients.lock().push(client.clone());
        Ok(client)
    }

    fn builder(&self, address: std::net::SocketAddr) -> ClientBuilder {
        Client::builder()
            .url(format!("hither://{address}"))
            .identity(self.identity.clone())
            .request_timeout(PATIENCE)
            .connect_timeout(CONNECTED)
            .beat_interval(BEAT)
            .backoff(BACKOFF_MIN, BACKOFF_MAX)
            // The server would name its own address, which leads around the relay.
            .option("learn_servers", "false")
    }

    /// The sum of what all far clients have counted.
    pub(crate) fn metrics(&self) -> Metrics {
        self.clients.lock().iter().map(Client::metrics).fold(Metrics::default(), |sum, one| Metrics {
            reconnects: sum.reconnects + one.reconnects,
            sessions_lost: sum.sessions_lost + one.sessions_lost,
            retries: sum.retries + one.retries,
            watch_resumes: sum.watch_resumes + one.watch_resumes,
            watch_gaps: sum.watch_gaps + one.watch_gaps,
            watch_duplicates: sum.watch_duplicates + one.watch_duplicates,
            watch_resets: sum.watch_resets + one.watch_resets,
            ..sum
        })
    }

    /// A writer was told of this revision.
    pub(crate) fn acknowledge(&self, revision: Revision) {
        self.acknowledged.fetch_max(revision.0, Ordering::SeqCst);
    }

    /// The newest revision that a writer was told of.
    pub(crate) fn acknowledged(&self) -> Revision {
        Revision(self.acknowledged.load(Ordering::SeqCst))
    }

    pub(crate) fn stop_writing(&self) {
        self.writing.send_replace(false);
    }

    pub(crate) fn stop_watching(&self) {
        self.watching.send_replace(false);
    }

    pub(crate) fn is_writing(&self) -> bool {
        *self.writing.borrow()
    }

    /// Resolves when writers are to stop.
    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        over(self.writing.subscribe())
    }

    /// Resolves when watchers are to stop.
    pub(crate) fn watched(&self) -> impl Future<Output = ()> + Send + use<> {
        over(self.watching.subscribe())
    }
}

async fn over(mut state: watch::Receiver<bool>) {
    // A world that is gone is over too.
    let _ = state.wait_for(|goes_on| !goes_on).await;
}

/// What was done to the system, for whoever looks into a finding.
#[derive(Clone, Debug)]
pub(crate) struct Diary {
    begun: Instant,
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Diary {
    /// How much of it a finding is told with.
    const RECENT: Duration = Duration::from_secs(6);

    fn new() -> Self {
        Self { begun: Instant::now(), lines: Arc::default() }
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.lines.lock().push((self.begun.elapsed(), what.into()));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The last seconds of it.
    pub(crate) fn recent(&self) -> String {
        let since = self.begun.elapsed().saturating_sub(Self::RECENT);
        let lines = self.lines.lock();
        let recent = lines.iter().filter(|(at, _)| *at >= since);
        let recent: Vec<String> = recent.map(|(at, what)| format!("  {:8.3} s  {what}", at.as_secs_f64())).collect();
        format!("what was done in the {:?} before:\n{}", Self::RECENT, recent.join("\n"))
    }
}
