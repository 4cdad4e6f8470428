//! Horizontal pod autoscalers: as many pods as metrics ask for, within bounds and not too fast.
//!
//! Every quarter of a minute the metrics are asked for; what they ask for is worked out in [`calculate`], and what is
//! done of it in [`limits`].

mod calculate;
mod limits;
mod metrics;
mod propose;
mod types;

use crate::{
    Error,
    context::Context,
    error::During,
    scale::Scales,
    tracked::{Tracked, decode, value},
};
use limits::{Bounds, History};
use metrics::Metrics;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};
use strata_client::{
    Client, EventRecorder, EventType, Informer, ObjectReference, Resource, Scope, resources::HORIZONTAL_POD_AUTOSCALERS,
};
use strata_meta::{ObjectKey, Selector, Time};
use types::{Autoscaler, Reference, Status};

const CONTROLLER: &str = "horizontal-pod-autoscaler";
const WORKERS: usize = 5;
/// How often metrics are asked for (as upstream).
const PERIOD: Duration = Duration::from_secs(15);
/// Writes of a scale that others write too.
const ATTEMPTS: usize = 5;

pub(crate) fn start(context: &Arc<Context>) {
    let shared = context.client(crate::SHARED_INFORMERS);
    let scalers = Informer::start_with(
        &shared,
        HORIZONTAL_POD_AUTOSCALERS,
        Scope::default(),
        context.cancel.clone(),
        Tracked::decode,
    );
    let queue = context.queue("horizontalpodautoscaler");
    let client = context.client(CONTROLLER);
    let controller = Arc::new(Controller {
        events: EventRecorder::new(client.clone(), CONTROLLER, ""),
        scales: Scales::new(client.clone()),
        metrics: Metrics::new(client.clone()),
        client,
        scalers: scalers.clone(),
        memory: Mutex::default(),
        context: context.clone(),
    });
    let (to, forget) = (queue.clone(), Arc::downgrade(&controller));
    scalers.on_change(move |change| {
        let specs = [&change.old, &change.new].map(|known| known.as_ref().map(|scaler| &scaler.view.spec));
        // Its own status is no news.
        if specs[0] != specs[1] {
            to.add(change.key.clone());
        }
        if change.new.is_none()
            && let Some(controller) = forget.upgrade()
        {
            controller.memory().remove(&change.key);
        }
    });
    let pods = context.pods.clone();
    let ready = async move {
        scalers.synced().await;
        pods.synced().await;
    };
    context.run(&queue, WORKERS, ready, move |key| controller.clone().reconcile(key));
}

/// What is remembered of an autoscaler between its passes.
#[derive(Clone, Default)]
struct Memory {
    history: History,
    /// Which pods it had the last time.
    selector: Option<Selector>,
}

struct Controller {
    client: Client,
    events: EventRecorder,
    scales: Scales,
    metrics: Metrics,
    scalers: Informer<Autoscaler>,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
    context: Arc<Context>,
}

/// What an autoscaler scales, as it is now.
struct Scaled {
    resource: Resource,
    scale: Value,
    current: i32,
    /// As the object tells it, which may be behind.
    present: i32,
    selector: String,
}

/// A pass that could not go on. What was to be said is in the status.
struct Stopped(String);

impl Controller {
    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Memory>> {
        self.memory.lock().expect("no holder panics")
    }

    fn milliseconds(&self) -> i64 {
        let since = self.context.options.clock.now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }

    fn tell(&self, scaler: &Autoscaler, event_type: EventType, reason: &str, message: impl Into<String>) {
        self.events
            .event(&ObjectReference::of(scaler), event_type, reason, message);
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(scaler) = self.scalers.get(&key) else {
            return Ok(None);
        };
        let mut status = scaler.view.status.clone();
        if let Err(Stopped(why)) = self.pass(&scaler, &mut status).await {
            tracing::debug!(autoscaler = %key, why, "an autoscaler cannot scale");
        }
        if status != scaler.view.status {
            self.write(&scaler, &status).await?;
        }
        Ok(Some(PERIOD))
    }

    async fn write(&self, scaler: &Autoscaler, status: &Status) -> Result<(), Error> {
        let mut whole = value(scaler)?;
        whole["status"] = json!(status);
        let (namespace, name) = (scaler.namespace(), scaler.name());
        let written = self
            .client
            .update_status(HORIZONTAL_POD_AUTOSCALERS, namespace, name, &whole);
        match written.await {
            Err(error) if !error.is_not_found() => {
                self.tell(scaler, EventType::Warning, "FailedUpdateStatus", error.to_string());
                Err(error).during(|| format!("writing the status of autoscaler {}", scaler.key))
            }
            _ => Ok(()),
        }
    }

    async fn pass(&self, scaler: &Autoscaler, status: &mut Status) -> Result<(), Stopped> {
        let now = self.context.now();
        let mut scaled = self.scaled(scaler).await.map_err(|why| {
            self.tell(scaler, EventType::Warning, "FailedGetScale", why.clone());
            let said = format!("the HPA controller was unable to get the target's current scale: {why}");
            status.set("AbleToScale", false, "FailedGetScale", said, now);
            Stopped(why)
        })?;
        let got = "the HPA controller was able to get the target's current scale";
        status.set("AbleToScale", true, "SucceededGetScale", got, now);
        let current = scaled.current;
        let time = self.milliseconds();
        self.remember(scaler, |memory| memory.history.begin(current, time));
        let wish = self.wish(scaler, status, &scaled).await;
        status.current_replicas = current;
        let (wanted, reason) = wish?;
        if wanted == current {
            status.desired_replicas = current;
            return Ok(());
        }
        self.rescale(scaler, &mut scaled, wanted).await.map_err(|why| {
            let said = format!("New size: {wanted}; reason: {reason}; error: {why}");
            self.tell(scaler, EventType::Warning, "FailedRescale", said);
            let said = format!("the HPA controller was unable to update the target scale: {why}");
            status.set("AbleToScale", false, "FailedUpdateScale", said, now);
            Stopped(why)
        })?;
        let said = format!("the HPA controller was able to update the target scale to {wanted}");
        status.set("AbleToScale", true, "SucceededRescale", said, now);
        let said = format!("New size: {wanted}; reason: {reason}");
        self.tell(scaler, EventType::Normal, "SuccessfulRescale", said);
        if let Some(behavior) = &scaler.view.spec.behavior {
            self.remember(scaler, |memory| memory.history.changed(current, wanted, behavior, time));
        }
        status.desired_replicas = wanted;
        status.last_scale_time = Some(now);
        Ok(())
    }

    fn remember<R>(&self, scaler: &Autoscaler, change: impl FnOnce(&mut Memory) -> R) -> R {
        change(self.memory().entry(scaler.key.clone()).or_default())
    }

    async fn scaled(&self, scaler: &Autoscaler) -> Result<Scaled, String> {
        let Reference {
            kind,
            name,
            api_version,
        } = &scaler.view.spec.scale_target_ref;
        if api_version.matches('/').count() > 1 {
            return Err(format!("unexpected GroupVersion string: {api_version}"));
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let resource = self.scales.resource(group, kind).await.map_err(|e| e.to_string())?;
        let resource = resource.ok_or_else(|| format!("no matches for kind {kind:?} in group {group:?}"))?;
        let scale = self.scales.get(resource, scaler.namespace(), name).await;
        let scale = scale.map_err(|e| e.to_string())?;
        let number = |value: &Value| i32::try_from(value.as_i64().unwrap_or(0)).unwrap_or(i32::MAX);
        Ok(Scaled {
            resource,
            current: number(&scale["spec"]["replicas"]),
            present: number(&scale["status"]["replicas"]),
            selector: scale["status"]["selector"].as_str().unwrap_or_default().to_owned(),
            scale,
        })
    }

    /// How many there are to be, and why. Only what is out of bounds is decided without the metrics.
    async fn wish(&self, scaler: &Autoscaler, status: &mut Status, scaled: &Scaled) -> Result<(i32, String), Stopped> {
        let (spec, now) = (&scaler.view.spec, self.context.now());
        let (current, min, max) = (scaled.current, spec.min_replicas.unwrap_or(1), spec.max_replicas);
        if current == 0 {
            let why = "scaling is disabled since the replica count of the target is zero";
            status.set("ScalingActive", false, "ScalingDisabled", why, now);
            status.current_metrics.clear();
            return Ok((0, String::new()));
        }
        if current > max || current < min {
            status.current_metrics.clear();
            let (wanted, side) = if current > max {
                (max, "above Spec.MaxReplicas")
            } else {
                (min, "below Spec.MinReplicas")
            };
            return Ok((wanted, format!("Current number of replicas {side}")));
        }
        let proposed = self.propose(scaler, status, scaled).await.map_err(|why| {
            self.tell(scaler, EventType::Warning, "FailedComputeMetricsReplicas", why.clone());
            Stopped(why)
        })?;
        let bounds = Bounds { min, max, current };
        let (behavior, time) = (spec.behavior.as_ref(), self.milliseconds());
        let limited = self.remember(scaler, |memory| {
            memory.history.limit(proposed.replicas, bounds, behavior, time)
        });
        status.set("AbleToScale", true, limited.able.0, limited.able.1, now);
        let (is_limited, reason, message) = limited.limited;
        status.set("ScalingLimited", is_limited, reason, message, now);
        let why = match proposed.replicas > current {
            true => format!("{} above target", proposed.metric),
            false => "All metrics below target".to_owned(),
        };
        Ok((limited.replicas, why))
    }

    /// Writes the number, on the newest scale if somebody else wrote it meanwhile.
    async fn rescale(&self, scaler: &Autoscaler, scaled: &mut Scaled, wanted: i32) -> Result<(), String> {
        let (namespace, name) = (scaler.namespace(), &scaler.view.spec.scale_target_ref.name);
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            scaled.scale["spec"]["replicas"] = json!(wanted);
            match self.scales.put(scaled.resource, namespace, name, &scaled.scale).await {
                Ok(()) => return Ok(()),
                Err(Error::Request { source, .. }) if source.is_conflict() => last = source.to_string(),
                Err(Error::Request { source, .. }) => return Err(source.to_string()),
                Err(error) => return Err(error.to_string()),
            }
            let fresh = self.scales.get(scaled.resource, namespace, name).await;
            scaled.scale = fresh.map_err(|e| e.to_string())?;
        }
        Err(last)
    }

    /// The pods that the scale selects, unless another autoscaler has some of them too.
    fn pods(&self, scaler: &Autoscaler, scaled: &Scaled, status: &mut Status) -> Result<Found, String> {
        let now = self.context.now();
        let mut refuse = |event: &str, reason: &str, why: String, said: Option<&str>| {
            self.tell(scaler, EventType::Warning, event, why.clone());
            let said = said.map_or_else(|| why.clone(), str::to_owned);
            status.set("ScalingActive", false, reason, said, now);
            why
        };
        if scaled.selector.is_empty() {
            let said = "the HPA target's scale is missing a selector";
            let why = "selector is required".to_owned();
            return Err(refuse("SelectorRequired", "InvalidSelector", why, Some(said)));
        }
        let selector = Selector::parse(&scaled.selector).map_err(|e| {
            let why = format!("couldn't convert selector into a corresponding internal selector object: {e}");
            refuse("InvalidSelector", "InvalidSelector", why, None)
        })?;
        self.remember(scaler, |memory| memory.selector = Some(selector.clone()));
        let mut pods = self.context.pods_by_namespace.get(scaler.namespace());
        pods.retain(|pod| selector.matches_object(pod));
        let mut sharing: Vec<String> = Vec::new();
        for (key, memory) in self
            .memory()
            .iter()
            .filter(|(key, _)| key.namespace == scaler.key.namespace)
        {
            let selects = |s: &Selector| pods.iter().any(|pod| s.matches_object(pod));
            if memory.selector.as_ref().is_some_and(selects) {
                sharing.push(key.to_string());
            }
        }
        if sharing.len() > 1 {
            sharing.sort();
            let why = format!(
                "pods by selector {} are controlled by multiple HPAs: [{}]",
                scaled.selector,
                sharing.join(" ")
            );
            return Err(refuse("AmbiguousSelector", "AmbiguousSelector", why, None));
        }
        let pods: Result<Vec<calculate::Pod>, Error> = pods.iter().map(|pod| decode(pod)).collect();
        Ok(Found {
            selector,
            pods: pods.map_err(|e| e.to_string())?,
            now,
        })
    }
}

/// The pods of an autoscaler.
struct Found {
    selector: Selector,
    pods: Vec<calculate::Pod>,
    now: Time,
}
