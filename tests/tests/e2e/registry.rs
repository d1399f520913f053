//! Services find each other, whatever happens to them, to the network and to the server.

use std::time::Duration;

use hither::{ErrorCode, Pick, Registration, ViewState};
use hither_tests::node::Node;
use hither_tests::wait::until;

use crate::watcher::PATIENT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_is_found_picked_and_told_of_and_who_leaves_is_gone() -> anyhow::Result<()> {
    let node = Node::start().await;
    let finder = node.client().connect().await?;
    let mut watch = finder.watch_service("api").await?;
    let first = watch.next().await.expect("open")?;
    assert!(first.view.is_empty() && first.view.state == ViewState::Synced, "{first:?}");
    let error = finder.pick("api", &Pick::round_robin()).expect_err("nobody is there");
    assert_eq!(error.code(), ErrorCode::NoInstances);
    assert_eq!(error.no_instances().map(|none| (none.known, none.suspect)), Some((0, 0)));

    let service = node.client().connect().await?;
    let registered = service.register(Registration::new("api").port(8080).tag("blue")).await?;
    let second = watch.next().await.expect("open")?;
    assert_eq!((second.added.len(), second.view.len()), (1, 1));
    assert!(second.view.revision > first.view.revision);
    let picked = finder.pick("api", &Pick::random())?;
    assert_eq!((picked.url().as_deref(), picked.epoch), (Some("http://127.0.0.1:8080"), registered.epoch()));
    assert_eq!(finder.discover("api").await?.len(), 1);
    assert_eq!(service.discover("api").await?.len(), 1, "what a client registered itself it finds");

    assert!(registered.deregister().await?);
    let third = watch.next().await.expect("open")?;
    assert_eq!((third.removed.len(), third.view.len()), (1, 0));
    until("the view is confirmed again and again", PATIENT, async || {
        (finder.view("api")?.age() < Duration::from_secs(2)).then_some(())
    })
    .await;
    Ok(())
}
