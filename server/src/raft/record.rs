//! What raft keeps on disk and sends to its peers, in forms of our own: its types change with its versions, these do
//! not. Each record begins with a version byte. That it is what was written is the device's promise.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{Commands, Entry, LeaderId, LogId, Membership, Payload, StoredMembership, Vote};
use crate::engine::Member;

/// The version that this program writes.
const VERSION: u8 = 1;

/// Bytes of an entry before its body: version, kind, term, node.
const ENTRY_HEADER_BYTES: usize = 1 + 1 + 8 + 8;

const KIND_BLANK: u8 = 0;
const KIND_COMMANDS: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A type of raft and its frozen form.
pub(crate) trait Record: Sized {
    /// The frozen form.
    type Form: Serialize + DeserializeOwned;

    fn form(&self) -> Self::Form;

    /// # Errors
    /// `InvalidData` if no such thing can be.
    fn of(form: Self::Form) -> io::Result<Self>;

    fn encode(&self) -> Bytes {
        encode(&self.form())
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        decode(bytes).and_then(Self::of)
    }
}

/// Version byte and postcard.
pub(crate) fn encode<T: Serialize>(form: &T) -> Bytes {
    let bytes = postcard::to_extend(form, vec![VERSION]).expect("numbers, bytes, text and lists of them always encode");
    bytes.into()
}

/// # Errors
/// `InvalidData`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match bytes.split_first() {
        Some((&VERSION, form)) => match postcard::take_from_bytes(form) {
            Ok((form, [])) => Ok(form),
            Ok(_) => Err(invalid("bytes follow a record")),
            Err(error) => Err(invalid(format!("a record does not decode: {error}"))),
        },
        Some((version, _)) => Err(invalid(format!(
            "a record of version {version}, this program reads {VERSION}; start the version that wrote it"
        ))),
        None => Err(invalid("an empty record")),
    }
}

pub(crate) fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LogIdForm {
    term: u64,
    node: u64,
    index: u64,
}

impl Record for LogId {
    type Form = LogIdForm;

    fn form(&self) -> LogIdForm {
        LogIdForm { term: self.leader_id.term, node: self.leader_id.node_id, index: self.index }
    }

    fn of(form: LogIdForm) -> io::Result<Self> {
        Ok(Self { leader_id: LeaderId { term: form.term, node_id: form.node }, index: form.index })
    }
}

impl<T: Record> Record for Option<T> {
    type Form = Option<T::Form>;

    fn form(&self) -> Self::Form {
        self.as_ref().map(T::form)
    }

    fn of(form: Self::Form) -> io::Result<Self> {
        form.map(T::of).transpose()
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct VoteForm {
    term: u64,
    node: u64,
    committed: bool,
}

impl Record for Vote {
    type Form = VoteForm;

    fn form(&self) -> VoteForm {
        VoteForm { term: self.leader_id.term, node: self.leader_id.node_id, committed: self.committed }
    }

    fn of(form: VoteForm) -> io::Result<Self> {
        let leader_id = LeaderId { term: form.term, node_id: form.node };
        Ok(Self { leader_id, committed: form.committed })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MembershipForm {
    /// More than one set while the cluster passes from one to the next.
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, MemberForm>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberForm {
    peer_address: String,
    client_address: String,
}

impl Record for Membership {
    type Form = MembershipForm;

    fn form(&self) -> MembershipForm {
        let nodes = self.nodes().map(|(&node, member)| {
            let Member { peer_address, client_address } = member.clone();
            (node, MemberForm { peer_address, client_address })
        });
        MembershipForm { voters: self.get_joint_config().clone(), nodes: nodes.collect() }
    }

    fn of(form: MembershipForm) -> io::Result<Self> {
        let nodes: BTreeMap<u64, Member> = form
            .nodes
            .into_iter()
            .map(|(node, MemberForm { peer_address, client_address })| (node, Member { peer_address, client_address }))
            .collect();
        Self::new(form.voters, nodes).map_err(|error| invalid(error.to_string()))
    }
}

impl Record for StoredMembership {
    type Form = (Option<LogIdForm>, MembershipForm);

    fn form(&self) -> Self::Form {
        (self.log_id().form(), self.membership().form())
    }

    fn of((log_id, membership): Self::Form) -> io::Result<Self> {
        // A state that no entry was applied to has a membership without members, which is no valid one to be made anew.
        if membership.voters.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self::new(Option::of(log_id)?, Membership::of(membership)?))
    }
}

/// An entry as the payload of a log record; its index stands beside it.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let membership;
    let (kind, body): (u8, &[u8]) = match &entry.payload {
        Payload::Blank => (KIND_BLANK, &[]),
        Payload::Normal(commands) => (KIND_COMMANDS, commands.encoded()),
        Payload::Membership(members) => {
            membership = members.encode();
            (KIND_MEMBERSHIP, &membership)
        }
    };
    let mut out = BytesMut::with_capacity(ENTRY_HEADER_BYTES + body.len());
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u64_le(entry.log_id.leader_id.term);
    out.put_u64_le(entry.log_id.leader_id.node_id);
    out.put_slice(body);
    out.freeze()
}

/// # Errors
/// `InvalidData`: this node must not go on.
pub(crate) fn decode_entry(index: u64, mut record: Bytes) -> io::Result<Entry> {
    if record.len() < ENTRY_HEADER_BYTES {
        return Err(invalid(format!("entry {index} of the log is cut short")));
    }
    let version = record.get_u8();
    if version != VERSION {
        return Err(invalid(format!(
            "entry {index} of the log has version {version}, this program reads {VERSION}; start the version that wrote it"
        )));
    }
    let kind = record.get_u8();
    let leader_id = LeaderId { term: record.get_u64_le(), node_id: record.get_u64_le() };
    let payload = match kind {
        KIND_BLANK => Payload::Blank,
        KIND_COMMANDS => Payload::Normal(Commands::read(record)),
        KIND_MEMBERSHIP => Payload::Membership(Membership::decode(&record)?),
        kind => return Err(invalid(format!("entry {index} of the log is of unknown kind {kind}"))),
    };
    Ok(Entry { log_id: LogId { leader_id, index }, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(index: u64) -> LogId {
        LogId { leader_id: LeaderId { term: 3, node_id: 2 }, index }
    }

    fn membership() -> Membership {
        let member =
            |name: &str| Member { peer_address: format!("{name}:7401"), client_address: format!("{name}:7400") };
        let nodes = BTreeMap::from([(1, member("a")), (2, member("b")), (3, member("c"))]);
        Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let vote = Vote { leader_id: LeaderId { term: 3, node_id: 2 }, committed: true };
        assert_eq!(Vote::decode(&vote.encode()).unwrap(), vote);
        assert_eq!(Option::<LogId>::decode(&Some(log_id(9)).encode()).unwrap(), Some(log_id(9)));
        let stored = StoredMembership::new(Some(log_id(4)), membership());
        assert_eq!(StoredMembership::decode(&stored.encode()).unwrap(), stored);
        let none = StoredMembership::default();
        assert_eq!(StoredMembership::decode(&none.encode()).unwrap(), none);
        for payload in [Payload::Blank, Payload::Normal(Commands::read("x".into())), Payload::Membership(membership())]
        {
            let entry = Entry { log_id: log_id(7), payload };
            assert_eq!(decode_entry(7, encode_entry(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn the_bytes_on_disk_do_not_change() {
        let entry = Entry { log_id: log_id(7), payload: Payload::Normal(Commands::read("x".into())) };
        assert_eq!(&encode_entry(&entry)[..], b"\x01\x01\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0x");
        let vote = Vote { leader_id: LeaderId { term: 3, node_id: 2 }, committed: true };
        assert_eq!(&vote.encode()[..], [1, 3, 2, 1]);
        assert_eq!(&log_id(300).encode()[..], [1, 3, 2, 0xAC, 2]);
        let small = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, Member::default())])).unwrap();
        assert_eq!(&small.encode()[..], [1, 1, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn what_is_newer_or_damaged_is_refused() {
        assert!(Vote::decode(&[2, 3, 2, 1]).is_err());
        assert!(Vote::decode(&[1, 3, 2, 1, 0]).is_err());
        assert!(Vote::decode(&[]).is_err());
        for record in [&[][..], &[1; 17], &[2; 18], &[1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(decode_entry(1, Bytes::copy_from_slice(record)).is_err());
        }
    }
}
