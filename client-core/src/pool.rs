//! The servers that a client knows, and which of them to try next.

use std::collections::BTreeSet;
use std::time::Duration;

use hither_protocol::ErrorCode;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::duration::format_duration;
use crate::error::Error;
use crate::url::Endpoint;

/// Most servers that are remembered: a greeting from a cluster gone wrong must not fill memory.
const SERVERS_MAX: usize = 64;

/// The servers. Those given are always kept; those that a greeting named come after them.
#[derive(Debug)]
pub(crate) struct ServerPool {
    servers: Vec<Server>,
    leader: Option<Endpoint>,
    /// Tried since the last success or the last wait.
    tried: BTreeSet<Endpoint>,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    failures: u32,
    error: Option<Error>,
}

impl ServerPool {
    pub(crate) fn new(endpoints: &[Endpoint]) -> Self {
        let mut pool = Self { servers: Vec::new(), leader: None, tried: BTreeSet::new() };
        pool.learn(endpoints.iter().cloned());
        pool
    }

    /// Adds servers that are not known yet.
    pub(crate) fn learn(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) {
        for endpoint in endpoints {
            let known = self.servers.iter().any(|server| server.endpoint == endpoint);
            if !known && self.servers.len() < SERVERS_MAX {
                self.servers.push(Server { endpoint, failures: 0, error: None });
            }
        }
    }

    /// The leader is said to be there: it is tried first.
    pub(crate) fn hint(&mut self, leader: Endpoint) {
        self.learn([leader.clone()]);
        self.tried.remove(&leader);
        self.leader = Some(leader);
    }

    /// The server to try next, which then counts as tried: the leader, else one of those that failed least. Never one
    /// of `dialing`: QUIC itself repeats what is not answered, and a server that is slow to answer must not be asked
    /// twice by all who wait for it. Not `left`, unless there is no other.
    pub(crate) fn pick(
        &mut self,
        dialing: &BTreeSet<&Endpoint>,
        left: Option<&Endpoint>,
        random: &mut SmallRng,
    ) -> Option<Endpoint> {
        let mut busy = dialing.clone();
        busy.extend(left);
        let leader = self.leader.take().filter(|leader| !busy.contains(leader));
        let picked = leader.or_else(|| self.untried(&busy, random)).or_else(|| {
            // Another round; those that are being tried are tried in it.
            self.tried = dialing.iter().map(|&endpoint| endpoint.clone()).collect();
            self.untried(&busy, random).or_else(|| self.untried(dialing, random))
        })?;
        self.tried.insert(picked.clone());
        Some(picked)
    }

    fn untried(&self, busy: &BTreeSet<&Endpoint>, random: &mut SmallRng) -> Option<Endpoint> {
        let free = |server: &&Server| !self.tried.contains(&server.endpoint) && !busy.contains(&server.endpoint);
        let least = self.servers.iter().filter(free).map(|server| server.failures).min()?;
        let best: Vec<&Server> = self.servers.iter().filter(free).filter(|server| server.failures == least).collect();
        Some(best[random.random_range(0..best.len())].endpoint.clone())
    }

    /// Whether a server is left that was not tried since the last success.
    pub(crate) fn has_untried(&self) -> bool {
        self.servers.iter().any(|server| !self.tried.contains(&server.endpoint))
    }

    pub(crate) const fn has_several(&self) -> bool {
        self.servers.len() > 1
    }

    pub(crate) fn failed(&mut self, endpoint: &Endpoint, error: Error) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.endpoint == *endpoint) {
            server.failures = server.failures.saturating_add(1);
            server.error = Some(error);
        }
    }

    pub(crate) fn greeted(&mut self, endpoint: &Endpoint) {
        self.tried.clear();
        for server in self.servers.iter_mut().filter(|server| server.endpoint == *endpoint) {
            server.failures = 0;
            server.error = None;
        }
    }

    /// The error of a pool of which every server turns this client away for good.
    pub(crate) fn turned_away(&self) -> Option<Error> {
        let fatal = |server: &Server| server.error.as_ref().is_some_and(is_fatal);
        if !self.servers.iter().all(fatal) {
            return None;
        }
        self.servers.first().and_then(|server| server.error.clone())
    }

    /// Why no server could be reached in the time that was `waited`, with the cause at each that gave one. `before`:
    /// why the last connection ended.
    pub(crate) fn unreachable(&self, waited: Duration, before: Option<&Error>) -> Error {
        let mut causes: Vec<&Error> = self.servers.iter().filter_map(|server| server.error.as_ref()).collect();
        causes.retain(|error| error.code() != ErrorCode::Timeout);
        if let [error] = causes[..]
            && (self.servers.len() == 1 || is_fatal(error))
        {
            return error.clone();
        }
        if !causes.is_empty() {
            let causes: Vec<&str> = causes.into_iter().map(Error::detail).collect();
            return Error::new(ErrorCode::Unavailable, format!("no server can be reached: {}", causes.join("; ")));
        }
        let servers: Vec<String> = self.servers.iter().map(|server| server.endpoint.to_string()).collect();
        let servers = servers.join(", ");
        match before {
            None => no_answer(&servers, waited),
            Some(before) => {
                let waited = format_duration(waited);
                let detail =
                    format!("no connection to {servers} within {waited}; the last one ended: {}", before.detail());
                Error::new(ErrorCode::Unavailable, detail)
            }
        }
    }
}

/// An error that another attempt at the same server will meet again.
pub(crate) fn is_fatal(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Unauthenticated
            | ErrorCode::PermissionDenied
            | ErrorCode::IdentityRevoked
            | ErrorCode::IdentityInvalid
            | ErrorCode::ClusterMismatch
            | ErrorCode::ProtocolMismatch
            | ErrorCode::UnsupportedVersion
            | ErrorCode::InvalidName
    )
}

/// Nobody answered in the time that was `waited`, however long that is said to be.
#[must_use]
pub fn no_answer(servers: &str, waited: Duration) -> Error {
    let within = format_duration(waited);
    Error::new(
        ErrorCode::Unavailable,
        format!(
            "no answer over UDP from {servers} within {within}: does a Hither server listen there, and does the network let UDP through?"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        (1..=count).map(|port| Endpoint { host: "a".to_owned(), port }).collect()
    }

    #[test]
    fn every_server_is_tried_before_one_is_tried_again() {
        let mut random = SmallRng::seed_from_u64(7);
        let known = endpoints(4);
        let mut pool = ServerPool::new(&known);
        for _ in 0..3 {
            let mut round: Vec<Endpoint> =
                (0..4).filter_map(|_| pool.pick(&BTreeSet::new(), None, &mut random)).collect();
            assert!(!pool.has_untried());
            round.sort();
            assert_eq!(round, known);
        }
    }

    #[test]
    fn a_server_that_was_asked_is_not_asked_beside_it_and_one_that_is_left_only_for_want_of_another() {
        let mut random = SmallRng::seed_from_u64(7);
        let known = endpoints(2);
        let mut pool = ServerPool::new(&known);
        let dialing = BTreeSet::from([&known[0]]);
        for _ in 0..9 {
            assert_eq!(pool.pick(&dialing, None, &mut random).as_ref(), Some(&known[1]));
            assert_eq!(pool.pick(&dialing, Some(&known[1]), &mut random).as_ref(), Some(&known[1]));
        }
        assert_eq!(pool.pick(&known.iter().collect(), None, &mut random), None);
    }

    #[test]
    fn the_leader_is_tried_first_and_the_one_that_failed_last() {
        let mut random = SmallRng::seed_from_u64(7);
        let known = endpoints(3);
        let mut pool = ServerPool::new(&known[..2]);
        pool.failed(&known[0], Error::new(ErrorCode::Unavailable, "down"));
        pool.hint(known[2].clone());
        let order: Vec<Endpoint> = (0..3).filter_map(|_| pool.pick(&BTreeSet::new(), None, &mut random)).collect();
        assert_eq!(order, [known[2].clone(), known[1].clone(), known[0].clone()]);
    }

    #[test]
    fn a_client_is_turned_away_only_when_every_server_does() {
        let known = endpoints(2);
        let mut pool = ServerPool::new(&known);
        pool.failed(&known[0], Error::new(ErrorCode::IdentityRevoked, "revoked"));
        assert!(pool.turned_away().is_none());
        pool.failed(&known[1], Error::new(ErrorCode::IdentityRevoked, "revoked"));
        assert_eq!(pool.turned_away().map(|error| error.code()), Some(ErrorCode::IdentityRevoked));
        pool.greeted(&known[1]);
        assert!(pool.turned_away().is_none());
    }

    #[test]
    fn silence_is_reported_with_host_port_and_time() {
        let pool = ServerPool::new(&endpoints(2));
        let error = pool.unreachable(Duration::from_secs(2), None);
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert!(error.detail().contains("a:1, a:2 within 2s"), "{error}");
        let before = Error::new(ErrorCode::ShuttingDown, "it went down");
        let error = pool.unreachable(Duration::from_millis(500), Some(&before));
        assert!(error.detail().contains("within 500ms") && error.detail().contains("it went down"), "{error}");
    }
}
