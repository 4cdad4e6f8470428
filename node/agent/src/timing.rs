//! Probes quicker than the API can say: an annotation of a pod refines the seconds of its probes.
//!
//! ```yaml
//! strata.dev/probe-milliseconds: '{"web": {"readiness": {"period": 100, "timeout": 50, "initialDelay": 20}}}'
//! ```
//!
//! By container and probe (`startup`, `liveness`, `readiness`); what is not said stays as the probe has it.

use crate::pod::{Container, Pod};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// The annotation.
pub const ANNOTATION: &str = "strata.dev/probe-milliseconds";
/// What may be said, in milliseconds. Less would be a load of its own.
const BOUNDS: (u64, u64) = (10, 3_600_000);

/// Exact times of a probe, in place of its seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Exact {
    /// Between tries.
    period: Option<u64>,
    /// Of one try.
    timeout: Option<u64>,
    /// Before the first.
    initial_delay: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfContainer {
    startup: Exact,
    liveness: Exact,
    readiness: Exact,
}

impl Exact {
    /// Between tries, if it is said.
    pub fn period(&self) -> Option<Duration> {
        self.period.map(Duration::from_millis)
    }

    /// Of one try, if it is said.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_millis)
    }

    /// Before the first, if it is said.
    pub fn delay(&self) -> Option<Duration> {
        self.initial_delay.map(Duration::from_millis)
    }

    fn is_bounded(&self) -> bool {
        let within = |value: Option<u64>| value.is_none_or(|value| (BOUNDS.0..=BOUNDS.1).contains(&value));
        let delay = self.initial_delay.is_none_or(|delay| delay <= BOUNDS.1);
        within(self.period) && within(self.timeout) && delay
    }
}

/// A container with the times that its pod's annotation gives its probes. Error: why it is not heeded.
pub fn refined(pod: &Pod, container: &Container) -> Result<Container, String> {
    let mut container = container.clone();
    let Some(text) = pod.metadata.annotations.get(ANNOTATION) else {
        return Ok(container);
    };
    let all: Result<BTreeMap<String, OfContainer>, _> = serde_json::from_str(text);
    let mut all = all.map_err(|e| format!("annotation {ANNOTATION} is not heeded: {e}"))?;
    let Some(exact) = all.remove(&container.name) else {
        return Ok(container);
    };
    for (probe, exact) in [
        (&mut container.startup_probe, exact.startup),
        (&mut container.liveness_probe, exact.liveness),
        (&mut container.readiness_probe, exact.readiness),
    ] {
        if !exact.is_bounded() {
            let (least, most) = BOUNDS;
            return Err(format!(
                "annotation {ANNOTATION} is not heeded: times are {least} to {most} milliseconds"
            ));
        }
        if let Some(probe) = probe {
            probe.exact = exact;
        }
    }
    Ok(container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(annotation: &str) -> Result<Exact, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"annotations": {ANNOTATION: annotation}},
            "spec": {"containers": [{"name": "a", "readinessProbe": {"periodSeconds": 3}}]},
        }))
        .expect("pod");
        let container = refined(&pod, &pod.spec.containers[0])?;
        Ok(container.readiness_probe.expect("a probe").exact)
    }

    #[test]
    fn an_annotation_refines_seconds_within_bounds() {
        let exact = with(r#"{"a": {"readiness": {"period": 100, "initialDelay": 0}}}"#).expect("valid");
        assert_eq!(exact.period(), Some(Duration::from_millis(100)));
        assert_eq!((exact.delay(), exact.timeout()), (Some(Duration::ZERO), None));
        assert_eq!(with(r#"{"b": {"readiness": {"period": 100}}}"#), Ok(Exact::default()));
        for bad in [
            r#"{"a": {"readiness": {"period": 1}}}"#,
            r#"{"a": {"readiness": {"perod": 100}}}"#,
            "x",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }
}
