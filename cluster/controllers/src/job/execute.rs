//! Does what was decided for one job.

use super::{
    Controller,
    decide::{self, Assessment, Seen, Step},
    make,
    pod::JobPod,
    track::{self, Release},
    types::{Condition, Job, Status},
};
use crate::{
    Error,
    dependents::label_selector,
    error::During,
    expectations::LOOK_AGAIN,
    tracked::{decode, value},
    views::Pod,
};
use futures::future::join_all;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use strata_client::{EventType, ObjectReference, Patch, resources::PODS};
use strata_meta::{Object, ObjectKey, Uid};
use tokio::time::Instant;

impl Controller {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let started = Instant::now();
        let manager = &self.manager;
        let Some(owner) = manager.owner(&key) else {
            self.released.forget(&key);
            return Ok(None);
        };
        let job: Job = decode(&owner)?;
        if job.spec.manager().is_some() {
            return Ok(None);
        }
        if job.status.finished().is_some() {
            self.backoff.forget(&owner.uid);
            return Ok(None);
        }
        if !job.spec.is_mode_known() {
            let message = "Skipped Job sync because completion mode is unknown";
            self.tell(&owner, EventType::Warning, "UnknownCompletionMode", message);
            return Ok(None);
        }
        let Some(selector) = label_selector(&owner) else {
            return Ok(None);
        };
        if !self.is_settled(&owner) {
            return Ok(Some(LOOK_AGAIN));
        }
        let pods = manager.claim(&owner, &selector, &manager.candidates(&owner)).await?;
        // A finished pod that was counted says nothing more.
        let counts = |pod: &Arc<Pod>| {
            let view = &pod.view;
            view.job_tracked || !view.phase.is_terminal() || pod.controller().is_none()
        };
        let pods: Vec<Arc<JobPod>> = pods
            .into_iter()
            .filter(counts)
            .map(|pod| JobPod::of(pod, &owner.uid).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let mode = job.spec.mode();
        let mut pass = Pass {
            controller: &self,
            owner,
            action: "reconciling",
        };
        let done = pass.run(job, &pods).await;
        self.metrics.synced(mode, pass.action, done.is_ok(), started.elapsed());
        done
    }

    /// Whether the caches show everything that was done for a job.
    fn is_settled(&self, owner: &Object) -> bool {
        let context = &self.manager.context;
        let released = || {
            let pods = context.pods_by_owner.get(owner.uid.as_str());
            let tracked: BTreeSet<Uid> = pods
                .iter()
                .filter(|p| p.view.job_tracked)
                .map(|p| p.uid.clone())
                .collect();
            let is_gone = |uid: &Uid| !tracked.contains(uid);
            self.released.are_met(&owner.key, context.pods.revision(), is_gone)
        };
        self.manager.is_settled(owner) && released()
    }

    fn tell(&self, job: &Object, kind: EventType, reason: &str, message: &str) {
        let about = ObjectReference::of(job);
        self.manager.events.event(&about, kind, reason, message);
    }

    /// Takes the finalizer away. Whether it is gone; a pod that is not there has none.
    pub(super) async fn release(&self, owner: Option<&ObjectKey>, pod: &Pod) -> Result<(), Error> {
        if let Some(owner) = owner {
            self.released.deleting(owner, &pod.uid);
        }
        let patch = json!({"metadata": {"uid": pod.uid, "$deleteFromPrimitiveList/finalizers": [make::FINALIZER]}});
        let client = &self.manager.client;
        let patched = client.patch(PODS, pod.namespace(), pod.name(), None, Patch::Strategic(patch));
        let Err(error) = patched.await else { return Ok(()) };
        if let Some(owner) = owner {
            self.released.not_deleted(owner, &pod.uid);
        }
        // 409: another pod has the name by now.
        if error.is_not_found() || error.is_conflict() {
            return Ok(());
        }
        Err(error).during(|| format!("removing the tracking finalizer of pod {}", pod.key))
    }
}

/// One look at a job.
struct Pass<'a> {
    controller: &'a Controller,
    /// In the state that was read or written last.
    owner: Arc<Object>,
    /// What metrics call what was done.
    action: &'static str,
}

/// What came of creating or deleting pods.
#[derive(Default)]
struct Done {
    pods: i32,
    ready: i32,
    failure: Option<Error>,
}

impl Pass<'_> {
    async fn run(&mut self, mut job: Job, pods: &[Arc<JobPod>]) -> Result<Option<Duration>, Error> {
        let controller = self.controller;
        let now = controller.now();
        let stored = job.status.clone();
        let second = Seen {
            job: &job,
            pods,
            backoff: controller.backoff.get(&self.owner.uid),
            now,
        }
        .second();
        if job.status.start_time.is_none() && !job.spec.is_suspended() {
            job.status.start_time = Some(second);
        }
        let seen = Seen {
            job: &job,
            pods,
            backoff: controller.backoff.get(&self.owner.uid),
            now,
        };
        let mut assessment = seen.assess();
        let mut status = job.status.clone();
        let mut active = i32::try_from(assessment.active.len()).unwrap_or(i32::MAX);
        let (mut failure, mut wait) = (None, None);
        if assessment.ends.is_some() {
            let deleted = self.delete(&assessment.active, false).await;
            if deleted.pods != active {
                // Not to be called finished while there may be pods.
                assessment.ends = None;
            }
            active = assessment.less(active, &deleted);
            failure = deleted.failure;
        } else {
            let managed = !self.owner.deleting;
            if managed {
                (active, failure, wait) = self.manage(&seen, &mut assessment, active).await;
            }
            if seen.is_complete(&assessment, usize::try_from(active).unwrap_or(0)) {
                assessment.ends = Some(decide::completed(second));
            } else if managed
                && let Some((event, message)) = decide::suspend_or_resume(&mut status, job.spec.is_suspended(), second)
            {
                controller.tell(&self.owner, EventType::Normal, event, message);
            }
            wait = wait.into_iter().chain(assessment.deadline).min();
        }
        (status.active, status.ready) = (active, Some(assessment.ready));
        status.terminating = Some(assessment.terminating);
        let release = track::count(&job, &mut assessment, pods, &mut status, second);
        let backoff = assessment.backoff;
        self.track(&job, &stored, status, release, backoff, pods).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(wait),
        }
    }

    /// Creates or deletes what the job needs: how many pods are active then, and how long to wait.
    async fn manage(
        &mut self,
        seen: &Seen<'_>,
        assessment: &mut Assessment,
        active: i32,
    ) -> (i32, Option<Error>, Option<Duration>) {
        match seen.step(assessment) {
            Step::Nothing => {
                self.action = "tracking";
                (active, None, None)
            }
            Step::Wait(left) => {
                self.action = "pods_created";
                (active, None, Some(left))
            }
            Step::Delete(pods) => {
                self.action = "pods_deleted";
                let deleted = self.delete(&pods, true).await;
                (assessment.less(active, &deleted), deleted.failure, None)
            }
            Step::Create(wanted) => {
                self.action = "pods_created";
                let pods = make::pods(&self.owner, seen, assessment, &wanted);
                let created = self.create(&pods).await;
                let failed = i32::from(created.failure.is_some());
                let reason = seen.creation_reason(assessment);
                self.controller.metrics.created(reason, created.pods, failed);
                (active.saturating_add(created.pods), created.failure, None)
            }
        }
    }

    /// In batches of one, two, four and so on, so that what fails once does not fail hundreds of times.
    async fn create(&self, pods: &[Value]) -> Done {
        let manager = &self.controller.manager;
        let mut done = Done::default();
        // Pods may be missing because the job is going: the cache of pods can be ahead.
        match manager.is_still_there(&self.owner).await {
            Ok(true) => {}
            Ok(false) => return done,
            Err(error) => {
                done.failure = Some(error);
                return done;
            }
        }
        let (mut rest, mut batch) = (pods, 1);
        while !rest.is_empty() && done.failure.is_none() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            for result in join_all(now.iter().map(|pod| manager.create_pod(&self.owner, pod))).await {
                match result {
                    Ok(()) => done.pods += 1,
                    Err(error) => done.failure = Some(error),
                }
            }
            (rest, batch) = (later, batch * 2);
        }
        done
    }

    /// Deletes pods; those that shall not be counted lose their finalizers before.
    async fn delete(&self, pods: &[Arc<JobPod>], uncounted: bool) -> Done {
        let controller = self.controller;
        let delete = async |pod: &Arc<JobPod>| {
            if uncounted && pod.tracked {
                controller.release(Some(&self.owner.key), &pod.pod).await?;
            }
            controller.manager.delete_pod(&self.owner, &pod.pod).await
        };
        let results = join_all(pods.iter().map(delete)).await;
        let mut done = Done::default();
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(()) => {
                    done.pods += 1;
                    done.ready += i32::from(pod.pod.view.ready);
                }
                Err(error) => done.failure = Some(error),
            }
        }
        done
    }

    /// Writes the status, takes finalizers away and writes what follows from that.
    async fn track(
        &mut self,
        job: &Job,
        stored: &Status,
        mut status: Status,
        release: Release,
        backoff: super::backoff::Record,
        pods: &[Arc<JobPod>],
    ) -> Result<(), Error> {
        let (controller, second) = (self.controller, self.controller.second());
        let mut written = stored.clone();
        if status != written {
            self.write(&status).await?;
            controller.backoff.set(&self.owner.uid, backoff);
            controller.metrics.counted(&job.spec, &written, &status);
            written = status.clone();
        }
        controller.metrics.judged(&release.actions);
        let failure = self.release_all(&release, pods, &mut status).await;
        if let Some(error) = failure {
            if status != written {
                self.write(&status).await?;
            }
            return Err(error);
        }
        let finished = track::finish(&mut status, &release, second);
        if status != written {
            self.write(&status).await?;
            controller.metrics.counted(&job.spec, &written, &status);
        }
        if finished && let Some(end) = &release.end {
            self.tell_end(job, &status, end);
        }
        Ok(())
    }

    async fn release_all(&self, release: &Release, pods: &[Arc<JobPod>], status: &mut Status) -> Option<Error> {
        let owner = Some(&self.owner.key);
        let releases = release.pods.iter().map(|pod| self.controller.release(owner, &pod.pod));
        let results = join_all(releases).await;
        let mut tracked: BTreeSet<&Uid> = pods.iter().filter(|pod| pod.tracked).map(|pod| pod.uid()).collect();
        let mut failure = None;
        for (pod, result) in release.pods.iter().zip(results) {
            match result {
                Ok(()) => drop(tracked.remove(pod.uid())),
                Err(error) => failure = Some(error),
            }
        }
        track::settle(status, &tracked);
        failure
    }

    fn tell_end(&self, job: &Job, status: &Status, end: &Condition) {
        let tell = |kind, reason: &str, message: &str| self.controller.tell(&self.owner, kind, reason, message);
        let succeeded = end.type_ == "Complete";
        if succeeded {
            if job
                .spec
                .completions
                .is_some_and(|completions| status.succeeded > completions)
            {
                let message = "Too many succeeded pods running after completion count reached";
                tell(EventType::Warning, "TooManySucceededPods", message);
            }
            tell(EventType::Normal, "Completed", "Job completed");
        } else {
            tell(EventType::Warning, &end.reason, &end.message);
        }
        self.controller
            .metrics
            .finished(job.spec.mode(), succeeded, &end.reason);
    }

    async fn write(&mut self, status: &Status) -> Result<(), Error> {
        let manager = &self.controller.manager;
        let (namespace, name) = (self.owner.namespace(), self.owner.name());
        let mut whole = value(&self.owner)?;
        whole["status"] = json!(status);
        let written = manager
            .client
            .update_status(manager.row.resource, namespace, name, &whole)
            .await;
        let written = written.during(|| format!("writing the status of {}", self.owner.key))?;
        manager.status_writes.wrote(&self.owner.key, written.revision);
        self.owner = written;
        Ok(())
    }
}

impl Assessment {
    /// Takes deleted pods off what was counted; how many are active yet.
    fn less(&mut self, active: i32, deleted: &Done) -> i32 {
        self.terminating = self.terminating.saturating_add(deleted.pods);
        self.ready -= deleted.ready;
        active - deleted.pods
    }
}
