//! A registered instance.

use std::sync::atomic::{AtomicBool, Ordering};

use hither_client_core::{Error, Instance, ServiceEndpoint, SessionState, Status, Tie};
use hither_protocol::{ErrorCode, Revision};
use tokio::sync::{Mutex, oneshot, watch};

use super::keeper::{Ask, Phase, Standing};
use super::registration::{Listens, Registration};
use crate::client::{Client, unanswered};

impl Client {
    /// Registers an instance of a service: writes its record at `services/{service}/{id}`, bound to this client's
    /// session unless the registration says otherwise. One that is registered under the same id is replaced.
    ///
    /// If the registration is lost (the client was silent for longer than its time to live, or the session ended), the
    /// client declares it again as soon as it can, together with all others that were lost with it, in one transaction.
    ///
    /// ```no_run
    /// # async fn example(client: hither::Client) -> Result<(), hither::Error> {
    /// use hither::Registration;
    /// let registered = client.register(Registration::new("api").port(8080).version("1.2").tag("blue")).await?;
    /// println!("{} can be found", registered.instance().id);
    /// registered.deregister().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidName` and `InvalidArgument` for the record, `LeaseNotFound`, and those of any write.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Error> {
        let Registration { mut instance, tie, listens, error } = registration;
        if let Some(error) = error {
            return Err(error);
        }
        if let Some(Listens { scheme, host, port }) = listens {
            let host = match host {
                Some(host) => host,
                None => super::address::own(&self.options().endpoints).await?,
            };
            instance.endpoints.insert(0, ServiceEndpoint { scheme, host, port });
        }
        instance.check()?;
        let (standing, receiver) = watch::channel(Standing { phase: Phase::Waiting, instance: instance.clone() });
        let (reply, answer) = oneshot::channel();
        let member = self.number();
        self.ask_keeper(Ask::Register { member, instance, tie, standing, reply })?;
        // Made before the answer: if this future is dropped while it waits, its own drop takes the registration back.
        let over = AtomicBool::new(false);
        let registered =
            Registered { client: self.clone(), member, tie, standing: receiver, updating: Mutex::new(()), over };
        answer.await.unwrap_or_else(|_| Err(unanswered()))?;
        Ok(registered)
    }
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistrationState {
    /// It is in the registry.
    Registered,
    /// No server answers. It is still in the registry, as far as is known.
    Suspended,
    /// It must be taken as gone from the registry. It is declared again as soon as possible.
    Lost,
    /// It was taken out.
    Deregistered,
}

impl RegistrationState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Suspended => "suspended",
            Self::Lost => "lost",
            Self::Deregistered => "deregistered",
        }
    }
}

/// A registered instance.
///
/// Dropping it deregisters in the background, as far as a server can be reached; what hangs on a lease of the caller's,
/// or on nothing, stays.
#[derive(Debug)]
pub struct Registered {
    client: Client,
    member: u64,
    tie: Tie,
    standing: watch::Receiver<Standing>,
    /// One change after the other, so that none is lost.
    updating: Mutex<()>,
    over: AtomicBool,
}

impl Registered {
    /// The record, as it is stored.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.standing.borrow().instance.clone()
    }

    /// Which registration under its id it is: the revision that created its key. It is another after a loss.
    #[must_use]
    pub fn epoch(&self) -> Revision {
        self.standing.borrow().instance.epoch
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        // Whatever becomes of the withdrawal, it is over for this process.
        if self.over.load(Ordering::Acquire) {
            return RegistrationState::Deregistered;
        }
        let phase = self.standing.borrow().phase;
        match (phase, self.client.state()) {
            (Phase::Gone, _) | (_, SessionState::Closed) => RegistrationState::Deregistered,
            (Phase::Lost, _) => RegistrationState::Lost,
            (Phase::Waiting | Phase::Declared, SessionState::Connected) => RegistrationState::Registered,
            (Phase::Waiting | Phase::Declared, _) => RegistrationState::Suspended,
        }
    }

    /// Waits until it must be taken as gone from the registry: no server confirmed it for so long that it may end soon,
    /// or its lease or session ended, or another registration has its id. At once, if it is so now. The client declares
    /// it again by itself, unless it was replaced; [`found`](Self::found) waits for that.
    pub async fn lost(&self) {
        // A keeper that is gone keeps nothing.
        let _ = self.standing.clone().wait_for(|standing| matches!(standing.phase, Phase::Lost | Phase::Gone)).await;
    }

    /// Waits until it is in the registry (again). False if it never will be: it was deregistered or replaced, or the
    /// client was closed.
    pub async fn found(&self) -> bool {
        let mut standing = self.standing.clone();
        let told = standing.wait_for(|standing| matches!(standing.phase, Phase::Declared | Phase::Gone)).await;
        told.is_ok_and(|standing| standing.phase == Phase::Declared)
    }

    /// Takes it out of the registry, and leaves a record at `stopped/{service}/{id}` that says when, for 10 minutes.
    /// Returns whether it was there. Whatever the answer, it is over for this process.
    ///
    /// # Errors
    /// `Conflict` if the id is another registration's by now, which stays; those of any write.
    pub async fn deregister(&self) -> Result<bool, Error> {
        if self.over.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        let (reply, answer) = oneshot::channel();
        self.client.ask_keeper(Ask::Withdraw { member: self.member, reply: Some(reply) })?;
        match answer.await.unwrap_or_else(|_| Err(unanswered())) {
            // It was given up before: it is not there.
            Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
            outcome => outcome,
        }
    }

    /// Asks for no new work: the status becomes draining. What was begun can be finished; then
    /// [`deregister`](Self::deregister).
    ///
    /// # Errors
    /// Those of [`update`](Self::update).
    pub async fn drain(&self) -> Result<(), Error> {
        self.update(|instance| instance.status = Status::Draining).await
    }

    /// Changes the record; its service and id stay. While it is lost it waits, and what it is then declared as is
    /// changed.
    ///
    /// # Errors
    /// `Conflict` if the id is another registration's by now, `NotFound` if somebody has deregistered it; those of
    /// [`Client::register`].
    pub async fn update(&self, change: impl FnOnce(&mut Instance)) -> Result<(), Error> {
        let _updating = self.updating.lock().await;
        let before = self.instance();
        let mut instance = before.clone();
        change(&mut instance);
        if (&instance.service, &instance.id) != (&before.service, &before.id) {
            return Err(Error::new(ErrorCode::InvalidArgument, "a registration keeps its service and id"));
        }
        instance.check()?;
        let (reply, answer) = oneshot::channel();
        self.client.ask_keeper(Ask::Update { member: self.member, instance, reply })?;
        let timeout = self.client.options().request_timeout;
        tokio::select! {
            outcome = answer => outcome.unwrap_or_else(|_| Err(unanswered())).map(|_| ()),
            () = self.client.sleep(timeout * 2) => {
                let detail = "the registration is lost; the change is made when it is declared again";
                Err(Error::unknown(ErrorCode::Timeout, detail))
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        let member = self.member;
        // A keeper that is gone keeps nothing.
        let _ = self.client.ask_keeper(match self.tie {
            Tie::Kept(_) => Ask::Withdraw { member, reply: None },
            Tie::Given(_) | Tie::Free => Ask::Forget { member },
        });
    }
}
