use std::net::SocketAddr;

use hither_protocol::KeyRange;
use hither_protocol::message::Start;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, within};

/// Status and body of a page of the admin port.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    get_as(address, path, "localhost").await
}

async fn get_as(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(address, &request).await.expect("an answer")
}

/// None: the port ends the connection without an answer.
async fn ask(address: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // The port may have enough of it before all of it is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    // What came before a reset is an answer.
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Some((status, body.to_owned()))
}

#[tokio::test]
async fn a_node_that_serves_says_it_is_healthy_and_ready() {
    let server = Server::start().await;
    let address = server.node.admin_addr().expect("listens");
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/elsewhere").await.0, 404);
    assert_eq!(get_as(address, "/metrics", "evil.example").await.0, 421);
}

#[tokio::test]
async fn what_nobody_should_ask_the_admin_port_is_refused_and_it_goes_on() {
    let server = Server::start().await;
    let address = server.node.admin_addr().expect("listens");
    let head = "Host: localhost\r\nConnection: close\r\n";
    // Bodies that never come: no page reads one.
    let endless = "Content-Length: 10737418240\r\n\r\nx";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n7fffffff\r\nx";
    for (request, status) in [
        (format!("TRACE /metrics HTTP/1.1\r\n{head}\r\n"), 405),
        (format!("DELETE /metrics HTTP/1.1\r\n{head}\r\n"), 405),
        (format!("POST /healthz HTTP/1.1\r\n{head}{endless}"), 405),
        (format!("POST /healthz HTTP/1.1\r\n{head}{chunked}"), 405),
        (format!("GET /healthz/../../etc/passwd HTTP/1.1\r\n{head}\r\n"), 404),
        ("GET /healthz HTTP/1.1\r\nHost: evil\r\nX-Forwarded-Host: localhost\r\nConnection: close\r\n\r\n".into(), 421),
        ("nonsense\r\n\r\n".into(), 400),
    ] {
        let answer = ask(address, &request).await;
        assert_eq!(answer.map(|(status, _)| status), Some(status), "{request}");
    }
    // The end of the connection may be quicker than the answer.
    let large = format!("GET /healthz HTTP/1.1\r\n{head}X-Large: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(matches!(ask(address, &large).await, None | Some((431, _))), "a header of 1 MiB was taken");
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn what_clients_do_is_counted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_stream, _) = client.watch(1, KeyRange::All, Start::Now).await;
    client.put("a", "1").await;
    client.get("a").await;
    client.get("b").await;
    let (_, text) = get(server.node.admin_addr().expect("listens"), "/metrics").await;
    for line in [
        "hither_requests_total{op=\"Put\",code=\"Ok\",agent=\"test/1\"} 1",
        "hither_requests_total{op=\"Get\",code=\"Ok\",agent=\"test/1\"} 2",
        "hither_client_requests_total{client=\"admin\"} 3",
        "hither_client_watches{client=\"admin\"} 1",
        "hither_connections 1",
        "hither_handshakes 0",
        "hither_handshakes_refused_total 0",
        "hither_leader 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for name in
        ["hither_log_sync_seconds_bucket", "hither_watch_lag_revisions", "hither_leases", "hither_proposals_waiting"]
    {
        assert!(text.contains(name), "{name}");
    }
    drop(client);
    within("the watch is counted no more", async {
        loop {
            let (_, text) = get(server.node.admin_addr().expect("listens"), "/metrics").await;
            if text.contains("hither_client_watches{client=\"admin\"} 0") && text.contains("hither_connections 0") {
                break;
            }
        }
    })
    .await;
}
