//! The service `prices`, with axum: what an article costs depends on how many there are, which `stock` knows.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hither::Registration;
use hither::reqwest::Services;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// Short, so that whoever watches need not wait until the dead are gone.
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = hither::connect().await?;
    let services = Services::new(&client, reqwest::Client::new());
    let app = Router::new().route("/prices/{article}", get(price)).with_state(services);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut stop = signal(SignalKind::terminate())?;
    hither::axum::serve(&client, Registration::new("prices").version("1.0.0").ttl(TTL), listener, app)
        .until(async move {
            stop.recv().await;
        })
        .await?;
    client.close().await;
    Ok(())
}

async fn price(State(services): State<Services>, Path(article): Path<u32>) -> Result<Json<Value>, StatusCode> {
    let stock = ask(&services, article).await.map_err(|error| {
        eprintln!("prices: stock does not answer: {error}");
        // Whoever asks may ask another instance.
        StatusCode::SERVICE_UNAVAILABLE
    })?;
    let level = stock["level"].as_u64().unwrap_or_default();
    Ok(Json(json!({ "article": article, "price": 100 + 1_000 / (level + 1), "stock": stock, "by": "rust" })))
}

async fn ask(services: &Services, article: u32) -> anyhow::Result<Value> {
    let response = services.get(&format!("svc://stock/stock/{article}")).await?.error_for_status()?;
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}
