//! What the scheduler writes: bindings, conditions, events.

use crate::{pod::Pod, preemption::Preemption, storage::VolumePlan, volume_writes::VolumeWriter};
use serde_json::{Value, json};
use std::{borrow::Cow, sync::Arc, time::Duration};
use strata_client::{Client, DeleteOptions, Error, EventRecorder, EventType, ObjectReference, Patch, resources::PODS};
use strata_meta::Time;

/// A write that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes as the scheduler. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub client: Client,
    pub events: EventRecorder,
    pub volumes: VolumeWriter,
}

/// Why a pod is not placed now.
#[derive(Debug)]
pub(crate) struct Report {
    pub pod: Arc<Pod>,
    pub message: String,
    /// Whether it could not be judged, rather than that it fits nowhere.
    pub failed: bool,
    pub nomination: Nomination,
}

/// What is to be written about where room is made for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nomination {
    Keep,
    Clear,
    Set(Arc<str>),
}

impl Reporter {
    /// Has the volumes of a pod bound, then the pod; whether all was accepted.
    pub async fn place(&self, pod: &Arc<Pod>, node: &Arc<str>, volumes: &VolumePlan) -> bool {
        if volumes.is_empty() {
            return self.bind(pod, node).await;
        }
        // Others learn where the pod is going while its volumes are made.
        self.patch_status(pod, json!({"nominatedNodeName": &**node})).await;
        match self.volumes.carry_out(volumes, pod, node).await {
            Ok(()) => self.bind(pod, node).await,
            Err(why) => {
                let message = format!("running PreBind plugin {:?}: binding volumes: {why}", "VolumeBinding");
                let report = Report {
                    pod: pod.clone(),
                    message,
                    failed: true,
                    nomination: Nomination::Clear,
                };
                self.refuse(&report).await;
                false
            }
        }
    }

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

    /// Tells why a pod is not placed.
    pub async fn refuse(&self, report: &Report) {
        let reference = ObjectReference::of(&report.pod.object);
        let note = shortened(&report.message);
        self.events
            .event(&reference, EventType::Warning, "FailedScheduling", &*note);
        if let Some(status) = refused_status(report) {
            self.patch_status(&report.pod, status).await;
        }
    }

    /// Removes the victims of a preemption.
    pub async fn preempt(&self, pod: &Pod, preemption: &Preemption) {
        for other in &preemption.displaced {
            self.patch_status(other, json!({"nominatedNodeName": null})).await;
        }
        for victim in &preemption.victims {
            let uid = pod.object.uid.as_str();
            let by = format!(
                "{}: preempting to accommodate a higher priority pod",
                pod.scheduler_name
            );
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

/// Longer notes are refused by the API.
const LONGEST_NOTE: usize = 1024;

fn shortened(message: &str) -> Cow<'_, str> {
    if message.len() <= LONGEST_NOTE {
        return Cow::Borrowed(message);
    }
    let suffix = " ...";
    let end = message.floor_char_boundary(LONGEST_NOTE - suffix.len());
    Cow::Owned(format!("{}{suffix}", &message[..end]))
}

/// The change of status that tells of a refusal; `None` if the pod says so already.
fn refused_status(report: &Report) -> Option<Value> {
    let wish = report.pod.wish();
    let said = wish
        .condition
        .as_ref()
        .map(|(status, reason, said)| (&**status, &**reason, &**said));
    let nominated = match &report.nomination {
        Nomination::Set(node) if wish.nominated.as_deref() != Some(node) => Some(json!(&**node)),
        Nomination::Clear if wish.nominated.is_some() => Some(Value::Null),
        _ => None,
    };
    let (reason, message) = (
        if report.failed {
            "SchedulerError"
        } else {
            "Unschedulable"
        },
        &*report.message,
    );
    if said == Some(("False", reason, message)) && nominated.is_none() {
        return None;
    }
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "observedGeneration": wish.generation,
    });
    // The time tells when the status changed, not the message.
    if said.is_none_or(|(status, ..)| status != "False") {
        condition["lastTransitionTime"] = json!(Time::now());
    }
    let mut status = json!({"conditions": [condition]});
    if let Some(node) = nominated {
        status["nominatedNodeName"] = node;
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::waiting;

    #[test]
    fn a_refusal_is_told_once() {
        let report = |pod: Pod, message: &str, nomination| Report {
            pod: Arc::new(pod),
            message: message.to_owned(),
            failed: false,
            nomination,
        };
        let pod = || waiting("w", json!({}), json!({}));
        let status = refused_status(&report(pod(), "why", Nomination::Keep)).expect("news");
        let condition = &status["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["message"]),
            (&json!("False"), &json!("why"))
        );
        assert!(condition["lastTransitionTime"].is_string());
        assert_eq!(condition["observedGeneration"], 1);
        let told = || {
            let mut told = pod();
            if let Some(wish) = &mut told.wish {
                wish.condition = Some(("False".into(), "Unschedulable".into(), "why".into()));
            }
            told
        };
        assert_eq!(refused_status(&report(told(), "why", Nomination::Clear)), None);
        let other = report(told(), "other", Nomination::Set("n".into()));
        let other = refused_status(&other).expect("news");
        assert_eq!(other["nominatedNodeName"], "n");
        assert!(other["conditions"][0].get("lastTransitionTime").is_none());
    }

    #[test]
    fn a_long_refusal_fits_into_an_event() {
        let note = shortened(&"\u{e9}".repeat(600)).into_owned();
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("\u{e9} ..."));
        assert_eq!(shortened("short"), "short");
    }
}
