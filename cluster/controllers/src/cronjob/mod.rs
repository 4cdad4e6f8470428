//! Cron jobs: jobs made by a schedule.

mod decide;
mod execute;
mod types;

use crate::{context::Context, expectations::Expectations, job::JobMetrics, tracked::decode};
use std::{sync::Arc, time::Duration};
use strata_client::{
    Change, Client, EventRecorder, EventType, Informer, ObjectReference, WorkQueue, resources::CRON_JOBS,
};
use strata_cron::Schedule;
use strata_meta::{Object, ObjectKey};
use types::CronJob;

const CONTROLLER: &str = "cronjob-controller";
/// Reconciles at a time, as upstream.
const WORKERS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        events: context.events(CONTROLLER),
        cron_jobs: context.objects(CRON_JOBS),
        queue: context.queue("cronjob"),
        jobs: Expectations::default(),
        status_writes: Expectations::default(),
        metrics: context.job_metrics.clone(),
        context: context.clone(),
    });
    let follow = controller.clone();
    controller.cron_jobs.on_change(move |change| follow.changed(change));
    let follow = controller.clone();
    context.jobs.on_change(move |change| {
        for job in [&change.old, &change.new].into_iter().flatten() {
            if let Some(key) = follow.owner_of(job) {
                follow.queue.add(key);
            }
        }
    });
    let (jobs, cron_jobs) = (context.jobs.clone(), controller.cron_jobs.clone());
    let ready = async move {
        jobs.synced().await;
        cron_jobs.synced().await;
    };
    let work = controller.clone();
    context.run(&controller.queue, WORKERS, ready, move |key| {
        work.clone().reconcile(key)
    });
}

struct Controller {
    client: Client,
    events: EventRecorder,
    cron_jobs: Informer<Arc<Object>>,
    queue: WorkQueue<ObjectKey>,
    /// Jobs created and deleted.
    jobs: Expectations,
    status_writes: Expectations,
    metrics: Arc<JobMetrics>,
    context: Arc<Context>,
}

impl Controller {
    fn changed(&self, change: &Change<Arc<Object>>) {
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && let (Ok(old), Ok(cron_job)) = (decode::<CronJob>(old), decode::<CronJob>(new))
            && (&old.spec.schedule, &old.spec.time_zone) != (&cron_job.spec.schedule, &cron_job.spec.time_zone)
        {
            // A new schedule begins with its next time, not with one that would have been.
            match self.schedule(new, &cron_job, false) {
                Some(schedule) => {
                    if let Some(wait) = decide::until_next(&cron_job, self.now(), &schedule) {
                        self.queue.add_after(change.key.clone(), wait);
                    }
                }
                None => {
                    let message = format!("unparseable schedule for cronjob: {}", cron_job.spec.schedule);
                    self.tell(new, EventType::Warning, "UnParseableCronJobSchedule", message);
                }
            }
            return;
        }
        self.queue.add(change.key.clone());
    }

    /// The cron job that a job's controller reference names, if it is still that one.
    fn owner_of(&self, job: &Object) -> Option<ObjectKey> {
        let reference = job.controller()?;
        if !CRON_JOBS.is_kind(&reference.api_version, &reference.kind) {
            return None;
        }
        let key = ObjectKey::new(job.namespace(), &reference.name);
        let owner = self.cron_jobs.get(&key)?;
        (owner.uid == reference.uid).then_some(key)
    }

    /// The schedule in its zone; with `loud`, why there is none is told.
    fn schedule(&self, about: &Object, cron_job: &CronJob, loud: bool) -> Option<Schedule> {
        let spec = &cron_job.spec;
        let tell = |reason: &str, message: String| {
            if loud {
                self.tell(about, EventType::Warning, reason, message);
            }
        };
        let own_zone = spec.schedule.contains("TZ");
        if own_zone {
            let message = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
                spec.schedule
            );
            tell("UnsupportedSchedule", message);
        }
        match Schedule::parse(&spec.schedule) {
            Ok(schedule) if own_zone => Some(schedule),
            // One that is not known is told of before.
            Ok(schedule) => match strata_cron::zone(spec.time_zone.as_deref().unwrap_or("")) {
                Ok(zone) => Some(schedule.within(zone)),
                Err(_) => Some(schedule),
            },
            Err(error) => {
                tell(
                    "UnparseableSchedule",
                    format!("unparseable schedule: {:?} : {error}", spec.schedule),
                );
                None
            }
        }
    }

    fn tell(&self, about: &Object, kind: EventType, reason: &str, message: impl Into<String>) {
        self.events.event(&ObjectReference::of(about), kind, reason, message);
    }

    /// Since 1970.
    fn now(&self) -> Duration {
        let now = self.context.options.clock.now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }
}
