//! A client that watches.

use hither_client_core::{LinkId, Options, Signal, UpdateKind};
use hither_protocol::Revision;
use hither_protocol::message::Start;

use super::{World, entry};

/// A client with one watch, whose snapshot at revision 10 has come, and the watch's id on the connection.
pub fn watching(options: Options) -> (World, LinkId, u64) {
    let (mut world, link) = World::connected(options);
    world.watch(1, Start::Snapshot);
    let wire = world.subscription(link).watch.0;
    world.create(link, wire, 10);
    world.snapshot(link, wire, 10, vec![entry("a", 3), entry("b", 7)]);
    assert!(matches!(world.signal(), Some(Signal::Opened { id: 1, outcome: Ok(Revision(10)) })));
    let updates = world.updates(1);
    assert_eq!((updates.len(), updates[0].kind, updates[0].revision.0), (1, UpdateKind::Snapshot, 10));
    (world, link, wire)
}
