//! The bounds of the transport. The library's defaults would let one client pin hundreds of megabytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SEARCH_BYTES_MAX, DATAGRAM_STEP_BYTES};
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use crate::config::ClientsConfig;
use crate::identity::EndpointKeys;

/// QUIC version 1, and none of its drafts.
const VERSION: u32 = 1;
/// Streams that a client may have open: the two lanes and some requests with a large body. Each allowed stream costs
/// memory whether it is used or not.
pub(crate) const STREAMS_MAX: u32 = 32;
/// What a client may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What a client may send on all streams before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What may be on its way to one client: a client that does not read costs no more than this.
const SEND_WINDOW_BYTES: u64 = 4 << 20;
/// Clients that may wait for their handshakes to be taken up: about as many as can be in the time for which one waits.
const INCOMING_MAX: usize = 4_096;
/// What one client may send before its handshake is taken up.
const INCOMING_BUFFER_BYTES: u64 = 64 * 1024;
/// What all of them may.
const INCOMING_BUFFERS_BYTES: u64 = 16 << 20;
/// A connection on which nothing is said is kept by asking so many times in the time after which it ends. With the default of
/// ten seconds that is never, since clients say something every three.
const KEEP_ALIVES: u32 = 3;
/// Between two stateless resets. The library's 20 ms would let ten thousand clients of a restarted node wait for minutes.
const RESET_INTERVAL: Duration = Duration::from_micros(100);

pub(super) fn endpoint_config(keys: &EndpointKeys) -> io::Result<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::new(keys.reset()));
    config.max_udp_payload_size(DATAGRAM_BYTES_MAX).map_err(io::Error::other)?;
    let connection_id = keys.connection_id();
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id)))
        .supported_versions(vec![VERSION])
        .min_reset_interval(RESET_INTERVAL);
    Ok(config)
}

/// For clients anywhere, and for those on this machine.
pub(super) fn server_configs(
    clients: &ClientsConfig,
    tls: Arc<dyn quinn_proto::crypto::ServerConfig>,
) -> io::Result<[ServerConfig; 2]> {
    let mut far = ServerConfig::with_crypto(tls);
    far.max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFERS_BYTES);
    let mut near = far.clone();
    let mut loopback = transport(clients)?;
    loopback.initial_mtu(DATAGRAM_BYTES_MAX);
    near.transport_config(Arc::new(loopback));
    far.transport_config(Arc::new(transport(clients)?));
    Ok([far, near])
}

fn transport(clients: &ClientsConfig) -> io::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(clients.idle_timeout).map_err(io::Error::other)?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(DATAGRAM_SEARCH_BYTES_MAX).minimum_change(DATAGRAM_STEP_BYTES);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(discovery))
        .keep_alive_interval(Some(clients.idle_timeout / KEEP_ALIVES))
        .max_idle_timeout(Some(idle));
    Ok(transport)
}
