//! What the node says about itself, as it changes: readiness, pressure, devices.

use crate::eviction::Pressure;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use strata_meta::Time;

/// What changes about the node while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeState {
    /// Why it is not ready, if anything keeps it from being so.
    pub problem: Option<String>,
    /// What it is short of.
    pub pressures: Vec<Pressure>,
    /// It is about to go down.
    pub shutting_down: bool,
    /// Devices by resource: how many there are, and how many of them are healthy.
    pub devices: BTreeMap<String, (usize, usize)>,
}

/// Kind, reason and sentence without pressure, and with it (upstream: nodestatus setters).
const PRESSURES: [(Pressure, [&str; 2], [&str; 2]); 3] = [
    (
        Pressure::Memory,
        ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
        [
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        ],
    ),
    (
        Pressure::Disk,
        ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
        ["KubeletHasDiskPressure", "kubelet has disk pressure"],
    ),
    (
        Pressure::Pid,
        ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
        ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
    ),
];

impl NodeState {
    /// The four conditions every node has; the moment of a change is kept from those before.
    pub fn conditions(&self, before: &[Value], now: Time) -> Vec<Value> {
        let mut all = Vec::new();
        for (pressure, calm, short) in PRESSURES {
            let holds = self.pressures.contains(&pressure);
            let [reason, message] = if holds { short } else { calm };
            all.push((pressure.as_str(), holds, reason, message.to_owned()));
        }
        let problem = match self.shutting_down {
            true => Some("node is shutting down"),
            false => self.problem.as_deref(),
        };
        let calm = "kubelet is posting ready status";
        let reason = ["KubeletNotReady", "KubeletReady"][usize::from(problem.is_none())];
        all.push(("Ready", problem.is_none(), reason, problem.unwrap_or(calm).to_owned()));
        let since = |kind: &str, status: &str| {
            let same = before.iter().find(|c| c["type"] == kind && c["status"] == status);
            same.map_or_else(|| json!(now), |c| c["lastTransitionTime"].clone())
        };
        let render = |(kind, holds, reason, message): (&str, bool, &str, String)| {
            let status = if holds { "True" } else { "False" };
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since(kind, status)})
        };
        all.into_iter().map(render).collect()
    }
}

/// The events that tell of conditions which have changed.
pub fn transitions(before: &[Value], after: &[Value]) -> Vec<&'static str> {
    const EVENTS: [(&str, &str, &str); 8] = [
        ("Ready", "True", "NodeReady"),
        ("Ready", "False", "NodeNotReady"),
        ("MemoryPressure", "True", "NodeHasInsufficientMemory"),
        ("MemoryPressure", "False", "NodeHasSufficientMemory"),
        ("DiskPressure", "True", "NodeHasDiskPressure"),
        ("DiskPressure", "False", "NodeHasNoDiskPressure"),
        ("PIDPressure", "True", "NodeHasInsufficientPID"),
        ("PIDPressure", "False", "NodeHasSufficientPID"),
    ];
    let has =
        |list: &[Value], kind: &str, status: &str| list.iter().any(|c| c["type"] == kind && c["status"] == status);
    EVENTS
        .into_iter()
        .filter(|(kind, status, _)| has(after, kind, status) && !has(before, kind, status))
        .map(|(_, _, event)| event)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'l>(list: &'l [Value], kind: &str) -> &'l Value {
        list.iter().find(|c| c["type"] == kind).expect("the condition")
    }

    #[test]
    fn conditions_keep_their_time_until_they_change() {
        let mut state = NodeState {
            problem: Some("no network".into()),
            ..NodeState::default()
        };
        let first = state.conditions(&[], Time::from_second(1));
        assert_eq!(find(&first, "Ready")["status"], "False");
        let second = state.conditions(&first, Time::from_second(5));
        assert_eq!(find(&second, "Ready")["lastTransitionTime"], "1970-01-01T00:00:01Z");
        assert_eq!(find(&second, "Ready")["lastHeartbeatTime"], "1970-01-01T00:00:05Z");
        (state.problem, state.pressures) = (None, vec![Pressure::Disk]);
        let third = state.conditions(&second, Time::from_second(9));
        assert_eq!(find(&third, "Ready")["lastTransitionTime"], "1970-01-01T00:00:09Z");
        assert_eq!(find(&third, "DiskPressure")["reason"], "KubeletHasDiskPressure");
        assert_eq!(transitions(&second, &third), ["NodeReady", "NodeHasDiskPressure"]);
        state.shutting_down = true;
        let last = state.conditions(&third, Time::from_second(10));
        assert_eq!(find(&last, "Ready")["message"], "node is shutting down");
    }
}
