//! Writers: puts, deletions, transactions and leases, each recorded before it is asked for and when it is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hither::{Client, Compare, Delete, Error, Key, KeyRange, Lease, LeaseId, Put, Relation, TxnOp};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::keys;
use super::room::Taken;
use super::world::World;
use crate::ledger::{Asked, Condition, OpId, Outcome, Plan, value};

/// Keys of one transaction.
const TXN_KEYS_MAX: usize = 6;
const VALUE_BYTES: usize = 100;
/// Of a value that nobody changes.
const VALUE_BYTES_STILL: usize = 4 * 1024;
/// The shortest time to live there is, and more.
const TTLS: [Duration; 3] = [Duration::from_secs(1), Duration::from_millis(1_500), Duration::from_secs(2)];

/// A writer of keys without leases, until writers are to stop.
pub(crate) async fn write(world: World, client: Client, seed: u64, pause: Duration) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut next = Instant::now();
    while world.is_writing() {
        next = (next + pause).max(Instant::now() - pause);
        tokio::time::sleep_until(next.into()).await;
        match rng.random_range(0..100) {
            0..50 => put(&world, &client, keys::key(&mut rng), None).await,
            50..64 => several(&world, &client, &mut rng).await,
            64..76 => count(&world, &client, &mut rng).await,
            76..95 => delete(&world, &client, KeyRange::One(keys::key(&mut rng))).await,
            _ => delete(&world, &client, keys::neighbours(&mut rng)).await,
        }
    }
}

/// Grants leases, writes with them, renews some for a while, and lets them end or ends them.
pub(crate) async fn lease(world: World, client: Client, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while world.is_writing() {
        let ttl = TTLS[rng.random_range(0..TTLS.len())];
        let sent = Instant::now();
        let granted = match client.lease_grant(ttl).await {
            Ok(granted) => granted,
            Err(error) => {
                world.ledger.denied(None, &error, Instant::now());
                continue;
            }
        };
        let lease = granted.lease;
        let ttl = Duration::from_millis(granted.ttl_ms);
        world.ledger.heard(lease, ttl, sent);
        for _ in 0..rng.random_range(1..4) {
            put(&world, &client, keys::leased(&mut rng), Some(lease)).await;
        }
        for _ in 0..rng.random_range(0..4) {
            tokio::time::sleep(ttl.mul_f64(rng.random_range(0.2..0.7))).await;
            let sent = Instant::now();
            match client.lease_renew(lease).await {
                Ok(_) => world.ledger.heard(lease, ttl, sent),
                Err(error) => world.ledger.denied(Some(lease), &error, Instant::now()),
            }
        }
        if rng.random_bool(0.2) {
            let _ = run(&world, &client, |_| Plan::Revoke(lease)).await;
        }
    }
}

/// Holds a lease that the client keeps alive, and a key with it; takes another when it is lost.
pub(crate) async fn hold(world: World, client: Client, holder: usize) {
    while world.is_writing() {
        let Ok(lease) = client.lease(Duration::from_secs(2)).await else { continue };
        note_loss(&world, &lease);
        put(&world, &client, keys::bound(holder), Some(lease.id())).await;
        let lost = lease.lost();
        tokio::select! {
            () = lost => {}
            () = world.written() => {}
        }
        let (id, plan) = world.ledger.begin(|_| Plan::Revoke(lease.id()));
        let room = ready(&world, id, &plan).await;
        let answer = lease.revoke().await;
        record(&world, id, room, &answer, |reply| Outcome::at(reply.revision, reply.deleted > 0));
    }
}

/// Records when the client takes a lease as lost, whatever its holder does meanwhile.
fn note_loss(world: &World, lease: &Lease) {
    let (id, lost, ledger) = (lease.id(), lease.lost(), Arc::clone(&world.ledger));
    ledger.kept(id);
    tokio::spawn(async move {
        lost.await;
        ledger.lost(id, Instant::now());
    });
}

/// The first writes, before anybody watches.
pub(crate) async fn begin(world: &World, client: &Client) -> Result<(), Error> {
    for key in keys::still() {
        let puts = |id| vec![(key, value(id, 0, VALUE_BYTES_STILL))];
        run(world, client, |id| Plan::Write { when: None, puts: puts(id), deletes: Vec::new(), lease: None }).await?;
    }
    Ok(())
}

/// The last writes: every key is written once more, so that every watch has something to be told of, and some are
/// deleted.
pub(crate) async fn conclude(world: &World, client: &Client) -> Result<(), Error> {
    let all: Vec<Key> = keys::all().collect();
    for keys in all.chunks(48) {
        let puts = |id| keys.iter().enumerate().map(|(part, key)| (key.clone(), value(id, part, 0))).collect();
        run(world, client, |id| Plan::Write { when: None, puts: puts(id), deletes: Vec::new(), lease: None }).await?;
    }
    for key in all.iter().step_by(3) {
        run(world, client, |_| Plan::Delete(KeyRange::One(key.clone()))).await?;
    }
    Ok(())
}

async fn put(world: &World, client: &Client, key: Key, lease: Option<LeaseId>) {
    let puts = |id| vec![(key, value(id, 0, VALUE_BYTES))];
    // What came of it is in the record.
    let _ = run(world, client, |id| Plan::Write { when: None, puts: puts(id), deletes: Vec::new(), lease }).await;
}

async fn delete(world: &World, client: &Client, range: KeyRange) {
    let _ = run(world, client, |_| Plan::Delete(range)).await;
}

/// Several keys in one revision.
async fn several(world: &World, client: &Client, rng: &mut SmallRng) {
    let count = rng.random_range(2..=TXN_KEYS_MAX);
    let mut keys = keys::keys(rng, count);
    let deletes = if count > 2 { keys.split_off(count - rng.random_range(0..2)) } else { Vec::new() };
    let puts = |id| keys.into_iter().enumerate().map(|(part, key)| (key, value(id, part, VALUE_BYTES))).collect();
    let _ = run(world, client, |id| Plan::Write { when: None, puts: puts(id), deletes, lease: None }).await;
}

/// Writes a key if it still is what was read.
async fn count(world: &World, client: &Client, rng: &mut SmallRng) {
    let key = keys::counter(rng);
    let Ok(before) = client.get(key.clone()).await else { return };
    let when = Some(Condition { key: key.clone(), value: before.map(|entry| entry.value) });
    let puts = |id| vec![(key, value(id, 0, VALUE_BYTES))];
    let _ = run(world, client, |id| Plan::Write { when, puts: puts(id), deletes: Vec::new(), lease: None }).await;
}

/// Records a request, sends it and records the answer.
async fn run(world: &World, client: &Client, plan: impl FnOnce(OpId) -> Plan) -> Result<(), Error> {
    let (id, plan) = world.ledger.begin(plan);
    let room = ready(world, id, &plan).await;
    match plan {
        Plan::Write { when: None, puts, deletes, lease } if puts.len() == 1 && deletes.is_empty() => {
            let [(key, value)]: [(Key, Bytes); 1] = puts.try_into().unwrap_or_else(|_| unreachable!("one, as seen"));
            let answer = client.put(key, value).lease(lease).await;
            record(world, id, room, &answer, |reply| Outcome::Done(reply.revision));
            answer.map(drop)
        }
        Plan::Write { when, puts, deletes, lease } => {
            let mut txn = client.txn();
            if let Some(Condition { key, value }) = when {
                txn = txn.when(match value {
                    Some(value) => Compare::Value(key, Relation::Equal, value),
                    None => Compare::Absent(key),
                });
            }
            for (key, value) in puts {
                txn = txn.then(TxnOp::Put(Put { key, value, lease, previous: false }));
            }
            for key in deletes {
                txn = txn.then(TxnOp::Delete(Delete { range: KeyRange::One(key), previous: false }));
            }
            let answer = txn.await;
            record(world, id, room, &answer, |reply| Outcome::at(reply.revision, reply.succeeded));
            answer.map(drop)
        }
        Plan::Delete(range) => {
            let answer = client.delete_range(range).await;
            record(world, id, room, &answer, |reply| Outcome::at(reply.revision, reply.deleted > 0));
            answer.map(drop)
        }
        Plan::Revoke(lease) => {
            let answer = client.lease_revoke(lease).await;
            record(world, id, room, &answer, |reply| Outcome::at(reply.revision, reply.deleted > 0));
            answer.map(drop)
        }
    }
}

/// Waits until there is room for a request, and records that it is sent.
async fn ready(world: &World, id: OpId, plan: &Plan) -> Taken {
    let room = world.room.take(plan).await;
    world.ledger.ask(id, Asked { at: Instant::now(), after: world.acknowledged() });
    room
}

fn record<T>(world: &World, id: OpId, room: Taken, answer: &Result<T, Error>, told: impl FnOnce(&T) -> Outcome) {
    let outcome = Outcome::of(answer, told);
    if let Outcome::Done(revision) = outcome {
        world.acknowledge(revision);
        room.until(revision);
    }
    world.ledger.end(id, outcome, Instant::now());
}
