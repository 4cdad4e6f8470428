//! How many replicas a metric asks for.
//!
//! All amounts are thousandths. What is unknown of a pod is taken for what moves the least: a pod without a sample
//! uses what it may where others use less, and nothing where they use more.

use crate::views::Phase;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use strata_meta::{Quantity, Time};

/// Seconds after its start in which a pod's use of processors may be that of its start.
const CPU_INITIALIZATION: i64 = 300;
/// Seconds after its start within which a pod that is not ready never was.
const INITIAL_READINESS: i64 = 30;
const CPU: &str = "cpu";

/// What is measured of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub value: i64,
    pub at: Option<Time>,
    /// Seconds over which it was measured.
    pub window: i64,
}

pub(super) type Samples = BTreeMap<String, Sample>;

/// How far from its target a metric may be without anything being done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn allow(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What matters of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: String,
    deletion_timestamp: Option<Time>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    resources: Requests,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    restart_policy: String,
    resources: Requests,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Requests {
    requests: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Phase,
    start_time: Option<Time>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    last_transition_time: Option<Time>,
}

impl Pod {
    fn ready(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.type_ == "Ready")
    }

    fn counts_as_ready(&self) -> bool {
        self.status.phase == Phase::Running && self.ready().is_some_and(|c| c.status == "True")
    }

    /// Whether its use of processors says nothing about its work yet.
    fn is_starting(&self, sample: &Sample, now: Time) -> bool {
        let (Some(ready), Some(start)) = (self.ready(), self.status.start_time) else {
            return true;
        };
        let unready = ready.status == "False";
        let since = ready.last_transition_time.unwrap_or(Time::from_second(0));
        if start.plus_seconds(CPU_INITIALIZATION) > now {
            let measured = sample.at.unwrap_or(Time::from_second(0));
            return unready || measured < since.plus_seconds(sample.window);
        }
        unready && start.plus_seconds(INITIAL_READINESS) > since
    }

    /// What it may use of a resource, or one of its containers may.
    fn request(&self, resource: &str, container: &str) -> Result<i64, String> {
        let name = &self.metadata.name;
        if container.is_empty() && !self.spec.resources.requests.is_empty() {
            if let Some(request) = self.spec.resources.requests.get(resource) {
                return Ok(request.milli_value());
            }
            let requests = self.long_running().filter_map(|c| c.resources.requests.get(resource));
            return match requests.map(Quantity::milli_value).sum() {
                0 => Err(format!("missing pod-level request for {resource} in Pod {name}")),
                request => Ok(request),
            };
        }
        let mut total = 0i64;
        let mut found = container.is_empty();
        for one in self
            .long_running()
            .filter(|c| container.is_empty() || c.name == container)
        {
            let request = one.resources.requests.get(resource);
            let request = request
                .ok_or_else(|| format!("missing request for {resource} in container {} of Pod {name}", one.name))?;
            total = total.saturating_add(request.milli_value());
            found = true;
        }
        match found {
            true => Ok(total),
            false => Err(format!("container {container} not found in Pod {name}")),
        }
    }

    fn long_running(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.spec.init_containers.iter();
        let sidecars = sidecars.filter(|c| c.restart_policy == "Always");
        self.spec.containers.iter().chain(sidecars)
    }
}

/// Pods by what is known of them.
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
}

/// Sorts the pods, and takes away the samples of those that say nothing.
fn group(pods: &[Pod], samples: &mut Samples, resource: &str, now: Time) -> Groups {
    let mut groups = Groups {
        ready: 0,
        unready: BTreeSet::new(),
        missing: BTreeSet::new(),
    };
    for pod in pods {
        let name = &pod.metadata.name;
        if pod.metadata.deletion_timestamp.is_some() || pod.status.phase == Phase::Failed {
            samples.remove(name);
        } else if pod.status.phase == Phase::Pending {
            samples.remove(name);
            groups.unready.insert(name.clone());
        } else {
            match samples.get(name) {
                None => {
                    groups.missing.insert(name.clone());
                }
                Some(sample) if resource == CPU && pod.is_starting(sample, now) => {
                    samples.remove(name);
                    groups.unready.insert(name.clone());
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

/// What a metric of pods says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proposal {
    pub replicas: i32,
    /// Percent of what was requested.
    pub utilization: Option<i32>,
    /// Of a pod.
    pub average: i64,
}

/// What is wanted of each pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal<'a> {
    /// Percent of the request for a resource, of one container or (empty) of all.
    Utilization(i32, &'a str, &'a str),
    /// An amount; of a resource, or (empty) of something else.
    Average(i64, &'a str),
}

struct Measured {
    ratio: f64,
    utilization: Option<i32>,
    average: i64,
}

/// What the pods ask for, of which there are `current` now.
pub(super) fn of_pods(
    pods: &[Pod],
    mut samples: Samples,
    goal: Goal<'_>,
    current: i32,
    tolerances: Tolerances,
    now: Time,
) -> Result<Proposal, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let (Goal::Utilization(_, resource, _) | Goal::Average(_, resource)) = goal;
    let groups = group(pods, &mut samples, resource, now);
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let requests = requests(pods, goal)?;
    let first = measure(&samples, &requests, goal)?;
    let propose = |replicas| Proposal {
        replicas,
        utilization: first.utilization,
        average: first.average,
    };
    let up_with_unready = !groups.unready.is_empty() && first.ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        return Ok(propose(match tolerances.allow(first.ratio) {
            true => current,
            false => rounded_up(first.ratio * count(groups.ready)),
        }));
    }
    if first.ratio != 1.0 {
        for name in &groups.missing {
            let value = match goal {
                _ if first.ratio > 1.0 => 0,
                Goal::Utilization(target, ..) => {
                    requests.get(name).copied().unwrap_or(0) * i64::from(target.max(100)) / 100
                }
                Goal::Average(target, _) => target,
            };
            samples.insert(
                name.clone(),
                Sample {
                    value,
                    ..Sample::default()
                },
            );
        }
    }
    if up_with_unready {
        let idle = groups.unready.into_iter().map(|name| (name, Sample::default()));
        samples.extend(idle);
    }
    let second = measure(&samples, &requests, goal)?.ratio;
    let turned = first.ratio < 1.0 && second > 1.0 || first.ratio > 1.0 && second < 1.0;
    if turned || tolerances.allow(second) {
        return Ok(propose(current));
    }
    let replicas = rounded_up(second * count(samples.len()));
    let backwards = second < 1.0 && replicas > current || second > 1.0 && replicas < current;
    Ok(propose(if backwards { current } else { replicas }))
}

fn requests(pods: &[Pod], goal: Goal<'_>) -> Result<BTreeMap<String, i64>, String> {
    let Goal::Utilization(_, resource, container) = goal else {
        return Ok(BTreeMap::new());
    };
    let request = |pod: &Pod| Ok((pod.metadata.name.clone(), pod.request(resource, container)?));
    pods.iter().map(request).collect()
}

fn measure(samples: &Samples, requests: &BTreeMap<String, i64>, goal: Goal<'_>) -> Result<Measured, String> {
    let target = match goal {
        Goal::Average(target, _) => {
            let total = samples.values().fold(0i64, |sum, s| sum.saturating_add(s.value));
            let average = total / i64::try_from(samples.len()).unwrap_or(i64::MAX).max(1);
            return Ok(Measured {
                ratio: average as f64 / target as f64,
                utilization: None,
                average,
            });
        }
        Goal::Utilization(target, ..) => target,
    };
    let (mut used, mut wanted, mut entries) = (0i64, 0i64, 0i64);
    for (name, sample) in samples {
        let Some(request) = requests.get(name) else { continue };
        used = used.saturating_add(sample.value);
        wanted = wanted.saturating_add(*request);
        entries += 1;
    }
    if wanted == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let percent = i128::from(used) * 100 / i128::from(wanted);
    let percent = i32::try_from(percent).unwrap_or(i32::MAX);
    Ok(Measured {
        ratio: f64::from(percent) / f64::from(target),
        utilization: Some(percent),
        average: used / entries.max(1),
    })
}

/// What a metric of something else asks for, whose target is for all pods together.
pub(super) fn of_total(
    pods: &[Pod],
    usage: i64,
    target: i64,
    current: i32,
    tolerances: Tolerances,
) -> Result<i32, String> {
    let ratio = usage as f64 / target as f64;
    if current == 0 {
        return Ok(rounded_up(ratio));
    }
    if tolerances.allow(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        let why = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {why}"));
    }
    let ready = pods.iter().filter(|pod| pod.counts_as_ready()).count();
    Ok(rounded_up(ratio * count(ready)))
}

/// The same where the target is for each of the pods that there are; the second number is what each has.
pub(super) fn of_share(usage: i64, target: i64, present: i32, tolerances: Tolerances) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(present));
    let replicas = match tolerances.allow(ratio) {
        true => present,
        false => rounded_up(usage as f64 / target as f64),
    };
    let share = match usage {
        i64::MAX => i64::MAX,
        usage => (usage as f64 / f64::from(present)).ceil() as i64,
    };
    (replicas, share)
}

/// Beyond what fits, the largest number that does.
fn rounded_up(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

fn count(pods: usize) -> f64 {
    f64::from(u32::try_from(pods).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "calculate_tests.rs"]
mod tests;
