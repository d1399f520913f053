//! The systems measured, behind one face.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hither::{Client, Identity, KeyRange, Start};
use tokio::task::JoinSet;

use crate::process::Server;

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Hither,
    Etcd,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hither => "Hither",
            Self::Etcd => "etcd",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Hither, Self::Etcd].into_iter().find(|system| system.name() == name)
    }

    pub(crate) fn start(self, run: &crate::Run) -> anyhow::Result<Server> {
        match self {
            Self::Hither => Server::hither(&run.hither),
            Self::Etcd => Server::etcd(&run.etcd),
        }
    }
}

/// A connection to a system. Clones share it.
#[derive(Clone)]
pub(crate) enum Connection {
    Hither(Client),
    #[cfg(feature = "etcd")]
    Etcd(Box<etcd_client::Client>),
}

/// A stream of changes to one key.
pub(crate) enum Watcher {
    Hither(hither::Watch),
    #[cfg(feature = "etcd")]
    Etcd(Box<etcd_client::WatchStream>),
}

/// A lease that is kept alive.
#[expect(dead_code, reason = "held, not used")]
pub(crate) enum Held {
    Hither(hither::Lease),
    #[cfg(feature = "etcd")]
    Etcd(tokio::task::JoinHandle<()>),
}

impl Connection {
    /// A new connection of its own.
    pub(crate) async fn open(system: System, server: &Server) -> anyhow::Result<Self> {
        Self::at(system, &server.address, server.home.path()).await
    }

    /// So many of them.
    pub(crate) async fn pool(system: System, server: &Server, connections: usize) -> anyhow::Result<Vec<Self>> {
        let mut pool = Vec::with_capacity(connections);
        for _ in 0..connections {
            pool.push(Self::open(system, server).await?);
        }
        Ok(pool)
    }

    /// One to a server that another process has started.
    pub(crate) async fn at(system: System, address: &str, home: &Path) -> anyhow::Result<Self> {
        match system {
            System::Hither => Ok(Self::Hither(hither(address, home).await?)),
            #[cfg(feature = "etcd")]
            System::Etcd => {
                let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
                loop {
                    // etcd says nothing when it is ready, so it is asked until it answers.
                    let client = etcd_client::Client::connect([address], None).await;
                    let answered = match client {
                        Ok(mut client) => client.status().await.map(|_| client),
                        Err(error) => Err(error),
                    };
                    match answered {
                        Ok(client) => return Ok(Self::Etcd(Box::new(client))),
                        Err(error) if tokio::time::Instant::now() > deadline => return Err(error.into()),
                        Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                }
            }
            #[cfg(not(feature = "etcd"))]
            System::Etcd => anyhow::bail!("built without the feature `etcd`"),
        }
    }

    pub(crate) async fn put(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Hither(client) => drop(client.put(key, value.to_vec()).await?),
            #[cfg(feature = "etcd")]
            Self::Etcd(client) => drop(client.put(key, value, None).await?),
        }
        Ok(())
    }

    /// A linearizable read.
    pub(crate) async fn get(&mut self, key: &str) -> anyhow::Result<()> {
        match self {
            Self::Hither(client) => drop(client.get(key).await?.context("the key exists")?),
            #[cfg(feature = "etcd")]
            Self::Etcd(client) => {
                anyhow::ensure!(!client.get(key, None).await?.kvs().is_empty(), "the key exists");
            }
        }
        Ok(())
    }

    /// Writes a key that lives as long as a lease of its own, which is kept alive until the process ends.
    pub(crate) async fn hold(&mut self, key: &str, value: &[u8], ttl: Duration) -> anyhow::Result<Held> {
        match self {
            Self::Hither(client) => {
                let lease = client.lease(ttl).await?;
                client.put(key, value.to_vec()).lease(lease.id()).await?;
                Ok(Held::Hither(lease))
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(client) => {
                let seconds = ttl.as_secs().try_into()?;
                let lease = client.lease_grant(seconds, None).await?.id();
                client.put(key, value, Some(etcd_client::PutOptions::new().with_lease(lease))).await?;
                let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
                // As its clients do: three times in each time to live.
                Ok(Held::Etcd(tokio::spawn(async move {
                    while keeper.keep_alive().await.is_ok() && answers.message().await.is_ok() {
                        tokio::time::sleep(ttl / 3).await;
                    }
                })))
            }
        }
    }

    /// Whether any key has this prefix.
    pub(crate) async fn has(&mut self, prefix: &str) -> anyhow::Result<bool> {
        match self {
            Self::Hither(client) => Ok(!client.range(KeyRange::prefix(prefix)).limit(1).await?.entries.is_empty()),
            #[cfg(feature = "etcd")]
            Self::Etcd(client) => {
                let options = etcd_client::GetOptions::new().with_prefix().with_limit(1);
                Ok(!client.get(prefix, Some(options)).await?.kvs().is_empty())
            }
        }
    }

    /// Every key with this prefix; returns how many.
    pub(crate) async fn list(&mut self, prefix: &str) -> anyhow::Result<usize> {
        match self {
            Self::Hither(client) => Ok(client.range(KeyRange::prefix(prefix)).await?.entries.len()),
            #[cfg(feature = "etcd")]
            Self::Etcd(client) => {
                let options = etcd_client::GetOptions::new().with_prefix();
                // The answer is one message, and gRPC's default refuses more than 4 MiB.
                let mut reader = client.kv_client().max_decoding_message_size(usize::MAX);
                Ok(reader.get(prefix, Some(options)).await?.kvs().len())
            }
        }
    }

    /// A watcher of each of these keys from now on, all asked for at once: for Hither one stream each, for etcd one gRPC
    /// stream for all, as its own client does. One `Watcher` of etcd stands for all of them.
    pub(crate) async fn watch(&mut self, keys: impl IntoIterator<Item = String>) -> anyhow::Result<Vec<Watcher>> {
        match self {
            Self::Hither(client) => {
                let mut opening = JoinSet::new();
                for key in keys {
                    opening.spawn(client.watch(KeyRange::One(key.into())).start(Start::Now).into_future());
                }
                let mut watchers = Vec::with_capacity(opening.len());
                while let Some(opened) = opening.join_next().await {
                    watchers.push(Watcher::Hither(opened??));
                }
                Ok(watchers)
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(client) => {
                let mut keys = keys.into_iter();
                let Some(first) = keys.next() else { return Ok(Vec::new()) };
                let mut stream = client.watch(first, None).await?;
                let mut count = 1;
                for key in keys {
                    stream.watch(key, None).await?;
                    count += 1;
                }
                // Each watch exists once its answer says so.
                let mut created = 0;
                while created < count {
                    let answer = stream.message().await?.context("the stream goes on")?;
                    created += usize::from(answer.created());
                }
                Ok(vec![Watcher::Etcd(Box::new(stream))])
            }
        }
    }
}

impl Watcher {
    /// Waits for the next delivery; returns the number of events in it.
    pub(crate) async fn next(&mut self) -> anyhow::Result<usize> {
        let mut events = 0;
        self.next_keys(|_| events += 1).await?;
        Ok(events)
    }

    /// Waits for the next delivery, and shows the key of each event in it.
    pub(crate) async fn next_keys(&mut self, mut show: impl FnMut(&[u8])) -> anyhow::Result<()> {
        match self {
            Self::Hither(watch) => {
                let update = watch.next().await.context("the watch goes on")??;
                update.events.iter().filter_map(|event| event.key()).for_each(|key| show(key.as_bytes()));
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(stream) => loop {
                let answer = stream.message().await?.context("the stream goes on")?;
                answer.events().iter().filter_map(|event| event.kv()).for_each(|entry| show(entry.key()));
                if !answer.events().is_empty() {
                    break;
                }
            },
        }
        Ok(())
    }
}

pub(crate) async fn hither(address: &str, home: &Path) -> anyhow::Result<Client> {
    // `hither dev` left its admin's identity here; the contexts of whoever runs this are left alone.
    let folder = home.join("config/hither");
    let name = std::fs::read_to_string(folder.join("current"))?;
    let read = |ending| std::fs::read(folder.join("contexts").join(format!("{}{ending}", name.trim())));
    let client = Client::builder()
        .identity(Identity::from_pem(&read(".ca.pem")?, &read(".pem")?)?)
        .url(format!("hither://{address}"))
        .share_watches(false)
        .request_timeout(Duration::from_secs(30))
        .connect()
        .await?;
    Ok(client)
}
