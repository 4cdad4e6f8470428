//! The pods of the node's own beside those of the API.

use super::{Change, PodManager};
use crate::{pod::Pod, statics::mirror, worker::Letter};
use std::{collections::HashMap, sync::Arc};
use strata_meta::Uid;

/// The pods of the node's own.
#[derive(Default)]
pub(super) struct Statics {
    /// By identity.
    pods: HashMap<Uid, Arc<Pod>>,
    /// Those that wait for an earlier one of the same name to end.
    waiting: Vec<Arc<Pod>>,
}

impl Statics {
    /// Those that run or shall run.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Uid, &Arc<Pod>)> {
        self.pods.iter()
    }
}

impl PodManager {
    /// Takes what the manifests are now.
    pub(super) async fn set_statics(&mut self, pods: Vec<Arc<Pod>>) {
        let next: HashMap<Uid, Arc<Pod>> = pods.into_iter().map(|pod| (pod.metadata.uid.clone(), pod)).collect();
        let before = std::mem::take(&mut self.statics.pods);
        let gone: Vec<Uid> = before.keys().filter(|uid| !next.contains_key(*uid)).cloned().collect();
        for uid in gone {
            self.pass(Change::Gone(uid)).await;
        }
        let new = next.iter().filter(|(uid, _)| !before.contains_key(*uid));
        self.statics.waiting = new.map(|(_, pod)| pod.clone()).collect();
        self.statics.pods = next;
        self.statics_known = true;
        self.start_statics().await;
        if self.pods.is_synced() {
            self.look_at_mirrors().await;
        }
    }

    /// Begins those whose name nobody else has any more.
    pub(super) async fn start_statics(&mut self) {
        let waiting = std::mem::take(&mut self.statics.waiting);
        for pod in waiting {
            let name = pod.full_name();
            let taken = self.taken.iter().any(|(uid, other)| {
                *uid != pod.metadata.uid
                    && other.full_name() == name
                    && self.workers.get(uid).is_some_and(|worker| !worker.is_finished())
            });
            if taken {
                self.statics.waiting.push(pod);
            } else {
                self.pass(Change::Present(pod)).await;
            }
        }
    }

    pub(super) async fn look_at_mirrors(&mut self) {
        let mirrors = self.pods.list().into_iter().map(|(_, pod)| pod);
        for pod in mirrors.filter(|pod| mirror::is_mirror(pod)) {
            self.mirror(&pod, false).await;
        }
    }

    /// A mirror is there, or no longer.
    pub(super) async fn mirror(&self, pod: &Arc<Pod>, gone: bool) {
        let uid = Uid::from(mirror::runs_as(pod));
        if !self.statics_known {
            return;
        }
        if self.workers.get(&uid).is_some_and(|worker| !worker.is_finished()) {
            if gone || pod.is_deleting() {
                self.tell(&uid, Letter::Mirror).await;
            }
        } else if !gone {
            let (client, pod) = (self.context.options.client.clone(), pod.clone());
            tokio::spawn(async move {
                if let Err(error) = mirror::forget(&client, &pod, pod.metadata.uid.clone()).await {
                    tracing::warn!(pod = pod.full_name(), %error, "removing a mirror that mirrors nothing failed");
                }
            });
        }
    }
}
