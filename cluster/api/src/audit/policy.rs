//! audit.k8s.io/v1 Policy: how much of which request is written down.

use crate::request::RequestInfo;
use serde::Deserialize;
use strata_auth::UserInfo;

/// How much is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// What the policy says of one request.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) level: Level,
    pub(super) omits_managed_fields: bool,
    stages: Vec<String>,
}

impl Rule {
    /// Whether a stage is left out.
    pub(super) fn omits(&self, stage: &str) -> bool {
        self.stages.iter().any(|s| s == stage)
    }
}

/// The rules, the first that matches deciding.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    rules: Vec<PolicyRule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicyRule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a policy in YAML or JSON. Errors: a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(format!(
                "{} {} is no audit.k8s.io/v1 Policy",
                policy.api_version, policy.kind
            ));
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".into());
        }
        let stages = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];
        let all = policy
            .omit_stages
            .iter()
            .chain(policy.rules.iter().flat_map(|r| &r.omit_stages));
        if let Some(unknown) = all.into_iter().find(|s| !stages.contains(&s.as_str())) {
            return Err(format!("unknown stage {unknown:?}"));
        }
        if policy.rules.iter().any(|r| r.level.is_none()) {
            return Err("rules: level: Required value".into());
        }
        Ok(policy)
    }

    /// What holds for a request; nothing is written down of one that no rule names.
    pub(super) fn rule(&self, user: &UserInfo, info: &RequestInfo) -> Rule {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, info)) else {
            return Rule {
                level: Level::None,
                omits_managed_fields: false,
                stages: Vec::new(),
            };
        };
        Rule {
            level: rule.level.unwrap_or_default(),
            omits_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            stages: self.omit_stages.iter().chain(&rule.omit_stages).cloned().collect(),
        }
    }
}

/// Whether a list names something; an empty one names everything.
fn names(list: &[String], wanted: &str) -> bool {
    list.is_empty() || list.iter().any(|l| l == wanted)
}

impl PolicyRule {
    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let of_group = self.user_groups.is_empty() || self.user_groups.iter().any(|g| user.is_in(g));
        if !names(&self.users, &user.name) || !of_group || !names(&self.verbs, info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && names(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.matches(info)));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        let is_it = |pattern: &String| {
            let prefix = pattern.strip_suffix('*');
            *pattern == info.path || prefix.is_some_and(|prefix| info.path.starts_with(prefix))
        };
        !info.is_resource && self.non_resource_urls.iter().any(is_it)
    }
}

impl Resources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let sub = info.subresource.as_str();
        names(&self.resource_names, &info.name)
            && self.resources.iter().any(|pattern| match pattern.split_once('/') {
                None => pattern == "*" || (sub.is_empty() && *pattern == info.resource),
                Some(("*", wanted)) => !sub.is_empty() && wanted == sub,
                Some((resource, "*")) => resource == info.resource,
                Some((resource, wanted)) => resource == info.resource && wanted == sub,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;
    use http::Method;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
- level: RequestResponse
  resources: [{group: "", resources: [pods]}]
- level: Metadata
  resources: [{group: "", resources: ["pods/log", "*/status"]}]
- level: None
  nonResourceURLs: ["/healthz*"]
- level: Request
  omitStages: [ResponseStarted]
"#;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(POLICY).unwrap();
        let level = |user: &str, path: &str| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let info = RequestInfo::new(&Method::GET, path, &Query::parse(query));
            policy.rule(&UserInfo::new(user, &[]), &info)
        };
        assert_eq!(
            level("system:kube-proxy", "/api/v1/services?watch=1").level,
            Level::None
        );
        assert_eq!(level("a", "/api/v1/namespaces/n/pods/p").level, Level::RequestResponse);
        assert_eq!(level("a", "/api/v1/namespaces/n/pods/p/log").level, Level::Metadata);
        assert_eq!(
            level("a", "/api/v1/namespaces/n/services/p/status").level,
            Level::Metadata
        );
        assert_eq!(level("a", "/healthz/ping").level, Level::None);
        let rest = level("a", "/apis");
        assert_eq!(rest.level, Level::Request);
        assert!(rest.omits("RequestReceived") && rest.omits("ResponseStarted") && !rest.omits("ResponseComplete"));
        for wrong in ["kind: Policy", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []"] {
            assert!(Policy::parse(wrong).is_err(), "{wrong}");
        }
    }
}
