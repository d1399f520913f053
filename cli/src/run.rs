//! `hither run`: a command that is registered while it lives.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};
use crate::instance::Described;
use crate::session::Global;

/// How long a command that is asked to stop waits for its registration to end: then nobody sends it anything new.
const LEAVE: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
#[command(after_help = "\
The command gets the signals that `hither run` gets, after it was deregistered, and its exit code is passed on (128 and
the signal's number if a signal ended it; 127 if there is no such command, 126 if it cannot be run).

Examples:
  hither run --register api:8000 -- uvicorn app:main --port 8000
  hither run --register web:80 --register admin:81 --tag blue -- ./server")]
pub(crate) struct RunArgs {
    /// The service and the port that the command listens on; may be repeated.
    #[arg(long, required = true, value_name = "SERVICE:PORT")]
    register: Vec<Listening>,
    #[command(flatten)]
    described: Described,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `SERVICE:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listening {
    service: String,
    port: u16,
}

impl FromStr for Listening {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, port) = text.rsplit_once(':').ok_or("write SERVICE:PORT, such as api:8000")?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{port:?} is no port"))?;
        Ok(Self { service: service.to_owned(), port })
    }
}

/// Runs the command. On success the process is to end with the code that is returned.
pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<u8, Failure> {
    // Before anything is started: what would never be found is not begun.
    let client = global.connect().await?;
    let mut signals = signals::Signals::listen()?;
    let result = supervise(&client, &args, &mut signals).await;
    client.close().await;
    result
}

async fn supervise(client: &hither::Client, args: &RunArgs, signals: &mut signals::Signals) -> Result<u8, Failure> {
    let mut child = start(&args.command)?;
    let registering = async {
        let mut registered = Vec::new();
        for Listening { service, port } in &args.register {
            registered.push(client.register(args.described.registration(service, Some(*port))).await?);
        }
        Ok::<_, hither::Error>(registered)
    };
    let mut registered = Vec::new();
    let mut registering = Some(Box::pin(registering));
    loop {
        let joined = async {
            match &mut registering {
                Some(registering) => registering.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => {
                let status = status?;
                leave(&registered).await;
                return Ok(code(status));
            }
            outcome = joined => {
                registering = None;
                match outcome {
                    Ok(all) => registered = all,
                    Err(error) => {
                        // Nobody would find it, and whoever started it must know.
                        signals::stop(&child);
                        child.wait().await?;
                        return Err(error.into());
                    }
                }
            }
            signal = signals.next() => {
                if signal.asks_to_stop() {
                    registering = None;
                    leave(&std::mem::take(&mut registered)).await;
                }
                signal.send(&child);
            }
        }
    }
}

fn start(command: &[OsString]) -> Result<Child, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("name a command"))?;
    Command::new(program).args(arguments).kill_on_drop(true).spawn().map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NoSuchCommand,
            _ => Exit::CannotRun,
        };
        Failure::new(exit, format!("{} cannot be started: {error}", program.to_string_lossy()))
    })
}

/// Deregisters, as far as a server answers soon.
async fn leave(registered: &[hither::Registered]) {
    let all = async {
        for one in registered {
            if let Err(error) = one.deregister().await {
                eprintln!("hint: {} is gone from the registry later: {error}", one.instance().key());
            }
        }
    };
    // What does not answer ends with the client's session.
    let _ = tokio::time::timeout(LEAVE, all).await;
}

#[cfg(unix)]
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(not(unix))]
fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(unix)]
mod signals {
    use std::io::{self, IsTerminal};

    use rustix::process::{Pid, Signal as Number, kill_process};
    use tokio::process::Child;
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    /// What is passed on.
    const PASSED: [Number; 6] = [Number::INT, Number::TERM, Number::HUP, Number::QUIT, Number::USR1, Number::USR2];

    pub(super) struct Signals(Vec<(Number, Stream)>);

    #[derive(Clone, Copy)]
    pub(super) struct Signal(Number);

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            let listen = |number: &Number| Ok((*number, signal(SignalKind::from_raw(number.as_raw()))?));
            PASSED.iter().map(listen).collect::<io::Result<_>>().map(Self)
        }

        pub(super) async fn next(&mut self) -> Signal {
            std::future::poll_fn(|context| {
                for (number, stream) in &mut self.0 {
                    if stream.poll_recv(context).is_ready() {
                        return std::task::Poll::Ready(Signal(*number));
                    }
                }
                std::task::Poll::Pending
            })
            .await
        }
    }

    impl Signal {
        pub(super) fn asks_to_stop(self) -> bool {
            matches!(self.0, Number::INT | Number::TERM | Number::HUP | Number::QUIT)
        }

        pub(super) fn send(self, child: &Child) {
            // A terminal gives what is typed to both.
            let typed = matches!(self.0, Number::INT | Number::QUIT) && io::stdin().is_terminal();
            if !typed {
                send(self.0, child);
            }
        }
    }

    pub(super) fn stop(child: &Child) {
        send(Number::TERM, child);
    }

    fn send(number: Number, child: &Child) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // One that has just ended needs no signal.
        if let Some(pid) = pid {
            let _ = kill_process(pid, number);
        }
    }
}

#[cfg(not(unix))]
mod signals {
    use std::io;

    use tokio::process::Child;

    pub(super) struct Signals;

    #[derive(Clone, Copy)]
    pub(super) struct Signal;

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> Signal {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Signal
        }
    }

    impl Signal {
        pub(super) fn asks_to_stop(self) -> bool {
            true
        }

        /// The console gives Ctrl-C to both.
        pub(super) fn send(self, _: &Child) {}
    }

    pub(super) fn stop(_: &Child) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_its_port_are_one_word() {
        assert_eq!("api:8000".parse(), Ok(Listening { service: "api".to_owned(), port: 8000 }));
        for text in ["api", "api:", "api:0", "api:http"] {
            assert!(text.parse::<Listening>().is_err(), "{text}");
        }
    }
}
