//! Kinds that differ only in the fields they can be selected by or in one or two answers.

use super::Strategy;
use crate::{cache::FieldPath, validate::NameRule};

/// A strategy that is data.
struct Row {
    fields: &'static [FieldPath],
    unconditional: bool,
    create_on_update: bool,
    counts: bool,
    rule: NameRule,
}

const ROW: Row = Row {
    fields: &[],
    unconditional: true,
    create_on_update: false,
    counts: false,
    rule: NameRule::Subdomain,
};

impl Strategy for Row {
    fn name_rule(&self) -> NameRule {
        self.rule
    }
    fn counts_generation(&self) -> bool {
        self.counts
    }
    fn creates_on_update(&self) -> bool {
        self.create_on_update
    }
    fn allows_unconditional_update(&self) -> bool {
        self.unconditional
    }
    fn selectable_fields(&self) -> &'static [FieldPath] {
        self.fields
    }
}

const fn field(path: &'static str) -> FieldPath {
    FieldPath::new(path, "")
}

static SECRETS: Row = Row {
    fields: &[field("type")],
    ..ROW
};

static CORE_EVENTS: Row = Row {
    fields: &[
        field("involvedObject.kind"),
        field("involvedObject.namespace"),
        field("involvedObject.name"),
        field("involvedObject.uid"),
        field("involvedObject.apiVersion"),
        field("involvedObject.resourceVersion"),
        field("involvedObject.fieldPath"),
        field("reason"),
        field("reportingComponent"),
        field("source.component"),
        field("type"),
    ],
    create_on_update: true,
    ..ROW
};

static SERVICES: Row = Row {
    fields: &[field("spec.clusterIP"), field("spec.type")],
    rule: NameRule::Label1035,
    ..ROW
};

static REPLICATION_CONTROLLERS: Row = Row {
    fields: &[FieldPath::new("status.replicas", "0")],
    counts: true,
    ..ROW
};

static LEASES: Row = Row {
    unconditional: false,
    create_on_update: true,
    ..ROW
};

static ENDPOINTS: Row = Row {
    create_on_update: true,
    ..ROW
};

static COUNTED: Row = Row { counts: true, ..ROW };

pub(super) fn strategy_for(group: &str, plural: &str) -> Option<&'static dyn Strategy> {
    Some(match (group, plural) {
        ("", "secrets") => &SECRETS,
        ("" | "events.k8s.io", "events") => &CORE_EVENTS,
        ("", "services") => &SERVICES,
        ("", "replicationcontrollers") => &REPLICATION_CONTROLLERS,
        ("", "endpoints" | "limitranges") => &ENDPOINTS,
        ("coordination.k8s.io", "leases") => &LEASES,
        ("discovery.k8s.io" | "flowcontrol.apiserver.k8s.io" | "scheduling.k8s.io", _) => &COUNTED,
        _ => return None,
    })
}
