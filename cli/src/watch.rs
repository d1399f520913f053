//! `hither watch`: every change of a key or prefix, as it happens.

use std::ffi::OsString;
use std::pin::pin;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use hither::{Event, KeyRange, Mode, Revision, Start, Update, UpdateKind};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::exit::{Exit, Failure};
use crate::session::{Global, duration};
use crate::{signal, value};

#[derive(Args, Debug)]
#[command(after_help = "\
Without --from it begins with the present state, a `put` for each key, and goes on with every change after it.
Whatever happens to connection and server, no change is left out and none comes twice; if the server no longer has the
history to go on from, a `reset` says so and the exact difference follows.

Examples:
  hither watch config/                       everything below config/
  hither watch config/limit --from now       changes only
  hither watch services/api/ -o jsonl | jq .
  hither watch config/ --exec 'echo $HITHER_EVENT_TYPE $HITHER_EVENT_KEY; cat'")]
pub(crate) struct WatchArgs {
    /// The key; with a trailing `/` every key below it.
    key: OsString,
    /// Every key that begins with KEY.
    #[arg(long)]
    prefix: bool,
    /// Begin with the changes of this revision, or `now` for those to come.
    #[arg(long, value_name = "REV")]
    from: Option<From>,
    /// Run CMD in a shell for each event, one after the other: the value on its standard input, the rest in
    /// HITHER_EVENT_TYPE, _KEY, _REVISION, _CREATE_REVISION, _VERSION and _LEASE. A command that fails is reported, and the watch goes on.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Only the newest state of each key when falling behind.
    #[arg(long)]
    latest: bool,
    /// At most one batch in this time.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    interval: Option<Duration>,
    /// With each event what the key was before.
    #[arg(long)]
    previous: bool,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Where `--from` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Now,
    Revision(u64),
}

impl From {
    /// The watch starts after the revision before: `--from` is inclusive.
    fn start(self) -> Start {
        match self {
            Self::Now => Start::Now,
            Self::Revision(revision) => Start::After(Revision(revision).previous()),
        }
    }
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            number => number.parse().map(Self::Revision).map_err(|_| "write a revision, or `now`".to_owned()),
        }
    }
}

pub(crate) async fn run(global: &Global, args: WatchArgs) -> Result<(), Failure> {
    let range = value::key_or_prefix(&args.key, args.prefix);
    watch(global, range, &args).await
}

async fn watch(global: &Global, range: KeyRange, args: &WatchArgs) -> Result<(), Failure> {
    let client = global.connect().await?;
    let mut request = client.watch(range).start(args.from.map_or(Start::Snapshot, From::start));
    if args.latest {
        request = request.mode(Mode::Latest);
    }
    if let Some(interval) = args.interval {
        request = request.min_interval(interval);
    }
    if args.previous {
        request = request.previous();
    }
    let mut watch = request.await?;
    let mut stop = pin!(signal::asked_to_stop());
    let mut show = Show { global, exec: args.exec.as_deref(), left: args.count };
    let result = loop {
        tokio::select! {
            update = watch.next() => match update {
                Some(Ok(update)) => match show.update(&update).await {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(failure) => break Err(failure),
                },
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            failure = nothing_for(global.timeout) => break Err(failure),
            () = &mut stop => break Ok(()),
        }
    };
    drop(watch);
    client.close().await;
    result
}

/// How a watch fails that saw nothing for `--timeout`; without one it waits for ever.
pub(crate) async fn nothing_for(timeout: Option<Duration>) -> Failure {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
    Failure::new(Exit::Timeout, "nothing changed in the time that --timeout gives")
}

struct Show<'a> {
    global: &'a Global,
    exec: Option<&'a str>,
    left: Option<u64>,
}

impl Show<'_> {
    /// Shows the events of an update; whether more may come.
    async fn update(&mut self, update: &Update) -> Result<bool, Failure> {
        if update.kind == UpdateKind::Reset {
            match self.exec {
                Some(command) => run_for(command, None, update.revision).await,
                None => self.global.printer().reset(update.revision)?,
            }
        }
        for event in &update.events {
            if self.left == Some(0) {
                return Ok(false);
            }
            match self.exec {
                Some(command) => run_for(command, Some(event), update.revision).await,
                None => self.global.printer().event(event)?,
            }
            self.left = self.left.map(|left| left - 1);
        }
        Ok(self.left != Some(0))
    }
}

/// Runs the command of `--exec` for one event (none: a reset) and waits for it, so that events keep their order.
async fn run_for(command: &str, event: Option<&Event>, revision: Revision) {
    if let Err(error) = try_run_for(command, event, revision).await {
        eprintln!("hither: --exec at revision {revision}: {error}");
    }
}

async fn try_run_for(command: &str, event: Option<&Event>, revision: Revision) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).kill_on_drop(true);
    for (name, value) in variables(event, revision) {
        shell.env(name, value);
    }
    let mut child = shell.spawn().map_err(|error| format!("cannot run sh: {error}"))?;
    let input = child.stdin.take();
    let value = match event {
        Some(Event::Put { entry, .. }) => entry.value.clone(),
        _ => bytes::Bytes::new(),
    };
    // A command that does not read its input must not hold up the watch: write and wait at the same time.
    let write = async {
        if let Some(mut input) = input {
            let _ = input.write_all(&value).await;
        }
    };
    let ((), status) = tokio::join!(write, child.wait());
    let status = status.map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("the command ended with {status}")) }
}

fn variables(event: Option<&Event>, revision: Revision) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![("HITHER_EVENT_REVISION", event.map_or(revision, Event::revision).to_string().into())];
    let mut set = |name, value: OsString| variables.push((name, value));
    match event {
        None => set("HITHER_EVENT_TYPE", "reset".into()),
        Some(Event::Put { entry, .. }) => {
            set("HITHER_EVENT_TYPE", "put".into());
            set("HITHER_EVENT_KEY", os(entry.key.as_bytes()));
            set("HITHER_EVENT_CREATE_REVISION", entry.create_revision.to_string().into());
            set("HITHER_EVENT_VERSION", entry.version.to_string().into());
            set("HITHER_EVENT_LEASE", entry.lease.map(|lease| lease.to_string()).unwrap_or_default().into());
        }
        Some(Event::Delete { key, .. }) => {
            set("HITHER_EVENT_TYPE", "delete".into());
            set("HITHER_EVENT_KEY", os(key.as_bytes()));
        }
        Some(Event::Liveness { lease, state, .. }) => {
            set("HITHER_EVENT_TYPE", state.as_str().into());
            set("HITHER_EVENT_LEASE", lease.to_string().into());
        }
    }
    variables
}

/// A key as a variable: byte for byte, but without NUL, which no variable can hold.
fn os(key: &[u8]) -> OsString {
    let key: Vec<u8> = key.iter().copied().filter(|&byte| byte != 0).collect();
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        OsString::from_vec(key)
    }
    #[cfg(not(unix))]
    OsString::from(String::from_utf8_lossy(&key).into_owned())
}

#[cfg(test)]
mod tests {
    use hither::{Entry, Previous, Version};

    use super::*;

    #[test]
    fn from_a_revision_includes_it() {
        assert_eq!("7".parse::<From>().map(From::start), Ok(Start::After(Revision(6))));
        assert_eq!("0".parse::<From>().map(From::start), Ok(Start::After(Revision(0))));
        assert_eq!("now".parse::<From>().map(From::start), Ok(Start::Now));
        assert!("then".parse::<From>().is_err());
    }

    #[tokio::test]
    async fn a_command_gets_the_event_in_variables_and_the_value_on_its_input() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let entry = Entry {
            key: "a b".into(),
            value: (&b"\x00\xff"[..]).into(),
            create_revision: Revision(1),
            mod_revision: Revision(9),
            version: Version(2),
            lease: None,
        };
        let event = Event::Put { entry, previous: Previous::NotAsked };
        let command = format!(
            "exec >{}; printf '%s|%s|%s|' \"$HITHER_EVENT_TYPE\" \"$HITHER_EVENT_KEY\" \"$HITHER_EVENT_REVISION\"; cat",
            file.path().display()
        );
        try_run_for(&command, Some(&event), Revision(9)).await.unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"put|a b|9|\x00\xff");
    }

    #[tokio::test]
    async fn a_command_that_fails_or_does_not_read_is_only_reported() {
        let event = Event::Delete { key: "a".into(), revision: Revision(3), previous: Previous::NotAsked };
        let said = try_run_for("exit 7", Some(&event), Revision(3)).await.unwrap_err();
        assert!(said.contains('7'), "{said}");
    }
}
