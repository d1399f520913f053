//! The state, and who speaks to it.

use hither_protocol::message::{Consistency, Context, Role};
use hither_protocol::{Entry, Namespace, UnixMillis};
use hither_state::device::{MemoryState, StateDevice};
use hither_state::door::{Admitted, Caller, Read, admit};
use hither_state::image::{self, Meta};
use hither_state::{Command, Pin, Position, RangeQuery, State, StateLimits};

use crate::language::{Asked, Line, parse};
use crate::transcript;

/// A state that takes commands. The image of it on a device follows, and is loaded again after every command: a scenario
/// says the same over a restart at any point.
pub(crate) struct World {
    state: State,
    device: MemoryState,
    index: u64,
    pin: Option<Pin>,
}

impl Default for World {
    fn default() -> Self {
        Self { state: State::new(StateLimits::default()), device: MemoryState::default(), index: 0, pin: None }
    }
}

impl World {
    /// Carries out one line and says what came of it.
    pub(crate) fn take(&mut self, line: &str) -> Result<String, String> {
        let Line { namespace, name, admin, retry, asked } = parse(line)?;
        let namespace: Namespace = namespace.parse().map_err(|_| "bad namespace")?;
        let role = if admin { Role::Admin } else { Role::Client };
        let at = UnixMillis(1_000_000 + self.index);
        let command = match asked {
            Asked::Leader(action) => {
                Command { namespace: Namespace::system(), principal: "".into(), retry: None, at, action }
            }
            Asked::Show => return Ok(self.show()),
            Asked::Pin => {
                self.pin = Some(self.state.pin());
                return Ok(String::new());
            }
            Asked::Unpin => {
                self.pin = None;
                return Ok(String::new());
            }
            Asked::Request(request) => {
                let context = Context { retry, ..Context::default() };
                let caller = Caller { namespace: namespace.clone(), name: name.into(), role };
                match admit(&caller, &context, *request, at) {
                    Err(refusal) => return Ok(format!("at the door: {}", transcript::refusal(&refusal))),
                    Ok(Admitted::Propose(command)) => command,
                    Ok(Admitted::Read(read)) => return Ok(self.read(&namespace, &read)),
                    Ok(other) => return Ok(format!("{other:?}\n")),
                }
            }
        };
        self.index += 1;
        let applied = self.state.apply(Position { index: self.index, offset: 0 }, &command);
        self.keep(&applied.delta);
        Ok(transcript::applied(&applied))
    }

    /// Writes the change to the device and checks that what is there loads to the same state.
    fn keep(&mut self, delta: &hither_state::Delta) {
        let mut rows = Vec::new();
        image::rows(delta, &mut rows);
        let meta = Meta::of(&self.state, self.index, bytes::Bytes::new());
        self.device.write(&rows, &meta.encode()).unwrap();
        let loaded = image::load(&self.device).unwrap().unwrap();
        assert!(image::all_rows(&loaded.state).eq(image::all_rows(&self.state)), "the image differs from the state");
        assert_eq!(loaded.meta, meta);
        // A pin belongs to the state that it was taken from.
        if self.pin.is_none() {
            self.state = loaded.state;
        }
    }

    fn read(&self, namespace: &Namespace, read: &Read) -> String {
        match read {
            Read::Get(get) => {
                assert_eq!(get.consistency, Consistency::Linearizable);
                let entry = match &self.pin {
                    Some(pin) => self.state.get_at(namespace, get.key.as_bytes(), pin),
                    None => self.state.get(namespace, get.key.as_bytes()),
                };
                entry.map_or_else(|| "nothing\n".to_owned(), |entry| transcript::entry(&entry) + "\n")
            }
            Read::Range(range) => {
                let query = RangeQuery {
                    limit: range.limit as usize,
                    reverse: range.reverse,
                    projection: range.projection,
                    pin: self.pin.as_ref(),
                    ..RangeQuery::new(&range.range)
                };
                let page = self.state.range(namespace, &query);
                let entries: Vec<Entry> = page.entries;
                let mut text: String = entries.iter().map(|entry| transcript::entry(entry) + "\n").collect();
                let next = page.next.map(|next| format!(", more after {next}")).unwrap_or_default();
                text += &format!("{} of revision {}{next}\n", page.count, page.revision);
                text
            }
        }
    }

    fn show(&self) -> String {
        let mut text = format!(
            "revision {}, floor {}, {} keys, {} bytes, {} leases, {} sessions\n",
            self.state.revision(),
            self.state.floor(),
            self.state.keys(),
            self.state.state_bytes(),
            self.state.leases_len(),
            self.state.sessions_len(),
        );
        for lease in self.state.leases(None) {
            let record = lease.record;
            let keys: Vec<String> = lease.keys().map(ToString::to_string).collect();
            text += &format!(
                "lease {} {:?} of {} in {}, {} ms, {} epoch {}, keys {keys:?}\n",
                lease.id,
                record.kind,
                record.owner,
                record.namespace,
                record.ttl_ms,
                record.state.as_str(),
                record.epoch,
            );
            if let Some(session) = record.session.and_then(|session| self.state.session(session))
                && lease.is_sessions_own()
            {
                let bound: Vec<String> = session.leases().map(|lease| lease.to_string()).collect();
                text += &format!(
                    "session {} of {}, acknowledged {}, remembers {}, leases {bound:?}\n",
                    session.id,
                    session.record.principal,
                    session.record.acknowledged,
                    session.remembered(),
                );
            }
        }
        text
    }
}
