//! The native client.

use std::sync::Arc;

use hither::{Client, ClientBuilder, Error, Identity, SessionState, context::Contexts};
use napi_derive::napi;

use crate::hear;
use crate::port::{Port, Queue, value};
use crate::runtime;
use crate::tell;

/// Settings of a client to come; see `ConnectOptions` in TypeScript.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `ConnectOptions` has the words")]
pub(crate) struct Settings {
    pub url: Option<String>,
    pub context: Option<String>,
    pub contexts: Option<String>,
    pub ca: Option<String>,
    pub identity: Option<String>,
    pub namespace: Option<String>,
    pub connect_timeout_ms: Option<f64>,
    pub request_timeout_ms: Option<f64>,
    pub agent: String,
    pub options: Vec<(String, String)>,
}

impl Settings {
    fn into_builder(self) -> Result<ClientBuilder, Error> {
        let mut builder = Client::builder().agent(self.agent).runtime(runtime::runtime().handle().clone());
        if let Some(url) = self.url {
            builder = builder.url(url);
        }
        if let Some(context) = self.context {
            builder = builder.context(context);
        }
        if let Some(folder) = self.contexts {
            builder = builder.contexts(Contexts::at(folder));
        }
        if let (Some(ca), Some(identity)) = (self.ca, self.identity) {
            builder = builder.identity(Identity::from_pem(ca.as_bytes(), identity.as_bytes())?);
        }
        if let Some(namespace) = self.namespace {
            builder = builder.namespace(namespace);
        }
        if let Some(timeout) = self.connect_timeout_ms {
            builder = builder.connect_timeout(hear::duration(timeout));
        }
        if let Some(timeout) = self.request_timeout_ms {
            builder = builder.request_timeout(hear::duration(timeout));
        }
        Ok(self.options.into_iter().fold(builder, |builder, (name, value)| builder.option(name, value)))
    }
}

/// Connects a client. Brings a [`NativeClient`].
#[napi(catch_unwind)]
pub(crate) fn connect(port: &Port, call: u32, settings: Settings) {
    let queue = port.queue();
    let theirs = Arc::clone(&queue);
    queue.run(call, async move {
        let client = settings.into_builder()?.connect().await?;
        Ok(value(NativeClient { client, queue: theirs }))
    });
}

/// A connected client. Each method but the getters takes the number of its call first.
#[napi]
#[derive(Clone, Debug)]
pub struct NativeClient {
    pub(crate) client: Client,
    pub(crate) queue: Arc<Queue>,
}

#[napi]
impl NativeClient {
    /// How it stands to its cluster.
    #[napi(getter, catch_unwind)]
    pub fn state(&self) -> &'static str {
        self.client.state().as_str()
    }

    /// The namespace of all that it does.
    #[napi(getter, catch_unwind)]
    pub fn namespace(&self) -> String {
        self.client.options().namespace.to_string()
    }

    /// Notes each state from now on, until it is closed.
    #[napi(catch_unwind)]
    pub fn states(&self, call: u32) {
        let (mut states, queue) = (self.client.states(), Arc::clone(&self.queue));
        let mut last = states.current();
        let mut told = runtime::follow(|tell| async move {
            while last != SessionState::Closed {
                let Some(state) = states.changed().await else { break };
                last = state;
                // Who no longer reads has ended this.
                let _ = tell.send(state);
            }
        });
        self.queue.run(call, async move {
            while let Some(state) = told.recv().await {
                queue.note(call, value(state.as_str()));
            }
            Ok(value(SessionState::Closed.as_str()))
        });
    }

    /// What it has counted: in the order of `Metrics` in TypeScript.
    #[napi(catch_unwind)]
    pub fn metrics(&self) -> Vec<u64> {
        let counted = self.client.metrics();
        vec![
            counted.connects,
            counted.reconnects,
            counted.dial_failures,
            counted.sessions_lost,
            counted.requests,
            counted.retries,
            counted.timeouts,
            counted.watch_resumes,
            counted.watch_gaps,
            counted.watch_duplicates,
            counted.watch_resets,
            counted.events,
            counted.in_flight,
            counted.watches,
            counted.watch_streams,
        ]
    }

    /// The session's id, opened now if there is none.
    #[napi(catch_unwind)]
    pub fn session(&self, call: u32, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            hear::within(timeout, client.session()).await.map(|session| value(session.to_string()))
        });
    }

    /// Says goodbye.
    #[napi(catch_unwind)]
    pub fn close(&self, call: u32) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            client.close().await;
            Ok(value(tell::NOTHING))
        });
    }
}
