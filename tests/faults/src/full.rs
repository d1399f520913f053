//! A disk that is full: a small file system of its own, and a file that takes all its room.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hither::{Applied, ErrorCode, Event, KeyRange, Start};
use hither_tests::node::{Home, Node};
use hither_tests::wait::{until, within};

/// The size of the file system.
const DISK_BYTES: u64 = 512 << 20;
/// What the node is told to keep free; its default is as large as this disk.
const RESERVE: &str = "96MiB";
const PATIENT: Duration = Duration::from_secs(60);
/// How soon puts are refused once there is no room, and taken again once there is.
const NOTICED: Duration = Duration::from_secs(10);
/// Says that a machine without loop devices is no failure: the disk is then one in memory, which outlives no process.
const WITHOUT_LOOP: &str = "HITHER_TEST_WITHOUT_LOOP";

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// From the disk being full to the first put that was refused.
    pub refused_after: Duration,
    /// How long it was full.
    pub full_for: Duration,
    /// Deletes, renewals and reads that were served meanwhile.
    pub served: usize,
    /// From room being made to the first put that was taken.
    pub healed_after: Duration,
    /// Whether the node was killed and started again on the full disk.
    pub restarted: bool,
}

/// The disk of one home.
#[derive(Debug)]
struct SmallDisk {
    /// Whether what is on it outlives the process.
    is_lasting: bool,
}

impl SmallDisk {
    /// The node of this home is started in a mount namespace of its own, where its data directory is a small disk.
    /// Nothing has to be unmounted: the disk goes with the last process in the namespace.
    fn under(home: &mut Home) -> anyhow::Result<Self> {
        let image = home.file("disk");
        File::create(&image)?.set_len(DISK_BYTES)?;
        let formatted = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).output();
        let formatted = formatted.is_ok_and(|made| made.status.success());
        fs::create_dir(home.data())?;
        let mount = format!("mount -o loop '{}' '{}'", image.display(), home.data().display());
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", &mount]).output();
        let is_possible = formatted && tried.as_ref().is_ok_and(|tried| tried.status.success());
        let (unshare, mount): (&[&str], _) = if is_possible {
            (&["unshare", "--mount"], mount)
        } else {
            let why = tried.map(|tried| String::from_utf8_lossy(&tried.stderr).into_owned()).unwrap_or_default();
            ensure!(
                std::env::var_os(WITHOUT_LOOP).is_some(),
                "this test needs root, mkfs.ext4 and a loop device, and has not all of them ({}); with {WITHOUT_LOOP}=1 \
                 it takes a file system in memory instead, and leaves out the restart on a full disk",
                why.trim()
            );
            eprintln!("no loop device here ({}): the disk is in memory, and no restart is tried", why.trim());
            let data = home.data();
            let tmpfs = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs '{}'", data.display());
            (&["unshare", "--mount", "--map-root-user"], tmpfs)
        };
        let script = format!("{mount} && chmod 700 '{}' && exec \"$@\"", home.data().display());
        let command: Vec<&str> = unshare.iter().copied().chain(["sh", "-c", &script, "sh"]).collect();
        home.start_under(&command);
        home.set("HITHER_STATE_DISK_RESERVE", RESERVE);
        Ok(Self { is_lasting: is_possible })
    }
}

/// A name on the small disk, as it is seen from here.
fn on_disk(node: &Node, name: &str) -> PathBuf {
    let data = node.home().data();
    PathBuf::from(format!("/proc/{}/root{}", node.id(), data.join(name).display()))
}

/// Takes every byte that there is.
fn fill(node: &Node) -> anyhow::Result<()> {
    let filler = File::options().create(true).append(true).open(on_disk(node, "filler"))?;
    let mut at = filler.metadata()?.len();
    for block in [1 << 20, 4 << 10] {
        let zeros = vec![0; block];
        while let Ok(written) = filler.write_at(&zeros, at) {
            at += written as u64;
        }
    }
    Ok(())
}

/// Fills the disk under a node, keeps it full for `full_for`, and makes room again.
///
/// # Errors
/// The promise that did not hold.
pub async fn run(full_for: Duration) -> anyhow::Result<Figures> {
    let mut home = Home::new();
    let disk = SmallDisk::under(&mut home)?;
    let mut node = Node::start_in(home, &[]).await;
    let client = node.client().request_timeout(PATIENT).connect().await?;
    for number in 0..200 {
        client.put(format!("full/{number}"), "x".repeat(1000)).await?;
    }
    client.put("full/newcomer", "").await?;
    let kept = client.lease(Duration::from_secs(15)).await?;
    client.put("full/kept", "").lease(kept.id()).await?;
    let renewed = client.lease_grant(Duration::from_secs(60)).await?.lease;
    client.put("full/renewed", "").lease(renewed).await?;
    let mut watch = client.watch(KeyRange::prefix("full/")).start(Start::Now).await?;

    let mut figures = Figures::default();
    fill(&node)?;
    let full = Instant::now();
    let mut puts = 0;
    loop {
        match client.put("full/more", puts.to_string()).await {
            Ok(_) => puts += 1,
            Err(error) => {
                let told = (error.code(), error.applied());
                ensure!(told == (ErrorCode::NoSpace, Applied::No), "a put on a full disk: {error}");
                break;
            }
        }
        ensure!(full.elapsed() < NOTICED, "puts are taken on a full disk: {puts} of them");
    }
    figures.refused_after = full.elapsed();

    // Who comes only now has no session yet, and may delete as well.
    let newcomer = node.client().request_timeout(PATIENT).connect().await?;
    let gone = newcomer.delete("full/newcomer").await.context("a newcomer's delete on a full disk")?;
    ensure!(gone.deleted == 1, "full/newcomer was not there");
    let refused = newcomer.put("full/newcomer", "").await.err().map(|error| error.code());
    ensure!(refused == Some(ErrorCode::NoSpace), "a newcomer's put on a full disk: {refused:?}");

    // Everything else goes on, for as long as it takes.
    let mut deleted = 0;
    while full.elapsed() < full_for || deleted == 0 {
        let what = |call: &str| format!("a {call} after {:?} on a full disk", full.elapsed());
        ensure!(node.process().ended().is_none(), "{}: the process ended:\n{}", what("look"), node.log());
        let key = format!("full/{}", deleted % 200);
        if deleted < 200 {
            let gone = client.delete(key.as_str()).await.with_context(|| what("delete"))?;
            ensure!(gone.deleted == 1, "{key} was not there");
            let is_it =
                |event: &Event| matches!(event, Event::Delete { key: gone, .. } if *gone == key.as_str().into());
            // Before it come the puts that were taken before it was noticed that there is no room.
            loop {
                let update = within("a watch goes on", PATIENT, watch.next()).await.context("the watch ended")??;
                if update.events.iter().any(is_it) {
                    break;
                }
            }
        } else {
            client.delete(key.as_str()).await.with_context(|| what("delete of nothing"))?;
        }
        client.lease_renew(renewed).await.with_context(|| what("renewal"))?;
        ensure!(client.get("full/renewed").await.with_context(|| what("read"))?.is_some(), "a key is gone");
        let refused = client.put("full/more", "").await.err().map(|error| error.code());
        ensure!(refused == Some(ErrorCode::NoSpace), "{}: {refused:?}", what("put"));
        deleted += 1;
        figures.served += 3;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(!kept.is_lost() && client.get("full/kept").await?.is_some(), "a lease that was kept ended");
    if disk.is_lasting {
        node.kill().await;
        node.restart().await;
        ensure!(client.get("full/renewed").await?.is_some(), "a key is gone after a restart on a full disk");
        let gone = client.delete("full/renewed").await.context("a delete after a restart on a full disk")?;
        ensure!(gone.deleted == 1, "full/renewed was not there");
        figures.restarted = true;
    }
    figures.full_for = full.elapsed();

    fs::remove_file(on_disk(&node, "filler"))?;
    let freed = Instant::now();
    until("puts are taken again", PATIENT, async || client.put("full/after", "").await.ok()).await;
    figures.healed_after = freed.elapsed();
    ensure!(figures.healed_after < NOTICED, "puts were refused for {:?} after there was room", figures.healed_after);
    Ok(figures)
}
