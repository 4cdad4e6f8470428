//! Does what is due for one cron job.

use super::{
    Controller,
    decide::{self, Missed},
    types::{CronJob, Status},
};
use crate::{
    Error, claim,
    error::During,
    expectations::LOOK_AGAIN,
    job::Job,
    tracked::{decode, value},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use strata_client::{
    DeleteOptions, EventType, ObjectReference, Propagation,
    resources::{CRON_JOBS, JOBS},
};
use strata_cron::Schedule;
use strata_meta::{Object, ObjectKey, Time, Uid};

impl Controller {
    pub(super) async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(owner) = self.cron_jobs.get(&key) else {
            self.jobs.forget(&key);
            self.status_writes.forget(&key);
            return Ok(None);
        };
        if !self.is_settled(&owner) {
            return Ok(Some(LOOK_AGAIN));
        }
        let cron_job: CronJob = decode(&owner)?;
        let jobs = self.context.jobs_by_owner.get(owner.uid.as_str());
        let jobs = jobs.into_iter().map(|job| Ok((decode(&job)?, (*job).clone())));
        let mut pass = Pass {
            controller: &self,
            owner: &owner,
            status: cron_job.status.clone(),
            jobs: jobs.collect::<Result<_, Error>>()?,
            cron_job,
        };
        pass.clean_up().await;
        let done = pass.run().await;
        let (before, status) = (&pass.cron_job.status, &pass.status);
        if status != before {
            self.write(&owner, status).await?;
        }
        done
    }

    /// Whether the caches show everything that was done for a cron job.
    fn is_settled(&self, owner: &Object) -> bool {
        let is_gone = |uid: &Uid| {
            let jobs = self.context.jobs_by_owner.get(owner.uid.as_str());
            jobs.iter().find(|job| job.uid == *uid).is_none_or(|job| job.deleting)
        };
        self.jobs.are_met(&owner.key, self.context.jobs.revision(), is_gone)
            && self
                .status_writes
                .are_met(&owner.key, self.cron_jobs.revision(), |_| true)
    }

    async fn write(&self, owner: &Object, status: &Status) -> Result<(), Error> {
        let mut whole = value(owner)?;
        whole["status"] = json!(status);
        let written = self
            .client
            .update_status(CRON_JOBS, owner.namespace(), owner.name(), &whole);
        match written.await {
            Ok(written) => {
                self.status_writes.wrote(&owner.key, written.revision);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error).during(|| format!("writing the status of {}", owner.key)),
        }
    }
}

/// One look at a cron job.
struct Pass<'a> {
    controller: &'a Controller,
    owner: &'a Arc<Object>,
    cron_job: CronJob,
    /// As it is to be.
    status: Status,
    jobs: Vec<(Job, Arc<Object>)>,
}

impl Pass<'_> {
    fn tell(&self, kind: EventType, reason: &str, message: impl Into<String>) {
        self.controller.tell(self.owner, kind, reason, message);
    }

    /// Deletes finished jobs beyond what is to be kept.
    async fn clean_up(&mut self) {
        let spec = &self.cron_job.spec;
        let kinds = [
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ];
        let mut surplus = Vec::new();
        for (type_, limit) in kinds {
            let is = |job: &Job| job.status.finished().is_some_and(|end| end.type_ == type_);
            let finished = self.jobs.iter().filter(|(job, _)| is(job));
            let finished =
                finished.map(|(job, object)| (job.status.start_time, object.name().to_owned(), object.clone()));
            surplus.extend(decide::surplus(finished.collect(), limit));
        }
        for job in surplus.iter().filter(|job| !job.deleting) {
            // What could not be deleted is tried again with the next change.
            if let Err(error) = self.delete(job).await {
                tracing::debug!(job = %job.key, %error, "deleting a finished job failed");
            }
        }
    }

    async fn delete(&mut self, job: &Object) -> Result<(), Error> {
        let controller = self.controller;
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::only(&job.uid)
        };
        controller.jobs.deleting(&self.owner.key, &job.uid);
        let deleted = controller
            .client
            .delete(JOBS, job.namespace(), job.name(), options)
            .await;
        match deleted {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                controller.jobs.not_deleted(&self.owner.key, &job.uid);
                self.tell(EventType::Warning, "FailedDelete", format!("Deleted job: {error}"));
                return Err(error).during(|| format!("deleting job {}", job.key));
            }
            Err(_) => controller.jobs.not_deleted(&self.owner.key, &job.uid),
            Ok(()) => {}
        }
        self.status.drop_active(&job.uid);
        self.tell(
            EventType::Normal,
            "SuccessfulDelete",
            format!("Deleted job {}", job.name()),
        );
        Ok(())
    }

    async fn run(&mut self) -> Result<Option<Duration>, Error> {
        self.follow_jobs();
        self.drop_missing().await?;
        if self.owner.deleting {
            return Ok(None);
        }
        if let Some(name) = &self.cron_job.spec.time_zone
            && let Err(error) = strata_cron::zone(name)
        {
            let message = format!("invalid timeZone: {name:?}: {error}");
            self.tell(EventType::Warning, "UnknownTimeZone", message);
            return Ok(None);
        }
        if self.cron_job.spec.is_suspended() {
            return Ok(None);
        }
        let Some(schedule) = self.controller.schedule(self.owner, &self.cron_job, true) else {
            return Ok(None);
        };
        let now = self.controller.now();
        let recent = match decide::recent(&self.cron_job, decide::seconds(now), &schedule, true) {
            Ok(recent) => recent,
            Err(error) => {
                let message = format!("invalid schedule: {} : {error}", self.cron_job.spec.schedule);
                self.tell(EventType::Warning, "InvalidSchedule", message);
                return Ok(None);
            }
        };
        if let Some(due) = recent.due {
            if recent.missed == Missed::Many {
                let message =
                    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
                self.tell(EventType::Warning, "TooManyMissedTimes", message);
            }
            if self.may_start(due, now) && !self.start(due).await? {
                return Ok(None);
            }
        }
        Ok(self.until_next(now, &schedule))
    }

    fn until_next(&self, now: Duration, schedule: &Schedule) -> Option<Duration> {
        let mut cron_job = self.cron_job.clone();
        cron_job.status = self.status.clone();
        decide::until_next(&cron_job, now, schedule)
    }

    /// Takes jobs that ended off the list of those that run.
    fn follow_jobs(&mut self) {
        let mut status = self.status.clone();
        for (job, object) in &self.jobs {
            let (found, name) = (status.has(&object.uid), object.name());
            let Some(end) = job.status.finished() else {
                if !found {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.tell(EventType::Warning, "UnexpectedJob", message);
                }
                continue;
            };
            if found {
                status.drop_active(&object.uid);
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                self.tell(EventType::Normal, "SawCompletedJob", message);
            }
            if end.type_ == "Complete" {
                status.last_successful_time = status.last_successful_time.max(job.status.completion_time);
            }
        }
        self.status = status;
    }

    /// Jobs that are gone do not run; the cache may be late, so the server is asked.
    async fn drop_missing(&mut self) -> Result<(), Error> {
        for active in self.status.active.clone() {
            if self.jobs.iter().any(|(_, job)| job.uid == active.uid) {
                continue;
            }
            match self.controller.client.get(JOBS, &active.namespace, &active.name).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    let message = format!("Active job went missing: {}", active.name);
                    self.tell(EventType::Normal, "MissingJob", message);
                    self.status.drop_active(&active.uid);
                }
                Err(error) => return Err(error).during(|| format!("reading job {}", active.name)),
            }
        }
        Ok(())
    }

    /// Whether the job of a time is to be started now.
    fn may_start(&self, due: i64, now: Duration) -> bool {
        if decide::is_too_late(&self.cron_job, due, now) {
            let due = Time::from_second(due)
                .0
                .strftime("%a, %d %b %Y %H:%M:%S +0000")
                .to_string();
            let message = format!("Missed scheduled time to start a job: {due}");
            self.tell(EventType::Warning, "MissSchedule", message);
            return false;
        }
        let name = decide::job_name(&self.cron_job, due);
        let known = self.status.active.iter().any(|active| active.name == name);
        if known || self.status.last_schedule_time == Some(Time::from_second(due)) {
            return false;
        }
        if self.cron_job.spec.concurrency_policy == "Forbid" && !self.status.active.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.tell(EventType::Normal, "JobAlreadyActive", message);
            return false;
        }
        true
    }

    /// Starts the job of a time. False: somebody else has made one of its name.
    async fn start(&mut self, due: i64) -> Result<bool, Error> {
        if self.cron_job.spec.concurrency_policy == "Replace" {
            self.replace().await?;
        }
        let (controller, namespace) = (self.controller, self.owner.namespace());
        let reference = json!(claim::reference(self.owner));
        let job = decide::job_for(&self.cron_job, reference, due, &self.shown(due));
        let made = match controller.client.create(JOBS, namespace, &job).await {
            Ok(made) => {
                controller.jobs.wrote(&self.owner.key, made.revision);
                controller.metrics.job_scheduled(controller.now(), due);
                self.tell(
                    EventType::Normal,
                    "SuccessfulCreate",
                    format!("Created job {}", made.name()),
                );
                made
            }
            Err(error) if error.is_already_exists() => {
                // Either ours, before a crash, or somebody else's.
                let name = decide::job_name(&self.cron_job, due);
                let read = controller.client.get(JOBS, namespace, &name).await;
                let job = read.during(|| format!("reading job {name}"))?;
                let ours = job.controller().is_some_and(|owner| owner.uid == self.owner.uid);
                if !ours || self.status.has(&job.uid) {
                    return Ok(false);
                }
                job
            }
            Err(error) if crate::error::namespace_is_terminating(&error) => return Ok(false),
            Err(error) => {
                self.tell(
                    EventType::Warning,
                    "FailedCreate",
                    format!("Error creating job: {error}"),
                );
                return Err(error).during(|| format!("creating a job of {}", self.owner.key));
            }
        };
        self.status.active.push(ObjectReference::of(&made));
        self.status.last_schedule_time = Some(Time::from_second(due));
        Ok(true)
    }

    /// Deletes what is still running.
    async fn replace(&mut self) -> Result<(), Error> {
        for active in self.status.active.clone() {
            let read = self.controller.client.get(JOBS, &active.namespace, &active.name).await;
            match read {
                Ok(job) => self.delete(&job).await?,
                Err(error) => {
                    self.tell(EventType::Warning, "FailedGet", format!("Get job: {error}"));
                    return Err(error).during(|| format!("reading job {}", active.name));
                }
            }
        }
        Ok(())
    }

    /// The time as people in the cron job's zone have it (RFC 3339).
    fn shown(&self, due: i64) -> String {
        let name = self.cron_job.spec.time_zone.as_deref().unwrap_or("");
        let zone = strata_cron::zone(name).unwrap_or(jiff::tz::TimeZone::UTC);
        let shown = Time::from_second(due).0.to_zoned(zone);
        let shown = shown.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        match shown.strip_suffix("+00:00") {
            Some(utc) => format!("{utc}Z"),
            None => shown,
        }
    }
}
