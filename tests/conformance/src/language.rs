//! The languages, and how their drivers are started.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A language that has a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Language {
    /// The crate `hither`.
    Rust,
    /// The package `hither`, with asyncio.
    Python,
    /// The package `hither`, `hither.sync`.
    PythonSync,
    /// The npm package `hither`.
    Node,
}

impl Language {
    /// Every one, in the order of the tables.
    pub(crate) const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::PythonSync, Self::Node];

    /// As it is written in files and on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::PythonSync => "python-sync",
            Self::Node => "node",
        }
    }

    /// As people read it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::PythonSync => "Python, sync",
            Self::Node => "Node",
        }
    }

    /// The command that starts its driver; none if the language is not here.
    pub(crate) fn command(self) -> Option<Command> {
        let driver = |path: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(path);
            path.exists().then_some(path)
        };
        let python = |mode: &str| {
            let program = PathBuf::from(std::env::var_os("HITHER_PYTHON")?);
            Some(Command { program, arguments: vec![driver("python/driver.py")?, mode.into()] })
        };
        match self {
            Self::Rust => {
                let program = std::env::current_exe().ok()?;
                Some(Command { program, arguments: vec!["driver".into()] })
            }
            Self::Python => python("async"),
            Self::PythonSync => python("sync"),
            Self::Node => {
                std::env::var_os("HITHER_NPM_PROJECT")?;
                Some(Command { program: "node".into(), arguments: vec![driver("node/driver.mjs")?] })
            }
        }
    }

    /// Where a language comes from that is not here.
    pub(crate) const fn missing(self) -> &'static str {
        match self {
            Self::Rust => "it is this program",
            Self::Python | Self::PythonSync => "it has no driver, or HITHER_PYTHON names no interpreter",
            Self::Node => "it has no driver, or HITHER_NPM_PROJECT names no folder",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<PathBuf>,
}
