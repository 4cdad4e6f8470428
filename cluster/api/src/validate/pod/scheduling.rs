//! Where a pod may run: affinity, tolerations, spreading, gates.

use super::Causes;
use crate::validate::{Field, formats::label_selector};
use strata_meta::names;

/// `spec.affinity`.
pub(super) fn affinity(affinity: &Field<'_>, causes: &mut Causes) {
    let node = affinity.at("nodeAffinity");
    let required = node.at("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(&required, causes);
    }
    for term in node.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&term, causes);
        node_selector_term(&term.at("preference"), false, causes);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pod = affinity.at(kind);
        for term in pod.at("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_affinity_term(&term, causes);
        }
        for term in pod.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&term, causes);
            pod_affinity_term(&term.at("podAffinityTerm"), causes);
        }
    }
}

fn weight(term: &Field<'_>, causes: &mut Causes) {
    let weight = term.at("weight");
    let number = weight.int().unwrap_or(0);
    if !(1..=100).contains(&number) {
        causes.push(weight.invalid_as(number, "must be in the range 1-100"));
    }
}

/// A node selector, of a pod or of a volume.
pub(crate) fn node_selector(selector: &Field<'_>, causes: &mut Causes) {
    let terms = selector.at("nodeSelectorTerms");
    if terms.is_empty() {
        causes.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_selector_term(&term, true, causes);
    }
}

fn node_selector_term(term: &Field<'_>, checks_values: bool, causes: &mut Causes) {
    for requirement in term.at("matchExpressions").items() {
        let values = requirement.at("values");
        match requirement.at("operator").text() {
            "In" | "NotIn" if values.is_empty() => {
                causes.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                causes.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                causes.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => causes.push(requirement.at("operator").invalid("not a valid selector operator")),
        }
        let key = requirement.at("key");
        key.problems(causes, names::qualified_name(key.text()));
        for value in values.items().filter(|_| checks_values) {
            value.problems(causes, names::label_value(value.text()));
        }
    }
    for requirement in term.at("matchFields").items() {
        let values = requirement.at("values");
        match requirement.at("operator").text() {
            "In" | "NotIn" if values.len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                causes.push(values.required(why));
            }
            "In" | "NotIn" => {}
            _ => causes.push(requirement.at("operator").invalid("not a valid selector operator")),
        }
        let key = requirement.at("key");
        if key.text() != "metadata.name" {
            causes.push(key.invalid("not a valid field selector key"));
            continue;
        }
        for value in values.items() {
            value.problems(causes, names::dns1123_subdomain(value.text()));
        }
    }
}

fn pod_affinity_term(term: &Field<'_>, causes: &mut Causes) {
    for selector in ["labelSelector", "namespaceSelector"] {
        label_selector(&term.at(selector), causes);
    }
    for namespace in term.at("namespaces").items() {
        let named = namespace.named(format!("{}.namespace", term.path()));
        named.problems(causes, names::dns1123_label(namespace.text()));
    }
    for keys in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, &term.at(keys), causes);
    }
    unselected_keys(term, causes);
    let topology = term.at("topologyKey");
    if topology.is_empty() {
        causes.push(topology.required("can not be empty"));
    }
    topology.problems(causes, names::qualified_name(topology.text()));
}

fn label_keys(term: &Field<'_>, keys: &Field<'_>, causes: &mut Causes) {
    if !keys.is_empty() && !term.at("labelSelector").is_set() {
        causes.push(keys.forbidden("must not be specified when labelSelector is not set"));
    }
    for key in keys.items() {
        key.problems(causes, names::qualified_name(key.text()));
    }
}

/// The selector has an expression for each key by now; another one for the same key is the author's.
fn unselected_keys(term: &Field<'_>, causes: &mut Causes) {
    let (selector, keys) = (term.at("labelSelector"), term.at("matchLabelKeys"));
    let listed = |name: &str| keys.items().enumerate().filter(|(_, k)| k.text() == name).last();
    let mut seen: Vec<&str> = selector.at("matchLabels").entries().map(|(key, _)| key).collect();
    for expression in selector.at("matchExpressions").items() {
        let key = expression.at("key").text();
        if let Some((i, field)) = listed(key)
            && seen.contains(&key)
        {
            let named = field.named(format!("{}[{i}]", term.path()));
            causes.push(named.invalid("exists in both matchLabelKeys and labelSelector"));
        }
        seen.push(key);
    }
    for (i, key) in term.at("mismatchLabelKeys").items().enumerate() {
        if listed(key.text()).is_some() {
            let named = key.named(format!("{}.mismatchLabelKeys[{i}]", term.path()));
            causes.push(named.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
        }
    }
}

/// `spec.tolerations`.
pub(crate) fn tolerations(list: &Field<'_>, causes: &mut Causes) {
    for toleration in list.items() {
        let (key, operator) = (toleration.at("key"), toleration.at("operator"));
        let (value, effect) = (toleration.at("value"), toleration.at("effect"));
        key.if_text(causes, names::qualified_name);
        if key.is_empty() && operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.push(operator.invalid(why));
        }
        if toleration.at("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            causes.push(effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        match operator.text() {
            "" | "Equal" => {
                let problems = names::label_value(value.text());
                if !problems.is_empty() {
                    causes.push(operator.invalid_as(value.text(), problems.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                causes.push(operator.invalid_as(value.text(), "value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            // The two are known, and behind a gate.
            "Lt" | "Gt" => causes.push(operator.not_supported(&["Equal", "Exists", "Lt", "Gt"])),
            _ => causes.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(&effect, causes);
        }
    }
}

/// The effect of a taint or toleration.
pub(crate) fn taint_effect(effect: &Field<'_>, causes: &mut Causes) {
    effect.needs_one_of(causes, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// `spec.schedulingGates`.
pub(super) fn gates(list: &Field<'_>, causes: &mut Causes) {
    let mut seen = Vec::new();
    for gate in list.items() {
        let name = gate.at("name").named(gate.path());
        name.problems(causes, names::qualified_name(name.text()));
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        }
        seen.push(name.text());
    }
}

/// `spec.topologySpreadConstraints`.
pub(super) fn spread(list: &Field<'_>, causes: &mut Causes) {
    let pair = |c: &Field<'_>| {
        (
            c.at("topologyKey").text().to_owned(),
            c.at("whenUnsatisfiable").text().to_owned(),
        )
    };
    let all: Vec<_> = list.items().collect();
    for (i, constraint) in all.iter().enumerate() {
        let skew = constraint.at("maxSkew");
        if skew.int().unwrap_or(0) <= 0 {
            causes.push(skew.invalid_as(skew.int().unwrap_or(0), "must be greater than zero"));
        }
        let key = constraint.at("topologyKey");
        if key.is_empty() {
            causes.push(key.required("can not be empty"));
        }
        let action = constraint.at("whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action.text()) {
            causes.push(action.not_supported(&actions));
        }
        if all[i + 1..].iter().any(|other| pair(other) == pair(constraint)) {
            let path = format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path());
            let shown = format!("{{{}, {}}}", key.text(), action.text());
            causes.push(constraint.named(path).duplicate_as(shown));
        }
        let domains = constraint.at("minDomains");
        domains.positive(causes);
        if domains.is_set() && action.text() != "DoNotSchedule" {
            let why = format!(
                "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                action.text()
            );
            causes.push(domains.invalid(why));
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.at(policy).if_one_of(causes, &["Honor", "Ignore"]);
        }
        label_keys(constraint, &constraint.at("matchLabelKeys"), causes);
        unselected_keys(constraint, causes);
        label_selector(&constraint.at("labelSelector"), causes);
    }
}
