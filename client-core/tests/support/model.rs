//! A plain server that keeps every promise of the wire in the simplest way, and forgets nothing but what it is told to.

use std::collections::BTreeMap;

use bytes::BytesMut;
use hither_protocol::codec::encode_parts;
use hither_protocol::frame::Flags;
use hither_protocol::message::{
    Batch, Beat, Context, Created, Put, PutReply, Reply, Request, ResetPage, SessionOpenReply, SnapshotPage, Stamp,
    Start, Subscribe, encode_refusal,
};
use hither_protocol::{
    Entry, ErrorCode, Event, Key, NodeId, Previous, Refusal, RequestNumber, Revision, SessionId, Version, WatchId,
};

use super::LINEAGE;

/// The store, its history and its sessions.
#[derive(Default)]
pub struct Model {
    pub revision: u64,
    pub floor: u64,
    pub entries: BTreeMap<Key, Entry>,
    pub log: Vec<Event>,
    /// Every value ever written, in order.
    pub written: Vec<String>,
    sessions: BTreeMap<u64, BTreeMap<u64, u64>>,
    nonces: BTreeMap<[u8; 16], u64>,
    pub watches: BTreeMap<u64, Watched>,
}

/// A watch of the connection there is.
pub struct Watched {
    position: u64,
    frames: u64,
    told: u64,
}

impl Model {
    /// Carries out a request. Returns the bytes of its answer.
    pub fn apply(&mut self, number: u64, context: &Context, request: &Request) -> BytesMut {
        let mut out = BytesMut::new();
        match self.outcome(context, request) {
            Ok(reply) => {
                let stamp = Stamp { revision: Revision(self.revision), term: 1, node: NodeId(1), age_ms: 0 };
                reply.encode(&mut out, RequestNumber(number), &stamp, false);
            }
            Err(refusal) => encode_refusal(&mut out, RequestNumber(number), &refusal),
        }
        out
    }

    fn outcome(&mut self, context: &Context, request: &Request) -> Result<Reply, Refusal> {
        match request {
            Request::SessionOpen(open) => {
                let next = self.nonces.len() as u64 + 1;
                let session = *self.nonces.entry(open.nonce).or_insert(next);
                self.sessions.entry(session).or_default();
                let reply = SessionOpenReply { session: SessionId(session), ttl_ms: open.ttl_ms, epoch: 1 };
                Ok(Reply::SessionOpen(reply))
            }
            Request::Put(put) => {
                let token = context.retry.expect("a mutation has a token");
                let Some(session) = self.sessions.get_mut(&token.session.0) else {
                    return Err(Refusal::new(ErrorCode::SessionExpired, "gone"));
                };
                // What was acknowledged may be forgotten: a client that still asks for it has broken its word.
                session.retain(|sequence, _| *sequence > token.acknowledged.0);
                assert!(token.sequence > token.acknowledged, "an acknowledged number is used again");
                assert!(token.sequence.0 - token.acknowledged.0 <= 1_024, "beyond what a session remembers");
                let first = session.get(&token.sequence.0).copied();
                let revision = match first {
                    Some(revision) => revision,
                    None => {
                        let revision = self.put(put);
                        let session = self.sessions.get_mut(&token.session.0).expect("found above");
                        session.insert(token.sequence.0, revision);
                        revision
                    }
                };
                Ok(Reply::Put(PutReply { revision: Revision(revision), previous: None }))
            }
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, put: &Put) -> u64 {
        self.revision += 1;
        let entry = Entry {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: Revision(self.revision),
            mod_revision: Revision(self.revision),
            version: Version(1),
            lease: None,
        };
        self.written.push(String::from_utf8(put.value.to_vec()).expect("text"));
        self.log.push(Event::Put { entry: entry.clone(), previous: Previous::NotAsked });
        self.entries.insert(put.key.clone(), entry);
        self.revision
    }

    pub fn delete(&mut self, key: &Key) {
        if self.entries.remove(key).is_some() {
            self.revision += 1;
            let revision = Revision(self.revision);
            self.log.push(Event::Delete { key: key.clone(), revision, previous: Previous::NotAsked });
        }
    }

    /// Sessions end.
    pub fn end_sessions(&mut self) {
        self.sessions.clear();
    }

    pub fn has_session(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session.0)
    }

    /// History up to now is forgotten.
    pub fn trim(&mut self) {
        self.floor = self.revision;
        self.log.clear();
    }

    /// Opens a watch. Returns the bytes of its stream so far.
    pub fn subscribe(&mut self, subscribe: &Subscribe) -> BytesMut {
        let id = subscribe.watch.0;
        let mut out = BytesMut::new();
        let position = match subscribe.start {
            Start::After(revision) => revision.0,
            Start::Now | Start::Snapshot => self.revision,
        };
        frame(&mut out, id, &Created { revision: Revision(position), lineage: LINEAGE }, false);
        let mut watched = Watched { position, frames: 0, told: 0 };
        if subscribe.start == Start::Snapshot {
            let mut entries: Vec<Entry> = self.entries.values().cloned().collect();
            entries.sort_by_key(|entry| entry.mod_revision);
            let revision = Revision(self.revision);
            let pages: Vec<&[Entry]> = if entries.is_empty() { vec![&[]] } else { entries.chunks(3).collect() };
            for (number, page) in pages.iter().enumerate() {
                let more = number + 1 < pages.len();
                frame(&mut out, id, &SnapshotPage { revision, entries: page.to_vec() }, more);
                watched.frames += 1;
            }
        }
        self.watches.insert(id, watched);
        out
    }

    /// What a watch is owed: a batch in two frames, or a reset.
    pub fn advance(&mut self, id: u64) -> BytesMut {
        let mut out = BytesMut::new();
        let Some(watched) = self.watches.get_mut(&id) else { return out };
        let (from, to) = (Revision(watched.position), Revision(self.revision));
        if from == to {
            return out;
        }
        if watched.position < self.floor {
            let (unchanged, changed): (Vec<Entry>, Vec<Entry>) =
                self.entries.values().cloned().partition(|entry| entry.mod_revision <= from);
            let mut changed = changed;
            changed.sort_by_key(|entry| entry.mod_revision);
            let unchanged = unchanged.into_iter().map(|entry| entry.key).collect();
            let base = from;
            let lineage = LINEAGE;
            let first = ResetPage { revision: to, base, lineage, unchanged, changed: vec![] };
            let second = ResetPage { revision: to, base, lineage, unchanged: vec![], changed };
            frame(&mut out, id, &first, true);
            frame(&mut out, id, &second, false);
        } else {
            // Now and then it repeats what it told before, as it may.
            let again = if watched.frames % 3 == 0 { 2 } else { 0 };
            let from = Revision(watched.position.saturating_sub(again).max(self.floor));
            let events: Vec<Event> = self.log.iter().filter(|event| event.revision() > from).cloned().collect();
            let (first, second) = events.split_at(events.len() / 2);
            frame(&mut out, id, &Batch { from, to, folded: false, events: first.to_vec() }, true);
            frame(&mut out, id, &Batch { from, to, folded: false, events: second.to_vec() }, false);
        }
        watched.position = to.0;
        watched.frames += 2;
        out
    }

    pub fn beat(&mut self) -> Beat {
        let mut sent = Vec::new();
        let mut behind = Vec::new();
        for (id, watched) in &mut self.watches {
            if watched.told != watched.frames {
                watched.told = watched.frames;
                sent.push((WatchId(*id), watched.frames));
            }
            if watched.position != self.revision {
                behind.push(WatchId(*id));
            }
        }
        Beat { revision: Revision(self.revision), sent, behind, age_ms: 0, term: 1 }
    }
}

fn frame<M: hither_protocol::codec::Message>(out: &mut BytesMut, id: u64, message: &M, more: bool) {
    let flags = if more { Flags::MORE } else { Flags::default() };
    encode_parts(out, M::OP, M::VERSION, flags, id, None, message);
}
