//! The client plane's door: one QUIC endpoint, bounded, with TLS on both sides.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one place that chooses who does the cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
