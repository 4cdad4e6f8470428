//! One row for each kind of object that is counted.

use crate::{Amounts, Scope, claims, pod, services};
use serde_json::Value;
use strata_meta::Time;

/// How objects of a resource are counted.
pub struct Counted {
    group: String,
    resource: String,
    rules: &'static Rules,
}

/// What a kind has beyond being counted.
struct Rules {
    group: &'static str,
    resource: &'static str,
    /// Names besides `count/…`.
    names: &'static [&'static str],
    /// Whether another name is this kind's too.
    is_own: fn(&str) -> bool,
    /// Amounts besides the count.
    usage: fn(&Value, Time) -> Amounts,
    /// Whether a scope selects an object.
    in_scope: fn(&Scope, &Value) -> bool,
    /// Whether a change may change what is used: subresource, new and old state.
    changes: fn(&str, &Value, &Value) -> bool,
}

const PLAIN: Rules = Rules {
    group: "",
    resource: "",
    names: &[],
    is_own: |_| false,
    usage: |_, _| Amounts::default(),
    in_scope: |_, _| false,
    changes: |_, _, _| false,
};

/// A kind that had a name of its own before everything could be counted.
const fn alias(resource: &'static str, names: &'static [&'static str], usage: fn(&Value, Time) -> Amounts) -> Rules {
    Rules {
        resource,
        names,
        usage,
        ..PLAIN
    }
}

fn one(name: &str) -> Amounts {
    let mut amounts = Amounts::default();
    amounts.count(name, 1);
    amounts
}

static RULES: &[Rules] = &[
    Rules {
        resource: "pods",
        names: pod::NAMES,
        is_own: pod::is_own,
        usage: pod::usage,
        in_scope: pod::in_scope,
        changes: pod::changes,
        ..PLAIN
    },
    Rules {
        resource: "services",
        names: services::NAMES,
        usage: |service, _| services::usage(service),
        changes: |sub, _, _| sub.is_empty(),
        ..PLAIN
    },
    Rules {
        resource: "persistentvolumeclaims",
        names: claims::NAMES,
        is_own: claims::is_own,
        usage: |claim, _| claims::usage(claim),
        in_scope: claims::in_scope,
        changes: claims::changes,
        ..PLAIN
    },
    Rules {
        group: "resource.k8s.io",
        resource: "resourceclaims",
        is_own: claims::is_device,
        usage: |claim, _| claims::devices(claim),
        changes: |sub, _, _| sub.is_empty(),
        ..PLAIN
    },
    alias("configmaps", &["configmaps"], |_, _| one("configmaps")),
    alias("resourcequotas", &["resourcequotas"], |_, _| one("resourcequotas")),
    alias("replicationcontrollers", &["replicationcontrollers"], |_, _| {
        one("replicationcontrollers")
    }),
    alias("secrets", &["secrets"], |_, _| one("secrets")),
];

static ANY: Rules = PLAIN;

/// Resources that no quota counts: reviews, which are not kept, and events.
pub fn is_ignored(group: &str, resource: &str) -> bool {
    match group {
        "" => matches!(resource, "bindings" | "componentstatuses" | "events"),
        "events.k8s.io" => resource == "events",
        "authentication.k8s.io" | "authorization.k8s.io" => true,
        _ => false,
    }
}

impl Counted {
    /// The row of a resource.
    pub fn of(group: &str, resource: &str) -> Self {
        let found = RULES.iter().find(|r| r.group == group && r.resource == resource);
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            rules: found.unwrap_or(&ANY),
        }
    }

    /// `count/deployments.apps`.
    pub fn count_name(&self) -> String {
        match self.group.as_str() {
            "" => format!("count/{}", self.resource),
            group => format!("count/{}.{group}", self.resource),
        }
    }

    /// Whether a name in a quota is about this kind.
    pub fn is_own(&self, name: &str) -> bool {
        self.rules.names.contains(&name) || (self.rules.is_own)(name) || name == self.count_name()
    }

    /// What one object uses.
    pub fn usage(&self, object: &Value, now: Time) -> Amounts {
        let mut amounts = (self.rules.usage)(object, now);
        amounts.count(self.count_name(), 1);
        amounts
    }

    /// Whether every scope selects an object.
    pub fn in_scopes(&self, scopes: &[Scope], object: &Value) -> bool {
        scopes.iter().all(|scope| (self.rules.in_scope)(scope, object))
    }

    /// Whether a change of an object may change what it uses.
    pub fn changes(&self, subresource: &str, new: &Value, old: &Value) -> bool {
        (self.rules.changes)(subresource, new, old)
    }

    /// What the object must say for a quota with these names to count it. Errors: what it does not say.
    pub fn constraints<'a>(&self, names: impl Iterator<Item = &'a str>, object: &Value) -> Result<(), String> {
        match self.rules.resource {
            "pods" => pod::constraints(names, object),
            _ => Ok(()),
        }
    }
}
