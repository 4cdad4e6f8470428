//! What of a device's capacity may be asked for (KEP-5075).

use super::each_once;
use crate::{strategy::Causes, validate::Field};
use serde_json::Value;
use strata_meta::Quantity;

const OPTIONS_MAX: usize = 10;

/// Problems of a capacity, of a device that may be shared or not.
pub(super) fn judge(capacity: &Field<'_>, shared: bool, causes: &mut Causes) {
    let policy = capacity.at("requestPolicy");
    if !policy.is_set() {
        return;
    }
    if !shared {
        causes.push(policy.forbidden("allowMultipleAllocations must be true"));
        return;
    }
    let (options, range, default) = (policy.at("validValues"), policy.at("validRange"), policy.at("default"));
    // A quantity that is none was refused when it was read.
    let most = capacity.at("value").quantity();
    match (!options.is_empty(), range.is_set()) {
        (true, true) => causes.push(policy.forbidden(
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        )),
        (false, false) => {}
        (has_options, _) => {
            let name = if has_options { "validValues" } else { "validRange" };
            match (default.quantity(), most) {
                (Some(default), Some(most)) if has_options => one_of(&options, default, most, causes),
                (Some(default), Some(most)) => within(&range, default, most, causes),
                _ => causes.push(default.required(&format!("required when {name} is defined"))),
            }
        }
    }
}

fn text(quantity: Quantity) -> Value {
    Value::from(quantity.to_string())
}

fn one_of(options: &Field<'_>, default: Quantity, most: Quantity, causes: &mut Causes) {
    let list: Vec<(Field<'_>, Quantity)> = options
        .items()
        .filter_map(|o| Some((o.clone(), o.quantity()?)))
        .collect();
    for ((_, before), (field, after)) in list.iter().zip(list.iter().skip(1)) {
        if before > after {
            causes.push(field.invalid_as(text(*after), "values must be sorted in ascending order"));
        }
    }
    let key = |option: &Field<'_>| option.quantity().map_or(0, |q| q.value()).to_string();
    each_once(options, OPTIONS_MAX, key, causes, |option, causes| {
        if let Some(quantity) = option.quantity().filter(|quantity| *quantity > most) {
            let why = format!("option is larger than capacity value: {most}");
            causes.push(option.invalid_as(text(quantity), why));
        }
    });
    let looked_at = list.len() <= OPTIONS_MAX;
    if !looked_at || list.iter().all(|(_, option)| *option != default) {
        causes.push(options.invalid_as(
            text(default),
            "default value is not valid according to the requestPolicy",
        ));
    }
}

fn within(range: &Field<'_>, default: Quantity, most: Quantity, causes: &mut Causes) {
    let (low, high, step) = (range.at("min"), range.at("max"), range.at("step"));
    let Some(min) = low.quantity() else {
        causes.push(low.required("required when validRange is defined"));
        return;
    };
    let mut judge = |wrong: bool, field: &Field<'_>, shown: Quantity, why: String| {
        if wrong {
            causes.push(field.invalid_as(text(shown), why));
        }
    };
    judge(
        min > most,
        &low,
        min,
        format!("min is larger than capacity value: {most}"),
    );
    judge(default < min, &low, default, format!("default is less than min: {min}"));
    if let Some(max) = high.quantity() {
        judge(min > max, &high, min, format!("min is larger than max: {max}"));
        judge(
            max > most,
            &high,
            max,
            format!("max is larger than capacity value: {most}"),
        );
        judge(
            default > max,
            &high,
            default,
            format!("default is more than max: {max}"),
        );
    }
    if let Some(size) = step.quantity() {
        let first = min.plus(size);
        judge(
            first > most,
            &step,
            size,
            format!("one step {first} is larger than capacity value: {most}"),
        );
        for end in [Some(default), high.quantity()].into_iter().flatten() {
            let along = end
                .value()
                .checked_sub(min.value())
                .and_then(|d| d.checked_rem(size.value()));
            let why = format!("value is not a multiple of a given step ({size}) from ({min})");
            judge(along != Some(0), &step, end, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_are_within_the_capacity() {
        let told = |capacity: Value| {
            let mut causes = Vec::new();
            judge(&Field::root(&capacity).named("c"), true, &mut causes);
            causes
                .into_iter()
                .map(|c| format!("{}: {}", c.field, c.message))
                .collect::<Vec<_>>()
        };
        let policy = |policy: Value| json!({"value": "10Gi", "requestPolicy": policy});
        let range = json!({"min": "1Gi", "max": "8Gi", "step": "1Gi"});
        assert!(told(policy(json!({"default": "2Gi", "validRange": range}))).is_empty());
        assert_eq!(
            told(policy(json!({"default": "2Gi", "validValues": ["3Gi", "1Gi", "20Gi"]}))),
            [
                "c.requestPolicy.validValues[1]: Invalid value: \"1Gi\": values must be sorted in ascending order",
                "c.requestPolicy.validValues[2]: Invalid value: \"20Gi\": option is larger than capacity value: 10Gi",
                "c.requestPolicy.validValues: Invalid value: \"2Gi\": default value is not valid according to the requestPolicy",
            ]
        );
        let zero = json!({"min": "1", "step": "0"});
        assert_eq!(told(policy(json!({"default": "2", "validRange": zero}))).len(), 1);
    }
}
