//! Leases.

use std::sync::Arc;

use hither::{Error, ErrorCode, Lease, LeaseStatus};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::client::NativeClient;
use crate::hear;
use crate::port::{Queue, later, value};
use crate::tell;

#[napi]
impl NativeClient {
    /// A lease that is kept. Brings a [`NativeLease`]; `lost` is the number under which its loss is told.
    #[napi(catch_unwind)]
    pub fn lease(&self, call: u32, lost: u32, ttl: f64, timeout: Option<f64>) {
        let (client, queue) = (self.client.clone(), Arc::clone(&self.queue));
        self.queue.run(call, async move {
            let lease = hear::within(timeout, client.lease(hear::duration(ttl))).await?;
            Ok(value(NativeLease::keep(lease, lost, queue)))
        });
    }

    /// Grants a lease that nobody keeps: `[id, ttl]`.
    #[napi(catch_unwind)]
    pub fn lease_grant(&self, call: u32, ttl: f64, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let reply = hear::within(timeout, client.lease_grant(hear::duration(ttl))).await?;
            Ok(value((reply.lease.to_string(), tell::count(reply.ttl_ms))))
        });
    }

    /// Renews a lease: its time to live.
    #[napi(catch_unwind)]
    pub fn lease_renew(&self, call: u32, lease: String, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let reply = hear::within(timeout, client.lease_renew(hear::one_lease(lease)?)).await?;
            Ok(value(tell::count(reply.ttl_ms)))
        });
    }

    /// Ends a lease: `[revision, deleted]`.
    #[napi(catch_unwind)]
    pub fn lease_revoke(&self, call: u32, lease: String, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let reply = hear::within(timeout, client.lease_revoke(hear::one_lease(lease)?)).await?;
            Ok(value((reply.revision.0, tell::count(reply.deleted))))
        });
    }

    /// A lease and its keys: `[status, keys]`.
    #[napi(catch_unwind)]
    pub fn lease_info(&self, call: u32, lease: String, timeout: Option<f64>) {
        use napi::bindgen_prelude::ToNapiValue;
        let client = self.client.clone();
        self.queue.run(call, async move {
            let reply = hear::within(timeout, client.lease_info(hear::one_lease(lease)?)).await?;
            Ok(later(move |env| {
                let mut keys = env.create_array(0)?;
                for key in &reply.keys {
                    keys.insert(tell::key(env, key)?)?;
                }
                (status(&reply.lease), keys).into_unknown(env)
            }))
        });
    }

    /// Every lease of the namespace.
    #[napi(catch_unwind)]
    pub fn lease_list(&self, call: u32, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let leases = hear::within(timeout, client.lease_list()).await?;
            Ok(value(leases.iter().map(status).collect::<Vec<_>>()))
        });
    }
}

/// `[lease, ttl, remaining, kind, state, epoch, session, keys, owner, grantedAt]`
type Status = (String, f64, Option<f64>, &'static str, &'static str, u64, Option<String>, f64, String, f64);

fn status(status: &LeaseStatus) -> Status {
    let kind = match status.kind {
        hither::LeaseKind::Ttl => "ttl",
        hither::LeaseKind::Bound => "bound",
    };
    (
        status.lease.to_string(),
        tell::count(status.ttl_ms),
        status.remaining_ms.map(tell::count),
        kind,
        status.state.as_str(),
        status.epoch,
        status.session.map(|session| session.to_string()),
        tell::count(status.keys),
        status.owner.clone(),
        tell::count(status.granted_at.0),
    )
}

/// A lease that is kept until it is revoked, or this object is gone.
#[napi]
#[derive(Debug)]
pub struct NativeLease {
    id: String,
    ttl: f64,
    kept: Mutex<Option<Lease>>,
    queue: Arc<Queue>,
}

impl NativeLease {
    fn keep(lease: Lease, lost: u32, queue: Arc<Queue>) -> Self {
        let loss = lease.lost();
        queue.run(lost, async move {
            loss.await;
            Ok(value(tell::NOTHING))
        });
        #[allow(clippy::cast_precision_loss, reason = "at most a day")]
        let ttl = lease.ttl().as_millis() as f64;
        Self { id: lease.id().to_string(), ttl, kept: Mutex::new(Some(lease)), queue }
    }
}

#[napi]
impl NativeLease {
    /// Its id, in hexadecimal.
    #[napi(getter, catch_unwind)]
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Its time to live in milliseconds, as granted.
    #[napi(getter, catch_unwind)]
    pub fn ttl(&self) -> f64 {
        self.ttl
    }

    /// Ends it: `[revision, deleted]`. A second time it is not found.
    #[napi(catch_unwind)]
    pub fn revoke(&self, call: u32) {
        let kept = self.kept.lock().take();
        self.queue.run(call, async move {
            let gone = || Error::new(ErrorCode::LeaseNotFound, "the lease was revoked or released already");
            let reply = kept.ok_or_else(gone)?.revoke().await?;
            Ok(value((reply.revision.0, tell::count(reply.deleted))))
        });
    }

    /// Lets go of it: it is revoked in the background.
    #[napi(catch_unwind)]
    pub fn release(&self) {
        self.kept.lock().take();
    }
}
