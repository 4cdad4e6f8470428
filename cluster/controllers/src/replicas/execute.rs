//! Does what was decided for one replica set.

use super::{
    Engine,
    decide::{self, ReplicaSet, Seen, Step},
};
use crate::{
    Error,
    dependents::{next_availability, template::pod_of},
    expectations::LOOK_AGAIN,
    tracked::decode,
    views::Pod,
};
use std::{sync::Arc, time::Duration};
use strata_meta::{Object, ObjectKey, Selector};

impl Engine {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let manager = &self.0;
        let Some(owner) = manager.owner(&key) else {
            return Ok(None);
        };
        if !manager.is_settled(&owner) {
            return Ok(Some(LOOK_AGAIN));
        }
        let set: ReplicaSet = decode(&owner)?;
        let selector = match set.selector() {
            Ok(selector) => selector,
            Err(error) => {
                tracing::debug!(%key, %error, "invalid selector");
                return Ok(None);
            }
        };
        let pods = manager.candidates(&owner);
        let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.view.is_active()).cloned().collect();
        let active = manager.claim(&owner, &selector, &active).await?;
        let failure = match owner.deleting {
            true => None,
            false => self.scale(&owner, &set, &active).await.err(),
        };
        let now = manager.context.now();
        let terminating = self
            .tells_terminating()
            .then(|| count_terminating(&owner, &selector, &pods));
        let failure_text = failure.as_ref().map(ToString::to_string);
        let status = decide::status(
            &set,
            &Seen {
                active: &active,
                terminating,
                failure: failure_text,
                now,
            },
        );
        if set.status != status {
            manager.write_status(&owner, &status).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(next_availability(set.spec.min_ready_seconds, &active, now)),
        }
    }

    async fn scale(&self, owner: &Arc<Object>, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), Error> {
        let manager = &self.0;
        match decide::step(set.replicas(), active, || self.related(owner), manager.context.now()) {
            Step::Nothing => Ok(()),
            // Pods may be missing because the owner is going: the cache of pods can be ahead.
            Step::Create(_) if !manager.is_still_there(owner).await? => Ok(()),
            Step::Create(count) => {
                let pod = pod_of(owner, &set.spec.template);
                manager.create_pods(owner, &vec![&pod; count]).await
            }
            Step::Delete(pods) => manager.delete_pods(owner, &pods).await,
        }
    }
}

fn count_terminating(owner: &Object, selector: &Selector, pods: &[Arc<Pod>]) -> usize {
    let mine = |pod: &&Arc<Pod>| {
        let managed = pod.controller().is_some_and(|c| c.uid == owner.uid);
        managed && selector.matches_object(pod) && pod.deleting && !pod.view.phase.is_terminal()
    };
    pods.iter().filter(mine).count()
}
