//! Who a certificate says its owner is.

use hither_protocol::{ClusterId, UnixMillis};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The plane that an identity belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client.
    Client,
    /// A client that may do more.
    Admin,
    /// A server.
    Node,
}

/// What the one URI of a certificate names: `hither://CLUSTER/{client,admin,node}/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) cluster: ClusterId,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Which of the identities that had this name one after the other.
    pub(crate) generation: u64,
    pub(crate) expires_at: UnixMillis,
}

/// A certificate that names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrincipalError {
    #[error("the certificate does not parse")]
    Damaged,
    #[error("the certificate has no or more than one URI, or one that names no identity")]
    NoIdentity,
}

impl Principal {
    /// Reads a certificate that TLS has verified. The common name is never read.
    pub(crate) fn of(certificate: &[u8]) -> Result<Self, PrincipalError> {
        let certificate = parse(certificate)?;
        let names = certificate.subject_alternative_name().map_err(|_| PrincipalError::Damaged)?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(PrincipalError::NoIdentity) };
        let (cluster, kind, name) = split(uri).ok_or(PrincipalError::NoIdentity)?;
        Ok(Self {
            cluster,
            kind,
            name: name.to_owned(),
            generation: generation(&certificate.tbs_certificate.serial.to_bytes_be()),
            expires_at: not_after(&certificate),
        })
    }

    /// When a certificate ends.
    pub(crate) fn expiry(certificate: &[u8]) -> Result<UnixMillis, PrincipalError> {
        parse(certificate).map(|certificate| not_after(&certificate))
    }

    pub(crate) fn uri(cluster: ClusterId, kind: &str, name: &str) -> String {
        format!("hither://{cluster}/{kind}/{name}")
    }

    /// The serial number: the generation, then random bytes.
    pub(crate) fn serial(generation: u64, random: [u8; 8]) -> [u8; 16] {
        (u128::from(generation) << 64 | u128::from(u64::from_be_bytes(random))).to_be_bytes()
    }
}

fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, PrincipalError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(PrincipalError::Damaged),
    }
}

fn not_after(certificate: &X509Certificate<'_>) -> UnixMillis {
    let seconds = certificate.validity().not_after.timestamp();
    UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
}

fn generation(serial: &[u8]) -> u64 {
    match serial.len() {
        // A number has no leading zeros.
        ..=16 => {
            let mut bytes = [0; 16];
            bytes[16 - serial.len()..].copy_from_slice(serial);
            u64::try_from(u128::from_be_bytes(bytes) >> 64).unwrap_or(0)
        }
        _ => 0,
    }
}

fn split(uri: &str) -> Option<(ClusterId, Kind, &str)> {
    let mut parts = uri.strip_prefix("hither://")?.split('/');
    let (cluster, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || name.is_empty() {
        return None;
    }
    let kind = match kind {
        "client" => Kind::Client,
        "admin" => Kind::Admin,
        "node" => Kind::Node,
        _ => return None,
    };
    Some((cluster.parse().ok()?, kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_one_identity_or_nobody() {
        let cluster = ClusterId(*b"0123456789abcdef");
        let uri = Principal::uri(cluster, "admin", "ops");
        assert_eq!(split(&uri), Some((cluster, Kind::Admin, "ops")));
        for wrong in [
            "hither://x/admin/ops",
            "https://a",
            &format!("{uri}/more"),
            &Principal::uri(cluster, "root", "a"),
            &Principal::uri(cluster, "client", ""),
        ] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_serial_number_carries_its_generation() {
        let serial = Principal::serial(7, [0xff; 8]);
        let shortened: Vec<u8> = serial.iter().copied().skip_while(|&byte| byte == 0).collect();
        assert_eq!(generation(&shortened), 7);
        assert_eq!(generation(&[1; 20]), 0);
    }
}
