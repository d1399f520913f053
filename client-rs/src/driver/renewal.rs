//! A certificate that ends is replaced in time, in the background.

use std::time::Duration;

use hither_client_core::{Core, Error};
use hither_protocol::message::{RenewIdentity, RenewIdentityReply, Reply};
use hither_protocol::{ErrorCode, Moment};

use super::links::Links;
use super::{Kept, Outcome};
use crate::identity::Identity;
use crate::{clock, enrol};

/// The call that renews. Handles number theirs from 1.
pub(super) const RENEWAL: u64 = 1 << 62;

/// Least time between two attempts.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the wall clock is looked at: it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(600);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Renews an identity after two thirds of its certificate's time.
pub(super) struct Renewal {
    identity: Identity,
    kept: Option<Kept>,
    look_at: Moment,
    key: Option<Vec<u8>>,
    attempts: u64,
}

impl Renewal {
    pub(super) fn new(identity: Identity, kept: Option<Kept>) -> Self {
        Self { identity, kept, look_at: clock::now(), key: None, attempts: 0 }
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.key.is_none().then_some(self.look_at)
    }

    pub(super) fn check(&mut self, core: &mut Core, now: Moment) {
        if self.key.is_some() || now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        let remaining = self.identity.renew_at().0.saturating_sub(clock::wall().0);
        if remaining > 0 {
            self.look_at = now + LOOK.min(Duration::from_millis(remaining));
            return;
        }
        self.look_at = now + AGAIN;
        match enrol::signing_request() {
            Ok((key, csr)) => {
                self.key = Some(key);
                core.handle_call(now, RENEWAL, RenewIdentity { csr: csr.into() }.into(), Some(TIMEOUT));
            }
            Err(error) => tracing::warn!(%error, "the identity could not be renewed"),
        }
    }

    /// Returns whether there is a new identity to show.
    pub(super) fn answered(&mut self, links: &mut Links, now: Moment, outcome: Outcome) -> bool {
        self.look_at = now + AGAIN;
        let Some(key) = self.key.take() else { return false };
        let renewed = outcome.and_then(|(_, reply)| self.renewed(links, key, reply));
        match renewed {
            Ok(identity) => {
                self.attempts = 0;
                tracing::info!(name = identity.name(), "the identity was renewed");
                self.keep(&identity);
                self.identity = identity;
                true
            }
            Err(error) => {
                self.attempts += 1;
                tracing::warn!(%error, attempts = self.attempts, "the identity could not be renewed");
                false
            }
        }
    }

    fn renewed(&self, links: &mut Links, key: Vec<u8>, reply: Reply) -> Result<Identity, Error> {
        let reply = RenewIdentityReply::try_from(reply)
            .map_err(|_| Error::new(ErrorCode::InvalidFrame, "the server answered another question"))?;
        let identity = Identity::from_der(reply.ca.to_vec(), reply.certificate.to_vec(), key)?;
        if identity.cluster() != self.identity.cluster() || identity.name() != self.identity.name() {
            return Err(Error::new(ErrorCode::IdentityInvalid, "the new certificate names another identity"));
        }
        links.show(&identity)?;
        Ok(identity)
    }

    /// Keeps it for the next process, away from this task: disks can be slow.
    fn keep(&self, identity: &Identity) {
        let Some(Kept { contexts, name }) = self.kept.clone() else { return };
        let (before, identity) = (self.identity.clone(), identity.clone());
        tokio::task::spawn_blocking(move || {
            // Only what it was made from is replaced: the context may be another cluster's by now.
            let kept = contexts.load(&name).and_then(|context| {
                if context.identity.same_as(&before) { contexts.save_identity(&name, &identity) } else { Ok(()) }
            });
            if let Err(error) = kept {
                tracing::warn!(%error, context = name, "the renewed identity could not be kept");
            }
        });
    }
}
