//! Keeps a coordination.k8s.io/v1 Lease renewed.

use crate::{Client, Error, resources::LEASES};
use serde_json::{Value, json};
use std::time::Duration;
use strata_meta::{MicroTime, OwnerReference};
use strata_task::{Backoff, CancellationToken};

/// First wait after a failed renewal.
const RETRY_FIRST: Duration = Duration::from_millis(200);

/// Which lease, held by whom.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The lease's namespace; `kube-node-lease` for nodes.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// How long the holder counts as alive after a renewal.
    pub duration: Duration,
    /// How often it is renewed; upstream's node agent takes a quarter of the duration.
    pub renew_every: Duration,
    /// What the lease is deleted with.
    pub owner: Option<OwnerReference>,
}

/// Renews one lease.
pub struct LeaseKeeper {
    client: Client,
    settings: LeaseSettings,
    /// The lease as last seen, which saves reading it before each renewal.
    latest: Option<Value>,
}

impl LeaseKeeper {
    /// For one lease; nothing is written yet.
    pub fn new(client: Client, settings: LeaseSettings) -> Self {
        Self {
            client,
            settings,
            latest: None,
        }
    }

    /// Renews at the set interval until cancelled, sooner after a failure.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, self.settings.renew_every);
        let work = async {
            loop {
                let wait = match self.renew().await {
                    Ok(()) => {
                        backoff.reset();
                        self.settings.renew_every
                    }
                    Err(error) => {
                        tracing::warn!(lease = %self.settings.name, %error, "lease not renewed");
                        backoff.next()
                    }
                };
                tokio::time::sleep(wait).await;
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// Renews once, creating the lease if there is none.
    pub async fn renew(&mut self) -> Result<(), Error> {
        let result = match self.latest.take() {
            Some(lease) => self.update(lease).await,
            None => self.read_and_update().await,
        };
        match result {
            // Someone else wrote, or deleted it: once more from what is there.
            Err(error) if error.is_conflict() || error.is_not_found() => self.read_and_update().await,
            other => other,
        }
    }

    async fn read_and_update(&mut self) -> Result<(), Error> {
        let LeaseSettings { namespace, name, .. } = &self.settings;
        match self.client.get(LEASES, namespace, name).await {
            Ok(lease) => self.update(lease.to_value()?).await,
            Err(error) if error.is_not_found() => self.create().await,
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self) -> Result<(), Error> {
        let LeaseSettings { namespace, name, .. } = &self.settings;
        let mut lease = json!({"metadata": {"name": name, "namespace": namespace}});
        self.fill(&mut lease);
        let created = self.client.create(LEASES, namespace, &lease).await?;
        self.latest = Some(created.to_value()?);
        Ok(())
    }

    async fn update(&mut self, mut lease: Value) -> Result<(), Error> {
        self.fill(&mut lease);
        let LeaseSettings { namespace, name, .. } = &self.settings;
        let updated = self.client.update(LEASES, namespace, name, &lease).await?;
        self.latest = Some(updated.to_value()?);
        Ok(())
    }

    fn fill(&self, lease: &mut Value) {
        lease["spec"]["holderIdentity"] = self.settings.holder.as_str().into();
        lease["spec"]["leaseDurationSeconds"] = self.settings.duration.as_secs().into();
        lease["spec"]["renewTime"] = MicroTime::now().to_string().into();
        if let Some(owner) = &self.settings.owner {
            lease["metadata"]["ownerReferences"] = json!([owner]);
        }
    }
}
