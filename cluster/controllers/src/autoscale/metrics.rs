//! Asks the metrics APIs, which other servers may answer.

use super::{
    calculate::{Sample, Samples},
    types::Reference,
};
use crate::scale::Scales;
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use strata_client::{Client, with_query};
use strata_meta::{Quantity, Selector, Time};

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
const RESOURCES: &str = "metrics.k8s.io";
/// Seconds over which a custom metric was measured that does not say.
const WINDOW: i64 = 60;

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodMetrics {
    metadata: Name,
    timestamp: Option<Time>,
    window: String,
    containers: Vec<ContainerMetrics>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Name {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, Quantity>,
}

/// custom.metrics.k8s.io MetricValue of both versions, and that of external.metrics.k8s.io.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Value {
    described_object: Name,
    timestamp: Option<Time>,
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Quantity,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Group {
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Version {
    version: String,
}

/// The three APIs.
pub(super) struct Metrics {
    client: Client,
}

/// What is asked for in a namespace: a metric's name and which of its values.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub selector: &'a Selector,
}

impl Metrics {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// What the pods use of a resource, or one container of each does.
    pub async fn resource(
        &self,
        resource: &str,
        container: &str,
        namespace: &str,
        pods: &Selector,
    ) -> Result<Samples, String> {
        let path = format!("/apis/{RESOURCES}/v1beta1/namespaces/{namespace}/pods");
        let path = with_query(path, &[("labelSelector", &pods.to_string())]);
        let all: Vec<PodMetrics> = self.items(&path, "resource").await?;
        let used = |pod: &PodMetrics| -> Option<i64> {
            let mut named = pod
                .containers
                .iter()
                .filter(|c| container.is_empty() || c.name == container)
                .peekable();
            named.peek()?;
            named.map(|c| Some(c.usage.get(resource)?.milli_value())).sum()
        };
        let sample = |pod: PodMetrics| {
            let value = used(&pod)?;
            let sample = Sample {
                value,
                at: pod.timestamp,
                window: seconds(&pod.window),
            };
            Some((pod.metadata.name, sample))
        };
        Ok(all.into_iter().filter_map(sample).collect())
    }

    /// A metric of each of the pods.
    pub async fn of_pods(&self, asked: Asked<'_>, pods: &Selector) -> Result<Samples, String> {
        let version = self.custom_version().await?;
        let path = format!(
            "/apis/{CUSTOM}/{version}/namespaces/{}/pods/*/{}",
            asked.namespace,
            plain(asked.name)?
        );
        let (pods, metric) = (pods.to_string(), asked.selector.to_string());
        let path = with_query(path, &[("labelSelector", &pods), ("metricLabelSelector", &metric)]);
        let all: Vec<Value> = self.items(&path, "custom").await?;
        let sample = |value: Value| {
            let sample = Sample {
                value: value.value.milli_value(),
                at: value.timestamp,
                window: value.window_seconds.unwrap_or(WINDOW),
            };
            (value.described_object.name, sample)
        };
        Ok(all.into_iter().map(sample).collect())
    }

    /// A metric of one object.
    pub async fn of_object(&self, scales: &Scales, asked: Asked<'_>, object: &Reference) -> Result<i64, String> {
        let said = |why: String| format!("unable to fetch metrics from custom metrics API: {why}");
        let version = self.custom_version().await?;
        let (namespace, metric) = (asked.namespace, plain(asked.name)?);
        let prefix = format!("/apis/{CUSTOM}/{version}/namespaces/{namespace}");
        let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
        let path = if object.kind == "Namespace" && group.is_empty() {
            format!("{prefix}/metrics/{metric}")
        } else {
            let resource = scales
                .resource(group, &object.kind)
                .await
                .map_err(|e| said(e.to_string()))?;
            let resource = resource.ok_or_else(|| {
                said(format!(
                    "unable to map kind {} to resource: no matches for kind",
                    object.kind
                ))
            })?;
            format!(
                "{prefix}/{}/{}/{metric}",
                resource.group_resource(),
                plain(&object.name)?
            )
        };
        let path = with_query(path, &[("metricLabelSelector", &asked.selector.to_string())]);
        let all: Vec<Value> = self.items(&path, "custom").await?;
        match all.as_slice() {
            [one] => Ok(one.value.milli_value()),
            other => Err(said(format!(
                "the custom metrics API server returned {} results when we asked for exactly one",
                other.len()
            ))),
        }
    }

    /// A metric of something outside; its values are added up.
    pub async fn external(&self, asked: Asked<'_>) -> Result<i64, String> {
        let path = format!(
            "/apis/{EXTERNAL}/v1beta1/namespaces/{}/{}",
            asked.namespace,
            plain(asked.name)?
        );
        let path = with_query(path, &[("labelSelector", &asked.selector.to_string())]);
        let all: Vec<Value> = self.items(&path, "external").await?;
        let total = |sum: i64, value: &Value| sum.saturating_add(value.value.milli_value());
        Ok(all.iter().fold(0, total))
    }

    async fn custom_version(&self) -> Result<&'static str, String> {
        let said = |why: String| format!("unable to fetch metrics from custom metrics API: {why}");
        let found = self
            .client
            .get_path(&format!("/apis/{CUSTOM}"), "application/json")
            .await;
        let found = match found {
            Err(error) if error.is_not_found() => {
                return Err(said(
                    "no custom metrics API (custom.metrics.k8s.io) registered".to_owned(),
                ));
            }
            found => found.map_err(|e| said(e.to_string()))?,
        };
        let group: Group = serde_json::from_slice(&found).map_err(|e| said(e.to_string()))?;
        let newer = group.versions.iter().any(|served| served.version == "v1beta2");
        Ok(if newer { "v1beta2" } else { "v1beta1" })
    }

    async fn items<T: DeserializeOwned>(&self, path: &str, api: &str) -> Result<Vec<T>, String> {
        let said = |why: String| format!("unable to fetch metrics from {api} metrics API: {why}");
        let body = self.client.get_path(path, "application/json").await;
        let body = body.map_err(|e| said(e.to_string()))?;
        let list: List<T> = serde_json::from_slice(&body).map_err(|e| said(e.to_string()))?;
        match list.items.is_empty() {
            true => Err(format!("no metrics returned from {api} metrics API")),
            false => Ok(list.items),
        }
    }
}

/// A name that is one segment of a path, as validation has it (some metrics have a bar in them).
fn plain(name: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'%' | b'?' | b'#');
    match !matches!(name, "" | "." | "..") && name.bytes().all(fits) {
        true => Ok(name
            .replace('|', "%7C")
            .replace('"', "%22")
            .replace('<', "%3C")
            .replace('>', "%3E")),
        false => Err(format!("invalid name {name:?}")),
    }
}

/// The seconds of a duration as Go writes it: `30s`, `1m0.5s`.
fn seconds(duration: &str) -> i64 {
    let (mut total, mut number) = (0.0f64, String::new());
    let mut unit = String::new();
    let mut parts = duration.chars().peekable();
    while let Some(c) = parts.next() {
        if c.is_ascii_digit() || c == '.' {
            number.push(c);
            continue;
        }
        unit.push(c);
        if parts.peek().is_none_or(char::is_ascii_digit) {
            let factor = match unit.as_str() {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                _ => 0.0,
            };
            total += number.parse::<f64>().unwrap_or(0.0) * factor;
            number.clear();
            unit.clear();
        }
    }
    total as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, wanted) in [
            ("30s", 30),
            ("1m0s", 60),
            ("1h2m3.9s", 3723),
            ("1500ms", 1),
            ("", 0),
            ("x", 0),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(plain("queue|length").as_deref(), Ok("queue%7Clength"));
        for name in ["", "..", "a/b", "a?b", "a%2fb", "a b"] {
            assert!(plain(name).is_err(), "{name}");
        }
    }
}
