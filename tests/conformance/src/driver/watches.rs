//! Watches of keys.

use hither::{Client, Mode, Revision, Start, Watch};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::args::Args;
use super::{Done, Failure, crash, show};

/// An open watch, that may be closed while somebody waits for its next update.
pub(crate) struct OpenWatch {
    watch: Mutex<Option<Watch>>,
    closed: watch::Sender<bool>,
}

pub(crate) async fn open(client: &Client, args: &Args<'_>) -> Result<(OpenWatch, u64), Failure> {
    let mut watch = client.watch(args.range()?).start(start(args)?);
    if let Some(filter) = args.filter()? {
        watch = watch.filter(filter);
    }
    if args.text_maybe("mode")? == Some("latest") {
        watch = watch.mode(Mode::Latest);
    }
    if args.flag("previous", false)? {
        watch = watch.previous();
    }
    if let Some(interval) = args.time("min_interval_ms")? {
        watch = watch.min_interval(interval);
    }
    if let Some(timeout) = args.time("timeout_ms")? {
        watch = watch.timeout(timeout);
    }
    let watch = watch.await?;
    let revision = watch.revision().0;
    Ok((OpenWatch { watch: Mutex::new(Some(watch)), closed: watch::Sender::new(false) }, revision))
}

fn start(args: &Args<'_>) -> Result<Start, Failure> {
    match args.any("start") {
        None => Ok(Start::Snapshot),
        Some(Value::String(text)) if text == "snapshot" => Ok(Start::Snapshot),
        Some(Value::String(text)) if text == "now" => Ok(Start::Now),
        Some(Value::Object(object)) => Ok(Start::After(Revision(Args(object).number("after")?))),
        Some(_) => Err(crash("start is not a start")),
    }
}

impl OpenWatch {
    pub(crate) async fn next(&self, args: &Args<'_>) -> Done {
        let mut closed = self.closed.subscribe();
        let mut watch = self.watch.lock().await;
        let Some(watch) = watch.as_mut() else { return Ok(json!({ "none": "end" })) };
        let next = async {
            tokio::select! {
                next = watch.next() => next,
                _ = closed.wait_for(|closed| *closed) => None,
            }
        };
        Ok(match args.wait(next).await? {
            None => json!({ "none": "timeout" }),
            Some(None) => json!({ "none": "end" }),
            Some(Some(update)) => show::update(&update?),
        })
    }

    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        drop(self.watch.lock().await.take());
    }
}
