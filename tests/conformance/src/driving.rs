//! A driver as the runner sees it: requests go in, answers come out.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};

use crate::driver::Request;
use crate::language::Language;

/// An interpreter on a busy machine takes its time to start.
const HELLO: Duration = Duration::from_secs(30);
/// More than any driver has to say; one that says more is cut off.
const STDERR_BYTES_MAX: usize = 64 * 1024;
/// The version of the lines that are spoken here.
const PROTOCOL: u64 = 1;

/// An answer under way.
pub(crate) type Answering = oneshot::Receiver<Value>;

/// What a driver says first.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Hello {
    protocol: u64,
    language: String,
    /// Of the package.
    pub(crate) version: String,
    /// What it can carry out.
    pub(crate) ops: BTreeSet<String>,
}

/// A driver in a process. It is killed with its value.
pub(crate) struct Process {
    /// What it said first.
    pub(crate) hello: Hello,
    next: AtomicU64,
    lines: Mutex<Option<mpsc::UnboundedSender<String>>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
    stderr: Arc<Mutex<String>>,
    silent: watch::Receiver<bool>,
    id: Pid,
    child: AsyncMutex<Child>,
}

impl Process {
    /// Starts a driver and waits for its first line.
    ///
    /// # Errors
    /// If it does not start, or does not say what it must.
    pub(crate) async fn start(language: Language, config: &Path, folder: &Path) -> anyhow::Result<Arc<Self>> {
        let command = language.command().with_context(|| language.missing())?;
        let mut child = tokio::process::Command::new(&command.program)
            .args(&command.arguments)
            .current_dir(folder)
            .env("XDG_CONFIG_HOME", config)
            .env_remove("HITHER_URL")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", command.program.display()))?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has ended already")?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("it has no streams");
        };
        let (said, silent) = (Arc::new(Mutex::new(String::new())), watch::Sender::new(false));
        let silence = silent.subscribe();
        tokio::spawn(listen(stderr, Arc::clone(&said), silent));
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = tokio::time::timeout(HELLO, stdout.read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(1..))) {
            bail!("the driver of {language} says nothing; on stderr: {}", said.lock());
        }
        let line: Value = serde_json::from_str(&line).with_context(|| format!("its first line is no JSON: {line}"))?;
        let hello: Hello = serde_json::from_value(line["hello"].clone()).context("its first line is no hello")?;
        ensure!(hello.protocol == PROTOCOL, "it speaks version {}, not {PROTOCOL}", hello.protocol);
        ensure!(hello.language == language.name(), "it says that it is {}", hello.language);

        let waiting = Arc::new(Mutex::new(HashMap::new()));
        let (lines, mut to_write) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(line) = to_write.recv().await {
                // A driver that has ended reads nothing; whoever waits for it is told by the reader.
                if stdin.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(read_answers(stdout, Arc::clone(&waiting), Arc::clone(&said)));
        Ok(Arc::new(Self {
            hello,
            next: AtomicU64::new(1),
            lines: Mutex::new(Some(lines)),
            waiting,
            stderr: said,
            silent: silence,
            id,
            child: AsyncMutex::new(child),
        }))
    }

    /// Asks for something; returns its number and where the answer comes.
    pub(crate) fn ask(
        &self,
        op: &str,
        on: Option<&str>,
        named: Option<&str>,
        args: Map<String, Value>,
    ) -> (u64, Answering) {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request { id, op: op.to_owned(), on: text(on), named: text(named), args };
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let mut line = json!(request).to_string();
        line.push('\n');
        if let Some(lines) = &*self.lines.lock() {
            // A writer that is gone has told the driver's end.
            let _ = lines.send(line);
        }
        (id, receiver)
    }

    /// Ends its stdin.
    pub(crate) fn hang_up(&self) {
        self.lines.lock().take();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        // One that has ended needs none.
        let _ = kill_process(self.id, signal);
    }

    /// Waits for its end, and until all that it wrote to stderr was read.
    ///
    /// # Errors
    /// If the system does not tell.
    pub(crate) async fn ended(&self) -> anyhow::Result<(ExitStatus, String)> {
        let status = self.child.lock().await.wait().await?;
        let _ = self.silent.clone().wait_for(|silent| *silent).await;
        Ok((status, self.stderr()))
    }

    /// What it has written to stderr since it was last asked.
    pub(crate) fn stderr(&self) -> String {
        std::mem::take(&mut *self.stderr.lock())
    }
}

async fn listen(mut stderr: ChildStderr, said: Arc<Mutex<String>>, silent: watch::Sender<bool>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.lock();
        if said.len() < STDERR_BYTES_MAX {
            said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }
    silent.send_replace(true);
}

async fn read_answers(
    stdout: BufReader<ChildStdout>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
    said: Arc<Mutex<String>>,
) {
    let mut lines = stdout.lines();
    let mut wrong = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer: Option<(u64, Value)> =
            serde_json::from_str(&line).ok().and_then(|answer: Value| Some((answer["id"].as_u64()?, answer)));
        let Some((id, answer)) = answer else {
            wrong = Some(format!("its stdout has a line that is no answer: {line}"));
            break;
        };
        if let Some(sender) = waiting.lock().remove(&id) {
            // Nobody waits for the answer of a step that failed.
            let _ = sender.send(answer);
        }
    }
    let why = wrong.unwrap_or_else(|| format!("its stdout ended; on stderr: {}", said.lock()));
    for (_, sender) in waiting.lock().drain() {
        let _ = sender.send(json!({ "crash": format!("the driver does not answer any more: {why}") }));
    }
}
