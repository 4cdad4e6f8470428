//! Probes and lifecycle handlers.

use super::Causes;
use crate::validate::{
    Field,
    formats::{header_name, port_number, port_number_or_name},
};

/// `lifecycle`, `livenessProbe`, `readinessProbe` and `startupProbe` of a container.
pub(super) fn lifecycle_and_probes(spec: &Field<'_>, container: &Field<'_>, causes: &mut Causes) {
    // Negative means 1.
    let grace = spec
        .at("terminationGracePeriodSeconds")
        .int()
        .map(|n| if n < 0 { 1 } else { n });
    let lifecycle = container.at("lifecycle");
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.at(hook);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace, causes);
        }
    }
    let signal = lifecycle.at("stopSignal");
    if signal.is_set() && spec.at("os.name").is_empty() {
        causes.push(signal.forbidden("may not be set for containers with empty `spec.os.name`"));
    }
    for (name, once) in [
        ("livenessProbe", true),
        ("readinessProbe", false),
        ("startupProbe", true),
    ] {
        let probe = container.at(name);
        if !probe.is_set() {
            continue;
        }
        handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace, causes);
        for count in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            probe.at(count).not_negative(causes);
        }
        let own_grace = probe.at("terminationGracePeriodSeconds");
        if own_grace.int().is_some_and(|n| n <= 0) {
            causes.push(own_grace.invalid("must be greater than 0"));
        }
        let threshold = probe.at("successThreshold");
        if once && threshold.int() != Some(1) {
            causes.push(threshold.invalid_as(threshold.int().unwrap_or(0), "must be 1"));
        }
        if !once && own_grace.is_set() {
            causes.push(own_grace.invalid("must not be set for readinessProbes"));
        }
    }
}

fn handler(field: &Field<'_>, kinds: &[&str], grace: Option<i64>, causes: &mut Causes) {
    let mut given = kinds
        .iter()
        .map(|kind| (*kind, field.at(kind)))
        .filter(|(_, f)| f.is_set());
    let Some((kind, action)) = given.next() else {
        causes.push(field.required("must specify a handler type"));
        return;
    };
    match kind {
        "exec" => action.at("command").needs(causes),
        "httpGet" => {
            action.at("path").needs(causes);
            port_number_or_name(&action.at("port"), causes);
            action.at("scheme").if_one_of(causes, &["HTTP", "HTTPS"]);
            for header in action.at("httpHeaders").items() {
                let name = header.at("name").text();
                let headers = action.at("httpHeaders");
                causes.extend(header_name(name).iter().map(|why| headers.invalid_as(name, why)));
            }
        }
        "tcpSocket" => port_number_or_name(&action.at("port"), causes),
        "grpc" => port_number(&action.at("port"), causes),
        _ => {
            let seconds = action.at("seconds").int().unwrap_or(0);
            if let Some(grace) = grace
                && !(0..=grace).contains(&seconds)
            {
                let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                causes.push(action.invalid_as(seconds, why));
            }
        }
    }
    causes.extend(given.map(|(_, f)| f.forbidden("may not specify more than 1 handler type")));
}
