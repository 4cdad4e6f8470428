//! Makes the claims of volumes that live as long as their pod.

use crate::{Error, claim, context::Context, error::During, tracked::value, views::Pod};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{
    Client, EventRecorder, EventType, Informer, ObjectReference, WorkQueue, resources::PERSISTENT_VOLUME_CLAIMS,
};
use strata_meta::{Object, ObjectKey};

const CONTROLLER: &str = "ephemeral-volume-controller";
/// As upstream.
const WORKERS: usize = 10;

struct Maker {
    client: Client,
    events: EventRecorder,
    context: Arc<Context>,
    claims: Informer<super::Claim>,
}

pub(super) fn start(context: &Arc<Context>, claims: &Informer<super::Claim>) {
    let queue: WorkQueue<ObjectKey> = context.queue("ephemeral_volume");
    let to = queue.clone();
    context.pods.on_change(move |change| {
        let wants = |pod: &&Arc<Pod>| !pod.deleting && pod.view.claims.iter().any(|claim| claim.ephemeral);
        if change.new.as_ref().filter(wants).is_some() {
            to.add(change.key.clone());
        }
    });
    let to = queue.clone();
    claims.on_change(move |change| {
        // Whose claim is gone gets another, if it is still there.
        let owner = change.old.as_ref().filter(|_| change.new.is_none());
        let owner = owner.and_then(|claim| claim.controller().cloned());
        if let Some(owner) = owner.filter(|owner| owner.kind == "Pod") {
            to.add(ObjectKey::new(&change.key.namespace, &owner.name));
        }
    });
    let maker = Arc::new(Maker {
        client: context.client(CONTROLLER),
        events: EventRecorder::new(context.client(CONTROLLER), "ephemeral_volume", ""),
        context: context.clone(),
        claims: claims.clone(),
    });
    let (pods, claims) = (context.pods.clone(), claims.clone());
    let ready = async move {
        pods.synced().await;
        claims.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| maker.clone().reconcile(key));
}

impl Maker {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.context.pods.get(&key).filter(|pod| !pod.deleting) else {
            return Ok(None);
        };
        let whole = value(&pod)?;
        for volume in whole["spec"]["volumes"].as_array().into_iter().flatten() {
            if volume["ephemeral"].is_null() {
                continue;
            }
            let name = volume["name"].as_str().unwrap_or_default();
            if let Err(error) = self
                .provide(&pod, name, &volume["ephemeral"]["volumeClaimTemplate"])
                .await
            {
                let message = format!("ephemeral volume {name}: {error}");
                self.events
                    .event(&ObjectReference::of(&pod), EventType::Warning, "FailedBinding", message);
                return Err(error);
            }
        }
        Ok(None)
    }

    async fn provide(&self, pod: &Object, volume: &str, template: &Value) -> Result<(), Error> {
        let key = ObjectKey::new(pod.namespace(), &format!("{}-{volume}", pod.name()));
        if let Some(known) = self.claims.get(&key) {
            return match known.controller().filter(|owner| owner.uid == pod.uid) {
                Some(_) => Ok(()),
                None => Err(Error::Incomplete(format!(
                    "PVC {key} was not created for pod {} (pod is not owner)",
                    pod.key
                ))),
            };
        }
        let meta = &template["metadata"];
        let claim = json!({"metadata": {"name": key.name, "ownerReferences": [claim::reference(pod)],
            "annotations": meta["annotations"], "labels": meta["labels"]}, "spec": template["spec"]});
        let made = self
            .client
            .create(PERSISTENT_VOLUME_CLAIMS, pod.namespace(), &claim)
            .await;
        match made {
            // The cache will show whose it is.
            Err(error) if !error.is_already_exists() => Err(error).during(|| format!("create PVC {}", key.name)),
            _ => Ok(()),
        }
    }
}
