//! The driver as a process: lines in, lines out, and the ways in which it ends.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use futures_util::poll;
use hither::{Client, KeyRange};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::args::Args;
use super::{Done, Driver, Failure, OPS, Request, crash, show};

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By leaving the main function.
    Return,
    /// By the exit function.
    Exit,
    /// By an error that nobody handles.
    Raise,
}

/// What a shell calls the end by SIGINT.
const INTERRUPTED: u8 = 130;

/// Serves stdin and stdout until the one ends or the process is told to.
///
/// # Errors
/// If stdout is closed, and when it is told to end by an error.
pub(crate) async fn serve() -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    say(&json!({ "hello": { "protocol": 1, "language": "rust", "version": version, "ops": OPS } }))?;
    let driver = Arc::new(Driver::default());
    let mut lines = lines();
    let (answers, mut answered) = mpsc::unbounded_channel::<Value>();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else {
                    driver.close_all().await;
                    return Ok(ExitCode::SUCCESS);
                };
                let request: Request = serde_json::from_str(&line).context("a line that is no request")?;
                let (id, answers) = (request.id, answers.clone());
                let driver = Arc::clone(&driver);
                let mut answering = Box::pin(async move {
                    let mut answer = driver.answer(request).await;
                    answer["id"] = id.into();
                    // Nobody listens once the process ends.
                    let _ = answers.send(answer);
                });
                // Begun in the order of the lines: what a later one closes is what an earlier one waits for.
                if poll!(&mut answering).is_pending() {
                    tokio::spawn(answering);
                }
            }
            Some(answer) = answered.recv() => {
                say(&answer)?;
                let ending = *driver.ending.lock();
                match ending {
                    None => {}
                    Some(Ending::Return) => return Ok(ExitCode::SUCCESS),
                    Some(Ending::Exit) => std::process::exit(0),
                    Some(Ending::Raise) => anyhow::bail!("told to"),
                }
            }
            _ = &mut interrupted => {
                driver.close_all().await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
}

/// The lines of stdin, read on a thread that nobody waits for at the end.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

impl Driver {
    /// What this process has open.
    pub(super) fn probe(&self) -> Done {
        let clients = self.handles.lock().values().filter(|handle| matches!(handle, super::Handle::Client(..))).count();
        let ops = self.under_way.lock().len().saturating_sub(1);
        let entries = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count);
        Ok(json!({
            "clients": clients,
            "ops": ops,
            "threads": entries("task"),
            "rss_kb": resident_kb().unwrap_or_default(),
            "fds": entries("fd"),
        }))
    }

    /// Starts calls that nobody awaits, and ends the process once the answer is out.
    pub(super) async fn exit(&self, client: Client, args: &Args<'_>) -> Done {
        let ending = match args.text("how")? {
            "return" => Ending::Return,
            "exit" => Ending::Exit,
            "raise" => Ending::Raise,
            _ => return Err(crash("how is return, exit or raise")),
        };
        let calls = args.number_maybe("calls")?.unwrap_or(0);
        let key = args.text_maybe("key")?.unwrap_or("exit").to_owned();
        for _ in 0..calls {
            tokio::spawn(client.get(key.as_str()).into_future());
        }
        if args.flag("watch", false)? {
            let mut watch = client.watch(KeyRange::One(key.into())).await?;
            tokio::spawn(async move { while watch.next().await.is_some() {} });
        }
        *self.ending.lock() = Some(ending);
        Ok(json!({ "started": calls }))
    }
}

fn resident_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// A client of its own on a thread of its own.
pub(super) async fn worker(args: &Args<'_>) -> Done {
    if args.flag("terminate", false)? {
        return Err(Failure::Unsupported("a thread of Rust is not terminated from outside"));
    }
    let (url, context, key) =
        (args.text("url")?.to_owned(), args.text("context")?.to_owned(), args.text("key")?.to_owned());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.map_err(|error| crash(error.to_string())).and_then(|runtime| {
            runtime.block_on(async {
                let client = Client::builder().url(url).context(context).connect().await?;
                let entry = client.get(key.as_str()).await?;
                let mut watch = client.watch(KeyRange::One(key.as_str().into())).await?;
                watch.next().await.ok_or_else(|| crash("the watch ended"))??;
                drop(watch);
                client.close().await;
                Ok(json!({ "entry": show::entry_maybe(entry.as_ref()), "exit": 0 }))
            })
        });
        let _ = sender.send(done);
    });
    receiver.await.unwrap_or_else(|_| Err(crash("the thread panicked")))
}
