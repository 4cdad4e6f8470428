//! One rule of a role: what it allows and what it covers.

use crate::Attributes;
use serde::{Deserialize, Serialize};

/// rbac.authorization.k8s.io/v1 PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub api_groups: Vec<String>,
    /// `resource`, `resource/subresource`, `*/subresource` or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resources: Vec<String>,
    /// Names the rule is limited to; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resource_names: Vec<String>,
    /// Paths that are no resources; a `*` at the end stands for any rest.
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl PolicyRule {
    /// Whether the rule allows this.
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !has(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.non_resource_urls.iter().any(|url| url_matches(url, a.path));
        }
        has(&self.api_groups, a.group)
            && self
                .resources
                .iter()
                .any(|rule| resource_matches(rule, a.resource, a.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == a.name))
    }

    /// Whether everything the (simple) other rule allows, this one allows too.
    fn covers(&self, other: &Self) -> bool {
        let all = |mine: &[String], theirs: &[String]| {
            mine.iter().any(|m| m == "*") || theirs.iter().all(|t| mine.contains(t))
        };
        let names = self.resource_names.is_empty()
            || !other.resource_names.is_empty() && other.resource_names.iter().all(|n| self.resource_names.contains(n));
        all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(|r| {
                let (resource, subresource) = r.split_once('/').unwrap_or((r, ""));
                self.resources
                    .iter()
                    .any(|mine| resource_matches(mine, resource, subresource))
            })
            && other
                .non_resource_urls
                .iter()
                .all(|url| self.non_resource_urls.iter().any(|mine| url_matches(mine, url)))
            && names
    }

    /// The rule as rules with one verb, group, resource and name each, in upstream's order.
    fn simple(&self) -> Vec<Self> {
        let mut rules = Vec::new();
        for group in &self.api_groups {
            for (resource, verb) in self
                .resources
                .iter()
                .flat_map(|r| self.verbs.iter().map(move |v| (r, v)))
            {
                let rule = Self {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Self::default()
                };
                if self.resource_names.is_empty() {
                    rules.push(rule);
                } else {
                    rules.extend(self.resource_names.iter().map(|n| Self {
                        resource_names: vec![n.clone()],
                        ..rule.clone()
                    }));
                }
            }
        }
        for url in &self.non_resource_urls {
            rules.extend(self.verbs.iter().map(|verb| Self {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        rules
    }
}

/// Joins simple rules that differ in their verbs only; the first of them gives the place.
pub fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let is_like = |other: &&mut PolicyRule| {
            other.non_resource_urls.is_empty()
                && rule.non_resource_urls.is_empty()
                && (&other.api_groups, &other.resources, &other.resource_names)
                    == (&rule.api_groups, &rule.resources, &rule.resource_names)
        };
        match joined.iter_mut().find(is_like) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => joined.push(rule),
        }
    }
    joined
}

/// What `wanted` allows and `held` does not, as simple rules; empty if all is covered.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let simple = wanted.iter().flat_map(PolicyRule::simple);
    simple
        .filter(|rule| !held.iter().any(|mine| mine.covers(rule)))
        .collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        _ if rule == "*" => true,
        None => rule == resource && subresource.is_empty(),
        Some((of, sub)) => (of == "*" || of == resource) && sub == subresource && !subresource.is_empty(),
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}
