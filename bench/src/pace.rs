//! How quick the machine is. One that shares its host with others may be a quarter as quick a minute later, and then the
//! systems that took their turns before and after do not compare.

use std::time::{Duration, Instant};

use crate::limits;
use crate::process::Server;

/// Of the bare echo, with so many in flight.
const SECONDS: f64 = 0.2;
const IN_FLIGHT: usize = 256;
/// The slowest moment of a round, of its quickest. The echo itself varies by a quarter.
const STEADY: f64 = 0.6;
/// The moment at which a round begins, of the quickest of the run.
const READY: f64 = 0.5;
const LOOK: Duration = Duration::from_secs(5);

/// What was seen of it, and how much longer it is waited for.
pub(crate) struct Pace {
    patience: Duration,
    /// Since the last look back: the moments of a round.
    round: Vec<f64>,
    slowest: f64,
    quickest: f64,
    waited: Duration,
    again: usize,
}

impl Pace {
    /// With no patience nothing is measured.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, round: Vec::new(), slowest: f64::INFINITY, quickest: 0.0, waited: Duration::ZERO, again: 0 }
    }

    /// Waits until the machine is about as quick as it was.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        while !self.is_out() && !self.is_ready(measure().await?) {
            tokio::time::sleep(LOOK).await;
            self.waited += LOOK;
            self.take(LOOK);
        }
        Ok(())
    }

    /// To be called after each turn.
    pub(crate) async fn look(&mut self) -> anyhow::Result<()> {
        if !self.is_out() {
            self.see(measure().await?);
        }
        Ok(())
    }

    /// Whether the round, which began so long ago, is as good as it gets; if not, it is to be measured again.
    pub(crate) fn was_steady(&mut self, began: Instant) -> bool {
        if self.is_out() || is_steady(&self.round) {
            return true;
        }
        self.again += 1;
        self.take(began.elapsed());
        false
    }

    /// For the page; nothing if nothing was measured.
    pub(crate) fn describe(&self) -> String {
        if self.quickest == 0.0 {
            return String::new();
        }
        let end =
            if self.is_out() { "; then there was no patience left, and the rest was taken as it came" } else { "" };
        format!(
            "Before and after every turn the bare echo says how quick the machine is: {:.0} to {:.0} thousand a second. \
             A round in which that changed by more than {:.0} % is measured again ({} were), and none begins below {:.0} % \
             of the best ({:.0} s were waited for it){end}.",
            self.slowest / 1e3,
            self.quickest / 1e3,
            100.0 * (1.0 - STEADY),
            self.again,
            100.0 * READY,
            self.waited.as_secs_f64(),
        )
    }

    /// Whether a round may begin with this moment.
    fn is_ready(&mut self, now: f64) -> bool {
        self.round.clear();
        self.see(now);
        now >= self.quickest * READY
    }

    fn see(&mut self, pace: f64) {
        self.round.push(pace);
        self.slowest = self.slowest.min(pace);
        self.quickest = self.quickest.max(pace);
    }

    fn take(&mut self, time: Duration) {
        self.patience = self.patience.saturating_sub(time);
    }

    const fn is_out(&self) -> bool {
        self.patience.is_zero()
    }
}

fn is_steady(round: &[f64]) -> bool {
    let (slowest, quickest) =
        round.iter().fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), &pace| (least.min(pace), most.max(pace)));
    slowest >= quickest * STEADY
}

async fn measure() -> anyhow::Result<f64> {
    let figures = limits::echo_loop(&Server::limits()?, IN_FLIGHT, SECONDS).await?;
    Ok(figures["operations/s"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_in_which_the_machine_slowed_down_is_measured_again_as_long_as_there_is_patience() {
        let mut pace = Pace::new(Duration::from_secs(3600));
        [700e3, 650e3, 150e3].into_iter().for_each(|moment| pace.see(moment));
        assert!(!pace.was_steady(Instant::now()));
        pace.take(Duration::from_secs(3600));
        assert!(pace.was_steady(Instant::now()), "there is no patience left");
        let said = pace.describe();
        assert!(
            said.contains("150 to 700 thousand") && said.contains("(1 were)") && said.contains("no patience"),
            "{said}"
        );
    }

    #[test]
    fn no_round_begins_while_the_machine_is_much_slower_than_it_was() {
        let mut pace = Pace::new(Duration::from_secs(1));
        assert!(pace.is_ready(700e3), "nothing quicker is known");
        assert!(!pace.is_ready(300e3));
        assert!(pace.is_ready(400e3));
        pace.see(390e3);
        assert!(pace.was_steady(Instant::now()), "what was before the round does not count");
    }

    #[test]
    fn a_round_that_was_slow_from_end_to_end_is_one() {
        let mut pace = Pace::new(Duration::from_secs(1));
        [150e3, 140e3, 170e3].into_iter().for_each(|moment| pace.see(moment));
        assert!(pace.was_steady(Instant::now()));
    }
}
