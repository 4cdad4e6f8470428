//! Disruption budgets, as far as preemption respects them.

use crate::{affinity::selector, body, pod::Pod};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};
use strata_meta::{Object, ObjectError, ObjectKey, Selector, selector::LabelSelector};

/// Every budget by namespace.
#[derive(Default)]
pub(crate) struct Budgets(HashMap<Arc<str>, HashMap<Arc<str>, Arc<Budget>>>);

/// What is read of a PodDisruptionBudget.
#[derive(Debug)]
pub(crate) struct Budget {
    selector: Selector,
    /// How many pods may go.
    allowed: i64,
    /// Pods whose going the API has counted already.
    disrupted: HashSet<String>,
}

impl Budgets {
    pub fn set(&mut self, key: &ObjectKey, budget: Option<Arc<Budget>>) {
        match budget {
            Some(budget) => {
                self.0
                    .entry(key.namespace.clone())
                    .or_default()
                    .insert(key.name.clone(), budget);
            }
            None => {
                if let Some(budgets) = self.0.get_mut(&key.namespace) {
                    budgets.remove(&key.name);
                    if budgets.is_empty() {
                        self.0.remove(&key.namespace);
                    }
                }
            }
        }
    }

    /// Parts pods, the most important first, into those whose going would break a budget if all
    /// before them went too, and the others.
    pub fn part(&self, pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let mut spent: HashMap<(&Arc<str>, &Arc<str>), i64> = HashMap::new();
        pods.into_iter().partition(|pod| {
            if pod.object.labels.is_empty() {
                return false;
            }
            let mut broken = false;
            let budgets = self.0.get_key_value(pod.namespace());
            let budgets = budgets
                .into_iter()
                .flat_map(|(namespace, all)| all.iter().map(move |one| (namespace, one)));
            for (namespace, (name, budget)) in budgets.filter(|(_, (_, budget))| budget.counts(pod)) {
                let spent = spent.entry((namespace, name)).or_default();
                *spent += 1;
                broken |= *spent > budget.allowed;
            }
            broken
        })
    }
}

impl Budget {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let raw: Raw = body::read(object)?;
        let selector = raw.spec.selector.as_ref().map(selector).transpose()?;
        Ok(Self {
            selector: selector.unwrap_or_default(),
            allowed: raw.status.disruptions_allowed,
            disrupted: raw.status.disrupted_pods.into_keys().collect(),
        })
    }

    /// A budget without a selector means no pod.
    fn counts(&self, pod: &Pod) -> bool {
        !self.selector.is_everything()
            && self.selector.matches_object(&pod.object)
            && !self.disrupted.contains(pod.object.name())
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    disruptions_allowed: i64,
    disrupted_pods: BTreeMap<String, serde::de::IgnoredAny>,
}
