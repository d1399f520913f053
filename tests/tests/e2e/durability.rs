//! What was acknowledged is there, and no revision is given out twice, after any number of `kill -9` under load.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hither::{Applied, Client, KeyRange};
use hither_tests::node::Node;
use hither_tests::wait::until;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::watcher::{PATIENT, Written, promptly};

const WRITERS: usize = 32;
const KILLS: u64 = 3;
/// Acknowledged writes between two kills.
const BETWEEN: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_no_acknowledged_write_and_reuses_no_revision() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let client = node.client().request_timeout(PATIENT).connect().await?;
    let load = Arc::new(Load::default());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), writer, load.clone()));
    }
    for kill in 1..=KILLS {
        until("the load goes on", PATIENT, async || {
            (load.acknowledged.load(Ordering::Relaxed) >= kill * BETWEEN).then_some(())
        })
        .await;
        node.kill().await;
        node.restart().await;
    }
    load.stop.store(true, Ordering::Relaxed);
    while let Some(writer) = promptly("writers end", writers.join_next()).await {
        writer??;
    }

    // A client of its own: nothing it reads comes from what the other knows.
    let reader = node.client().connect().await?;
    let entries = reader.range(KeyRange::prefix("d/")).await?.entries;
    let written = std::mem::take(&mut *load.written.lock().await);
    let mut newest = HashMap::new();
    for (revision, writes) in &written.0 {
        for (key, value) in writes {
            newest.insert(key.clone(), (*revision, value.clone()));
        }
    }
    assert_eq!(entries.len(), newest.len(), "as many keys as were written");
    for entry in entries {
        let key = String::from_utf8(entry.key.as_bytes().to_vec())?;
        let (revision, value) = &newest[&key];
        assert_eq!(entry.mod_revision.0, *revision, "the last acknowledged write of {key} is the one that is there");
        assert_eq!(Some(String::from_utf8(entry.value.to_vec())?), *value, "{key}");
    }
    let after = reader.put("d/after", "").await?.revision;
    assert!(after > written.last(), "revision {after} was given out before");
    assert!(client.metrics().reconnects >= KILLS, "{:?}", client.metrics());
    Ok(())
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    written: Mutex<Written>,
}

/// Writes its own keys in turn, one at a time, so that the last write of each is known.
async fn write(client: Client, writer: usize, load: Arc<Load>) -> anyhow::Result<()> {
    for round in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("d/{writer}/{}", round % 5), round.to_string());
        match client.put(key.as_str(), value.as_str()).await {
            Ok(reply) => {
                load.written.lock().await.add(reply.revision, vec![(key, Some(value))]);
                load.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // The session bridges a restart, so nothing needs to stay unknown.
            Err(error) => anyhow::ensure!(error.applied() == Applied::No && error.is_retryable(), "{key}: {error}"),
        }
    }
    Ok(())
}

/// A power cut would lose what the disk has not: this one is of the process, at every moment of a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_it_starts_still_has_everything() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let client = node.client().request_timeout(PATIENT).connect().await?;
    for round in 0..3 {
        let revision = client.put("d/round", round.to_string()).await?.revision;
        node.kill().await;
        node.restart_and_kill().await;
        node.restart().await;
        let entry = client.get("d/round").await?.expect("it was acknowledged");
        assert_eq!((entry.mod_revision, &entry.value[..]), (revision, round.to_string().as_bytes()));
    }
    Ok(())
}
