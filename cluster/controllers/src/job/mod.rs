//! Jobs: pods that run to their end, counted one by one.

mod backoff;
mod decide;
#[cfg(test)]
mod decide_tests;
mod execute;
mod intervals;
mod make;
mod metrics;
mod orphans;
mod pod;
mod policy;
mod track;
mod types;

pub use metrics::JobMetrics;
pub(crate) use types::Job;

use crate::{
    context::Context,
    dependents::{Manager, Row, label_selector},
    expectations::Expectations,
};
use backoff::Records;
use std::{sync::Arc, time::Duration};
use strata_client::resources::JOBS;
use strata_meta::Time;

const ROW: Row = Row {
    resource: JOBS,
    controller: "job-controller",
    queue: "job",
    selector: label_selector,
    finalizer: Some(make::FINALIZER),
};
/// Passes over orphans at a time, as upstream.
const WORKERS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let manager = Manager::new(context, ROW);
    let controller = Arc::new(Controller {
        metrics: context.job_metrics.clone(),
        manager: manager.clone(),
        backoff: Records::default(),
        released: Expectations::default(),
    });
    let orphans = context.queue("job_orphan_pod");
    let (follow, queue) = (controller.clone(), orphans.clone());
    context.pods.on_change(move |change| follow.pod_changed(change, &queue));
    let (follow, queue) = (controller.clone(), orphans.clone());
    manager
        .owners
        .on_change(move |change| follow.job_changed(change, &queue));
    let (pods, owners) = (context.pods.clone(), manager.owners.clone());
    let ready = async move {
        pods.synced().await;
        owners.synced().await;
    };
    let work = controller.clone();
    context.run(&orphans, WORKERS, ready, move |key| work.clone().free(key));
    manager.run(async {}, move |key| controller.clone().reconcile(key));
}

struct Controller {
    manager: Arc<Manager>,
    backoff: Records,
    /// Finalizers that were taken away.
    released: Expectations,
    metrics: Arc<JobMetrics>,
}

impl Controller {
    /// Since 1970.
    fn now(&self) -> Duration {
        let now = self.manager.context.options.clock.now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn second(&self) -> Time {
        self.manager.context.now()
    }
}
