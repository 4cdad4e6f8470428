//! Kinds that are served in a version other than the stored one.

use crate::json;
use serde_json::Value;
use strata_meta::GroupVersionKind;
use strata_schema::{KindInfo, Schema};

/// Changes a value in place from one version to the other. apiVersion and kind are the caller's.
pub(crate) struct Conversion {
    /// Stored to served.
    pub(crate) from_stored: fn(&mut Value),
    /// Served to stored.
    pub(crate) to_stored: fn(&mut Value),
    /// Whether there and back again is what a client is told of what it wrote.
    pub(crate) settles: bool,
}

impl Conversion {
    /// What was written, as it will be read.
    pub(crate) fn settle(&self, value: &mut Value) {
        if self.settles {
            (self.to_stored)(value);
            (self.from_stored)(value);
        }
    }
}

static EVENT: Conversion = Conversion {
    from_stored: |value| {
        rename(value, EVENT_MEMBERS.iter().map(|(core, event)| (*core, *event)));
        for member in ["reportingController", "reportingInstance"] {
            if json::text(value, member).is_empty() {
                json::remove(value, member);
            }
        }
    },
    to_stored: |value| rename(value, EVENT_MEMBERS.iter().map(|(core, event)| (*event, *core))),
    settles: false,
};

/// core/v1 Event and events.k8s.io/v1 Event name the same things differently.
const EVENT_MEMBERS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(value: &mut Value, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = value.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(member) = map.remove(from) {
            map.insert(to.to_owned(), member);
        }
    }
}

/// The conversion of a built-in kind by its name.
pub(crate) fn conversion_of(gvk: &GroupVersionKind) -> Option<&'static Conversion> {
    let named = |kind: &&KindInfo| kind.kind == gvk.kind && kind.group == gvk.group && kind.version == gvk.version;
    Schema::builtin().kinds().iter().find(named).and_then(conversion_for)
}

/// The conversion of a kind that is stored as another version.
pub(crate) fn conversion_for(kind: &KindInfo) -> Option<&'static Conversion> {
    if kind.storage == (kind.group, kind.version) {
        return None;
    }
    match kind.kind {
        "Event" => Some(&EVENT),
        "HorizontalPodAutoscaler" => Some(&super::autoscaler::V1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conversions_come_back_to_where_they_began() {
        let stored = json!({"involvedObject": {"kind": "Pod"}, "message": "m", "count": 2, "reason": "r"});
        let mut event = stored.clone();
        (EVENT.from_stored)(&mut event);
        assert_eq!(
            event,
            json!({"regarding": {"kind": "Pod"}, "note": "m", "deprecatedCount": 2, "reason": "r"})
        );
        (EVENT.to_stored)(&mut event);
        assert_eq!(event, stored);
    }
}
