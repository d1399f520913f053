//! A full disk costs puts and nothing else, and heals by itself.

use std::time::Duration;

/// The long form has more: `hither-faults disk-full`.
const FULL: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_puts_are_refused_and_everything_else_goes_on() -> anyhow::Result<()> {
    let figures = hither_faults::full::run(FULL).await?;
    println!("{figures:?}");
    Ok(())
}
