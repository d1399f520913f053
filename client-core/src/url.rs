//! Where a cluster is: `hither://host:port[,host:port...]/namespace?option=value`, and enrolment strings.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use hither_protocol::{ClusterId, ErrorCode, Namespace, PORT_CLIENT, Refusal};

const SCHEME: &str = "hither://";
const SCHEME_ENROLL: &str = "hither-enroll://";

/// Most servers in one URL: more is a mistake, since one is enough to learn of the others.
const ENDPOINTS_MAX: usize = 64;

/// A server's client address: a host name or IP address, and a UDP port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// UDP port; 7400 if none was given.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let invalid = || invalid(format!("{text:?} is no server: write host:port"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
                match rest {
                    "" => (host, None),
                    _ => (host, Some(rest.strip_prefix(':').ok_or_else(invalid)?)),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || !(host.contains(':') || host.bytes().all(plain)) {
            return Err(invalid());
        }
        let port = match port {
            None => PORT_CLIENT,
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(invalid)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The servers, the namespace and the options that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// One at least, in the order written.
    pub endpoints: Vec<Endpoint>,
    /// If it names one.
    pub namespace: Option<Namespace>,
    /// The query, in the order written; see [`Options::set`](crate::Options::set).
    pub options: Vec<(String, String)>,
}

impl FromStr for Url {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| {
            invalid(format!("{text:?} is no URL of a cluster: write {SCHEME}host:port/namespace?option=value"))
        })?;
        let (rest, query) = split(rest, '?');
        let (servers, path) = split(rest, '/');
        let namespace = if path.is_empty() { None } else { Some(path.parse()?) };
        Ok(Self { endpoints: endpoints(servers)?, namespace, options: pairs(query)? })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        list(f, &self.endpoints)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "/{namespace}")?;
        }
        for (position, (name, value)) in self.options.iter().enumerate() {
            write!(f, "{}{name}={value}", if position == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// An enrolment string: all that a new client needs to get an identity of its own, once. It holds a secret; its
/// `Debug` does not show it, its `Display` does.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The servers.
    pub endpoints: Vec<Endpoint>,
    /// SHA-256 of the DER of the cluster's CA.
    pub pin: [u8; 32],
    /// The single-use secret.
    pub secret: Bytes,
    /// The cluster.
    pub cluster: ClusterId,
    /// The name of the identity.
    pub name: String,
}

impl Enrolment {
    /// Whether a text is meant as an enrolment string.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME_ENROLL)
    }
}

impl FromStr for Enrolment {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        // The text is a secret: no error shows it.
        let missing = |what: &str| invalid(format!("the enrolment string has no valid {what}; copy all of it"));
        let rest = text.strip_prefix(SCHEME_ENROLL).ok_or_else(|| missing("scheme"))?;
        let (servers, query) = split(rest, '?');
        let servers = servers.strip_suffix('/').unwrap_or(servers);
        let pairs = pairs(query)?;
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let pin = value("pin").and_then(from_hex).and_then(|pin| pin.try_into().ok()).ok_or_else(|| missing("pin"))?;
        let secret =
            value("secret").and_then(from_hex).filter(|secret| !secret.is_empty()).ok_or_else(|| missing("secret"))?;
        let cluster = value("cluster").and_then(|cluster| cluster.parse().ok()).ok_or_else(|| missing("cluster"))?;
        let name = value("name").filter(|name| is_file_name(name)).ok_or_else(|| missing("name"))?;
        Ok(Self { endpoints: endpoints(servers)?, pin, secret: secret.into(), cluster, name: name.to_owned() })
    }
}

impl fmt::Display for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME_ENROLL)?;
        list(f, &self.endpoints)?;
        let (pin, secret) = (to_hex(&self.pin), to_hex(&self.secret));
        write!(f, "?pin={pin}&secret={secret}&cluster={}&name={}", self.cluster, self.name)
    }
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("endpoints", &self.endpoints)
            .field("cluster", &self.cluster)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes out of hexadecimal; none if it is not.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Names become file names of contexts: no separators, no dots in front.
fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 63 && !name.starts_with('.') && name.bytes().all(plain)
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn endpoints(text: &str) -> Result<Vec<Endpoint>, Refusal> {
    let endpoints: Vec<Endpoint> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    if endpoints.len() > ENDPOINTS_MAX {
        return Err(invalid(format!("the URL names {} servers, the limit is {ENDPOINTS_MAX}", endpoints.len())));
    }
    Ok(endpoints)
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let pair = |pair: &str| {
        pair.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .ok_or_else(|| invalid("an option in a URL is written name=value"))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

fn list(f: &mut fmt::Formatter<'_>, endpoints: &[Endpoint]) -> fmt::Result {
    endpoints.iter().enumerate().try_for_each(|(position, endpoint)| {
        let comma = if position == 0 { "" } else { "," };
        write!(f, "{comma}{endpoint}")
    })
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_a_namespace_and_options() {
        let url: Url = "hither://a:1,[::1]:2,c/prod?connect_timeout=2s&backoff_min=10ms".parse().unwrap();
        let shown: Vec<String> = url.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:1", "[::1]:2", "c:7400"]);
        assert_eq!(url.namespace, "prod".parse().ok());
        assert_eq!(url.options.len(), 2);
        assert_eq!(url.to_string().parse(), Ok(url));
        assert_eq!("hither://a".parse::<Url>().unwrap().namespace, None);
    }

    #[test]
    fn a_bad_url_is_refused_with_an_example() {
        for text in [
            "",
            "http://a",
            "hither://",
            "hither://a:0",
            "hither://a:b",
            "hither://a/Prod",
            "hither://[::1",
            "hither://a?x",
        ] {
            let refusal = text.parse::<Url>().unwrap_err();
            assert!(matches!(refusal.code, ErrorCode::InvalidArgument | ErrorCode::InvalidName), "{text}: {refusal}");
        }
    }

    #[test]
    fn an_enrolment_string_reads_back_and_never_shows_its_secret_in_debug() {
        let enrolment = Enrolment {
            endpoints: vec!["127.0.0.1:7400".parse().unwrap()],
            pin: [7; 32],
            secret: Bytes::from_static(b"\xAB\xCDsecret"),
            cluster: ClusterId([9; 16]),
            name: "reporting".to_owned(),
        };
        assert_eq!(enrolment.to_string().parse(), Ok(enrolment.clone()));
        assert!(!format!("{enrolment:?}").contains("abcd"));
        let cut = &enrolment.to_string()[..60];
        let refusal = cut.parse::<Enrolment>().unwrap_err();
        assert!(refusal.detail.contains("copy all of it"), "{refusal}");
        let elsewhere = enrolment.to_string().replace("name=reporting", "name=../../x");
        assert!(elsewhere.parse::<Enrolment>().is_err());
    }
}
