//! Conditions in a status.

use crate::views::Condition;
use strata_meta::Time;

/// The condition of a type.
pub(crate) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// A condition that changed at `now`.
pub(crate) fn condition(type_: &str, status: &str, reason: &str, message: impl Into<String>, now: Time) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        last_transition_time: Some(now),
        reason: reason.into(),
        message: message.into(),
        ..Condition::default()
    }
}

/// Sets a condition unless it says the same already; the time of the last transition
/// stays when only the reason changed.
pub(crate) fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    if let Some(current) = find(conditions, &new.type_) {
        if current.status == new.status && current.reason == new.reason {
            return;
        }
        if current.status == new.status {
            new.last_transition_time = current.last_transition_time;
        }
    }
    remove(conditions, &new.type_.clone());
    conditions.push(new);
}

/// Takes a condition away.
pub(crate) fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|c| c.type_ != type_);
}
