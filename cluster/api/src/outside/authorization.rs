//! Who decides what somebody may do, and in which order: apiserver.config.k8s.io AuthorizationConfiguration.

use super::access::{AccessWebhook, Condition, Settings};
use crate::{core::Core, duration, webhook::from_kubeconfig};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use strata_auth::{Attributes, Authorizer, Decision, GROUP_MASTERS, NodeAuthorizer, Rbac};
use strata_meta::names::dns1123_subdomain;
use strata_metrics::{Kind as Shown, Page};

/// How long answers hold when the configuration does not say.
const AUTHORIZED: Duration = Duration::from_secs(300);
const UNAUTHORIZED: Duration = Duration::from_secs(30);
/// The most that a webhook may take.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of the webhook that a flag names.
const FLAG_TIMEOUT: Duration = Duration::from_secs(30);
/// Expressions of one webhook.
const MAX_CONDITIONS: usize = 64;
/// How often a changed file is looked for.
const POLL: Duration = Duration::from_secs(1);

/// Those who decide, in order; members of `system:masters` are not decided about.
pub(crate) struct Authorization {
    nodes: Arc<NodeAuthorizer>,
    rbac: Arc<Rbac>,
    file: Option<PathBuf>,
    read: Mutex<String>,
    current: RwLock<Arc<Vec<Member>>>,
    reloaded: AtomicU64,
    refused: AtomicU64,
}

struct Member {
    name: String,
    kind: Kind,
    allowed: AtomicU64,
    denied: AtomicU64,
}

enum Kind {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(Box<AccessWebhook>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "authorizedTTL", default, deserialize_with = "duration::member")]
    authorized_ttl: Option<Duration>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", default, deserialize_with = "duration::member")]
    unauthorized_ttl: Option<Duration>,
    cache_unauthorized_requests: Option<bool>,
    #[serde(default, deserialize_with = "duration::member")]
    timeout: Option<Duration>,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    #[serde(default)]
    connection_info: ConnectionInfo,
    #[serde(default)]
    match_conditions: Vec<MatchCondition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConnectionInfo {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchCondition {
    #[serde(default)]
    expression: String,
}

impl Authorization {
    /// As the file says; else nodes, RBAC, and the webhook of the kubeconfig if there is one. Errors: a setting and a
    /// sentence.
    pub(super) fn open(
        nodes: Arc<NodeAuthorizer>,
        rbac: Arc<Rbac>,
        file: Option<&Path>,
        webhook: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let mut text = String::new();
        let members = match file {
            Some(file) => {
                let wrong = |why: String| ("authorization-config", why);
                text = std::fs::read_to_string(file).map_err(|e| wrong(format!("{}: {e}", file.display())))?;
                parse(&text, &BTreeSet::new()).map_err(wrong)?
            }
            None => {
                let mut members = vec![Member::new("node", Kind::Node), Member::new("rbac", Kind::Rbac)];
                if let Some(text) = webhook {
                    let webhook = flagged(text).map_err(|why| ("authorization-webhook-config-file", why))?;
                    members.push(Member::new("webhook", Kind::Webhook(Box::new(webhook))));
                }
                members
            }
        };
        Ok(Self {
            nodes,
            rbac,
            file: file.map(Path::to_owned),
            read: Mutex::new(text),
            current: RwLock::new(Arc::new(members)),
            reloaded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    fn members(&self) -> Arc<Vec<Member>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks one after another until somebody has an opinion.
    pub(crate) async fn decide(&self, core: &Core, attributes: &Attributes<'_>) -> Decision {
        self.judge(core, attributes).await.decision
    }

    /// The same, with the words of whoever decided.
    pub(crate) async fn judge(&self, core: &Core, attributes: &Attributes<'_>) -> Verdict {
        if attributes.user.is_in(GROUP_MASTERS) {
            return Verdict::of(Decision::Allow);
        }
        let mut reasons: Vec<String> = Vec::new();
        for member in self.members().iter() {
            let (decision, words) = match &member.kind {
                Kind::Webhook(webhook) => webhook.decide(core, attributes).await,
                _ => (self.ask(member, attributes), String::new()),
            };
            match member.counted(decision) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decision => {
                    let by_rbac = matches!(member.kind, Kind::Rbac);
                    return Verdict {
                        decision,
                        words,
                        by_rbac,
                    };
                }
            }
        }
        Verdict::of(Decision::NoOpinion(reasons.join("\n")))
    }

    /// What a member says that answers from memory.
    fn ask(&self, member: &Member, attributes: &Attributes<'_>) -> Decision {
        match &member.kind {
            Kind::Node => self.nodes.authorize(attributes),
            Kind::Rbac => self.rbac.authorize(attributes),
            Kind::AlwaysAllow => Decision::Allow,
            Kind::AlwaysDeny => Decision::NoOpinion("Everything is forbidden.".into()),
            Kind::Webhook(_) => Decision::NoOpinion(String::new()),
        }
    }

    /// Whether RBAC is among those who decide, so that its rules say all that somebody may do.
    pub(crate) fn is_complete(&self) -> bool {
        !self.members().iter().any(|m| matches!(m.kind, Kind::Webhook(_)))
    }

    /// Looks for changes of the file for ever, if there is one.
    pub(crate) async fn run(&self) {
        if self.file.is_none() {
            return;
        }
        loop {
            tokio::time::sleep(POLL).await;
            match self.look().await {
                Ok(false) => {}
                Ok(true) => {
                    self.reloaded.fetch_add(1, Ordering::Relaxed);
                    tracing::info!("the new configuration of authorization is in force");
                }
                Err(why) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(why, "the new configuration of authorization is not used");
                }
            }
        }
    }

    /// Reads the file again; whether it is another. Errors: it cannot be used; what was before stays in force.
    pub(crate) async fn look(&self) -> Result<bool, String> {
        let Some(file) = &self.file else { return Ok(false) };
        let text = tokio::fs::read_to_string(file).await;
        let text = text.map_err(|e| format!("{}: {e}", file.display()))?;
        {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if *read == text {
                return Ok(false);
            }
            read.clone_from(&text);
        }
        let kept = self.members().iter().filter_map(Member::required).collect();
        let members = parse(&text, &kept)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
        Ok(true)
    }

    /// Shows counters.
    pub(crate) fn show(&self, page: &mut Page) {
        for member in self.members().iter() {
            let help = "What each authorizer decided.";
            let mut section = page.section("apiserver_authorization_decisions_total", Shown::Counter, help);
            for (decision, count) in [("allowed", &member.allowed), ("denied", &member.denied)] {
                let count = count.load(Ordering::Relaxed);
                let labels = [
                    ("decision", decision),
                    ("name", member.name.as_str()),
                    ("type", member.type_name()),
                ];
                if count > 0 {
                    section.sample(&labels, count as f64);
                }
            }
            if let Kind::Webhook(webhook) = &member.kind {
                webhook.show(page);
            }
        }
        if self.file.is_some() {
            let metric = "apiserver_authorization_config_controller_automatic_reloads_total";
            let mut section = page.section(metric, Shown::Counter, "How often a changed configuration was read.");
            for (status, count) in [("success", &self.reloaded), ("failure", &self.refused)] {
                let labels = [("apiserver_id_hash", ""), ("status", status)];
                section.sample(&labels, count.load(Ordering::Relaxed) as f64);
            }
        }
    }
}

/// A decision and who made it.
pub(crate) struct Verdict {
    /// What was decided.
    pub(crate) decision: Decision,
    words: String,
    by_rbac: bool,
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        Self {
            decision,
            words: String::new(),
            by_rbac: false,
        }
    }

    /// Why, as the audit log and access reviews have it.
    pub(crate) fn reason(&self, core: &Core, attributes: &Attributes<'_>) -> String {
        match &self.decision {
            Decision::Allow if self.by_rbac => core.rbac.reason(attributes).unwrap_or_default(),
            Decision::Allow => self.words.clone(),
            refused => refused.reason().to_owned(),
        }
    }
}

/// For those who cannot wait: what is answered from memory. A webhook is no opinion.
impl Authorizer for Authorization {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(GROUP_MASTERS) {
            return Decision::Allow;
        }
        let mut reasons: Vec<String> = Vec::new();
        for member in self.members().iter() {
            match self.ask(member, attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

impl Member {
    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        }
    }

    fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Node => "Node",
            Kind::Rbac => "RBAC",
            Kind::AlwaysAllow => "AlwaysAllow",
            Kind::AlwaysDeny => "AlwaysDeny",
            Kind::Webhook(_) => "Webhook",
        }
    }

    /// The type that a changed file has to name too.
    fn required(&self) -> Option<&'static str> {
        (!matches!(self.kind, Kind::Webhook(_))).then(|| self.type_name())
    }

    fn counted(&self, decision: Decision) -> Decision {
        match &decision {
            Decision::Allow => drop(self.allowed.fetch_add(1, Ordering::Relaxed)),
            Decision::Deny(_) => drop(self.denied.fetch_add(1, Ordering::Relaxed)),
            Decision::NoOpinion(_) => {}
        }
        decision
    }
}

/// The webhook that a flag names: asked last, and its silence is no opinion.
fn flagged(kubeconfig: &str) -> Result<AccessWebhook, String> {
    Ok(AccessWebhook::new(Settings {
        name: "webhook".into(),
        config: from_kubeconfig(kubeconfig)?,
        timeout: FLAG_TIMEOUT,
        authorized: Some(AUTHORIZED),
        unauthorized: Some(UNAUTHORIZED),
        version: "v1",
        denies: false,
        conditions: Vec::new(),
    }))
}

/// Reads a configuration that has to name some types. Errors: a sentence with the place.
fn parse(text: &str, required: &BTreeSet<&str>) -> Result<Vec<Member>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let versions = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if file.kind != "AuthorizationConfiguration" || !versions.contains(&file.api_version) {
        return Err(format!(
            "{} {} is no AuthorizationConfiguration",
            file.api_version, file.kind
        ));
    }
    if file.authorizers.is_empty() {
        return Err("authorizers: Required value: at least one authorization mode must be defined".into());
    }
    let (mut types, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut members = Vec::new();
    for (index, entry) in file.authorizers.into_iter().enumerate() {
        let at = format!("authorizers[{index}]");
        let name = entry.name.clone();
        let (kind, is_new) = (entry.kind.clone(), types.insert(entry.kind.clone()));
        if !is_new && kind != "Webhook" {
            return Err(format!("{at}.type: Duplicate value: {kind:?}"));
        }
        if name.is_empty() {
            return Err(format!("{at}.name: Required value"));
        }
        if !names.insert(name.clone()) {
            return Err(format!("{at}.name: Duplicate value: {name:?}"));
        }
        members.push(member(&at, entry)?);
    }
    let missing: Vec<&str> = required.iter().copied().filter(|t| !types.contains(*t)).collect();
    if !missing.is_empty() {
        return Err(format!("missing required types: [{}]", missing.join(" ")));
    }
    Ok(members)
}

fn member(at: &str, entry: Entry) -> Result<Member, String> {
    let kind = match entry.kind.as_str() {
        "Webhook" => {
            let webhook = entry
                .webhook
                .ok_or_else(|| format!("{at}.webhook: Required value: required when type=Webhook"))?;
            if let Some(why) = dns1123_subdomain(&entry.name).first() {
                return Err(format!(
                    "{at}.name: Invalid value: {:?}: authorizer name is invalid: {why}",
                    entry.name
                ));
            }
            return Ok(Member::new(
                &entry.name,
                Kind::Webhook(Box::new(read_webhook(at, &entry.name, webhook)?)),
            ));
        }
        "Node" => Kind::Node,
        "RBAC" => Kind::Rbac,
        "AlwaysAllow" => Kind::AlwaysAllow,
        "AlwaysDeny" => Kind::AlwaysDeny,
        "" => return Err(format!("{at}.type: Required value")),
        "ABAC" => return Err(format!("{at}.type: ABAC policies are not supported")),
        other => {
            return Err(format!(
                "{at}.type: Unsupported value: {other:?}: supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\""
            ));
        }
    };
    if entry.webhook.is_some() {
        return Err(format!(
            "{at}.webhook: Invalid value: \"non-null\": may only be specified when type=Webhook"
        ));
    }
    let expected = entry.kind.to_lowercase();
    if entry.name != expected {
        return Err(format!(
            "expected name {expected} for authorizer {} instead of {}",
            entry.kind, entry.name
        ));
    }
    Ok(Member::new(&entry.name, kind))
}

fn read_webhook(at: &str, name: &str, webhook: Webhook) -> Result<AccessWebhook, String> {
    let timeout = webhook.timeout.filter(|t| !t.is_zero());
    let timeout = timeout.ok_or_else(|| format!("{at}.timeout: Required value"))?;
    if timeout > LONGEST_TIMEOUT {
        return Err(format!(
            "{at}.timeout: Invalid value: \"{timeout:?}\": must be > 0s and <= 30s"
        ));
    }
    let version = match webhook.subject_access_review_version.as_str() {
        "v1" => "v1",
        "v1beta1" => "v1beta1",
        "" => return Err(format!("{at}.subjectAccessReviewVersion: Required value")),
        other => {
            return Err(format!(
                "{at}.subjectAccessReviewVersion: Unsupported value: {other:?}: supported values: \"v1\", \"v1beta1\""
            ));
        }
    };
    match webhook.match_condition_subject_access_review_version.as_str() {
        "v1" => {}
        "" if webhook.match_conditions.is_empty() => {}
        "" => {
            return Err(format!(
                "{at}.matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified"
            ));
        }
        other => {
            return Err(format!(
                "{at}.matchConditionSubjectAccessReviewVersion: Unsupported value: {other:?}: supported values: \"v1\""
            ));
        }
    }
    let denies = match webhook.failure_policy.as_str() {
        "NoOpinion" => false,
        "Deny" => true,
        "" => return Err(format!("{at}.failurePolicy: Required value")),
        other => {
            return Err(format!(
                "{at}.failurePolicy: Unsupported value: {other:?}: supported values: \"NoOpinion\", \"Deny\""
            ));
        }
    };
    let kept = |ttl: Option<Duration>, otherwise, cached: Option<bool>| {
        let ttl = ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(otherwise);
        cached.unwrap_or(true).then_some(ttl)
    };
    Ok(AccessWebhook::new(Settings {
        name: name.to_owned(),
        config: from_kubeconfig(&read_connection(at, &webhook.connection_info)?)?,
        timeout,
        authorized: kept(webhook.authorized_ttl, AUTHORIZED, webhook.cache_authorized_requests),
        unauthorized: kept(
            webhook.unauthorized_ttl,
            UNAUTHORIZED,
            webhook.cache_unauthorized_requests,
        ),
        version,
        denies,
        conditions: read_conditions(at, &webhook.match_conditions)?,
    }))
}

/// The kubeconfig that says where the webhook is.
fn read_connection(at: &str, info: &ConnectionInfo) -> Result<String, String> {
    let at = format!("{at}.connectionInfo");
    match (info.kind.as_str(), &info.kube_config_file) {
        ("KubeConfigFile", Some(path)) if !path.is_empty() => {
            let wrong = |why: String| format!("{at}.kubeConfigFile: Invalid value: {path:?}: {why}");
            if !Path::new(path).is_absolute() {
                return Err(wrong("must be an absolute path".into()));
            }
            std::fs::read_to_string(path).map_err(|e| wrong(format!("error loading file: {e}")))
        }
        ("KubeConfigFile", _) => Err(format!("{at}.kubeConfigFile: Required value")),
        ("", _) => Err(format!("{at}.type: Required value")),
        (other, _) => Err(format!(
            "{at}.type: Unsupported value: {other:?}: supported values: \"KubeConfigFile\""
        )),
    }
}

fn read_conditions(at: &str, conditions: &[MatchCondition]) -> Result<Vec<Condition>, String> {
    if conditions.len() > MAX_CONDITIONS {
        return Err(format!(
            "{at}.matchConditions: Too many: {}: must have at most {MAX_CONDITIONS} items",
            conditions.len()
        ));
    }
    let mut seen = BTreeSet::new();
    let mut read = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = format!("{at}.matchConditions[{index}].expression");
        let source = condition.expression.as_str();
        if source.trim().is_empty() {
            return Err(format!("{at}: Required value"));
        }
        if !seen.insert(source) {
            return Err(format!("{at}: Duplicate value: {source:?}"));
        }
        let compiled = Condition::new(source);
        read.push(compiled.map_err(|why| format!("{at}: Invalid value: {source:?}: {why}"))?);
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
