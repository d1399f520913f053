//! Servers as child processes, and what they cost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

/// A running server. Dropping it ends the process and removes its files.
pub(crate) struct Server {
    child: Child,
    /// Where its clients connect.
    pub(crate) address: String,
    /// When it was started.
    pub(crate) started: Instant,
    /// Its files, and the configuration directory of its clients.
    pub(crate) home: TempDir,
    /// Whether it is asked to end and waited for, instead of killed.
    pub(crate) ends_gently: bool,
}

/// So long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(30);
/// In a server's home.
const LOG: &str = "log";
/// For so long memory does not fall any more when it is at rest.
const REST: Duration = Duration::from_secs(2);
/// With less than this share of a core for so long, a server has nothing to do.
const IDLE: f64 = 0.05;
const LULL: Duration = Duration::from_millis(100);
/// So long it may have something to do.
const LULL_WAIT: Duration = Duration::from_secs(10);
/// What does not count as falling.
const NOISE_BYTES: u64 = 64 << 10;

impl Server {
    /// `hither dev` in a fresh directory, on a free port.
    pub(crate) fn hither(binary: &Path) -> anyhow::Result<Self> {
        Self::start_hither(binary, tempfile::tempdir_in(".")?, &[], Stdio::null())
    }

    /// One that also logs what `filter` lets through, as JSON, into the file [`Self::log`].
    pub(crate) fn hither_logging(binary: &Path, filter: &str) -> anyhow::Result<Self> {
        let home = tempfile::tempdir_in(".")?;
        let log = std::fs::File::create(home.path().join(LOG))?;
        Self::start_hither(binary, home, &["--log-format", "json", "--log-level", filter], log.into())
    }

    /// What it logged.
    pub(crate) fn log(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.home.path().join(LOG))
    }

    fn start_hither(binary: &Path, home: TempDir, more: &[&str], log: Stdio) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(binary)
            .args(["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(more)
            .arg("--data")
            .arg(home.path().join("data"))
            .env("XDG_CONFIG_HOME", home.path().join("config"))
            .env_remove("HITHER_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let line = first_line(&mut child)?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("client=hither://"));
        let Some(address) = address else { bail!("`hither dev` did not say where it listens: {line}") };
        Ok(Self { child, address: address.to_owned(), started, home, ends_gently: false })
    }

    /// etcd with its defaults (fdatasync before the acknowledgement) in a fresh directory, on free ports.
    pub(crate) fn etcd(binary: &Path) -> anyhow::Result<Self> {
        let home = tempfile::tempdir_in(".")?;
        let (client, peer) = (free_port()?, free_port()?);
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let started = Instant::now();
        let child = Command::new(binary)
            .args(["--name", "bench", "--log-level", "error", "--data-dir"])
            .arg(home.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child, address: client, started, home, ends_gently: false })
    }

    /// This program as the bare QUIC server.
    pub(crate) fn limits() -> anyhow::Result<Self> {
        let home = tempfile::tempdir_in(".")?;
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("limits-server")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let address = first_line(&mut child)?;
        Ok(Self { child, address, started, home, ends_gently: false })
    }

    /// CPU time that the process has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.child.id().to_string())
    }

    /// Waits until it has nothing left to do of what was before, such as closing connections with thousands of watchers.
    pub(crate) async fn at_rest(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut used = self.cpu()?;
        loop {
            tokio::time::sleep(LULL).await;
            let now = self.cpu()?;
            // A thread that has ended takes its time along.
            if now.saturating_sub(used) < LULL.mul_f64(IDLE) {
                return Ok(());
            }
            ensure!(began.elapsed() < LULL_WAIT, "the server has been busy for {LULL_WAIT:?} with nothing to do");
            used = now;
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Resident memory in bytes once it no longer falls: what a burst has left is given back within seconds, and would else
    /// be a part of what was there before.
    pub(crate) async fn memory_at_rest(&self) -> anyhow::Result<u64> {
        let (mut least, mut since) = (self.memory_bytes()?, Instant::now());
        while since.elapsed() < REST {
            tokio::time::sleep(REST / 8).await;
            let now = self.memory_bytes()?;
            if now + NOISE_BYTES < least {
                (least, since) = (now, Instant::now());
            }
        }
        self.memory_bytes()
    }

    /// Asks it to end, and waits until it has or its time is up.
    fn end(&mut self) {
        let asked = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM);
        let since = Instant::now();
        while asked.is_ok() && since.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = asked {
            eprintln!("a server could not be asked to end, and is killed: {error}");
        } else if matches!(self.child.try_wait(), Ok(None)) {
            eprintln!("a server did not end within {END:?}, and is killed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ends_gently {
            self.end();
        }
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time that this process has used.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    cpu("self")
}

/// By the scheduler's own account, to the nanosecond: what it shows of the process as a whole is in ticks of 10 ms. A thread
/// that has ended is not counted; nothing that is measured here ends any while it is.
fn cpu(process: &str) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // One that has ended since.
        let Ok(spent) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos +=
            spent.split_whitespace().next().context("the kernel keeps no account of its threads")?.parse::<u64>()?;
    }
    // Whoever runs has run for a while: nothing at all is a kernel without that account, and no measurement.
    ensure!(nanos > 0, "the kernel keeps no account of the threads of process {process}");
    Ok(Duration::from_nanos(nanos))
}

fn first_line(child: &mut Child) -> anyhow::Result<String> {
    let stdout = child.stdout.take().context("its output is piped")?;
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    // What else it says is read and dropped, so that it never blocks on a full pipe.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    Ok(line.trim().to_owned())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
