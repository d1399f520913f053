//! A program that uses Hither ends when it wants to, whatever is under way.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hither_tests::node::Node;
use hither_tests::wait::until;

/// What it takes on a busy machine. It is the wait for an answer that must not be part of it.
const PROMPT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_ends_with_0_and_in_silence_with_calls_in_flight() -> anyhow::Result<()> {
    let runs = std::env::var("HITHER_RUNS").map_or(Ok(12), |runs| runs.parse())?;
    let node = Node::start().await;
    for run in 0..runs {
        let how = ["return", "exit", "drop"][run % 3];
        let begin = Instant::now();
        let done = Command::new(env!("CARGO_BIN_EXE_hither-exits"))
            .arg(how)
            .env("XDG_CONFIG_HOME", node.home().config())
            .env_remove("HITHER_URL")
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "run {run}, by {how}: {}: {said}", done.status);
        assert!(begin.elapsed() < PROMPT, "run {run}, by {how}, took {:?}", begin.elapsed());
    }
    let witness = node.client().connect().await?;
    until("what they registered is gone", Duration::from_secs(60), async || {
        witness.instances("exits").await.ok()?.is_empty().then_some(())
    })
    .await;
    Ok(())
}
