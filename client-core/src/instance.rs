//! The record of a service instance: JSON at `services/{service}/{id}`, so that any tool can read it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hither_protocol::{ErrorCode, Key, KeyRange, Refusal, Revision};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The schema that this version writes.
pub const SCHEMA: u32 = 1;

/// A service is a DNS label, so that it can be a host name as it is.
const SERVICE_BYTES_MAX: usize = 63;
/// Room for `host-pod-process`.
const ID_BYTES_MAX: usize = 255;
const ENDPOINTS_MAX: usize = 64;
const TAGS_MAX: usize = 64;
/// Tags, zones, regions, schemes, and the names of metadata: words to select by.
const WORD_BYTES_MAX: usize = 63;
const METADATA_MAX: usize = 64;
const METADATA_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Every finder keeps every record in memory, and each change of one travels to all of them.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// An instance of a service, as it stands in the registry. Fields that this version does not know are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// The version of this record: 1.
    pub schema: u32,
    /// The service.
    pub service: String,
    /// The instance, unique in its service.
    pub id: String,
    /// Where it listens.
    #[serde(default)]
    pub endpoints: Vec<ServiceEndpoint>,
    /// The version of the service's software.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Words to select it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Anything else about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Where it runs, within the region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Its share of the load, relative to the others'; 0 takes none.
    #[serde(default = "weight_default")]
    pub weight: u32,
    /// What it says of itself.
    #[serde(default)]
    pub status: Status,
    /// When it started: UTC, RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub started_at: String,
    /// Which registration under this id it is: the revision that created its key. Another registration under the same
    /// id has a larger one. Zero for a record that is not in the registry; no part of the record.
    #[serde(skip)]
    pub epoch: Revision,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// How an instance is: what it says of itself, but for [`Suspect`](Self::Suspect).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It works.
    #[default]
    Passing,
    /// It works, but something is wrong.
    Warning,
    /// It does not work.
    Critical,
    /// It finishes what it has and wants nothing new.
    Draining,
    /// It was taken out by hand.
    Maintenance,
    /// Its process has not been heard of for a second or more. The registry says so; no record does.
    Suspect,
    /// A word of a newer version.
    #[serde(untagged)]
    Other(String),
}

impl Status {
    /// The word for it, as it stands in records.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Suspect => "suspect",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for Status {
    fn from(word: &str) -> Self {
        match word {
            "passing" => Self::Passing,
            "warning" => Self::Warning,
            "critical" => Self::Critical,
            "draining" => Self::Draining,
            "maintenance" => Self::Maintenance,
            "suspect" => Self::Suspect,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an instance listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceEndpoint {
    /// What it speaks there: `tcp`, `http`, `grpc`.
    pub scheme: String,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

const fn weight_default() -> u32 {
    1
}

impl Instance {
    /// An instance with nothing but its names.
    #[must_use]
    pub fn new(service: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            service: service.into(),
            id: id.into(),
            endpoints: Vec::new(),
            version: String::new(),
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            zone: String::new(),
            region: String::new(),
            weight: weight_default(),
            status: Status::default(),
            started_at: String::new(),
            epoch: Revision::ZERO,
            unknown: Map::new(),
        }
    }

    /// The key of its record.
    #[must_use]
    pub fn key(&self) -> Key {
        Self::key_of(&self.service, &self.id)
    }

    /// The key of an instance's record.
    #[must_use]
    pub fn key_of(service: &str, id: &str) -> Key {
        format!("services/{service}/{id}").into()
    }

    /// The URL of its first endpoint: `http://10.0.0.5:8080`. An endpoint without a scheme of its own is asked over
    /// `http`. None if it listens nowhere.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.endpoints.first().map(ServiceEndpoint::url)
    }

    /// The URLs of all its endpoints.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.endpoints.iter().map(ServiceEndpoint::url).collect()
    }

    /// The key of what a stopped instance leaves behind.
    #[must_use]
    pub fn tombstone_of(service: &str, id: &str) -> Key {
        format!("stopped/{service}/{id}").into()
    }

    /// The keys of all instances of a service.
    #[must_use]
    pub fn range_of(service: &str) -> KeyRange {
        KeyRange::prefix(format!("services/{service}/"))
    }

    /// Reads a record and checks it.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no record of a schema that this version can read, `InvalidName` for names that
    /// may not be.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        let instance: Self =
            serde_json::from_slice(bytes).map_err(|error| invalid(format!("this is no service record: {error}")))?;
        instance.check_fields()?;
        check_size(bytes.len())?;
        Ok(instance)
    }

    /// The record.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every field is a string, a number or a map with string keys: nothing that JSON cannot say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the record may be stored.
    ///
    /// # Errors
    /// `InvalidName` for the service or id, `InvalidArgument` for anything else; the detail names the field.
    pub fn check(&self) -> Result<(), Refusal> {
        self.check_fields()?;
        check_size(self.to_json().len())
    }

    fn check_fields(&self) -> Result<(), Refusal> {
        if self.schema == 0 {
            return Err(invalid("schema must be 1"));
        }
        check_service(&self.service)?;
        check_id(&self.id)?;
        at_most("endpoints", self.endpoints.len(), ENDPOINTS_MAX)?;
        at_most("tags", self.tags.len(), TAGS_MAX)?;
        at_most("metadata", self.metadata.len(), METADATA_MAX)?;
        self.endpoints.iter().try_for_each(ServiceEndpoint::check)?;
        self.tags.iter().try_for_each(|tag| check_word("tags", tag))?;
        for (field, text) in [("zone", &self.zone), ("region", &self.region), ("version", &self.version)] {
            if !text.is_empty() {
                check_word(field, text)?;
            }
        }
        for (name, value) in &self.metadata {
            check_word("metadata", name)?;
            if value.len() > METADATA_VALUE_BYTES_MAX {
                let limit = METADATA_VALUE_BYTES_MAX;
                return Err(invalid(format!("metadata {name}: {} bytes, the limit is {limit}", value.len())));
            }
        }
        if self.status == Status::Suspect {
            return Err(invalid(
                "status: suspect is what the registry says of an instance, not the instance of itself",
            ));
        }
        Ok(())
    }
}

impl ServiceEndpoint {
    /// `scheme://host:port`; `http` for one that was given without a scheme, which is recorded as `tcp`.
    #[must_use]
    pub fn url(&self) -> String {
        let shown = self.to_string();
        shown.strip_prefix("tcp://").map(|address| format!("http://{address}")).unwrap_or(shown)
    }

    /// Whether it may be stored.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<(), Refusal> {
        let shown = self.to_string();
        if self.port == 0 {
            return Err(invalid(format!("endpoint {shown}: port 0 is nobody's")));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
        if self.scheme.is_empty() || !self.scheme.bytes().all(plain) {
            return Err(invalid(format!("endpoint {shown}: the scheme is a word such as tcp, http, grpc")));
        }
        // However it is written: `0:0::0` is the same address as `::`.
        let unspecified = self.host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_unspecified());
        if self.host.is_empty() || self.host == "*" || unspecified {
            return Err(invalid(format!("endpoint {shown}: name an address that others can reach")));
        }
        // `%` begins a zone, which is the name of an interface of one machine.
        let wrong = |byte: u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || matches!(byte, b'/' | b'%');
        if self.host.bytes().any(wrong) {
            return Err(invalid(format!("endpoint {shown}: the host has a character that it may not")));
        }
        Ok(())
    }
}

impl fmt::Display for ServiceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// `scheme://host:port`, or `host:port` for `tcp`.
impl FromStr for ServiceEndpoint {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = || invalid(format!("{text:?} is no endpoint: write scheme://host:port or host:port"));
        let (scheme, address) = text.split_once("://").unwrap_or(("tcp", text));
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().map_err(|_| wrong())?;
        let endpoint = Self { scheme: scheme.to_owned(), host: host.to_owned(), port };
        endpoint.check()?;
        Ok(endpoint)
    }
}

/// Whether a service may have this name: a DNS label in lower case.
///
/// # Errors
/// `InvalidName`.
pub fn check_service(name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !name.starts_with('-') && !name.ends_with('-');
    if edges && (1..=SERVICE_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let detail = format!(
        "service {name:?}: must be a DNS label, 1 to {SERVICE_BYTES_MAX} of a-z 0-9 - that begin and end with a letter or digit"
    );
    Err(Refusal::new(ErrorCode::InvalidName, detail))
}

fn check_id(id: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'@');
    let edge = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if edge && id.len() <= ID_BYTES_MAX && id.bytes().all(plain) {
        return Ok(());
    }
    let detail =
        format!("id {id:?}: must be 1 to {ID_BYTES_MAX} of A-Z a-z 0-9 . _ - : @ and begin with a letter or digit");
    Err(Refusal::new(ErrorCode::InvalidName, detail))
}

fn check_word(field: &str, word: &str) -> Result<(), Refusal> {
    let wrong = word.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    if wrong || !(1..=WORD_BYTES_MAX).contains(&word.len()) {
        let detail = format!("{field} {word:?}: must be 1 to {WORD_BYTES_MAX} bytes without spaces");
        return Err(invalid(detail));
    }
    Ok(())
}

fn check_size(bytes: usize) -> Result<(), Refusal> {
    if bytes <= RECORD_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("the record has {bytes} bytes, the limit is {RECORD_BYTES_MAX}");
    Err(Refusal::new(ErrorCode::ValueTooLarge, detail))
}

fn at_most(field: &str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count > limit { Err(invalid(format!("{field}: {count}, the limit is {limit}"))) } else { Ok(()) }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_what_a_newer_version_wrote() {
        let json = r#"{"schema":1,"service":"api","id":"n1","endpoints":[{"scheme":"tcp","host":"::1","port":80}],"weight":3,"status":"hibernating","colour":{"of":"day"}}"#;
        let instance = Instance::from_json(json.as_bytes()).expect("a record");
        assert_eq!(instance.weight, 3);
        assert_eq!(instance.status, Status::Other("hibernating".to_owned()));
        assert_eq!(instance.endpoints[0].to_string(), "tcp://[::1]:80");
        let again: Value = serde_json::from_str(&instance.to_json()).unwrap();
        assert_eq!(again["colour"]["of"], "day");
        assert_eq!(again["status"], "hibernating");
        assert_eq!(instance.key(), Key::from("services/api/n1"));
    }

    #[test]
    fn a_wrong_record_is_refused_with_the_field_named() {
        let named = |instance: &Instance| instance.check().map_err(|refusal| refusal.detail).unwrap_err();
        assert!(named(&Instance::new("a/b", "1")).starts_with("service"));
        assert!(named(&Instance::new("a", "")).starts_with("id"));
        let mut instance = Instance::new("a", "1");
        instance.endpoints = vec![ServiceEndpoint { scheme: "tcp".into(), host: "0.0.0.0".into(), port: 1 }];
        assert!(named(&instance).contains("0.0.0.0"));
        for (change, field) in [
            (set(|of| of.tags = vec!["two words".into()]), "tags"),
            (set(|of| of.tags = vec!["bell\u{7}".into()]), "tags"),
            (set(|of| of.tags = (0..65).map(|n| n.to_string()).collect()), "tags: 65"),
            (set(|of| of.metadata = [("k\0".to_owned(), String::new())].into()), "metadata"),
            (set(|of| of.metadata = (0..17).map(|n| (n.to_string(), "v".repeat(4_000))).collect()), "the record"),
            (set(|of| of.zone = "z".repeat(64)), "zone"),
            (set(|of| of.metadata = [("k".to_owned(), "v".repeat(4_097))].into()), "metadata k"),
            (set(|of| of.metadata = (0..65).map(|n| (n.to_string(), String::new())).collect()), "metadata: 65"),
            (set(|of| of.status = Status::Suspect), "status"),
        ] {
            assert!(named(&change).starts_with(field), "{}", named(&change));
        }
        assert!(Instance::from_json(b"{}").is_err());
        let twice = br#"{"schema":1,"service":"a","id":"1","metadata":{"k":"v","k":"w"}}"#;
        assert_eq!(Instance::from_json(twice).expect("a record").metadata, [("k".to_owned(), "w".to_owned())].into());
        assert!(Instance::from_json(b"\xff").is_err());
    }

    fn set(change: impl FnOnce(&mut Instance)) -> Instance {
        let mut instance = Instance::new("a", "1");
        change(&mut instance);
        instance
    }

    #[test]
    fn a_service_can_be_a_host_name_as_it_is() {
        for name in ["a", "api", "api-gateway", "4711", &"x".repeat(63)] {
            assert_eq!(check_service(name), Ok(()), "{name}");
        }
        for name in ["", "-a", "a-", "API", "a.b", "a_b", "ä", "a b", &"x".repeat(64)] {
            assert_eq!(check_service(name).map_err(|refusal| refusal.code), Err(ErrorCode::InvalidName), "{name}");
        }
    }

    #[test]
    fn an_instance_is_asked_at_its_url() {
        let instance =
            set(|of| of.endpoints = ["1.2.3.4:80", "grpc://[::1]:9"].map(|text| text.parse().unwrap()).into());
        assert_eq!(instance.url().as_deref(), Some("http://1.2.3.4:80"));
        assert_eq!(instance.urls(), ["http://1.2.3.4:80", "grpc://[::1]:9"]);
        assert_eq!(Instance::new("a", "1").url(), None);
    }

    #[test]
    fn an_endpoint_reads_back_what_it_shows() {
        for text in ["tcp://1.2.3.4:80", "grpc://[::1]:9000", "http://db.internal:8080"] {
            assert_eq!(text.parse::<ServiceEndpoint>().map(|endpoint| endpoint.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("1.2.3.4:80".parse::<ServiceEndpoint>().unwrap().scheme, "tcp");
        for text in [
            "",
            "80",
            "tcp://a",
            "tcp://a:0",
            "tcp://a:70000",
            "tcp://0.0.0.0:1",
            "[::]:80",
            "[0:0::0]:80",
            "[::ffff:0.0.0.0]:1",
            "[fe80::1%eth0]:80",
            "::1:80",
            "a b:1",
        ] {
            assert!(text.parse::<ServiceEndpoint>().is_err(), "{text}");
        }
    }
}
