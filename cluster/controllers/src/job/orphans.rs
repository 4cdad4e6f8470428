//! Takes the finalizer off pods that no job counts any more.

use super::{Controller, types::Job};
use crate::{Error, tracked::decode, views::Pod};
use std::{fmt, sync::Arc, time::Duration};
use strata_client::{Change, WorkQueue, resources::JOBS};
use strata_meta::{Object, ObjectKey, Uid};

/// What to look at.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// One pod.
    Pod(ObjectKey),
    /// The pods of a job that ended or is gone.
    PodsOf(Uid),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::PodsOf(uid) => write!(f, "pods of job {uid}"),
        }
    }
}

impl Controller {
    /// Queues a pod that carries the finalizer without need.
    pub(super) fn pod_changed(&self, change: &Change<Pod>, queue: &WorkQueue<Work>) {
        self.metrics.pod_changed(change);
        let Some(pod) = change.new.as_ref().filter(|pod| pod.view.job_tracked) else {
            return;
        };
        let unneeded = match pod.controller() {
            None => true,
            // A job that is there and goes on does it itself.
            Some(_) => pod.deleting && self.is_orphan(pod),
        };
        if unneeded {
            queue.add(Work::Pod(change.key.clone()));
        }
    }

    /// Queues the pods of a job that ended or is gone.
    pub(super) fn job_changed(&self, change: &Change<Arc<Object>>, queue: &WorkQueue<Work>) {
        let Some(job) = change.new.as_ref().or(change.old.as_ref()) else {
            return;
        };
        if change.new.is_none() {
            self.backoff.forget(&job.uid);
        }
        if change.old.is_none() {
            self.metrics.job_added(job);
        }
        if change.new.is_none() || decode::<Job>(job).is_ok_and(|job| job.status.finished().is_some()) {
            queue.add(Work::PodsOf(job.uid.clone()));
        }
    }

    pub(super) async fn free(self: Arc<Self>, work: Work) -> Result<Option<Duration>, Error> {
        let context = &self.manager.context;
        let pods = match work {
            Work::Pod(key) => context.pods.get(&key).into_iter().collect(),
            Work::PodsOf(uid) => context.pods_by_owner.get(uid.as_str()),
        };
        let mut done = Ok(None);
        for pod in pods.iter().filter(|pod| pod.view.job_tracked && self.is_orphan(pod)) {
            if let Err(error) = self.release(None, pod).await {
                done = Err(error);
            }
        }
        done
    }

    /// Whether no job is to count the pod: that of its reference is gone or has ended, or it has none.
    fn is_orphan(&self, pod: &Pod) -> bool {
        let Some(reference) = pod.controller() else {
            return true;
        };
        if reference.api_version != JOBS.api_version() || reference.kind != JOBS.kind {
            return false;
        }
        let key = ObjectKey::new(pod.namespace(), &reference.name);
        let job = self.manager.owners.get(&key).filter(|job| job.uid == reference.uid);
        let Some(job) = job else { return true };
        // What cannot be read is not known to have ended.
        decode::<Job>(&job).is_ok_and(|job| job.spec.manager().is_none() && job.status.finished().is_some())
    }
}
