//! Takes back the word that a pod is about to go, when it has stayed.

use super::CONTROLLER;
use crate::{
    Error,
    context::Context,
    error::During,
    tracked::value,
    views::{Pod, PodView},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_client::{Client, resources::PODS};
use strata_meta::{ObjectKey, Time};

/// Seconds after which the word is stale.
const TIMEOUT: i64 = 120;
const WORKERS: usize = 1;

pub(super) fn start(context: &Arc<Context>) {
    let queue = context.queue("stale_pod_disruption");
    let (to, follow) = (queue.clone(), context.clone());
    context.pods.on_change(move |change| {
        let wait = change.new.as_ref().and_then(|pod| wait(&pod.view, follow.now()));
        if let Some(wait) = wait {
            to.add_after(change.key.clone(), wait);
        }
    });
    let client = context.client(CONTROLLER);
    let (pods, ready) = (context.clone(), context.pods.clone());
    context.run(&queue, WORKERS, async move { ready.synced().await }, move |key| {
        reset(pods.clone(), client.clone(), key)
    });
}

/// How long until the word is stale; `None` where it never is: agents may need any time for what they announce.
fn wait(pod: &PodView, now: Time) -> Option<Duration> {
    let since = pod.disruption_target?;
    let seconds = since.plus_seconds(TIMEOUT).seconds_since(now).max(0);
    pod.is_active()
        .then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

async fn reset(context: Arc<Context>, client: Client, key: ObjectKey) -> Result<Option<Duration>, Error> {
    let Some(pod) = context.pods.get(&key) else {
        return Ok(None);
    };
    match wait(&pod.view, context.now()) {
        Some(Duration::ZERO) => {}
        later => return Ok(later),
    }
    let wanted = without(&pod, context.now())?;
    match client.update_status(PODS, &key.namespace, &key.name, &wanted).await {
        Err(error) if !error.is_not_found() => Err(error).during(|| format!("taking back the disruption of pod {key}")),
        _ => Ok(None),
    }
}

fn without(pod: &Pod, now: Time) -> Result<Value, Error> {
    let mut whole = value(pod)?;
    let generation = whole["metadata"]["generation"].clone();
    if let Some(conditions) = whole["status"]["conditions"].as_array_mut() {
        for condition in conditions.iter_mut().filter(|c| c["type"] == "DisruptionTarget") {
            *condition = json!({"type": "DisruptionTarget", "status": "False", "lastProbeTime": null,
                "lastTransitionTime": now});
            if !generation.is_null() {
                condition["observedGeneration"] = generation.clone();
            }
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_stale_after_two_minutes_unless_the_agent_gave_it() {
        let since = Time::from_second(1_800_000_000);
        let pod = |phase: &str, reason: &str| -> PodView {
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason,
                "lastTransitionTime": since});
            serde_json::from_value(json!({"status": {"phase": phase, "conditions": [condition]}})).unwrap()
        };
        let at = |seconds: i64| since.plus_seconds(seconds);
        let seconds = Duration::from_secs;
        assert_eq!(
            wait(&pod("Running", "EvictionByEvictionAPI"), at(20)),
            Some(seconds(100))
        );
        assert_eq!(
            wait(&pod("Running", "PreemptionByScheduler"), at(300)),
            Some(seconds(0))
        );
        assert_eq!(wait(&pod("Running", "TerminationByKubelet"), at(300)), None);
        assert_eq!(wait(&pod("Failed", "EvictionByEvictionAPI"), at(300)), None);
    }
}
