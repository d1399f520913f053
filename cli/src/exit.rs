//! How a command ends: an exit code for scripts and one line for people.

use std::fmt;
use std::io;
use std::process::ExitCode;

use hither::{Applied, ErrorCode};

/// The exit codes. They are a promise to scripts: a number, once released, keeps its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something failed that has no code of its own.
    Failed = 1,
    /// The command line or an argument is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// A condition did not hold.
    Conflict = 4,
    /// No server answered, or it cannot serve now.
    Unavailable = 5,
    /// The identity is missing or may not do this.
    Denied = 6,
    /// `dev` and `serve`: the data are damaged or the disk failed.
    Damaged = 74,
    /// `dev` and `serve`: another process holds the directory or the port.
    Held = 75,
    /// `dev` and `serve`: the data directory is of another version.
    Version = 76,
    /// `dev` and `serve`: the directory's owner or mode forbids it.
    Permissions = 77,
    /// `dev` and `serve`: the configuration is wrong.
    Config = 78,
    /// `run`: the command cannot be run.
    CannotRun = 126,
    /// `run`: there is no such command.
    NoSuchCommand = 127,
    /// The deadline passed.
    Timeout = 124,
}

impl Exit {
    /// The exit code of an error of the client.
    pub(crate) const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotFound | ErrorCode::LeaseNotFound => Self::NotFound,
            ErrorCode::Conflict | ErrorCode::AlreadyExists => Self::Conflict,
            ErrorCode::Unauthenticated
            | ErrorCode::PermissionDenied
            | ErrorCode::IdentityRevoked
            | ErrorCode::IdentityInvalid
            | ErrorCode::EnrolmentInvalid
            | ErrorCode::ClusterMismatch => Self::Denied,
            ErrorCode::InvalidArgument
            | ErrorCode::KeyTooLong
            | ErrorCode::KeyEmpty
            | ErrorCode::ValueTooLarge
            | ErrorCode::InvalidRange
            | ErrorCode::InvalidName
            | ErrorCode::TooManyOps
            | ErrorCode::DuplicateKeyInTxn => Self::Usage,
            ErrorCode::QuotaExceeded
            | ErrorCode::NoSpace
            | ErrorCode::ServerBusy
            | ErrorCode::TooManyInFlight
            | ErrorCode::NotLeader
            | ErrorCode::Unavailable
            | ErrorCode::ShuttingDown
            | ErrorCode::TooStale
            | ErrorCode::Closed
            | ErrorCode::ConnectionLost
            | ErrorCode::NotReady
            | ErrorCode::NoInstances
            | ErrorCode::SessionExpired => Self::Unavailable,
            ErrorCode::Timeout => Self::Timeout,
            _ => Self::Failed,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the script.
    pub(crate) exit: Exit,
    /// For the reader: one line, without a full stop at the end.
    pub(crate) message: String,
    /// The reader of our output went away: nothing to say, and nothing wrong.
    silent: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), silent: false }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Exit::Conflict, message)
    }

    /// Says it on stderr and turns into the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.silent {
            return ExitCode::SUCCESS;
        }
        self.say();
        ExitCode::from(self.exit as u8)
    }

    /// Says it on stderr and ends the process, whatever is under way: a disk that failed may also hold up those who
    /// would put their files in order first.
    pub(crate) fn end_at_once(&self) -> ! {
        self.say();
        #[expect(unsafe_code, reason = "the standard library has no end that runs nothing more")]
        // SAFETY: it touches nothing of this process.
        unsafe {
            libc::_exit(i32::from(self.exit as u8))
        }
    }

    fn say(&self) {
        eprintln!("hither: {}", self.message.lines().collect::<Vec<_>>().join(" "));
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<hither::Error> for Failure {
    fn from(error: hither::Error) -> Self {
        let code = error.code();
        let detail = error.detail();
        let mut message = format!("{code}: {}", if detail.is_empty() { code.meaning().trim() } else { detail });
        if error.applied() == Applied::Unknown {
            message.push_str("; it may have taken effect all the same");
        }
        Self::new(Exit::of(code), message)
    }
}

/// Of reading the input or writing the output. A reader that went away (`hither watch k | head -1`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let silent = error.kind() == io::ErrorKind::BrokenPipe;
        Self { exit: Exit::Failed, message: error.to_string(), silent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let code = |code| Exit::of(code) as u8;
        assert_eq!(code(ErrorCode::NotFound), 3);
        assert_eq!(code(ErrorCode::Conflict), 4);
        assert_eq!(code(ErrorCode::Unavailable), 5);
        assert_eq!(code(ErrorCode::Unauthenticated), 6);
        assert_eq!(code(ErrorCode::PermissionDenied), 6);
        assert_eq!(code(ErrorCode::Timeout), 124);
        assert_eq!(code(ErrorCode::ValueTooLarge), 2);
        assert_eq!(code(ErrorCode::Internal), 1);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.silent);
    }
}
