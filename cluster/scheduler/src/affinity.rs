//! Node affinity and pod affinity terms: what the API says and whether it matches.

use serde::Deserialize;
use std::collections::BTreeMap;
use strata_meta::{
    Object, ObjectError, Selector,
    placement::{NodeSelector, NodeTerm},
    selector::LabelSelector,
};

/// core/v1 Affinity.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinity {
    pub node_affinity: Option<NodeAffinity>,
    pub pod_affinity: Option<RawPodTerms>,
    pub pod_anti_affinity: Option<RawPodTerms>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub preferred: Vec<PreferredNode>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct PreferredNode {
    pub weight: i64,
    pub preference: NodeTerm,
}

/// core/v1 PodAffinity or PodAntiAffinity.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct RawPodTerms {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Vec<RawPodTerm>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Vec<RawWeightedTerm>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawWeightedTerm {
    weight: i64,
    pod_affinity_term: RawPodTerm,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodTerm {
    label_selector: Option<LabelSelector>,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
    topology_key: String,
    match_label_keys: Vec<String>,
    mismatch_label_keys: Vec<String>,
}

/// A pod's affinity and anti-affinity to other pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodAffinity {
    pub required: Vec<PodTerm>,
    pub required_anti: Vec<PodTerm>,
    /// Negative weights are anti-affinity.
    pub preferred: Vec<(i64, PodTerm)>,
}

/// Pods of some namespaces with some labels, within one value of a node label.
#[derive(Clone, Debug)]
pub(crate) struct PodTerm {
    /// Absent selects nothing.
    selectors: Vec<Selector>,
    selects_nothing: bool,
    namespaces: Vec<Box<str>>,
    namespace_selector: Option<Selector>,
    pub topology_key: Box<str>,
}

/// The labels of a namespace, looked up by name.
pub(crate) type NamespaceLabels<'a> = &'a dyn Fn(&str) -> Option<&'a BTreeMap<String, String>>;

impl PodTerm {
    /// Whether a pod of this namespace and with these labels is meant.
    pub fn matches<'l>(
        &self,
        namespace: &str,
        labels: impl Fn(&str) -> Option<&'l str>,
        namespace_labels: NamespaceLabels<'_>,
    ) -> bool {
        if self.selects_nothing || !self.selectors.iter().all(|selector| selector.matches_with(&labels)) {
            return false;
        }
        if self.namespaces.iter().any(|listed| listed.as_ref() == namespace) {
            return true;
        }
        let Some(selector) = &self.namespace_selector else {
            return false;
        };
        selector.is_everything() || namespace_labels(namespace).is_some_and(|labels| selector.matches(labels))
    }
}

impl PodAffinity {
    /// Reads the terms of a pod; `None` if it has none.
    pub fn read(affinity: &Affinity, pod: &Object) -> Result<Option<Box<Self>>, ObjectError> {
        let mut all = Self::default();
        if let Some(terms) = &affinity.pod_affinity {
            all.required = terms
                .required
                .iter()
                .map(|term| term.read(pod))
                .collect::<Result<_, _>>()?;
            all.read_preferred(terms, pod, 1)?;
        }
        if let Some(terms) = &affinity.pod_anti_affinity {
            all.required_anti = terms
                .required
                .iter()
                .map(|term| term.read(pod))
                .collect::<Result<_, _>>()?;
            all.read_preferred(terms, pod, -1)?;
        }
        let none = all.required.is_empty() && all.required_anti.is_empty() && all.preferred.is_empty();
        Ok((!none).then(|| Box::new(all)))
    }

    fn read_preferred(&mut self, terms: &RawPodTerms, pod: &Object, sign: i64) -> Result<(), ObjectError> {
        for weighted in &terms.preferred {
            self.preferred
                .push((sign * weighted.weight, weighted.pod_affinity_term.read(pod)?));
        }
        Ok(())
    }
}

impl RawPodTerm {
    fn read(&self, pod: &Object) -> Result<PodTerm, ObjectError> {
        let mut selectors: Vec<Selector> = self.label_selector.iter().map(selector).collect::<Result<_, _>>()?;
        for key in &self.match_label_keys {
            if let Some(value) = pod.label(key) {
                selectors.push(Selector::from_map(&BTreeMap::from([(key.clone(), value.to_owned())])));
            }
        }
        for key in &self.mismatch_label_keys {
            if let Some(value) = pod.label(key) {
                let text = format!("{key}!={value}");
                selectors.push(Selector::parse(&text).map_err(|error| invalid(&error.0))?);
            }
        }
        let namespaces = if self.namespaces.is_empty() && self.namespace_selector.is_none() {
            vec![pod.namespace().into()]
        } else {
            self.namespaces.iter().map(|name| name.as_str().into()).collect()
        };
        Ok(PodTerm {
            selects_nothing: self.label_selector.is_none(),
            selectors,
            namespaces,
            namespace_selector: self.namespace_selector.as_ref().map(selector).transpose()?,
            topology_key: self.topology_key.as_str().into(),
        })
    }
}

pub(crate) fn selector(raw: &LabelSelector) -> Result<Selector, ObjectError> {
    raw.to_selector().map_err(|error| invalid(&error.0))
}

fn invalid(why: &str) -> ObjectError {
    ObjectError::Json(serde::de::Error::custom(why))
}
