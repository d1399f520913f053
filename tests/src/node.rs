//! A real node: the binary `hither dev` in a process of its own, with a directory, a configuration home and free ports
//! of its own. It can be killed, stopped, paused and started again where it was, and dies with its value.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait;

/// A node opens its stores and elects itself in well under a second; a loaded machine gets the rest.
const START: Duration = Duration::from_secs(30);
/// A drain is bounded by the server itself; this is its bound and some.
const STOP: Duration = Duration::from_secs(20);

/// Any free port.
pub const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The binary `hither`: `HITHER_BIN` if set, else built from this workspace, so that no test runs against an old one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("HITHER_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--bin", "hither"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the binary hither does not build");
        // A test is target/PROFILE/deps/NAME, a program target/PROFILE/NAME.
        let program = std::env::current_exe().expect("a program knows where it is");
        let folder = program.parent().expect("a program is in a folder");
        let profile = if folder.ends_with("deps") { folder.parent().expect("deps is in a profile") } else { folder };
        profile.join("hither")
    })
}

/// A directory for a node, with what belongs to it. It outlives the node's processes.
#[derive(Debug)]
pub struct Home {
    root: TempDir,
    environment: Vec<(String, String)>,
    under: Vec<String>,
}

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("hither-test-").tempdir().expect("a temporary directory");
        Self { root, environment: Vec::new(), under: Vec::new() }
    }

    /// Sets a variable in the environment of everything that is run here, such as a setting of the node.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.environment.push((name.into(), value.into()));
    }

    /// The node itself is started by this command, which the node's follows: something that prepares the ground for it
    /// and then becomes it, such as `unshare --mount`.
    pub fn start_under(&mut self, command: &[&str]) {
        self.under = command.iter().map(|&word| word.to_owned()).collect();
    }

    /// Where the node keeps its data.
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// What stands for `~/.config`: the contexts of this node's user.
    pub fn config(&self) -> PathBuf {
        self.root.path().join("config")
    }

    /// The command line, as this node's user runs it.
    pub fn hither(&self, arguments: &[&str]) -> Command {
        self.run(Command::new(binary()), arguments)
    }

    fn run(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).env("XDG_CONFIG_HOME", self.config()).env_remove("HITHER_URL").env_remove("RUST_LOG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    /// `hither dev` on these addresses with this home's data, as this node's user runs it.
    pub fn dev(&self, client: SocketAddr, admin: SocketAddr) -> Command {
        let first = match self.under.split_first() {
            Some((first, rest)) => {
                let mut first = Command::new(first);
                first.args(rest).arg(binary());
                first
            }
            None => Command::new(binary()),
        };
        let mut command = self.run(first, &["dev", "--listen", &client.to_string(), "--admin", &admin.to_string()]);
        command.arg("--data").arg(self.data());
        command
    }

    /// The files of the current context, without their ends.
    pub fn context(&self) -> PathBuf {
        let folder = self.config().join("hither");
        let name = std::fs::read_to_string(folder.join("current")).expect("the node wrote a context");
        folder.join("contexts").join(name.trim())
    }

    /// Who the node's user is: an admin.
    pub fn identity(&self) -> hither::Identity {
        let context = self.context();
        let read = |end: &str| std::fs::read(context.with_extension(end)).expect("the node wrote an identity");
        hither::Identity::from_pem(&read("ca.pem"), &read("pem")).expect("an identity")
    }

    /// A file of the home.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// A process that dies with its value.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the process starts") }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. One to a process that has just ended is lost, as it would be anyway.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it has ended.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        wait::until("the process ends", within, async || self.ended()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Reaped at once: a killed process needs no time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    home: Home,
    process: Process,
    client: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Starts a node with nothing in it.
    pub async fn start() -> Self {
        Self::start_in(Home::new(), &[]).await
    }

    /// Starts a node in a home, with more arguments to `hither dev`.
    pub async fn start_in(home: Home, arguments: &[&str]) -> Self {
        let (process, client, admin) = spawn(&home, FREE, FREE, arguments).await;
        Self { home, process, client, admin }
    }

    /// Its home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where clients find it, over UDP.
    pub fn addr(&self) -> SocketAddr {
        self.client
    }

    /// Where its admin port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A client of its user, to be connected.
    pub fn client(&self) -> hither::ClientBuilder {
        self.client_at(self.client)
    }

    /// The same, at another address: that of a relay.
    pub fn client_at(&self, address: SocketAddr) -> hither::ClientBuilder {
        hither::Client::builder().url(format!("hither://{address}")).identity(self.home.identity())
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("hither://{}", self.client)
    }

    /// `kill -9`: nothing is written, nobody is told.
    pub async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.end(STOP).await;
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.end(STOP).await
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Starts it again in the same home and at the same addresses, after it ended.
    pub async fn restart(&mut self) {
        assert!(self.process.ended().is_some(), "it still runs");
        let (process, ..) = spawn(&self.home, self.client, self.admin, &[]).await;
        self.process = process;
    }

    /// Starts it again and kills it while it starts, at a moment that nobody chose.
    pub async fn restart_and_kill(&mut self) {
        assert!(self.process.ended().is_some(), "it still runs");
        let mut command = self.home.dev(self.client, self.admin);
        self.process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        // What it has opened by then, it has begun to write.
        let data = self.home.data();
        wait::until("it opens its directory", START, async || opened(self.process.id(), &data).then_some(())).await;
        self.kill().await;
    }

    /// Leaves the home behind.
    pub fn into_home(self) -> Home {
        self.home
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.file("log")).unwrap_or_default()
    }

    /// The sum of a metric over its labels; none if it was never counted.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = http_get(self.admin, "/metrics").await?;
        let samples =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .fold(None, |sum: Option<f64>, value: f64| Some(sum.unwrap_or_default() + value))
    }
}

/// Starts the process and waits for its ready line.
async fn spawn(
    home: &Home,
    client: SocketAddr,
    admin: SocketAddr,
    arguments: &[&str],
) -> (Process, SocketAddr, SocketAddr) {
    let out = home.file("out");
    let log = File::options().create(true).append(true).open(home.file("log")).expect("a log file");
    let mut command = home.dev(client, admin);
    command.args(arguments);
    command.stdout(File::create(&out).expect("a file for its output")).stderr(log);
    let mut process = Process::start(&mut command);
    let ready = wait::until("the node is ready", START, async || {
        if let Some(status) = process.ended() {
            let log = std::fs::read_to_string(home.file("log")).unwrap_or_default();
            panic!("the node ended with {status} instead of starting:\n{log}");
        }
        ready_line(&std::fs::read_to_string(&out).ok()?)
    })
    .await;
    (process, ready.0, ready.1)
}

/// Whether a process has a file below `folder` open.
fn opened(process: u32, folder: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.starts_with(folder)))
}

/// The addresses in the one line that a node prints once it serves.
fn ready_line(out: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (line, _) = out.split_once('\n')?;
    let after = |mark: &str| {
        let rest = line.split_once(mark)?.1;
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    Some((after("client=hither://")?, after("admin=http://")?))
}

/// The body of a page of the admin port; none if it does not answer with 200.
pub async fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_both_addresses() {
        let line = "ready client=hither://127.0.0.1:7400 admin=http://127.0.0.1:7402 data=/tmp/x\nmore";
        let (client, admin) = ready_line(line).expect("it is whole");
        assert_eq!((client.port(), admin.port()), (7400, 7402));
        assert_eq!(ready_line("ready client=hither://127.0.0.1:74"), None, "half a line is not read");
    }
}
