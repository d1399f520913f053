//! What a lane of the run has: a server that its scenarios share, and drivers that are used again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hither::context::{Context, Contexts};
use hither_tests::node::{Home, Node};
use serde_json::{Map, Value};

use crate::driving::Process;
use crate::language::Language;
use crate::scenario::{Scenario, Server as Kind};

/// How long a driver may take for what it does at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Folders that all lanes share.
#[derive(Debug)]
pub(crate) struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    /// New ones, which go with the value.
    ///
    /// # Errors
    /// If they cannot be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("hither-conformance-").tempdir()?;
        std::fs::create_dir(root.path().join("work"))?;
        Ok(Self { root })
    }

    /// What stands for `~/.config` in every driver.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.path().join("config")
    }

    /// Where drivers run.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn contexts(&self) -> Contexts {
        Contexts::at(self.config().join("hither"))
    }
}

/// A server, its context in the drivers' folder, and the runner's client of it.
pub(crate) struct Server {
    /// The process.
    pub(crate) node: Node,
    /// The name of the context with its user's identity.
    pub(crate) context: String,
    /// Client connections when no actor has one.
    pub(crate) connections: f64,
    admin: Option<hither::Client>,
    folders: Arc<Folders>,
}

impl Server {
    async fn start(name: &str, settings: &[(&String, &String)], folders: Arc<Folders>) -> anyhow::Result<Self> {
        let mut home = Home::new();
        for (name, value) in settings {
            home.set(name.as_str(), value.as_str());
        }
        let node = Node::start_in(home, &[]).await;
        let context = Context {
            servers: vec![node.addr().to_string().parse().map_err(|refusal| anyhow::anyhow!("{refusal}"))?],
            namespace: None,
            identity: node.home().identity(),
            origin: None,
            enrolment: None,
        };
        folders.contexts().save(name, &context)?;
        Ok(Self { node, context: name.to_owned(), connections: 0.0, admin: None, folders })
    }

    /// A client for what only an admin may do.
    ///
    /// # Errors
    /// If nobody answers.
    pub(crate) async fn admin(&mut self) -> anyhow::Result<hither::Client> {
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        let admin = self.node.client().connect().await?;
        self.connections += 1.0;
        Ok(self.admin.insert(admin).clone())
    }

    /// A gauge or counter.
    ///
    /// # Errors
    /// If the admin port does not answer with it.
    pub(crate) async fn gauge(&self, name: &str) -> anyhow::Result<f64> {
        self.node.metric(&format!("hither_{name}")).await.with_context(|| format!("there is no metric hither_{name}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its context names a server that is gone; the folder goes soon after.
        let _ = self.folders.contexts().remove(&self.context);
    }
}

/// One after the other plays here.
pub(crate) struct Lane {
    number: usize,
    folders: Arc<Folders>,
    shared: Option<Server>,
    drivers: HashMap<(Language, usize), Arc<Process>>,
}

impl Lane {
    /// One with nothing started yet.
    pub(crate) fn new(number: usize, folders: Arc<Folders>) -> Self {
        Self { number, folders, shared: None, drivers: HashMap::new() }
    }

    /// The server for a scenario: the shared one, or one of its own.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn server(&mut self, scenario: &Scenario, run: usize) -> anyhow::Result<Server> {
        let folders = Arc::clone(&self.folders);
        match (scenario.server, self.shared.take()) {
            (Kind::Shared, Some(server)) => Ok(server),
            (Kind::Shared, None) => Server::start(&format!("lane{}", self.number), &[], folders).await,
            (Kind::Own, shared) => {
                self.shared = shared;
                let settings: Vec<_> = scenario.settings.iter().collect();
                Server::start(&format!("run{run}"), &settings, folders).await
            }
        }
    }

    /// Takes a shared server back.
    pub(crate) fn give_back(&mut self, scenario: &Scenario, server: Server) {
        if scenario.server == Kind::Shared {
            self.shared = Some(server);
        }
    }

    /// The driver of a language; another one for each `number`.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn driver(&mut self, language: Language, number: usize) -> anyhow::Result<Arc<Process>> {
        if let Some(driver) = self.drivers.get(&(language, number)) {
            return Ok(Arc::clone(driver));
        }
        let driver = self.new_driver(language).await?;
        self.drivers.insert((language, number), Arc::clone(&driver));
        Ok(driver)
    }

    /// A driver that nobody else uses.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn new_driver(&self, language: Language) -> anyhow::Result<Arc<Process>> {
        start_driver(language, &self.folders).await
    }

    /// Drivers that are not as they should be are not used again.
    pub(crate) fn forget_drivers(&mut self) {
        self.drivers.clear();
    }
}

/// Starts a driver.
///
/// # Errors
/// If it does not start.
pub(crate) async fn start_driver(language: Language, folders: &Folders) -> anyhow::Result<Arc<Process>> {
    let config: &Path = &folders.config();
    Process::start(language, config, &folders.work()).await.with_context(|| format!("the driver of {language}"))
}

/// Asks a driver for what must work.
///
/// # Errors
/// If it does not.
pub(crate) async fn must(process: &Process, op: &str) -> anyhow::Result<Value> {
    let (_, answering) = process.ask(op, None, None, Map::new());
    let answer = tokio::time::timeout(AT_ONCE, answering).await;
    let answer = answer.with_context(|| format!("{op} is not answered"))?.with_context(|| format!("{op} is lost"))?;
    answer.get("ok").cloned().with_context(|| format!("{op}: {answer}"))
}
