//! The subscription of a service: a task that keeps one view.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hither_client_core::{Error, Instance, Roster, RosterOptions, SessionState, WatchSpec};
use hither_protocol::ErrorCode;
use hither_protocol::message::{Filter, Mode, Start};
use tokio::sync::watch;

use super::slot::{End, Slot};
use crate::client::{Client, States, closed};
use crate::clock;
use crate::watch::{Step, Watch};

/// A subscription that nobody uses is noticed within this share of the time that it may be idle.
const LOOKS: u32 = 10;
/// Between two attempts to subscribe, where a server refuses for now.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps a slot's view until nobody wants it, or it cannot be kept, or the last handle of the client is gone.
pub(super) async fn follow(client: Client, slot: Arc<Slot>, mut ending: watch::Receiver<()>) {
    let end = tokio::select! {
        end = run(&client, &slot) => end,
        // An error is what it waits for: the other side is gone.
        _ = ending.changed() => End::Failed(closed()),
    };
    client.registry().remove(&slot, false);
    slot.end(end);
}

async fn run(client: &Client, slot: &Arc<Slot>) -> End {
    let mut states = client.states();
    let mut watch = match open(client, slot).await {
        Ok(watch) => watch,
        Err(error) => return End::Failed(error),
    };
    let options = client.options();
    let roster = RosterOptions { hold: options.view_hold, clock: clock::now };
    let mut roster = Roster::new(&slot.service, roster, Arc::clone(&client.registry().beats));
    roster.handle_connected(clock::now(), states.current() == SessionState::Connected);
    let mut look = tokio::time::interval(options.view_idle / LOOKS);
    let mut unused = 0;
    loop {
        let taken = turn(&mut watch, &mut states, &mut roster, &mut look, slot).await;
        match taken {
            Turn::Roster(Ok(())) => {}
            Turn::Roster(Err(error)) => {
                // What is known stays known, with its age.
                roster.handle_connected(clock::now(), false);
                slot.publish(roster.poll_view(clock::now()), roster.revision());
                return End::Failed(error);
            }
            Turn::Look if slot.is_pinned() || slot.take_used() => {
                slot.used_at.store(clock::now().0, Ordering::Relaxed);
                unused = 0;
            }
            Turn::Look => {
                unused += 1;
                if unused > LOOKS && client.registry().remove(slot, true) {
                    return End::Idle;
                }
            }
            Turn::Evicted => {
                if client.registry().remove(slot, true) {
                    return End::Idle;
                }
            }
        }
        if let Err(error) = account(client, slot, &roster) {
            return End::Failed(error);
        }
        slot.publish(roster.poll_view(clock::now()), roster.revision());
    }
}

/// Subscribes, again and again where that may help.
async fn open(client: &Client, slot: &Slot) -> Result<Watch, Error> {
    loop {
        let spec = WatchSpec {
            range: Instance::range_of(&slot.service),
            start: Start::Snapshot,
            mode: Mode::Latest,
            filter: Filter { puts: true, deletes: true, liveness: true },
            previous: false,
            min_interval_ms: 0,
        };
        match client.open_watch(spec, None, true).await {
            Ok(watch) => return Ok(watch),
            Err(error) if error.is_retryable() => {
                // A deadline is waiting enough; a server that refuses is not asked again at once.
                let waited = error.code() == ErrorCode::Timeout;
                slot.fail(error);
                if !waited {
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

enum Turn {
    /// The roster was told something.
    Roster(Result<(), Error>),
    /// It is time to look whether anybody uses the view.
    Look,
    /// Its memory is wanted for another.
    Evicted,
}

async fn turn(
    watch: &mut Watch,
    states: &mut States,
    roster: &mut Roster,
    look: &mut tokio::time::Interval,
    slot: &Slot,
) -> Turn {
    let wake = roster.poll_timeout();
    let sleep = wake.map(|at| at.since(clock::now()));
    tokio::select! {
        step = watch.step() => {
            let mut taken = take(roster, step);
            // What has come by now is one change for whoever looks.
            while taken.is_ok() && let Some(step) = watch.try_step() {
                taken = take(roster, step);
            }
            Turn::Roster(taken)
        }
        state = states.changed() => {
            roster.handle_connected(clock::now(), state == Some(SessionState::Connected));
            Turn::Roster(state.map(|_| ()).ok_or_else(closed))
        }
        () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {
            roster.handle_timeout(clock::now());
            Turn::Roster(Ok(()))
        }
        _ = look.tick() => Turn::Look,
        () = slot.evicted.notified() => Turn::Evicted,
    }
}

fn take(roster: &mut Roster, step: Step) -> Result<(), Error> {
    match step {
        Step::Update(update) => roster.handle_update(clock::now(), &update),
        Step::Standing(live) => roster.handle_live(clock::now(), live),
        Step::Ended(error) => return Err(error.unwrap_or_else(closed)),
    }
    Ok(())
}

/// Keeps the views of the client within their budget.
fn account(client: &Client, slot: &Slot, roster: &Roster) -> Result<(), Error> {
    let limit = client.options().view_bytes_max;
    let bytes = roster.bytes();
    if bytes > limit {
        let detail = format!("the records of {} take {bytes} bytes, view_bytes_max is {limit}", slot.service);
        return Err(Error::new(ErrorCode::ViewTooLarge, detail));
    }
    let all = client.registry().account(slot, bytes);
    if all > limit {
        client.registry().evict(all - limit, slot);
    }
    Ok(())
}
