//! Refusals: each has a reason that can have been so. A way that is cut and a server that is gone or busy are reasons for
//! whatever is asked; that a lease has ended is one after its time; no writer gives any other.

use std::collections::BTreeMap;
use std::time::Instant;

use hither::{ErrorCode, LeaseId};

use super::Trial;
use crate::finding::{Finding, Kind};
use crate::ledger::{OpId, Outcome, Plan};

/// What faults lead to.
const OF_FAULTS: [ErrorCode; 7] = [
    ErrorCode::Unavailable,
    ErrorCode::Timeout,
    ErrorCode::ConnectionLost,
    ErrorCode::ServerBusy,
    ErrorCode::TooManyInFlight,
    ErrorCode::NotReady,
    ErrorCode::SessionExpired,
];

/// Who asked when for leases to be revoked.
type Revoked = BTreeMap<LeaseId, Vec<(usize, Instant)>>;

/// A request as far as its refusal goes.
struct Refused {
    /// Where it is in the record of requests, if it is.
    place: Option<usize>,
    lease: Option<LeaseId>,
    code: ErrorCode,
    /// It was refused by then.
    by: Instant,
}

impl Trial<'_> {
    pub(super) fn try_refusals(&mut self) -> Result<(), Finding> {
        let mut revoked = Revoked::new();
        let mut refused = Vec::new();
        for (place, op) in self.record.ops.iter().enumerate() {
            if let (Plan::Revoke(lease), Some(asked)) = (&op.plan, op.asked) {
                revoked.entry(*lease).or_default().push((place, asked.at));
            }
            if let (Outcome::Refused(code), Some(by)) = (op.outcome, op.answered) {
                let lease = match &op.plan {
                    Plan::Write { lease, .. } => *lease,
                    Plan::Revoke(lease) => Some(*lease),
                    Plan::Delete(_) => None,
                };
                refused.push(Refused { place: Some(place), lease, code, by });
            }
        }
        let denied = self.record.denied.iter();
        refused.extend(denied.map(|denied| Refused {
            place: None,
            lease: denied.lease,
            code: denied.code,
            by: denied.at,
        }));
        refused.iter().try_for_each(|refused| self.try_refusal(refused, &revoked))
    }

    fn try_refusal(&mut self, refused: &Refused, revoked: &Revoked) -> Result<(), Finding> {
        let Refused { place, lease, code, by } = *refused;
        self.found.refused += 1;
        if OF_FAULTS.contains(&code) {
            return Ok(());
        }
        let who = place.map_or_else(|| "a call for a lease".to_owned(), |place| OpId::at(place).to_string());
        let Some(lease) = lease.filter(|_| code == ErrorCode::LeaseNotFound) else {
            return Err(Finding::new(Kind::Refused, "the writers", format!("{who} was refused for no reason: {code}")));
        };
        self.found.leaseless += 1;
        // That it is to be revoked by this very request is none.
        let is_reason = |&(other, at): &(usize, Instant)| Some(other) != place && at <= by;
        let may_be_revoked = revoked.get(&lease).is_some_and(|asked| asked.iter().any(is_reason));
        match self.record.leases.get(&lease) {
            Some(held) if !may_be_revoked && by < held.sent + held.ttl => {
                let since = by.checked_duration_since(held.sent).map_or_else(
                    || "and a sign of life that was sent later was acknowledged".to_owned(),
                    |since| format!("{since:?} after a sign of life that was acknowledged had been sent"),
                );
                let what = format!("{who} was told that there is no lease {lease} of {:?}, {since}", held.ttl);
                Err(Finding::new(Kind::Early, "the writers", what))
            }
            _ => Ok(()),
        }
    }
}
