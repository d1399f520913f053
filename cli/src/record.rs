//! Entries and events as JSON objects. The field names are a promise to scripts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hither::{Entry, Event, Key, LeaseId, LeaseState, Previous, Revision};
use serde::Serialize;

/// An entry, or an event: an entry with a `type`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mod_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// Hexadecimal; null for an entry without a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Box<Self>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_forgotten: Option<bool>,
}

impl Record {
    /// An entry with its value.
    pub(crate) fn entry(entry: &Entry) -> Self {
        let mut record = Self::key_of(entry);
        match std::str::from_utf8(&entry.value) {
            Ok(text) => record.value = Some(text.to_owned()),
            Err(_) => record.value_base64 = Some(STANDARD.encode(&entry.value)),
        }
        record
    }

    /// An entry whose value was not asked for.
    pub(crate) fn key_of(entry: &Entry) -> Self {
        Self {
            create_revision: Some(entry.create_revision.0),
            mod_revision: Some(entry.mod_revision.0),
            version: Some(entry.version.0),
            lease: Some(entry.lease.map(|lease| lease.to_string())),
            ..Self::named(&entry.key)
        }
    }

    /// An event.
    pub(crate) fn event(event: &Event) -> Self {
        match event {
            Event::Put { entry, previous } => Self { kind: Some("put"), ..Self::entry(entry) }.after(previous),
            Event::Delete { key, revision, previous } => {
                Self { kind: Some("delete"), mod_revision: Some(revision.0), ..Self::named(key) }.after(previous)
            }
            Event::Liveness { lease, state, revision } => Self::liveness(*lease, *state, *revision),
        }
    }

    /// History was gone: what follows is the difference, up to this revision.
    pub(crate) fn reset(revision: Revision) -> Self {
        Self { kind: Some("reset"), mod_revision: Some(revision.0), ..Self::default() }
    }

    fn liveness(lease: LeaseId, state: LeaseState, revision: Revision) -> Self {
        Self {
            kind: Some("liveness"),
            lease: Some(Some(lease.to_string())),
            state: Some(state.as_str()),
            mod_revision: Some(revision.0),
            ..Self::default()
        }
    }

    fn named(key: &Key) -> Self {
        match std::str::from_utf8(key.as_bytes()) {
            Ok(text) => Self { key: Some(text.to_owned()), ..Self::default() },
            Err(_) => Self { key_base64: Some(STANDARD.encode(key.as_bytes())), ..Self::default() },
        }
    }

    fn after(mut self, previous: &Previous) -> Self {
        match previous {
            Previous::NotAsked | Previous::None => {}
            Previous::Entry(entry) => self.previous = Some(Box::new(Self::entry(entry))),
            Previous::Forgotten => self.previous_forgotten = Some(true),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use hither::Version;

    use super::*;

    fn entry(value: &'static [u8]) -> Entry {
        Entry {
            key: "config/a".into(),
            value: value.into(),
            create_revision: Revision(3),
            mod_revision: Revision(7),
            version: Version(2),
            lease: Some(LeaseId(0x1f4)),
        }
    }

    fn json(record: &Record) -> String {
        serde_json::to_string(record).unwrap()
    }

    #[test]
    fn an_entry_has_the_promised_fields_in_their_order() {
        assert_eq!(
            json(&Record::entry(&entry(b"on"))),
            r#"{"key":"config/a","value":"on","create_revision":3,"mod_revision":7,"version":2,"lease":"1f4"}"#
        );
    }

    #[test]
    fn a_value_that_is_not_text_is_base64() {
        let entry = Entry { lease: None, ..entry(b"\xff\x00") };
        assert_eq!(
            json(&Record::entry(&entry)),
            r#"{"key":"config/a","value_base64":"/wA=","create_revision":3,"mod_revision":7,"version":2,"lease":null}"#
        );
    }

    #[test]
    fn an_event_adds_its_type() {
        let put = Event::Put { entry: entry(b"on"), previous: Previous::NotAsked };
        assert!(json(&Record::event(&put)).starts_with(r#"{"type":"put","key":"config/a","value":"on""#));
        let delete = Event::Delete { key: "a".into(), revision: Revision(9), previous: Previous::NotAsked };
        assert_eq!(json(&Record::event(&delete)), r#"{"type":"delete","key":"a","mod_revision":9}"#);
        assert_eq!(json(&Record::reset(Revision(9))), r#"{"type":"reset","mod_revision":9}"#);
    }

    #[test]
    fn a_key_that_is_not_text_is_base64() {
        let delete = Event::Delete { key: (&b"\xff"[..]).into(), revision: Revision(9), previous: Previous::Forgotten };
        assert_eq!(
            json(&Record::event(&delete)),
            r#"{"type":"delete","key_base64":"/w==","mod_revision":9,"previous_forgotten":true}"#
        );
    }
}
