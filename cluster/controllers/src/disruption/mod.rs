//! Disruption budgets: how many of the pods that a budget selects may be evicted now.
//!
//! The eviction subresource takes from what is written here; what it took is forgotten when the pod goes, or after
//! two minutes in which it did not.

mod decide;
mod scale;
mod stale;
mod types;

use crate::{
    Error,
    context::Context,
    error::During,
    tracked::{Index, Tracked, value},
    views::Pod,
};
use scale::Scales;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{
    Client, EventRecorder, EventType, Informer, ObjectReference, Scope, WorkQueue, resources::POD_DISRUPTION_BUDGETS,
};
use strata_meta::{Object, ObjectKey};
use types::{Budget, Status};

const CONTROLLER: &str = "disruption-controller";
const WORKERS: usize = 2;

pub(crate) fn start(context: &Arc<Context>) {
    stale::start(context);
    let shared = context.client(crate::SHARED_INFORMERS);
    let cancel = context.cancel.clone();
    let budgets = Informer::start_with(
        &shared,
        POD_DISRUPTION_BUDGETS,
        Scope::default(),
        cancel,
        Tracked::decode,
    );
    let queue = context.queue("disruption");
    let controller = Arc::new(Controller {
        client: context.client(CONTROLLER),
        events: EventRecorder::new(context.client(CONTROLLER), "controllermanager", ""),
        by_namespace: Index::new(&budgets, |budget: &Budget| vec![budget.namespace().into()]),
        budgets: budgets.clone(),
        scales: Scales::new(context),
        context: context.clone(),
    });
    let to = queue.clone();
    budgets.on_change(move |change| to.add(change.key.clone()));
    let (to, follow) = (queue.clone(), controller.clone());
    context.pods.on_change(move |change| {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            follow.enqueue(&to, pod);
        }
    });
    let ready = {
        let (pods, scales) = (context.pods.clone(), controller.scales.synced());
        async move {
            budgets.synced().await;
            pods.synced().await;
            scales.await;
        }
    };
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

struct Controller {
    client: Client,
    events: EventRecorder,
    budgets: Informer<Budget>,
    by_namespace: Arc<Index<Budget>>,
    scales: Scales,
    context: Arc<Context>,
}

/// Why a budget could not be counted.
enum Failure {
    /// The budget says so in its status.
    Said(String),
    /// Nothing is known; it is tried again.
    Unknown(Error),
}

impl Controller {
    fn enqueue(&self, queue: &WorkQueue<ObjectKey>, pod: &Arc<Pod>) {
        let budgets = self.by_namespace.get(pod.namespace());
        let mut chosen = budgets.iter().filter(|budget| budget.view.selects(pod));
        let Some(first) = chosen.next() else { return };
        queue.add(first.key.clone());
        let mut more = false;
        for budget in chosen {
            more = true;
            queue.add(budget.key.clone());
        }
        if more {
            let message = format!(
                "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {:?} arbitrarily.",
                pod.namespace(),
                pod.name(),
                first.name()
            );
            self.warn(pod, "MultiplePodDisruptionBudgets", message);
        }
    }

    fn warn(&self, about: &Object, reason: &str, message: String) {
        self.events
            .event(&ObjectReference::of(about), EventType::Warning, reason, message);
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(budget) = self.budgets.get(&key) else {
            return Ok(None);
        };
        match self.count(&budget).await {
            Ok((status, again)) => {
                self.write(&budget, status).await?;
                Ok(again)
            }
            Err(Failure::Unknown(error)) => Err(error),
            Err(Failure::Said(why)) => {
                let status = decide::failed(&budget.view.status, &why, self.context.now());
                self.write(&budget, status).await.map(|()| None)
            }
        }
    }

    /// The status as it should be, where it is not, and when to look again.
    async fn count(&self, budget: &Budget) -> Result<(Option<Status>, Option<Duration>), Failure> {
        let mut pods = self.context.pods_by_namespace.get(budget.namespace());
        pods.retain(|pod| budget.view.selects(pod));
        if pods.is_empty() {
            let about = ObjectReference::of(budget);
            self.events
                .event(&about, EventType::Normal, "NoPods", "No matching pods found");
        }
        let spec = &budget.view.spec;
        let mut scale = 0;
        if decide::needs_scale(spec) {
            let total = self.scales.total(&pods).await.inspect_err(|failure| {
                if let Failure::Said(why) = failure {
                    let why = format!("Failed to calculate the number of expected pods: {why}");
                    self.warn(budget, "CalculateExpectedPodCountFailed", why);
                }
            })?;
            scale = total.count;
            if total.unmanaged {
                self.warn(budget, "UnmanagedPods", unmanaged(spec));
            }
        }
        let expected = decide::expected(spec, i32::try_from(pods.len()).unwrap_or(i32::MAX), scale);
        let (expected, desired) = expected.map_err(Failure::Said)?;
        let now = self.context.now();
        let disrupted = decide::disrupted(&pods, &budget.view.status, now);
        for pod in &disrupted.expired {
            let why = format!("Pod was expected by PDB {} to be deleted but it wasn't", budget.key);
            self.warn(pod, "NotDeleted", why);
        }
        let counted = decide::Counted {
            expected,
            desired,
            healthy: decide::healthy(&pods, &disrupted.still),
        };
        let again = disrupted.recheck.map(|at| {
            let seconds = u64::try_from(at.seconds_since(now)).unwrap_or(0);
            Duration::from_secs(seconds + 1)
        });
        Ok((decide::status(&budget.view, counted, disrupted.still, now), again))
    }

    async fn write(&self, budget: &Budget, status: Option<Status>) -> Result<(), Error> {
        let Some(status) = status else { return Ok(()) };
        let mut whole: Value = value(budget)?;
        whole["status"] = json!(status);
        let (namespace, name) = (budget.namespace(), budget.name());
        let written = self
            .client
            .update_status(POD_DISRUPTION_BUDGETS, namespace, name, &whole);
        match written.await {
            Err(error) if !error.is_not_found() => {
                Err(error).during(|| format!("writing the status of budget {}", budget.key))
            }
            _ => Ok(()),
        }
    }
}

fn unmanaged(spec: &types::Spec) -> String {
    let selector = spec
        .selector
        .as_ref()
        .map_or_else(|| "nil".to_owned(), |s| json!(s).to_string());
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the \
         status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
         pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}
