//! The admin port: health and metrics over plain HTTP, on loopback.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hither_protocol::message::Consistency;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::telemetry::Telemetry;

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) engine: Engine,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) draining: watch::Receiver<bool>,
}

pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages)
        .layer(middleware::from_fn(named_as_loopback))
}

/// The process lives.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The node can serve: it answers a read that a majority stands behind, and is not going down.
async fn readyz(State(pages): State<Pages>) -> Response {
    if *pages.draining.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "going down\n").into_response();
    }
    match pages.engine.barrier(Consistency::Linearizable).await {
        Ok(_) => "ok\n".into_response(),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response(),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.telemetry.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Refuses requests that name another host: a page in a browser on this machine must not read the port by way of a name
/// that it had pointed here.
async fn named_as_loopback(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_none_or(is_loopback) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this port answers to loopback names only\n").into_response()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_to() {
        for ours in ["localhost", "localhost:7402", "127.0.0.1:7402", "[::1]:7402", "[::1]"] {
            assert!(is_loopback(ours), "{ours}");
        }
        for other in ["evil.example", "evil.example:7402", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
