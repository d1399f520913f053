//! A crowd at the door: it is let in one after another, and handshakes that nobody goes on with take no more of the
//! server than their share.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hither_faults::stranger::Authority;
use hither_protocol::{ErrorCode, SERVER_NAME};
use hither_tests::node::{Home, Node};
use hither_tests::wait::within;
use quinn::{Connecting, ConnectionError, Endpoint, TransportErrorCode};

/// Who begins a handshake and does not go on with it.
const CROWD: usize = 400;
/// How many of them the server takes up before any has shown that it is where it says, and how many of those who have.
const UNVALIDATED_MAX: usize = 128;
const VALIDATED_MAX: usize = 128;
/// How long the server waits for one that it has taken up: longer than the test looks.
const HANDSHAKE: &str = "8s";
const LOOK_MAX: Duration = Duration::from_secs(7);
/// Far longer than a server needs to take up one more.
const SILENCE: Duration = Duration::from_secs(1);
const PROMPT: Duration = Duration::from_secs(30);

/// What a long header says that a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packet {
    Retry,
    /// Of a handshake that the server has taken up.
    Taken,
    Other,
}

impl Packet {
    fn of(datagram: &[u8]) -> Self {
        match datagram[0] & 0xb0 {
            0xb0 => Self::Retry,
            0x80 | 0xa0 => Self::Taken,
            _ => Self::Other,
        }
    }
}

/// Whom a datagram with a long header is for: the id that the client gave itself.
fn client(datagram: &[u8]) -> Vec<u8> {
    datagram[6..6 + usize::from(datagram[5])].to_vec()
}

/// Between a crowd and the server: it brings back who is to show where it is, and nothing else.
struct Lossy {
    socket: UdpSocket,
    server: SocketAddr,
    crowd: SocketAddr,
    retried: HashSet<Vec<u8>>,
    taken: HashSet<Vec<u8>>,
}

impl Lossy {
    /// Carries until so many have had an answer, and then until nobody else had one for a while.
    fn carry(&mut self, answered: usize) -> anyhow::Result<()> {
        let (start, mut news, mut buffer) = (Instant::now(), Instant::now(), [0; 65_536]);
        while start.elapsed() < LOOK_MAX
            && (news.elapsed() < SILENCE || self.retried.len() + self.taken.len() < answered)
        {
            let Ok((bytes, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let datagram = &buffer[..bytes];
            if from != self.server {
                self.socket.send_to(datagram, self.server)?;
                continue;
            }
            let is_new = match Packet::of(datagram) {
                Packet::Retry => {
                    self.socket.send_to(datagram, self.crowd)?;
                    self.retried.insert(client(datagram))
                }
                Packet::Taken => self.taken.insert(client(datagram)),
                Packet::Other => false,
            };
            if is_new {
                news = Instant::now();
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_handshakes_are_taken_up_than_can_end_and_a_client_gets_through_the_crowd() -> anyhow::Result<()> {
    let mut home = Home::new();
    home.set("HITHER_CLIENTS_HANDSHAKE_TIMEOUT", HANDSHAKE);
    let node = Node::start_in(home, &[]).await;
    let config = Authority::of(&node)?.sign(|_| {})?.config(false)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let relay = socket.local_addr()?;
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let mut lossy = Lossy {
        socket,
        server: node.addr(),
        crowd: endpoint.local_addr()?,
        retried: HashSet::new(),
        taken: HashSet::new(),
    };
    let answered = CROWD + VALIDATED_MAX;
    let carried = tokio::task::spawn_blocking(move || lossy.carry(answered).map(|()| lossy));
    let begin = || endpoint.connect_with(config.clone(), relay, SERVER_NAME);
    let crowd = (0..CROWD).map(|_| begin()).collect::<Result<Vec<Connecting>, _>>()?;
    let lossy = carried.await??;
    println!("of {CROWD}: {} taken up, {} to show where they are", lossy.taken.len(), lossy.retried.len());
    assert!(!lossy.retried.is_empty(), "nobody had to show where they are");
    assert!(lossy.taken.len() > UNVALIDATED_MAX, "nobody was taken up who had shown it");
    assert!(lossy.taken.len() <= UNVALIDATED_MAX + VALIDATED_MAX, "{} were taken up", lossy.taken.len());
    let direct = || async {
        let begun = Instant::now();
        let connecting = endpoint.connect_with(config.clone(), node.addr(), SERVER_NAME).expect("is dialed");
        let refused = tokio::time::timeout(SILENCE, connecting).await.ok().and_then(Result::err);
        matches!(refused, Some(ConnectionError::ConnectionClosed(close))
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED)
        .then(|| begun.elapsed())
    };
    let refused = within("the line is too long", LOOK_MAX, async {
        loop {
            if let Some(refused) = direct().await {
                return refused;
            }
        }
    });
    println!("with others in line for seconds, one more was refused after {:?}", refused.await);
    let error = node.client().connect_timeout(SILENCE).connect().await.expect_err("nobody is taken up");
    assert_eq!(error.code(), ErrorCode::ServerBusy, "{error}");
    let start = Instant::now();
    within("a client behind the crowd", PROMPT, node.client().connect_timeout(PROMPT).connect())
        .await?
        .put("d/behind", "")
        .await?;
    println!("a client behind the crowd was served after {:?}", start.elapsed());
    drop(crowd);
    Ok(())
}
