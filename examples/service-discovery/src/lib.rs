//! What the programs of the example share: how a record is shown.

use hither::{Instance, ServiceEndpoint};

/// The endpoints of a service record, whoever wrote it; a value that is no record is shown as it is.
///
/// ```
/// use hither_example_service_discovery::endpoints;
///
/// assert_eq!(endpoints(b"192.168.1.10:8080"), "192.168.1.10:8080");
/// ```
#[must_use]
pub fn endpoints(value: &[u8]) -> String {
    match Instance::from_json(value) {
        Ok(instance) => instance.endpoints.iter().map(show).collect::<Vec<_>>().join(", "),
        Err(_) => String::from_utf8_lossy(value).into_owned(),
    }
}

/// `tcp` is what an endpoint without a scheme gets, so it is left out again.
fn show(endpoint: &ServiceEndpoint) -> String {
    let text = endpoint.to_string();
    text.strip_prefix("tcp://").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(texts: &[&str]) -> String {
        let mut instance = Instance::new("api", "n1");
        instance.endpoints = texts.iter().map(|text| text.parse().unwrap()).collect();
        instance.to_json()
    }

    #[test]
    fn an_endpoint_is_shown_as_it_was_given() {
        for text in ["192.168.1.10:8080", "[::1]:80", "grpc://db:9000"] {
            assert_eq!(endpoints(record(&[text]).as_bytes()), text);
        }
        assert_eq!(endpoints(record(&["a:1", "http://a:2"]).as_bytes()), "a:1, http://a:2");
    }

    #[test]
    fn what_is_no_record_is_shown_as_it_is() {
        assert_eq!(endpoints(b"10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(endpoints(b"{}"), "{}");
    }
}
