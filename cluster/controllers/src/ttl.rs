//! Deletes jobs some time after they have finished, if they say so.

use crate::{Error, context::Context, error::During, job::Job, tracked::decode};
use std::{sync::Arc, time::Duration};
use strata_client::{Client, DeleteOptions, Propagation, resources::JOBS};
use strata_meta::{Object, ObjectKey};

const CONTROLLER: &str = "ttl-after-finished-controller";
/// As upstream.
const WORKERS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        context: context.clone(),
    });
    let queue = context.queue("ttl_jobs_to_delete");
    let to = queue.clone();
    context.jobs.on_change(move |change| {
        if change
            .new
            .as_ref()
            .is_some_and(|job| matches!(expiry(job), Ok(Some(_))))
        {
            to.add(change.key.clone());
        }
    });
    let jobs = context.jobs.clone();
    let ready = async move { jobs.synced().await };
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    client: Client,
    context: Arc<Context>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(job) = self.context.jobs.get(&key) else {
            return Ok(None);
        };
        match self.left(&job)? {
            Some(left) if left.is_zero() => {}
            left => return Ok(left),
        }
        // The job may say something else by now than the cache shows.
        let fresh = match self.client.get(JOBS, &key.namespace, &key.name).await {
            Err(error) if error.is_not_found() => return Ok(None),
            read => read.during(|| format!("reading job {key}"))?,
        };
        match self.left(&fresh)? {
            Some(left) if left.is_zero() => {}
            left => return Ok(left),
        }
        let options = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::only(&fresh.uid)
        };
        match self.client.delete(JOBS, &key.namespace, &key.name, options).await {
            Err(error) if error.is_not_found() || error.is_conflict() => return Ok(None),
            deleted => deleted.during(|| format!("deleting job {key}"))?,
        }
        if let Some(expiry) = expiry(&fresh)? {
            self.context.job_metrics.job_expired(self.now(), expiry);
        }
        Ok(None)
    }

    /// How long a job may stay yet, if its time is limited.
    fn left(&self, job: &Object) -> Result<Option<Duration>, Error> {
        Ok(expiry(job)?.map(|expiry| expiry.saturating_sub(self.now())))
    }

    /// Since 1970.
    fn now(&self) -> Duration {
        let now = self.context.options.clock.now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }
}

/// When a finished job is to go, since 1970.
fn expiry(job: &Object) -> Result<Option<Duration>, Error> {
    if job.deleting {
        return Ok(None);
    }
    let job: Job = decode(job)?;
    let finished = job.status.finished().and_then(|end| end.last_transition_time);
    let (Some(finished), Some(ttl)) = (finished, job.spec.ttl_seconds_after_finished) else {
        return Ok(None);
    };
    let second = finished.as_second().saturating_add(ttl);
    Ok(Some(Duration::from_secs(u64::try_from(second).unwrap_or(0))))
}
