//! Damage to a data directory is found by the server that starts on it, named, and never passed over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hither_tests::node::{FREE, Home, Node, Process};

/// What a server exits with that will not serve what it finds.
const DAMAGED: i32 = 74;
/// A start, or the refusal of one.
const START: Duration = Duration::from_secs(60);
/// Writes that are in tables too, and as many that are in the log alone.
const WRITES: usize = 400;

/// A kind of damage.
#[derive(Clone, Copy, Debug)]
enum Damage {
    FlippedByte,
    TruncatedTail,
    ZeroedPage,
}

impl Damage {
    const ALL: [Self; 3] = [Self::FlippedByte, Self::TruncatedTail, Self::ZeroedPage];

    /// Does it to a file, where most of what was written to it is: a segment of the log is full of zeros before that.
    fn to(self, path: &Path) -> anyhow::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let bytes = fs::read(path)?.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let middle = bytes / 2;
        match self {
            Self::FlippedByte => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, middle)?;
                file.write_all_at(&[byte[0] ^ 0x10], middle)?;
            }
            Self::TruncatedTail => file.set_len(bytes - bytes / 4)?,
            Self::ZeroedPage => {
                let page = middle - middle % 4096;
                let end = bytes.min(page + 4096);
                file.write_all_at(&vec![0; usize::try_from(end - page)?], page)?;
            }
        }
        Ok(())
    }
}

/// The home of a node that was killed, and a copy of its data as it left them.
struct Killed {
    home: Home,
    image: PathBuf,
}

impl Killed {
    async fn new() -> anyhow::Result<Self> {
        let mut node = Node::start().await;
        let client = node.client().connect().await?;
        write(&client, 0).await?;
        // In good order: what is written is in tables of the state from here on.
        node.terminate().await;
        node.restart().await;
        write(&client, WRITES).await?;
        node.kill().await;
        let home = node.into_home();
        let image = home.file("image");
        copy(&home.data(), &image)?;
        Ok(Self { home, image })
    }

    /// The largest file of a part of the directory with this end.
    fn largest(&self, part: &str, end: &str) -> anyhow::Result<PathBuf> {
        let files = fs::read_dir(self.home.data().join(part))?.flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)));
        let largest = files.max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()));
        largest.ok_or_else(|| anyhow::anyhow!("{part} has no file that ends with {end}"))
    }

    fn undo(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(self.home.data())?;
        copy(&self.image, &self.home.data())
    }

    /// Starts a server on it, which has to have everything.
    async fn serves_everything(self) -> anyhow::Result<()> {
        let node = Node::start_in(self.home, &[]).await;
        let count = node.client().connect().await?.range(hither::KeyRange::prefix("damage/")).count().await?;
        assert_eq!(count, 2 * WRITES as u64);
        Ok(())
    }

    /// Starts a server on it, which has to refuse and to name what is wrong.
    async fn is_refused(&self, what: &str) -> anyhow::Result<()> {
        let before = kept(&self.home.data())?;
        let log = self.home.file("refusal");
        let mut command = self.home.dev(FREE, FREE);
        let out = self.home.file("refusal-out");
        command.stdout(File::create(&out)?).stderr(File::create(&log)?).stdin(Stdio::null());
        let mut process = Process::start(&mut command);
        let ended = hither_tests::wait::until("it refuses or serves", START, async || {
            let serves = fs::read_to_string(&out).is_ok_and(|out| out.contains("ready "));
            if serves { Some(None) } else { process.ended().map(Some) }
        })
        .await;
        let said = fs::read_to_string(&log)?;
        let Some(status) = ended else { panic!("{what}: it serves what is left, and says:\n{said}") };
        assert_eq!(status.code(), Some(DAMAGED), "{what}: {said}");
        assert!(said.contains("damaged") && said.contains("data"), "{what}: it does not say so: {said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
        let after = kept(&self.home.data())?;
        assert!(before.is_subset(&after), "{what}: gone since: {:?}", before.difference(&after));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_a_truncated_tail_and_a_zeroed_page_are_never_served() -> anyhow::Result<()> {
    let killed = Killed::new().await?;
    for (part, end) in [("log", ".seg"), ("state-1", ".sst")] {
        for damage in Damage::ALL {
            damage.to(&killed.largest(part, end)?)?;
            killed.is_refused(&format!("{damage:?} in {part}/*{end}")).await?;
            killed.undo()?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_directory_that_is_missing_or_of_another_time_is_never_served() -> anyhow::Result<()> {
    let killed = Killed::new().await?;
    let data = killed.home.data();
    fs::remove_file(data.join("durable.mark"))?;
    killed.is_refused("no mark").await?;
    killed.undo()?;
    fs::remove_dir_all(data.join("state-1"))?;
    killed.is_refused("no state").await?;
    killed.undo()?;
    fs::remove_file(killed.largest("log", ".seg")?)?;
    killed.is_refused("no segment of the log").await?;
    killed.undo()?;
    fs::write(data.join("CURRENT_STATE"), "state-7\n")?;
    killed.is_refused("the name of a state that does not exist").await?;
    fs::write(data.join("CURRENT_STATE"), "state-1\n")?;
    killed.serves_everything().await
}

/// What this is all measured against: the same directory, without damage, serves everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_directory_without_damage_serves_everything() -> anyhow::Result<()> {
    Killed::new().await?.serves_everything().await
}

/// What is nobody's but Hither's to remove: segments, tables and what names them.
fn kept(data: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if path.is_dir() {
            let files = fs::read_dir(&path)?.flatten().map(|entry| entry.path());
            kept.extend(files.filter(|path| path.extension().is_some_and(|end| end == "seg" || end == "sst")));
        } else {
            kept.insert(path);
        }
    }
    Ok(kept)
}

async fn write(client: &hither::Client, from: usize) -> anyhow::Result<()> {
    let puts = (from..from + WRITES).map(|number| {
        let put = client.put(format!("damage/{number}"), number.to_string().repeat(50));
        put.timeout(START).into_future()
    });
    futures_util::future::try_join_all(puts).await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
