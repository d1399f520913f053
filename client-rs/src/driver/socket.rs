//! A UDP socket for QUIC, with no more memory for what comes in than can come in.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hither_protocol::limits::DATAGRAM_BYTES_MAX;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, EndpointConfig, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

/// Room for what comes for a thousand watches at once, while the application has the thread: with the system's default a
/// part of it is dropped, and comes again later. The system may grant less.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// The most that the system hands over as one, however many datagrams it is.
const RECEIVED_TOGETHER_BYTES_MAX: usize = 64 << 10;

/// An end of connections, on a port that the system chooses.
pub(super) fn bind(local: SocketAddr) -> io::Result<quinn::Endpoint> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        // Where that cannot be had, IPv4 has a socket of its own anyway.
        let _ = socket.set_only_v6(false);
    }
    // What the system does not grant is done without.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&local.into())?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(DATAGRAM_BYTES_MAX).map_err(io::Error::other)?;
    let socket = Bounded(TokioRuntime.wrap_udp_socket(socket.into())?);
    quinn::Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), Arc::new(TokioRuntime))
}

/// The library's own socket, but for how much may be received together. The library counts with 64 datagrams of the largest
/// size in each of the 32 places where it receives, which is 13 MiB per client, and never more than 64 KiB in each is used.
#[derive(Debug)]
struct Bounded(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Bounded {
    fn max_receive_segments(&self) -> usize {
        let fit = RECEIVED_TOGETHER_BYTES_MAX.div_ceil(usize::from(DATAGRAM_BYTES_MAX));
        self.0.max_receive_segments().min(fit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(context, buffers, meta)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_to_receive_in_holds_what_comes_together_and_no_more() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let bounded = Bounded(TokioRuntime.wrap_udp_socket(socket).expect("the system takes it"));
        let place = bounded.max_receive_segments() * usize::from(DATAGRAM_BYTES_MAX);
        assert!(place >= usize::from(DATAGRAM_BYTES_MAX), "{place}");
        assert!(place < RECEIVED_TOGETHER_BYTES_MAX + usize::from(DATAGRAM_BYTES_MAX), "{place}");
    }
}
