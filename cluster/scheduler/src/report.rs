//! What the scheduler writes: bindings, conditions, events.

use crate::{pod::Pod, preemption::Preemption};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{Client, DeleteOptions, Error, EventRecorder, EventType, ObjectReference, Patch, resources::PODS};
use strata_meta::Time;

/// A write that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes as the scheduler. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub client: Client,
    pub events: EventRecorder,
}

impl Reporter {
    /// Binds a pod to a node; whether that was accepted.
    pub async fn bind(&self, pod: &Pod, node: &str) -> bool {
        let (namespace, name) = (pod.namespace(), pod.object.name());
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": namespace, "name": name, "uid": pod.object.uid.as_str()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let call = self
            .client
            .create_subresource(PODS, namespace, name, "binding", &binding);
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(_)) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.events.event(
                    &ObjectReference::of(&pod.object),
                    EventType::Normal,
                    "Scheduled",
                    message,
                );
                true
            }
            Ok(Err(error)) if error.is_not_found() || error.is_conflict() => {
                tracing::debug!(pod = %pod.object.key, node, %error, "pod is gone or bound already");
                false
            }
            Ok(Err(error)) => {
                tracing::warn!(pod = %pod.object.key, node, %error, "binding failed, trying again");
                false
            }
            Err(_) => {
                tracing::warn!(pod = %pod.object.key, node, "binding was not answered, trying again");
                false
            }
        }
    }

    /// Tells why a pod fits nowhere.
    pub async fn refuse(&self, pod: &Pod, message: &str, nominated: Option<&str>) {
        let reference = ObjectReference::of(&pod.object);
        self.events
            .event(&reference, EventType::Warning, "FailedScheduling", message);
        if let Some(status) = refused_status(pod, message, nominated) {
            self.patch_status(pod, status).await;
        }
    }

    /// Removes the victims of a preemption.
    pub async fn preempt(&self, pod: &Pod, preemption: &Preemption) {
        for victim in &preemption.victims {
            let uid = pod.object.uid.as_str();
            let by = "default-scheduler: preempting to accommodate a higher priority pod";
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": by, "lastProbeTime": null, "lastTransitionTime": Time::now(),
            });
            self.patch_status(victim, json!({"conditions": [condition]})).await;
            let options = DeleteOptions::only(&victim.object.uid);
            let deleted = self
                .client
                .delete(PODS, victim.namespace(), victim.object.name(), options);
            match tokio::time::timeout(DEADLINE, deleted).await {
                Ok(Ok(())) => {
                    let message = format!("Preempted by pod {uid} on node {}", preemption.node);
                    self.events.event(
                        &ObjectReference::of(&victim.object),
                        EventType::Normal,
                        "Preempted",
                        message,
                    );
                }
                Ok(Err(error)) if error.is_not_found() => {}
                Ok(Err(error)) => tracing::warn!(pod = %victim.object.key, %error, "victim of preemption not removed"),
                Err(_) => tracing::warn!(pod = %victim.object.key, "removal of a victim was not answered"),
            }
        }
    }

    async fn patch_status(&self, pod: &Pod, status: Value) {
        let patch = json!({"metadata": {"uid": pod.object.uid.as_str()}, "status": status});
        let (namespace, name) = (pod.namespace(), pod.object.name());
        let call = self
            .client
            .patch(PODS, namespace, name, Some("status"), Patch::Strategic(patch));
        let failed: Option<Error> = match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) if error.is_not_found() || error.is_conflict() => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(Error::Cancelled),
        };
        if let Some(error) = failed {
            tracing::warn!(pod = %pod.object.key, %error, "status of a pod not written");
        }
    }
}

/// The change of status that tells of a refusal; `None` if the pod says so already.
fn refused_status(pod: &Pod, message: &str, nominated: Option<&str>) -> Option<Value> {
    let wish = pod.wish();
    let said = wish
        .condition
        .as_ref()
        .map(|(status, reason, said)| (&**status, &**reason, &**said));
    if said == Some(("False", "Unschedulable", message)) && nominated.is_none() {
        return None;
    }
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "observedGeneration": wish.generation,
    });
    // The time tells when the status changed, not the message.
    if said.is_none_or(|(status, ..)| status != "False") {
        condition["lastTransitionTime"] = json!(Time::now());
    }
    let mut status = json!({"conditions": [condition]});
    if let Some(node) = nominated {
        status["nominatedNodeName"] = json!(node);
    }
    Some(status)
}

/// What is done beside the engine, one at a time or many.
pub(crate) async fn carry_out_refusal(
    reporter: Reporter,
    pod: Arc<Pod>,
    message: String,
    preemption: Option<Preemption>,
) {
    let nominated = preemption.as_ref().map(|preemption| &*preemption.node);
    reporter.refuse(&pod, &message, nominated).await;
    if let Some(preemption) = &preemption {
        reporter.preempt(&pod, preemption).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::waiting;

    #[test]
    fn a_refusal_is_told_once() {
        let pod = waiting("w", json!({}), json!({}));
        let status = refused_status(&pod, "why", None).expect("news");
        let condition = &status["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["message"]),
            (&json!("False"), &json!("why"))
        );
        assert!(condition["lastTransitionTime"].is_string());
        assert_eq!(condition["observedGeneration"], 1);
        let mut told = waiting("w", json!({}), json!({}));
        if let Some(wish) = &mut told.wish {
            wish.condition = Some(("False".into(), "Unschedulable".into(), "why".into()));
        }
        assert_eq!(refused_status(&told, "why", None), None);
        let other = refused_status(&told, "other", Some("n")).expect("news");
        assert_eq!(other["nominatedNodeName"], "n");
        assert!(other["conditions"][0].get("lastTransitionTime").is_none());
    }
}
