//! What an operator does to instances that other processes have registered.

use std::time::SystemTime;

use hither_client_core::{Error, Instance, TOMBSTONE_TTL, check_service, tombstone};
use hither_protocol::message::{Compare, Delete, Put, Relation, TxnOp};
use hither_protocol::{Entry, ErrorCode, KeyRange, Revision};

use super::registration::rfc3339;
use crate::client::Client;

/// Attempts at a change while others change the same record.
const ATTEMPTS: u32 = 5;

impl Client {
    /// Changes the record of an instance, whoever registered it; its service and id stay. What its own process changes
    /// later, it changes in the record as it knows it. Returns the record as it is now.
    ///
    /// # Errors
    /// `NotFound` if there is no such instance; `InvalidArgument` for what the record may not be, or if it cannot be
    /// read; `Conflict` if it changes all the time; those of any write.
    pub async fn update_instance(
        &self,
        service: impl AsRef<str>,
        id: impl AsRef<str>,
        change: impl Fn(&mut Instance),
    ) -> Result<Instance, Error> {
        let (service, id) = (service.as_ref(), id.as_ref());
        for _ in 0..ATTEMPTS {
            let entry = self.entry(service, id).await?.ok_or_else(|| unknown(service, id))?;
            let mut instance = Instance::from_json(&entry.value)?;
            change(&mut instance);
            instance.check()?;
            if instance.key() != entry.key {
                return Err(Error::new(ErrorCode::InvalidArgument, "a registration keeps its service and id"));
            }
            let same = Compare::ModRevision(entry.key.clone(), Relation::Equal, entry.mod_revision);
            let value = instance.to_json().into();
            let put = Put { key: entry.key, value, lease: entry.lease, previous: false };
            let reply = self.txn().when(same).then(TxnOp::Put(put)).await?;
            if reply.succeeded {
                self.wrote(service, reply.revision);
                instance.epoch = entry.create_revision;
                return Ok(instance);
            }
        }
        Err(Error::new(ErrorCode::Conflict, format!("others change the record of {service}/{id} all the time")))
    }

    /// Takes an instance out, whoever registered it, and leaves behind when. `epoch`: only if it is this registration
    /// of its id. Returns whether it was there.
    ///
    /// # Errors
    /// `Conflict` if it is another registration; those of any write.
    pub async fn deregister(
        &self,
        service: impl AsRef<str>,
        id: impl AsRef<str>,
        epoch: Option<Revision>,
    ) -> Result<bool, Error> {
        let (service, id) = (service.as_ref(), id.as_ref());
        let Some(entry) = self.entry(service, id).await? else { return Ok(false) };
        let found = entry.create_revision;
        if let Some(wanted) = epoch.filter(|wanted| *wanted != found) {
            let detail = format!("{service}/{id} is another registration by now, of epoch {found}, not {wanted}");
            return Err(Error::new(ErrorCode::Conflict, detail));
        }
        let mut instance = Instance::from_json(&entry.value).unwrap_or_else(|_| Instance::new(service, id));
        instance.epoch = found;
        let lease = self.lease_grant(TOMBSTONE_TTL).await?.lease;
        let left = tombstone(&instance, &rfc3339(SystemTime::now()), lease);
        let delete = Delete { range: KeyRange::One(entry.key.clone()), previous: false };
        let same = Compare::CreateRevision(entry.key, Relation::Equal, found);
        let reply = self.txn().when(same).then(TxnOp::Delete(delete)).then(TxnOp::Put(left)).await?;
        // Otherwise the revision is that of something else, of which whoever follows the service may never be told.
        if reply.succeeded {
            self.wrote(service, reply.revision);
        }
        Ok(reply.succeeded)
    }

    async fn entry(&self, service: &str, id: &str) -> Result<Option<Entry>, Error> {
        check_service(service)?;
        self.get(Instance::key_of(service, id)).await
    }
}

fn unknown(service: &str, id: &str) -> Error {
    Error::new(ErrorCode::NotFound, format!("{service} has no instance {id}"))
}
