//! What was acknowledged outlives a loss of power, and the proof of it would notice if it did not.

use hither_faults::disk::Place;
use hither_faults::ledger::Broken;
use hither_faults::power::{Pace, Plant};

/// The long form has 20: `hither-faults power-loss`.
const ROUNDS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_under_load_takes_nothing_that_was_acknowledged() -> anyhow::Result<()> {
    let mut plant = Plant::start(71, Pace::Brisk).await?;
    for round in 0..ROUNDS {
        plant.round(round % 2 == 1).await?;
    }
    let figures = plant.finish().await?;
    println!("{figures:?}");
    figures.were_busy(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_syncs_the_same_node_fails_the_same_test() -> anyhow::Result<()> {
    let mut plant = Plant::start(72, Pace::Shipped).await?;
    plant.round(false).await?;
    plant.disk().set(Place::Swallow, 1)?;
    let error = plant.round(false).await.expect_err("a disk that forgets what it said that it synced goes unnoticed");
    assert!(error.is::<Broken>(), "it fails for another reason: {error:#}");
    println!("without syncs: {error:#}");
    Ok(())
}
