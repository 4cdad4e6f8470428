//! Webhooks as they are configured now: read when a configuration changes, before its writer is answered.

use super::{hooks::Hook, policy::Policies};
use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};
use strata_meta::WatchEvent;

/// Everything users configured about admission.
#[derive(Default)]
pub(crate) struct Configured {
    /// MutatingWebhookConfigurations.
    pub(super) mutating: Hooks,
    /// ValidatingWebhookConfigurations.
    pub(super) validating: Hooks,
    /// MutatingAdmissionPolicies and their bindings.
    pub(super) mutating_policies: Policies,
    /// ValidatingAdmissionPolicies and their bindings.
    pub(super) validating_policies: Policies,
    /// Whose turn it is to take from a namespace's quotas.
    pub(super) quota_turns: super::quota::Turns,
}

impl Configured {
    /// The resources that configure admission.
    pub(crate) const RESOURCES: [&'static str; 6] = [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];

    /// Takes note of a change of a configuration of `plural`.
    pub(crate) fn apply(&self, plural: &str, event: &WatchEvent) {
        match plural {
            "mutatingwebhookconfigurations" => self.mutating.apply(event),
            "validatingwebhookconfigurations" => self.validating.apply(event),
            "mutatingadmissionpolicies" => self.mutating_policies.apply(false, event),
            "mutatingadmissionpolicybindings" => self.mutating_policies.apply(true, event),
            "validatingadmissionpolicies" => self.validating_policies.apply(false, event),
            _ => self.validating_policies.apply(true, event),
        }
    }
}

/// The webhooks of all configurations of one kind, in the order of the configurations' names.
#[derive(Default)]
pub(super) struct Hooks {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    by_name: BTreeMap<String, Vec<Arc<Hook>>>,
    all: Arc<Vec<Arc<Hook>>>,
}

impl Hooks {
    /// All webhooks now.
    pub(super) fn all(&self) -> Arc<Vec<Arc<Hook>>> {
        self.state.read().expect("no panic under this lock").all.clone()
    }

    fn apply(&self, event: &WatchEvent) {
        let Some(object) = event.object() else { return };
        let hooks = match event {
            WatchEvent::Deleted(_) => Vec::new(),
            _ => match object.to_value() {
                Ok(value) => Hook::read_all(object.name(), &value),
                Err(error) => {
                    tracing::error!(%error, name = object.name(), "a webhook configuration cannot be read");
                    return;
                }
            },
        };
        let mut state = self.state.write().expect("no panic under this lock");
        if hooks.is_empty() {
            state.by_name.remove(object.name());
        } else {
            state.by_name.insert(object.name().to_owned(), hooks);
        }
        state.all = Arc::new(state.by_name.values().flatten().cloned().collect());
    }
}
