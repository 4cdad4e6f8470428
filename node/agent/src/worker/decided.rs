//! What the node decides about a pod: that it may not begin, that it ends.

use super::Worker;
use crate::{admission::Refusal, context::pod_reference, planner::Ended, status};
use std::sync::Arc;
use strata_client::EventType;

impl Worker {
    /// Has devices and processors set aside for the pod; an event says why that cannot be.
    pub(super) async fn set_aside(&self) -> Result<(), Refusal> {
        let refused = self.context.managers.admit(&self.pod).await;
        if let Err(refusal) = &refused {
            let (reason, message) = (refusal.reason.clone(), refusal.message.clone());
            let about = pod_reference(&self.pod);
            self.context.events.event(&about, EventType::Warning, reason, message);
        }
        refused
    }

    /// Ends the pod for good; what was decided first stays.
    pub(super) fn end(&mut self, ended: Ended) {
        let mut pod = (*self.pod).clone();
        if ended.disruption && !pod.status.conditions.iter().any(status::is_disruption) {
            pod.status.conditions.push(status::disruption_target(&pod, &ended));
        }
        pod.spec.termination_grace_period_seconds = ended
            .grace_seconds
            .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX))
            .or(pod.spec.termination_grace_period_seconds);
        self.pod = Arc::new(pod);
        self.ended.get_or_insert(ended);
    }
}
