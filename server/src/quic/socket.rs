//! The UDP socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Room for the first packets of thousands of clients that come back at once: with the system's default most of them are
/// dropped and try again seconds later. The system may grant less.
const BUFFER_BYTES: usize = 4 << 20;

pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // `[::]` is everybody, IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    for result in [socket.set_recv_buffer_size(BUFFER_BYTES), socket.set_send_buffer_size(BUFFER_BYTES)] {
        if let Err(error) = result {
            tracing::warn!(%error, "the socket's buffers stay as they are");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
