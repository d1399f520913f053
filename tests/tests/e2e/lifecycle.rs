//! The process: one per directory, of a version that can read it, quick to stop, and nothing left behind.

use std::path::PathBuf;
use std::process::Output;

use hither_tests::node::{FREE, Home, Node};
use rustix::process::Signal;

use crate::watcher::PATIENT;

/// Exit codes, as the command line documents them.
const HELD: i32 = 75;
const NEWER: i32 = 76;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_a_directory_is_told_who_holds_it() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let second = node.home().dev(FREE, FREE).output()?;
    refused_in_one_sentence(&second, HELD, &node.id().to_string());
    client.put("p/a", "1").await?;
    assert_eq!(client.metrics().reconnects, 0, "the second process disturbed the first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_a_port_is_told_who_holds_it() -> anyhow::Result<()> {
    let node = Node::start().await;
    let second = Home::new().dev(node.addr(), FREE).output()?;
    refused_in_one_sentence(&second, HELD, &node.id().to_string());
    let second = Home::new().dev(FREE, node.admin()).output()?;
    refused_in_one_sentence(&second, HELD, &node.id().to_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_a_newer_format_is_refused_and_left_alone() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    node.client().connect().await?.put("p/a", "1").await?;
    assert!(node.terminate().await.success());
    let home = node.into_home();
    let mark = home.data().join("IDENT");
    let newer = std::fs::read_to_string(&mark)?.replacen("hither-data 1", "hither-data 2", 1);
    std::fs::write(&mark, &newer)?;
    let before = files(&home)?;
    let refused = home.dev(FREE, FREE).output()?;
    refused_in_one_sentence(&refused, NEWER, "format 2");
    assert_eq!(files(&home)?, before, "it was touched");
    Ok(())
}

/// The files of the data with their lengths, in order.
fn files(home: &Home) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let (mut folders, mut found) = (vec![home.data()], Vec::new());
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder)? {
            let file = file?;
            if file.file_type()?.is_dir() {
                folders.push(file.path());
            } else {
                found.push((file.path(), file.metadata()?.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_stop_finishes_and_stops() -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start().await;
        let client = node.client().connect().await?;
        let revision = client.put("p/a", "1").await?.revision;
        node.process().signal(signal);
        let status = node.process().end(PATIENT).await;
        assert!(status.success(), "{signal:?}: {status}\n{}", node.log());
        node.restart().await;
        let entry = node.client().connect().await?.get("p/a").await?.expect("it was acknowledged");
        assert_eq!(entry.mod_revision, revision);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_files_are_for_their_owner_only() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let node = Node::start().await;
    let mut folders = vec![node.home().data(), node.home().config()];
    let mut keys = 0;
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder)? {
            let path = file?.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path)?.windows(11).any(|bytes| bytes == b"PRIVATE KEY") {
                keys += 1;
                let mode = path.metadata()?.permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{} has mode {mode:o}", path.display());
            }
        }
    }
    assert!(keys >= 2, "a CA's or a server's key, and the user's");
    Ok(())
}

fn refused_in_one_sentence(output: &Output, code: i32, word: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    // The log's lines begin with a time.
    let sentences = said.lines().filter(|line| line.starts_with("hither: ")).count();
    assert_eq!(sentences, 1, "one sentence:\n{said}");
    assert!(said.contains(word), "{word} is not in: {said}");
}
