//! How workloads replace their pods: `spec.strategy` and `spec.updateStrategy`.

use super::Causes;
use crate::validate::{
    Field,
    formats::{at_most_all, count_or_percent, percent},
};
use serde_json::Value;
use strata_meta::StatusCause;

fn is_zero(field: &Field<'_>) -> bool {
    percent(field).or(field.int()).unwrap_or(0) == 0
}

/// An update strategy as upstream prints it: by Go's names.
pub(super) fn go_strategy(strategy: &Field<'_>, members: [&str; 2]) -> String {
    let rolling = strategy.at("rollingUpdate");
    let member = |name: &str| {
        let (first, rest) = name.split_at(1);
        let value = rolling.at(&format!("{}{rest}", first.to_lowercase()));
        format!("\"{name}\":{}", value.value())
    };
    let shown = match rolling.is_set() {
        true => format!("{{{},{}}}", member(members[0]), member(members[1])),
        false => "null".to_owned(),
    };
    let kind = Value::from(strategy.at("type").text());
    format!("{{\"Type\":{kind},\"RollingUpdate\":{shown}}}")
}

fn unsupported(strategy: &Field<'_>, known: &[&str]) -> StatusCause {
    let cause = strategy.not_supported(known);
    let list = cause
        .message
        .rsplit_once(": supported values: ")
        .map_or("", |(_, list)| list);
    let shown = go_strategy(strategy, ["MaxUnavailable", "MaxSurge"]);
    let message = format!("Unsupported value: {shown}: supported values: {list}");
    StatusCause { message, ..cause }
}

/// `spec.strategy` of a Deployment.
pub(super) fn deployment_strategy(strategy: &Field<'_>, causes: &mut Causes) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "Recreate" if rolling.is_set() => {
            causes.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => {
            causes.push(rolling.required("this should be defaulted and never be nil"));
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            count_or_percent(&unavailable, causes);
            count_or_percent(&surge, causes);
            if is_zero(&unavailable) && is_zero(&surge) {
                causes.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            at_most_all(&unavailable, causes);
        }
        _ => causes.push(unsupported(strategy, &["Recreate", "RollingUpdate"])),
    }
}

/// `spec.updateStrategy` of a DaemonSet.
pub(super) fn daemon_strategy(strategy: &Field<'_>, causes: &mut Causes) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => causes.push(rolling.required("")),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            for field in [&unavailable, &surge] {
                count_or_percent(field, causes);
                at_most_all(field, causes);
            }
            match (is_zero(&unavailable), is_zero(&surge)) {
                (false, false) => causes.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
                (true, true) => causes.push(unavailable.required("cannot be 0 when maxSurge is 0")),
                _ => {}
            }
        }
        _ => causes.push(unsupported(strategy, &["RollingUpdate", "OnDelete"])),
    }
}
