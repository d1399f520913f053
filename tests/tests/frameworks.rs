//! Where frameworks touch the registry: served, found and called by name, while instances come and go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use futures_util::StreamExt;
use hither::{Client, ErrorCode, InstanceFilter, Registered, Registration};
use hither_tests::node::Node;
use hither_tests::wait::{until, within};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::discover::Change;
use tower::{Service, ServiceExt};

/// Far more than anything here takes.
const PATIENT: Duration = Duration::from_secs(20);

/// A server that says its name, registered under it. Ends with its value.
struct Named {
    registered: Registered,
    asked: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Named {
    async fn start(client: &Client, id: &'static str, status: StatusCode) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let answer = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { (status, id) }
        };
        let app = Router::new().route("/who", any(answer));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        let registered = client.register(Registration::new("api").id(id).port(port)).await?;
        Ok(Self { registered, asked, server })
    }

    /// Its process is gone, and the registry does not know yet.
    fn kill(&self) {
        self.server.abort();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_axum_server_is_found_while_it_serves_and_leaves_in_good_order() -> anyhow::Result<()> {
    let node = Node::start().await;
    let (client, finder) = (node.client().connect().await?, node.client().connect().await?);
    let mut watch = finder.watch_service("api").await?;
    watch.next().await.expect("open")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address: SocketAddr = listener.local_addr()?;
    let (begun, finish) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (begin, finished) = (Arc::clone(&begun), Arc::clone(&finish));
    let slow = move || {
        begin.notify_one();
        let finished = Arc::clone(&finished);
        async move {
            finished.notified().await;
            "done"
        }
    };
    let app = Router::new().route("/", get(|| async { "hello" })).route("/slow", get(slow));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = hither::axum::serve(&client, Registration::new("api"), listener, app)
        .drain(Duration::from_millis(200))
        .until(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());

    let update = watch.next().await.expect("open")?;
    assert_eq!(update.added[0].url(), Some(format!("http://{address}")));
    let http = reqwest::Client::new();
    assert_eq!(http.get(format!("http://{address}/")).send().await?.text().await?, "hello");
    let slow = tokio::spawn(http.get(format!("http://{address}/slow")).send());
    within("the slow request has begun", PATIENT, begun.notified()).await;
    drop(stop);
    let update = watch.next().await.expect("open")?;
    assert_eq!(update.changed[0].status, hither::InstanceStatus::Draining, "finders are warned first");
    assert_eq!(http.get(format!("http://{address}/")).send().await?.text().await?, "hello", "and served meanwhile");
    let update = watch.next().await.expect("open")?;
    assert_eq!(update.removed.len(), 1, "then it is gone for them");
    assert!(!serving.is_finished(), "what was begun is finished");
    finish.notify_one();
    assert_eq!(within("the answer", PATIENT, slow).await??.text().await?, "done");
    within("the server ends", PATIENT, serving).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_a_service_by_name_is_tried_elsewhere_when_an_instance_fails() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let services = hither::reqwest::Services::new(&client, reqwest::Client::new()).attempts(4);
    let error = services.get("svc://api/who").await.expect_err("nobody is there");
    assert!(
        matches!(&error, hither::reqwest::Error::Service(error) if error.code() == ErrorCode::NoInstances),
        "{error}"
    );

    let good = Named::start(&client, "good", StatusCode::OK).await?;
    let dead = Named::start(&client, "dead", StatusCode::OK).await?;
    let busy = Named::start(&client, "busy", StatusCode::SERVICE_UNAVAILABLE).await?;
    client.wait_for("api", 3).await?;
    dead.kill();
    until("its port is closed", PATIENT, async || dead.server.is_finished().then_some(())).await;
    for _ in 0..50 {
        assert_eq!(services.get("svc://api/who?x=1").await?.text().await?, "good");
    }
    assert!(busy.asked.load(Ordering::SeqCst) > 0, "it was tried");

    // What must not be sent twice is sent elsewhere only if it was not sent at all.
    let (before, mut refused) = (good.asked.load(Ordering::SeqCst), 0);
    let busy_before = busy.asked.load(Ordering::SeqCst);
    for _ in 0..50 {
        let post = reqwest::Request::new(reqwest::Method::POST, "svc://api/who".parse()?);
        refused += usize::from(services.execute(post).await?.status() == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(busy.asked.load(Ordering::SeqCst) - busy_before, refused);
    assert_eq!(good.asked.load(Ordering::SeqCst) - before + refused, 50, "each was served once");
    busy.registered.update(|instance| instance.tags = vec!["busy".into()]).await?;
    client.wait_for("api", 1).filter(InstanceFilter::new().tag("busy")).await?;
    let only = services.clone().filter(InstanceFilter::new().tag("busy"));
    assert_eq!(
        only.get("svc://api/who").await?.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "the last answer, as it came"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_answered_is_asked_again_before_one_that_cannot_be_reached() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let dead = Named::start(&client, "dead", StatusCode::OK).await?;
    let busy = Named::start(&client, "busy", StatusCode::SERVICE_UNAVAILABLE).await?;
    client.wait_for("api", 2).await?;
    dead.kill();
    until("its port is closed", PATIENT, async || dead.server.is_finished().then_some(())).await;
    let services = hither::reqwest::Services::new(&client, reqwest::Client::new());
    for round in 1..=20 {
        // Three attempts: each of the two, and then the one that lives.
        assert_eq!(services.get("svc://api/who").await?.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.asked.load(Ordering::SeqCst), round * 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn towers_balancers_are_told_of_those_that_want_traffic() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let one = client.register(Registration::new("api").id("one").port(1)).await?;
    let watch = client.watch_service("api").await?;
    let mut changes = hither::tower::discover(watch, |instance| {
        let url = instance.url().unwrap_or_default();
        tower::service_fn(move |(): ()| std::future::ready(Ok::<_, Infallible>(url.clone())))
    });
    let change = within("the first", PATIENT, changes.next()).await.expect("it goes on")?;
    let Change::Insert(id, service) = change else { panic!("it is there") };
    assert_eq!((id.as_str(), service.oneshot(()).await?.as_str()), ("one", "http://127.0.0.1:1"));
    let two = client.register(Registration::new("api").id("two").port(2)).await?;
    let change = within("another", PATIENT, changes.next()).await.expect("it goes on")?;
    assert!(matches!(change, Change::Insert(id, _) if id == "two"));
    one.drain().await?;
    let change = within("it drains", PATIENT, changes.next()).await.expect("it goes on")?;
    assert!(matches!(change, Change::Remove(id) if id == "one"));
    // A change that concerns no balancer is none; one of the address is.
    two.update(|instance| instance.zone = "z".into()).await?;
    two.update(|instance| instance.endpoints[0].port = 3).await?;
    let change = within("it moves", PATIENT, changes.next()).await.expect("it goes on")?;
    let Change::Insert(_, service) = change else { panic!("it has moved") };
    assert_eq!(service.oneshot(()).await?, "http://127.0.0.1:3");
    client.close().await;
    while within("the end", PATIENT, changes.next()).await.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_goes_to_every_instance_and_on_without_those_that_leave() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let mut channel = hither::tonic::channel(&client, "api").await?;
    let early = tokio::time::timeout(Duration::from_millis(200), ask(&mut channel)).await;
    assert!(early.is_err(), "while there is no instance, calls wait");
    let one = Named::start(&client, "one", StatusCode::OK).await?;
    let two = Named::start(&client, "two", StatusCode::OK).await?;
    let asked = |named: &Named| named.asked.load(Ordering::SeqCst);
    until("both are called", PATIENT, async || {
        ask(&mut channel).await.ok()?;
        (asked(&one) > 0 && asked(&two) > 0).then_some(())
    })
    .await;
    one.registered.deregister().await?;
    until("the other is left alone", PATIENT, async || {
        let before = asked(&one);
        for _ in 0..20 {
            ask(&mut channel).await.ok()?;
        }
        (asked(&one) == before).then_some(())
    })
    .await;
    assert!(asked(&two) >= 20);
    Ok(())
}

type Call = axum::http::Request<tonic::body::Body>;

/// The channel speaks HTTP/2; what it carries is not its concern.
async fn ask(channel: &mut tonic::transport::Channel) -> anyhow::Result<()> {
    let request = Call::new(tonic::body::Body::empty());
    let (mut parts, body) = request.into_parts();
    parts.uri = "http://api/who".parse()?;
    let response = channel.ready().await?.call(Call::from_parts(parts, body)).await?;
    anyhow::ensure!(response.status() == StatusCode::OK);
    Ok(())
}
