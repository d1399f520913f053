//! A UDP relay between clients and a server, which spoils what passes as a test tells it to.
//!
//! It loses in silence, as a network does and a closed socket does not: nobody is told that a datagram did not arrive,
//! and a server that is gone looks like one that does not answer. It runs on a thread of its own, so that a busy test
//! does not slow it down, and draws every fate from one seed.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::AbortHandle;

/// Larger than any datagram on a loopback.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// What happens to datagrams that go one way. The default lets everything pass at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Nothing passes.
    pub cut: bool,
    /// The share that is lost, 0 to 1.
    pub loss: f64,
    /// The share that arrives twice.
    pub duplicates: f64,
    /// The share that later ones overtake: each of them waits [`OVERTAKEN`] longer.
    pub reordered: f64,
    /// How long each one takes.
    pub delay: Duration,
    /// At most how much longer some take, drawn for each.
    pub jitter: Duration,
}

/// How long a reordered datagram is held: many others pass meanwhile.
pub const OVERTAKEN: Duration = Duration::from_millis(3);

/// What became of the datagrams so far, both ways together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed on, duplicates counted once.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the way was cut.
    pub swallowed: u64,
    /// Passed on twice.
    pub duplicated: u64,
    /// Held so that others overtake.
    pub reordered: u64,
    /// Times that clients were given new addresses.
    pub rebound: u64,
}

/// A running relay. Dropping it closes its sockets.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<SocketAddr>,
    fate: Mutex<Fate>,
    clients: Mutex<HashMap<SocketAddr, Link>>,
    passed: AtomicU64,
    lost: AtomicU64,
    swallowed: AtomicU64,
    duplicated: AtomicU64,
    reordered: AtomicU64,
    rebound: AtomicU64,
}

/// The rules and what draws from them: one lock, so that a seed gives one sequence.
#[derive(Debug)]
struct Fate {
    up: Rules,
    down: Rules,
    rng: SmallRng,
}

/// The socket that speaks to the server for one client, and the task that listens on it.
#[derive(Debug)]
struct Link {
    socket: Arc<UdpSocket>,
    listener: AbortHandle,
}

/// A socket as the relay holds it: one handle to listen with, one to send with at once.
fn open(address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(socket))
}

fn listener(socket: &UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    tokio::net::UdpSocket::from_std(socket.try_clone()?)
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Relay {
    /// Starts a relay to `server` on a free port of the loopback.
    ///
    /// # Errors
    /// If no socket can be bound.
    pub fn start(server: SocketAddr, seed: u64) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), server, seed)
    }

    /// Starts a relay to `server` on `listen`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start_on(listen: SocketAddr, server: SocketAddr, seed: u64) -> io::Result<Self> {
        let socket = open(listen)?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            fate: Mutex::new(Fate { up: Rules::default(), down: Rules::default(), rng: SmallRng::seed_from_u64(seed) }),
            clients: Mutex::default(),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            swallowed: AtomicU64::new(0),
            duplicated: AtomicU64::new(0),
            reordered: AtomicU64::new(0),
            rebound: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let inside = shared.clone();
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    Err(error) = listen_to_clients(inside, socket) => eprintln!("the relay fails: {error}"),
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { shared, address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients find it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Sends what comes from now on to another server.
    pub fn set_server(&self, server: SocketAddr) {
        *self.shared.server.lock() = server;
    }

    /// Changes the rules of one way.
    pub fn rules(&self, way: Way, change: impl FnOnce(&mut Rules)) {
        let mut fate = self.shared.fate.lock();
        change(match way {
            Way::Up => &mut fate.up,
            Way::Down => &mut fate.down,
        });
    }

    /// Changes the rules of both ways.
    pub fn rules_both(&self, mut change: impl FnMut(&mut Rules)) {
        self.rules(Way::Up, &mut change);
        self.rules(Way::Down, &mut change);
    }

    /// From now on nothing passes.
    pub fn cut(&self) {
        self.rules_both(|rules| rules.cut = true);
    }

    /// From now on nothing passes this way.
    pub fn cut_way(&self, way: Way) {
        self.rules(way, |rules| rules.cut = true);
    }

    /// From now on everything passes, whatever the rules were.
    pub fn heal(&self) {
        self.rules_both(|rules| *rules = Rules::default());
    }

    /// From now on the server sees every client at a new address, as after a change of network.
    pub fn rebind(&self) {
        self.shared.clients.lock().clear();
        self.shared.rebound.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of the datagrams so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shared = &self.shared;
        Counts {
            passed: read(&shared.passed),
            lost: read(&shared.lost),
            swallowed: read(&shared.swallowed),
            duplicated: read(&shared.duplicated),
            reordered: read(&shared.reordered),
            rebound: read(&shared.rebound),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only ends by the line above; a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

async fn listen_to_clients(shared: Arc<Shared>, socket: Arc<UdpSocket>) -> io::Result<()> {
    let listener = listener(&socket)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error is news of an earlier datagram that found nobody: the network would not tell.
        let Ok((length, client)) = listener.recv_from(&mut buffer).await else { continue };
        let upstream = shared.upstream(client, &socket)?;
        let server = *shared.server.lock();
        shared.pass(Way::Up, &buffer[..length], upstream, server);
    }
}

async fn listen_to_server(
    shared: Arc<Shared>,
    listener: tokio::net::UdpSocket,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, _)) = listener.recv_from(&mut buffer).await else { continue };
        shared.pass(Way::Down, &buffer[..length], socket.clone(), client);
    }
}

impl Shared {
    /// The socket that speaks for `client`: a new one for a client that was not seen before.
    fn upstream(self: &Arc<Self>, client: SocketAddr, socket: &Arc<UdpSocket>) -> io::Result<Arc<UdpSocket>> {
        let mut clients = self.clients.lock();
        if let Some(link) = clients.get(&client) {
            return Ok(link.socket.clone());
        }
        let upstream = open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listening = listen_to_server(self.clone(), listener(&upstream)?, socket.clone(), client);
        let listener = tokio::spawn(listening).abort_handle();
        clients.insert(client, Link { socket: upstream.clone(), listener });
        Ok(upstream)
    }

    /// Decides what becomes of a datagram.
    fn pass(&self, way: Way, datagram: &[u8], through: Arc<UdpSocket>, to: SocketAddr) {
        let mut guard = self.fate.lock();
        let Fate { up, down, rng } = &mut *guard;
        let rules = match way {
            Way::Up => up,
            Way::Down => down,
        };
        if rules.cut {
            self.swallowed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if rng.random::<f64>() < rules.loss {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.passed.fetch_add(1, Ordering::Relaxed);
        let mut copies = 1;
        if rng.random::<f64>() < rules.duplicates {
            self.duplicated.fetch_add(1, Ordering::Relaxed);
            copies = 2;
        }
        for _ in 0..copies {
            let mut delay = rules.delay + rules.jitter.mul_f64(rng.random());
            if rng.random::<f64>() < rules.reordered {
                self.reordered.fetch_add(1, Ordering::Relaxed);
                delay += OVERTAKEN;
            }
            // A full buffer loses the datagram, as it does in a network.
            if delay.is_zero() {
                let _ = through.send_to(datagram, to);
                continue;
            }
            let (datagram, through) = (datagram.to_vec(), through.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = through.send_to(&datagram, to);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    /// Long enough that what has not arrived by then was not sent.
    const NEVER: Duration = Duration::from_millis(100);

    /// A server that answers with what it got, a client, and the relay between them.
    fn pair() -> (UdpSocket, UdpSocket, Relay) {
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let (server, client) = (socket(), socket());
        for side in [&server, &client] {
            side.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        }
        let relay = Relay::start(server.local_addr().expect("bound"), 7).expect("the relay starts");
        client.connect(relay.addr()).expect("the relay is there");
        (server, client, relay)
    }

    fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        Some((buffer[..length].to_vec(), from))
    }

    #[test]
    fn datagrams_go_through_both_ways() {
        let (server, client, relay) = pair();
        client.send(b"ping").expect("sent");
        let (ping, from) = receive(&server).expect("it arrives");
        assert_eq!(ping, b"ping");
        server.send_to(b"pong", from).expect("sent");
        assert_eq!(receive(&client).expect("it arrives").0, b"pong");
        assert_eq!(relay.counts(), Counts { passed: 2, ..Counts::default() });
    }

    #[test]
    fn one_way_can_be_cut_in_silence() {
        let (server, client, relay) = pair();
        relay.cut_way(Way::Down);
        client.send(b"ping").expect("sent");
        let (_, from) = receive(&server).expect("the way up is open");
        server.send_to(b"lost", from).expect("sent");
        client.set_read_timeout(Some(NEVER)).expect("a timeout can be set");
        assert_eq!(receive(&client), None);
        assert_eq!(relay.counts().swallowed, 1);
        relay.heal();
        server.send_to(b"pong", from).expect("sent");
        client.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        assert_eq!(receive(&client).expect("it arrives").0, b"pong");
    }

    #[test]
    fn a_dead_server_is_silence_too() {
        let (server, client, relay) = pair();
        let address = server.local_addr().expect("bound");
        drop(server);
        client.send(b"1").expect("sent");
        client.send(b"2").expect("nobody says that the first found no one");
        let server = UdpSocket::bind(address).expect("the port is free");
        server.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        client.send(b"3").expect("sent");
        while receive(&server).expect("the relay goes on").0 != b"3" {}
        assert!(relay.counts().passed >= 3);
    }

    #[test]
    fn a_rebound_client_has_another_address() {
        let (server, client, relay) = pair();
        client.send(b"1").expect("sent");
        let (_, before) = receive(&server).expect("it arrives");
        relay.rebind();
        client.send(b"2").expect("sent");
        let (_, after) = receive(&server).expect("it arrives");
        assert_ne!(before, after);
        server.send_to(b"back", after).expect("sent");
        assert_eq!(receive(&client).expect("it arrives").0, b"back");
    }

    #[test]
    fn a_seed_has_one_fate() {
        let lost = || {
            let (_server, client, relay) = pair();
            relay.rules(Way::Up, |rules| {
                rules.loss = 0.3;
                rules.duplicates = 0.2;
            });
            for _ in 0..200u8 {
                client.send(b"x").expect("sent");
            }
            while relay.counts().passed + relay.counts().lost < 200 {
                std::thread::yield_now();
            }
            (relay.counts().lost, relay.counts().duplicated)
        };
        let first = lost();
        assert!(first.0 > 20 && first.1 > 10, "the rules had no effect: {first:?}");
        assert_eq!(lost(), first);
    }

    #[test]
    fn a_reordered_datagram_is_overtaken() {
        let (server, client, relay) = pair();
        relay.rules(Way::Up, |rules| rules.reordered = 1.0);
        client.send(b"first").expect("sent");
        while relay.counts().reordered == 0 {
            std::thread::yield_now();
        }
        relay.heal();
        client.send(b"second").expect("sent");
        assert_eq!(receive(&server).expect("it arrives").0, b"second");
        assert_eq!(receive(&server).expect("it arrives").0, b"first");
    }
}
