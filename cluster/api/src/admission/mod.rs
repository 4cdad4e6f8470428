//! Admission: what an allowed request may contain, and what the server puts in.
//!
//! Plugins are rows in upstream's order: first all that change are asked, then all that only refuse. Webhooks come
//! last; a change of theirs has everything asked once more (reinvocation).

mod asked;
mod certificates;
mod claims;
mod conditions;
mod configured;
mod connect;
mod defaults;
mod escalation;
pub(crate) mod expressions;
mod hooks;
mod lifecycle;
mod limits;
mod matching;
mod node_restriction;
mod nodes;
mod pod_security;
mod pods;
pub(crate) mod policy;
mod quota;
mod references;
mod request;
mod service_account;

pub(crate) use configured::Configured;
pub(crate) use connect::connect;
pub(crate) use request::{Operation, Request};

use futures::future::BoxFuture;
use serde_json::Value;
use std::time::Instant;
use strata_meta::Status;

type Outcome = Result<(), Status>;

/// Changes a new state.
enum Mutate {
    /// At once; asked only when there is a new state.
    Now(fn(&Request<'_>, &mut Value, Option<&Value>) -> Outcome),
    /// Refuses at once, before others have changed anything more.
    Check(fn(&Request<'_>, Option<&Value>, Option<&Value>) -> Outcome),
    /// After waiting for something.
    Later(
        for<'a> fn(&'a Request<'a>, &'a mut Round, Option<&'a mut Value>, Option<&'a Value>) -> BoxFuture<'a, Outcome>,
    ),
}

/// Refuses a new state, or the removal of an old one.
enum Validate {
    /// At once.
    Now(fn(&Request<'_>, Option<&Value>, Option<&Value>) -> Outcome),
    /// After waiting for something.
    Later(for<'a> fn(&'a Request<'a>, Option<&'a Value>, Option<&'a Value>) -> BoxFuture<'a, Outcome>),
}

/// Upstream's AllOrderedPlugins, as far as they change something.
const MUTATING: &[(&str, Mutate)] = &[
    ("NamespaceLifecycle", Mutate::Check(lifecycle::check)),
    ("LimitRanger", Mutate::Now(limits::default)),
    ("ServiceAccount", Mutate::Later(service_account::admit)),
    ("NodeRestriction", Mutate::Later(node_restriction::restrict)),
    ("TaintNodesByCondition", Mutate::Now(nodes::taint_new)),
    ("Priority", Mutate::Now(pods::priority)),
    ("DefaultTolerationSeconds", Mutate::Now(pods::default_tolerations)),
    ("DefaultStorageClass", Mutate::Now(defaults::storage_class)),
    ("StorageObjectInUseProtection", Mutate::Now(defaults::in_use_protection)),
    ("RuntimeClass", Mutate::Now(defaults::runtime_class)),
    ("DefaultIngressClass", Mutate::Now(defaults::ingress_class)),
    ("PodTopologyLabels", Mutate::Now(defaults::topology_labels)),
    ("MutatingAdmissionPolicy", Mutate::Later(policy::mutate)),
    ("MutatingAdmissionWebhook", Mutate::Later(hooks::mutate)),
];

/// Upstream's AllOrderedPlugins, as far as they refuse something.
const VALIDATING: &[(&str, Validate)] = &[
    ("LimitRanger", Validate::Now(limits::check)),
    ("ServiceAccount", Validate::Now(service_account::check)),
    ("PodSecurity", Validate::Now(pod_security::validate)),
    ("Priority", Validate::Now(pods::one_default)),
    ("", Validate::Later(escalation::validate)),
    ("", Validate::Later(claims::validate)),
    ("PersistentVolumeClaimResize", Validate::Now(defaults::claim_resize)),
    ("RuntimeClass", Validate::Now(defaults::runtime_overhead)),
    ("CertificateApproval", Validate::Later(certificates::approval)),
    ("CertificateSigning", Validate::Later(certificates::signing)),
    ("CertificateSubjectRestriction", Validate::Now(certificates::subject)),
    ("ValidatingAdmissionPolicy", Validate::Later(policy::validate)),
    ("ValidatingAdmissionWebhook", Validate::Later(hooks::validate)),
    ("ResourceQuota", Validate::Later(quota::take)),
];

/// One of the two passes through the plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Those that change.
    Admit,
    /// Those that only refuse.
    Validate,
}

impl Step {
    /// As metrics name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

/// Every plugin, those that change first; what upstream does not count among them has no name.
pub(crate) fn plugins() -> impl Iterator<Item = (&'static str, Step)> {
    let mutating = MUTATING.iter().map(|(name, _)| (*name, Step::Admit));
    mutating.chain(VALIDATING.iter().map(|(name, _)| (*name, Step::Validate)))
}

/// What one request's rounds of mutating admission know of each other (upstream's reinvocation context).
#[derive(Default)]
pub(crate) struct Round {
    /// Whether this is the second round.
    again: bool,
    /// Whether a change asks for one.
    wanted: bool,
    /// What webhooks remember.
    hooks: hooks::Memory,
    /// What mutating policies remember.
    policies: policy::Memory,
}

/// Lets plugins change a new state. Errors: the first refusal.
pub(crate) async fn mutate(
    request: &Request<'_>,
    new: Option<&mut Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Outcome {
    let started = Instant::now();
    let outcome = mutate_all(request, new, old, warnings).await;
    let metrics = &request.core.metrics.admission;
    metrics.step(Step::Admit, request.operation, outcome.is_err(), started.elapsed());
    outcome
}

async fn mutate_all(
    request: &Request<'_>,
    mut new: Option<&mut Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Outcome {
    let metrics = &request.core.metrics.admission;
    let mut round = Round::default();
    let mut before = Instant::now();
    loop {
        for (at, (name, plugin)) in MUTATING.iter().enumerate() {
            let outcome = match (plugin, &mut new) {
                (Mutate::Now(plugin), Some(new)) => plugin(request, new, old),
                (Mutate::Now(_), None) => Ok(()),
                (Mutate::Check(plugin), new) => plugin(request, new.as_deref(), old),
                (Mutate::Later(plugin), new) => plugin(request, &mut round, new.as_deref_mut(), old).await,
            };
            let now = Instant::now();
            metrics.plugin(at, request.operation, outcome.is_err(), now - before);
            before = now;
            request.take_warnings(warnings);
            outcome.inspect_err(|status| tracing::debug!(plugin = name, why = status.message, "refused"))?;
        }
        if round.again || !round.wanted {
            return Ok(());
        }
        round.again = true;
    }
}

/// Lets plugins refuse. Errors: the first refusal.
pub(crate) async fn validate(
    request: &Request<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Outcome {
    let started = Instant::now();
    let outcome = validate_all(request, new, old, warnings).await;
    let metrics = &request.core.metrics.admission;
    metrics.step(Step::Validate, request.operation, outcome.is_err(), started.elapsed());
    outcome
}

async fn validate_all(
    request: &Request<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Outcome {
    let metrics = &request.core.metrics.admission;
    let mut before = Instant::now();
    for (at, (name, plugin)) in VALIDATING.iter().enumerate() {
        let outcome = match plugin {
            Validate::Now(plugin) => plugin(request, new, old),
            Validate::Later(plugin) => plugin(request, new, old).await,
        };
        let now = Instant::now();
        metrics.plugin(MUTATING.len() + at, request.operation, outcome.is_err(), now - before);
        before = now;
        request.take_warnings(warnings);
        outcome.inspect_err(|status| tracing::debug!(plugin = name, why = status.message, "refused"))?;
    }
    Ok(())
}

/// Both, for what is asked of the server without being kept: bindings, evictions, tokens, connections.
pub(crate) async fn admit(
    request: &Request<'_>,
    mut new: Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    mutate(request, Some(&mut new), old, warnings).await?;
    validate(request, Some(&new), old, warnings).await?;
    Ok(new)
}
