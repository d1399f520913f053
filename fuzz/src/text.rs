//! What people and files hand to a client: URLs, enrolment strings, the records of services. None may panic, and what
//! is read means the same once it was shown.

use hither_client_core::{Enrolment, Instance, ServiceEndpoint, Url};

/// A name, which is that of the program in `fuzz_targets` and of the folder in `corpus`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// The targets.
pub const TARGETS: &[Target] = &[("url", url), ("enrolment", enrolment), ("instance", instance)];

/// A URL of a cluster, or an endpoint of a service.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(url) = text.parse::<Url>() {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    if let Ok(endpoint) = text.parse::<ServiceEndpoint>() {
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
}

/// An enrolment string, whose secret no error may show.
pub fn enrolment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Enrolment>() {
        Ok(enrolment) => assert_eq!(enrolment.to_string().parse(), Ok(enrolment)),
        Err(refusal) => {
            let secret = text.split_once("secret=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest));
            assert!(secret.is_none_or(|secret| secret.len() < 8 || !refusal.detail.contains(secret)), "{refusal}");
        }
    }
}

/// The record of a service.
pub fn instance(data: &[u8]) {
    let Ok(instance) = Instance::from_json(data) else { return };
    assert_eq!(Instance::from_json(instance.to_json().as_bytes()), Ok(instance));
}
