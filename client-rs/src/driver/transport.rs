//! The bounds of the transport at the client: deadlines, windows, how large a datagram may be.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hither_client_core::Error;
use hither_protocol::ErrorCode;
use hither_protocol::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SEARCH_BYTES_MAX, DATAGRAM_STEP_BYTES};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// A connection without any packet for so long is over. Beats and keep-alives come far more often.
const IDLE: Duration = Duration::from_secs(10);
/// What a stream may hold that was not read: a paused watch costs so much at most.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Streams that the server may open before the first watch: large replies.
const STREAMS: u32 = 64;
/// The first guess of a round trip: the first packet is sent again after three of these, so that a server that
/// was just started is found soon.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// What QUIC is told, by how far away the server is. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Transports {
    far: ClientConfig,
    /// Within this machine.
    near: ClientConfig,
}

impl Transports {
    pub(crate) fn new(tls: QuicClientConfig) -> Result<Self, Error> {
        let mut far = ClientConfig::new(Arc::new(tls));
        let mut near = far.clone();
        far.transport_config(Arc::new(transport()?));
        let mut loopback = transport()?;
        loopback.initial_mtu(DATAGRAM_BYTES_MAX);
        near.transport_config(Arc::new(loopback));
        Ok(Self { far, near })
    }

    pub(super) fn to(&self, address: IpAddr) -> ClientConfig {
        if address.to_canonical().is_loopback() { self.near.clone() } else { self.far.clone() }
    }
}

fn transport() -> Result<TransportConfig, Error> {
    let idle = IdleTimeout::try_from(IDLE)
        .map_err(|error| Error::caused_by(ErrorCode::Internal, "the idle timeout is out of range", error))?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(DATAGRAM_SEARCH_BYTES_MAX).minimum_change(DATAGRAM_STEP_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        // Bounded by the streams, not as a whole: paused watches must not use up what the lanes need.
        .receive_window(VarInt::MAX)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(discovery));
    Ok(transport)
}
