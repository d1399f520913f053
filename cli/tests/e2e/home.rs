//! A user with a folder and a configuration of their own, and a server if they want one.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a loaded machine may take for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Home {
    root: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The command line as this user runs it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hither"));
        command.args(arguments).current_dir(self.root.path()).env("XDG_CONFIG_HOME", self.path("config"));
        command.env_remove("HITHER_URL").stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs it to its end with something to read.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    /// Runs it and expects success; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "hither {}: {}", arguments.join(" "), ran.err);
        String::from_utf8(ran.out).unwrap()
    }

    /// Starts `hither dev` on free ports and waits until it serves.
    pub(crate) fn dev(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["dev"]);
        command.args(if arguments.is_empty() { &["--port", "0"] } else { arguments });
        Server::start(command)
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

/// A process that dies with its value.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().map(BufReader::new);
        Self { child, out }
    }

    /// The next line, without its end; empty at the end of the output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().expect("nobody hung up").read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// Reads no more of its output, as `head` does.
    pub(crate) fn hang_up(&mut self) {
        self.out = None;
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(begin.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that serves.
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) ready: String,
}

impl Server {
    pub(crate) fn start(command: Command) -> Self {
        let mut process = Running::start(command);
        let ready = process.line();
        assert!(ready.starts_with("ready "), "it did not get ready: {ready:?}");
        Self { process, ready }
    }

    /// A field of the ready line.
    pub(crate) fn field(&self, name: &str) -> String {
        let start = format!("{name}=");
        let word = self.ready.split(' ').find_map(|word| word.strip_prefix(start.as_str()));
        word.unwrap_or_else(|| panic!("no {name} in {:?}", self.ready)).to_owned()
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self) -> String {
        self.field("client").trim_start_matches("hither://").to_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}
