//! Puts the questions of an autoscaler's metrics, and their answers together.

use super::{
    Controller, Found, Scaled,
    calculate::{self, Goal, Proposal, Tolerances},
    metrics::Asked,
    types::{Autoscaler, Identifier, Metric, Source, Status},
};
use serde_json::{Value, json};
use strata_client::EventType;
use strata_meta::{LabelSelector, Quantity, Selector};

/// Upstream's default.
const TOLERANCE: f64 = 0.1;

/// What the metrics of an autoscaler ask for together.
pub(super) struct Proposed {
    pub replicas: i32,
    /// The one that asks for the most.
    pub metric: String,
}

/// What one metric asks for.
struct Answer {
    replicas: i32,
    name: String,
    status: Value,
}

/// Why one metric says nothing: the reason of event and condition, the message of both, and the whole story.
struct Silent {
    reason: &'static str,
    message: String,
    whole: String,
}

fn tolerances(scaler: &Autoscaler) -> Tolerances {
    let behavior = scaler.view.spec.behavior.as_ref();
    let stated = |tolerance: Option<Quantity>| tolerance.map_or(TOLERANCE, |q| q.nano_value() as f64 / 1e9);
    Tolerances {
        down: stated(behavior.and_then(|b| b.scale_down.tolerance)),
        up: stated(behavior.and_then(|b| b.scale_up.tolerance)),
    }
}

impl Controller {
    /// The most that any metric asks for. A metric that says nothing prevents that there become fewer.
    pub(super) async fn propose(
        &self,
        scaler: &Autoscaler,
        status: &mut Status,
        scaled: &Scaled,
    ) -> Result<Proposed, String> {
        let found = self.pods(scaler, scaled, status)?;
        let metrics = &scaler.view.spec.metrics;
        let mut proposed = Proposed {
            replicas: 0,
            metric: String::new(),
        };
        let (mut statuses, mut first, mut silent) = (Vec::with_capacity(metrics.len()), None, 0);
        for metric in metrics {
            match self.ask(scaler, metric, scaled, &found).await {
                Ok(answer) => {
                    statuses.push(answer.status);
                    if proposed.replicas == 0 || answer.replicas > proposed.replicas {
                        proposed.replicas = answer.replicas;
                        proposed.metric = answer.name;
                    }
                }
                Err(why) => {
                    self.tell(scaler, EventType::Warning, why.reason, why.message.clone());
                    statuses.push(json!({"type": ""}));
                    silent += 1;
                    first.get_or_insert(why);
                }
            }
        }
        status.current_metrics = statuses;
        if let Some(why) = first.filter(|_| silent >= metrics.len() || proposed.replicas < scaled.current) {
            let said = format!("the HPA was unable to compute the replica count: {}", why.message);
            status.set("ScalingActive", false, why.reason, said, found.now);
            return Err(format!(
                "invalid metrics ({silent} invalid out of {}), first error is: {}",
                metrics.len(),
                why.whole
            ));
        }
        let said = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            proposed.metric
        );
        status.set("ScalingActive", true, "ValidMetricFound", said, found.now);
        Ok(proposed)
    }

    async fn ask(
        &self,
        scaler: &Autoscaler,
        metric: &Metric,
        scaled: &Scaled,
        found: &Found,
    ) -> Result<Answer, Silent> {
        let absent = Source::default();
        let source = |source: &'_ Option<Source>| source.clone().unwrap_or_else(|| absent.clone());
        let (reason, prefix, answer) = match metric.type_.as_str() {
            "Resource" => {
                let source = source(&metric.resource);
                let answer = self.resource(scaler, &source, scaled.current, found, false).await;
                let prefix = format!("failed to get {} resource metric value", source.name);
                ("FailedGetResourceMetric", prefix, answer)
            }
            "ContainerResource" => {
                let source = source(&metric.container_resource);
                let answer = self.resource(scaler, &source, scaled.current, found, true).await;
                let prefix = format!("failed to get {} container metric value", source.container);
                ("FailedGetContainerResourceMetric", prefix, answer)
            }
            "Pods" => {
                let answer = self.of_pods(scaler, &source(&metric.pods), scaled.current, found).await;
                (
                    "FailedGetPodsMetric",
                    "failed to get pods metric value".to_owned(),
                    answer,
                )
            }
            "Object" => {
                let answer = self.of_object(scaler, &source(&metric.object), scaled, found).await;
                (
                    "FailedGetObjectMetric",
                    "failed to get object metric value".to_owned(),
                    answer,
                )
            }
            "External" => {
                let source = source(&metric.external);
                let answer = self.external(scaler, &source, scaled, found).await;
                let prefix = format!("failed to get {} external metric value", source.metric.name);
                ("FailedGetExternalMetric", prefix, answer)
            }
            other => {
                let message = format!("unknown metric source type {other:?}");
                return Err(Silent {
                    reason: "InvalidMetricSourceType",
                    whole: message.clone(),
                    message,
                });
            }
        };
        answer.map_err(|message| Silent {
            reason,
            whole: format!("{prefix}: {message}"),
            message,
        })
    }

    async fn resource(
        &self,
        scaler: &Autoscaler,
        source: &Source,
        current: i32,
        found: &Found,
        of_container: bool,
    ) -> Result<Answer, String> {
        let (resource, container) = (&source.name, &source.container);
        let target = &source.target;
        let (goal, what) = match (&target.average_value, target.average_utilization) {
            (Some(value), _) => (Goal::Average(value.milli_value(), resource), "usage"),
            (None, Some(percent)) => (Goal::Utilization(percent, resource, container), "utilization"),
            (None, None) => {
                let why = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
                return Err(why.to_owned());
            }
        };
        let failed = |why: String| format!("failed to get {resource} {what}: {why}");
        let samples = self
            .metrics
            .resource(resource, container, scaler.namespace(), &found.selector);
        let samples = samples
            .await
            .map_err(|why| failed(format!("unable to get metrics for resource {resource}: {why}")))?;
        let proposal = calculate::of_pods(&found.pods, samples, goal, current, tolerances(scaler), found.now);
        let Proposal {
            replicas,
            utilization,
            average,
        } = proposal.map_err(failed)?;
        let mut is = json!({"averageValue": quantity(resource, average)});
        if let Some(utilization) = utilization {
            is["averageUtilization"] = json!(utilization);
        }
        let (name, status) = match (utilization, of_container) {
            (None, false) => (format!("{resource} resource"), false),
            (None, true) => (format!("{resource} resource"), true),
            (Some(_), false) => (
                format!("{resource} resource utilization (percentage of request)"),
                false,
            ),
            (Some(_), true) => {
                let name = format!("{resource} container resource utilization (percentage of request)");
                (name, true)
            }
        };
        let status = match status {
            false => json!({"type": "Resource", "resource": {"name": resource, "current": is}}),
            true => json!({"type": "ContainerResource",
                "containerResource": {"name": resource, "container": container, "current": is}}),
        };
        Ok(Answer { replicas, name, status })
    }

    async fn of_pods(
        &self,
        scaler: &Autoscaler,
        source: &Source,
        current: i32,
        found: &Found,
    ) -> Result<Answer, String> {
        let name = &source.metric.name;
        let selector = selector(&source.metric)?;
        let samples = self.metrics.of_pods(asked(scaler, name, &selector), &found.selector);
        let samples = samples
            .await
            .map_err(|why| format!("unable to get metric {name}: {why}"))?;
        let target = source.target.average_value.map_or(0, |q| q.milli_value());
        let goal = Goal::Average(target, "");
        let proposal = calculate::of_pods(&found.pods, samples, goal, current, tolerances(scaler), found.now)?;
        let is = json!({"averageValue": Quantity::from_milli(proposal.average)});
        Ok(Answer {
            replicas: proposal.replicas,
            name: format!("pods metric {name}"),
            status: json!({"type": "Pods", "pods": {"metric": source.metric, "current": is}}),
        })
    }

    async fn of_object(
        &self,
        scaler: &Autoscaler,
        source: &Source,
        scaled: &Scaled,
        found: &Found,
    ) -> Result<Answer, String> {
        let (name, object) = (&source.metric.name, &source.described_object);
        let selector = selector(&source.metric)?;
        let usage = self
            .metrics
            .of_object(&self.scales, asked(scaler, name, &selector), object);
        let usage = usage.await.map_err(|why| {
            let of = format!("{} {}/{}", object.kind, scaler.namespace(), object.name);
            format!("unable to get metric {name}: {why} on {of}")
        });
        let target = &source.target;
        let status = |is: Value| {
            json!({"type": "Object",
                "object": {"describedObject": object, "metric": source.metric, "current": is}})
        };
        match (target.type_.as_str(), target.value, target.average_value) {
            ("Value", Some(value), _) => {
                let (usage, target) = (usage?, value.milli_value());
                let wish = calculate::of_total(&found.pods, usage, target, scaled.current, tolerances(scaler))?;
                Ok(Answer {
                    replicas: wish,
                    name: format!("{} metric {name}", object.kind),
                    status: status(json!({"value": Quantity::from_milli(usage)})),
                })
            }
            ("AverageValue", _, Some(value)) => {
                let usage = usage.map_err(|why| format!("failed to get {name} object metric: {why}"))?;
                let (replicas, share) =
                    calculate::of_share(usage, value.milli_value(), scaled.present, tolerances(scaler));
                Ok(Answer {
                    replicas,
                    name: format!("external metric {name}({})", shown(source.metric.selector.as_ref())),
                    status: status(json!({"averageValue": Quantity::from_milli(share)})),
                })
            }
            _ => Err("invalid object metric source: neither a value target nor an average value target was set".into()),
        }
    }

    async fn external(
        &self,
        scaler: &Autoscaler,
        source: &Source,
        scaled: &Scaled,
        found: &Found,
    ) -> Result<Answer, String> {
        let name = &source.metric.name;
        let stated = shown(source.metric.selector.as_ref());
        let selector = selector(&source.metric)?;
        let usage = self.metrics.external(asked(scaler, name, &selector)).await;
        let usage = usage.map_err(|why| {
            format!(
                "unable to get external metric {}/{name}/{stated}: {why}",
                scaler.namespace()
            )
        });
        let label = format!("external metric {name}({stated})");
        let status = |is: Value| json!({"type": "External", "external": {"metric": source.metric, "current": is}});
        match (source.target.average_value, source.target.value) {
            (Some(value), _) => {
                let usage = usage.map_err(|why| format!("failed to get {name} external metric: {why}"))?;
                let (replicas, share) =
                    calculate::of_share(usage, value.milli_value(), scaled.present, tolerances(scaler));
                Ok(Answer {
                    replicas,
                    name: label,
                    status: status(json!({"averageValue": Quantity::from_milli(share)})),
                })
            }
            (None, Some(value)) => {
                let failed = |why: String| format!("failed to get external metric {name}: {why}");
                let (usage, target) = (usage.map_err(failed)?, value.milli_value());
                let wish = calculate::of_total(&found.pods, usage, target, scaled.current, tolerances(scaler));
                Ok(Answer {
                    replicas: wish.map_err(failed)?,
                    name: label,
                    status: status(json!({"value": Quantity::from_milli(usage)})),
                })
            }
            (None, None) => {
                Err("invalid external metric source: neither a value target nor an average value target was set".into())
            }
        }
    }
}

fn asked<'a>(scaler: &'a Autoscaler, name: &'a str, selector: &'a Selector) -> Asked<'a> {
    Asked {
        namespace: scaler.namespace(),
        name,
        selector,
    }
}

/// Which values of a metric; all where nothing is said.
fn selector(metric: &Identifier) -> Result<Selector, String> {
    let stated = metric.selector.as_ref().map(LabelSelector::to_selector).transpose();
    stated.map(Option::unwrap_or_default).map_err(|e| e.to_string())
}

/// As upstream's messages show a selector.
fn shown(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels: String = selector
        .match_labels
        .iter()
        .map(|(k, v)| format!("{k}: {v},"))
        .collect();
    let expression = |(key, operator, values): (&str, &str, String)| {
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    };
    let expressions: String = selector
        .match_expressions
        .iter()
        .map(|r| expression((&r.key, &r.operator, r.values.join(" "))))
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// Thousandths of a resource as the metrics server would print them: memory in whole bytes.
fn quantity(resource: &str, milli: i64) -> Quantity {
    match resource {
        "memory" => Quantity::from_bytes(milli.saturating_add(999).div_euclid(1000)),
        _ => Quantity::from_milli(milli),
    }
}
