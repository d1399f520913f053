//! A directory that a node must not have, or had better not: refused with the promised code and left as it is, or warned
//! of. It needs root, which can give a directory away and mount.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hither_tests::node::{FREE, Home, Node, Process, binary};

/// What a server exits with that may not use its directory.
const PERMISSIONS: i32 = 77;
/// A refusal.
const PROMPT: Duration = Duration::from_secs(30);
/// `nobody`, who runs none of this.
const OTHER: u32 = 65534;

/// The home of a node that ended in good order.
async fn ended() -> Home {
    let mut node = Node::start().await;
    node.terminate().await;
    node.into_home()
}

/// What a visitor could change about a file: owner, mode, time and bytes.
type Traces = (u32, u32, i64, Vec<u8>);

/// What is below a directory.
fn contents(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Traces>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let (path, metadata) = (entry.as_ref().map(fs::DirEntry::path).expect("it lists"), entry?.metadata()?);
        let bytes = if metadata.is_dir() { Vec::new() } else { fs::read(&path)? };
        if metadata.is_dir() {
            found.extend(contents(&path)?);
        }
        found.insert(path, (metadata.uid(), metadata.mode(), metadata.mtime(), bytes));
    }
    Ok(found)
}

/// The server exits with 77, says why in one line, and has touched nothing.
async fn is_refused(home: &Home, mut command: Command, why: &str) -> anyhow::Result<()> {
    let before = contents(&home.data())?;
    let log = home.file("refusal");
    command.stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    let status = Process::start(&mut command).end(PROMPT).await;
    let said = fs::read_to_string(&log)?;
    assert_eq!(status.code(), Some(PERMISSIONS), "{why}: {said}");
    assert!(said.lines().count() == 1 && said.contains("data") && said.contains(why), "{why}: {said}");
    assert!(contents(&home.data())? == before, "{why}: something in the directory is another");
    Ok(())
}

/// A start below this command of the shell, in a mount namespace of its own.
fn mounting(home: &mut Home, mount: &str) {
    home.start_under(&["unshare", "--mount", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_user_is_refused_and_not_touched() -> anyhow::Result<()> {
    let home = ended().await;
    chown(home.data(), Some(OTHER), None)?;
    is_refused(&home, home.dev(FREE, FREE), "belongs to user 65534").await?;
    // Without the privileges of root it is also one that nobody can look into: not to be taken for an empty one.
    let config = home.hither(&["serve", "--example-config"]).output()?;
    fs::write(home.file("hither.toml"), config.stdout)?;
    for program in [&["dev"][..], &["serve", "--config", "hither.toml"]] {
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-dac_override,-dac_read_search").arg(binary()).args(program);
        command.arg("--data").arg(home.data()).env("XDG_CONFIG_HOME", home.config()).current_dir(home.file(""));
        is_refused(&home, command, "belongs to user 65534").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_read_only_is_refused_and_not_touched() -> anyhow::Result<()> {
    let mut home = ended().await;
    let data = home.data().display().to_string();
    mounting(&mut home, &format!("mount --bind '{data}' '{data}' && mount -o remount,ro,bind '{data}'"));
    is_refused(&home, home.dev(FREE, FREE), "Read-only file system").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_memory_is_taken_with_a_warning() -> anyhow::Result<()> {
    const WARNING: &str = "everything in it is gone after a reboot";
    let on_disk = Node::start().await;
    assert!(!on_disk.log().contains(WARNING), "{}", on_disk.log());
    drop(on_disk);
    let mut home = Home::new();
    fs::create_dir(home.data())?;
    fs::set_permissions(home.data(), Permissions::from_mode(0o700))?;
    let data = home.data().display().to_string();
    mounting(&mut home, &format!("mount -t tmpfs -o mode=700,size=512M tmpfs '{data}'"));
    home.set("HITHER_STATE_DISK_RESERVE", "64MiB");
    let node = Node::start_in(home, &[]).await;
    node.client().connect().await?.put("directory/taken", "").await?;
    let warned = node.log().lines().filter(|line| line.contains("WARN") && line.contains(WARNING)).count();
    assert_eq!(warned, 1, "{}", node.log());
    Ok(())
}
