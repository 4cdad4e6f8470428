//! Tells the API what a pod is doing: the newest status, in order, without holding up the worker.

use crate::{
    planner::Observed,
    pod::Pod,
    statics::mirror,
    status::{self, Context},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use strata_client::{Client, DeleteOptions, Error, Patch, resources};
use strata_meta::Time;
use strata_task::Backoff;
use tokio::sync::watch;

/// First and longest pause between tries to tell the API.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What the API shall be told.
#[derive(Clone, Default)]
enum Report {
    #[default]
    Nothing,
    Status(Arc<Pod>, Value),
    Delete(Arc<Pod>, Value),
}

/// Tells the API what a pod is doing.
pub struct Reporter {
    reports: watch::Sender<Report>,
    last: Value,
    conditions: Vec<serde_json::Map<String, Value>>,
    start_time: Time,
}

impl Reporter {
    /// Starts the reports about a pod.
    pub fn new(client: Client, pod: &Pod) -> Self {
        let (reports, newest) = watch::channel(Report::Nothing);
        tokio::spawn(write(client, newest));
        Self {
            reports,
            last: Value::Null,
            conditions: pod.status.conditions.clone(),
            start_time: pod.status.start_time.unwrap_or_else(Time::now),
        }
    }

    /// When the agent first saw the pod.
    pub fn start_time(&self) -> Time {
        self.start_time
    }

    /// Reports what is observed, if it differs from what was reported last.
    pub fn report(&mut self, pod: &Arc<Pod>, observed: &Observed, context: &Context<'_>) {
        let mut seen = (**pod).clone();
        seen.status.start_time = Some(self.start_time);
        // Transition times come from the last report, foreign conditions from the API.
        let foreign = |c: &&serde_json::Map<String, Value>| {
            c.get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| !status::is_own_condition(kind))
        };
        let own = self.conditions.iter().filter(|c| !foreign(c)).cloned();
        let conditions = own
            .chain(pod.status.conditions.iter().filter(foreign).cloned())
            .collect();
        seen.status.conditions = conditions;
        if let Some(phase) = self.last.get("phase").and_then(Value::as_str) {
            seen.status.phase = phase.to_owned();
        }
        let value = status::pod_status(&seen, observed, context);
        if value == self.last {
            return;
        }
        if let Some(list) = value["conditions"].as_array() {
            self.conditions = list.iter().filter_map(|c| c.as_object().cloned()).collect();
        }
        self.last = value.clone();
        self.reports.send_replace(Report::Status(pod.clone(), value));
    }

    /// Reports the same again: what the API had of it is lost.
    pub fn again(&self) {
        self.reports.send_modify(|_| {});
    }

    /// Reports the last status, then lets the API forget the pod.
    pub fn delete(&self, pod: &Arc<Pod>) {
        self.reports
            .send_replace(Report::Delete(pod.clone(), self.last.clone()));
    }
}

async fn write(client: Client, mut newest: watch::Receiver<Report>) {
    while newest.changed().await.is_ok() {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let report = newest.borrow_and_update().clone();
            match tell(&client, &report).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!(%error, "a pod's status could not be reported, trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

async fn tell(client: &Client, report: &Report) -> Result<(), Error> {
    let (pod, value, delete) = match report {
        Report::Nothing => return Ok(()),
        Report::Status(pod, value) => (pod, value, false),
        Report::Delete(pod, value) => (pod, value, true),
    };
    let uid = match &pod.manifest {
        None => pod.metadata.uid.clone(),
        Some(_) if delete => return mirror::remove(client, pod).await,
        Some(manifest) => mirror::present(client, pod, manifest).await?,
    };
    let (namespace, name) = (pod.metadata.namespace.as_str(), pod.metadata.name.as_str());
    let patch = Patch::Strategic(status::status_patch(pod, &uid, value.clone()));
    accept_gone(
        client
            .patch(resources::PODS, namespace, name, Some("status"), patch)
            .await
            .map(drop),
    )?;
    if delete {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(pod.metadata.uid.clone()),
            ..DeleteOptions::default()
        };
        accept_gone(client.delete(resources::PODS, namespace, name, options).await)?;
    }
    Ok(())
}

/// A pod that is gone, or another of the same name, needs no report.
fn accept_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(()),
        other => other,
    }
}
