//! Parts of a status that several kinds have.

use super::{
    Field,
    formats::{self, ip},
};
use strata_meta::{StatusCause, names};

const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;

/// Conditions of metav1 (metav1validation.ValidateConditions).
pub(crate) fn conditions(list: &Field<'_>, causes: &mut Vec<StatusCause>) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (kind, status, reason) = (condition.at("type"), condition.at("status"), condition.at("reason"));
        if seen.contains(&kind.text()) {
            causes.push(kind.duplicate());
        }
        seen.push(kind.text());
        kind.problems(causes, names::qualified_name(kind.text()));
        let known = ["False", "True", "Unknown"];
        if !known.contains(&status.text()) {
            causes.push(StatusCause::not_supported(status.path(), status.text(), &known));
        }
        let observed = condition.at("observedGeneration");
        if observed.int().is_some_and(|generation| generation < 0) {
            causes.push(observed.invalid("must be greater than or equal to zero"));
        }
        condition.at("lastTransitionTime").needs(causes);
        if reason.is_empty() {
            causes.push(reason.required(""));
        } else if !is_reason(reason.text()) {
            causes.push(reason.invalid(REASON));
        }
        for (text, most) in [(reason, REASON_MAX), (condition.at("message"), MESSAGE_MAX)] {
            if text.text().len() > most {
                causes.push(text.too_long(most));
            }
        }
    }
}

fn is_reason(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || matches!(c, ',' | ':'))
}

/// What a load balancer says of itself; that of a service also says how its address is reached.
pub(crate) fn load_balancer(balancer: &Field<'_>, has_mode: bool, causes: &mut Vec<StatusCause>) {
    for ingress in balancer.at("ingress").items() {
        let (address, mode, host) = (ingress.at("ip"), ingress.at("ipMode"), ingress.at("hostname"));
        address.if_text(causes, ip);
        match (has_mode, mode.is_set(), address.is_empty()) {
            (true, false, false) => causes.push(mode.required("must be specified when `ip` is set")),
            (true, true, true) => causes.push(mode.forbidden("may not be specified when `ip` is not set")),
            (true, true, false) => mode.if_one_of(causes, &["Proxy", "VIP"]),
            _ => {}
        }
        if host.is_empty() {
            continue;
        }
        host.problems(causes, names::dns1123_subdomain(host.text()));
        if formats::ip(host.text()).is_empty() {
            causes.push(host.invalid("must be a DNS name, not an IP address"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(check: impl Fn(&Field<'_>, &mut Vec<StatusCause>), value: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Field::root(value).at("s"), &mut causes);
        causes.into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn a_condition_needs_type_status_moment_and_reason() {
        let good = json!({"s": [{"type": "Ready", "status": "True", "lastTransitionTime": "t", "reason": "R"}]});
        assert_eq!(fields(conditions, &good), [""; 0]);
        let bad = json!({"s": [{"type": "", "status": "Maybe", "reason": "a-b", "observedGeneration": -1}]});
        let path = |name: &str| format!("s[0].{name}");
        let wanted = [
            "type",
            "type",
            "status",
            "observedGeneration",
            "lastTransitionTime",
            "reason",
        ]
        .map(path);
        assert_eq!(fields(conditions, &bad), wanted);
    }

    #[test]
    fn a_mode_belongs_to_an_address() {
        let of = |ingress: Value| {
            let value = json!({"s": {"ingress": [ingress]}});
            fields(|balancer, causes| load_balancer(balancer, true, causes), &value)
        };
        assert_eq!(of(json!({"ip": "1.2.3.4", "ipMode": "VIP"})), [""; 0]);
        assert_eq!(of(json!({"ip": "1.2.3.4"})), ["s.ingress[0].ipMode"]);
        assert_eq!(of(json!({"hostname": "h.x", "ipMode": "VIP"})), ["s.ingress[0].ipMode"]);
        assert_eq!(of(json!({"hostname": "1.2.3.4"})), ["s.ingress[0].hostname"]);
    }
}
