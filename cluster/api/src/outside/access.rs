//! A webhook that says what somebody may do.

use super::review::{Answers, ask};
use crate::{
    admission::expressions::{Compiled, Wanted, compile, object},
    core::Core,
    json,
    metrics::DEFAULT,
    webhook::ClientConfig,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use strata_auth::{Attributes, Decision};
use strata_cel::{Activation, DeclType, Env, Value as CelValue, limits::PER_CALL_LIMIT};
use strata_metrics::{Histogram, Kind, Page};
use strata_task::Backoff;

/// How often a question is asked, and the pauses between (upstream's defaults).
const ATTEMPTS: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Questions with longer attributes are not remembered (upstream's bound).
const MAX_REMEMBERED: usize = 10_000;

/// How a webhook is asked and what counts when it does not answer.
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) config: ClientConfig,
    pub(super) timeout: Duration,
    /// How long a yes holds; `None`: it is not remembered.
    pub(super) authorized: Option<Duration>,
    /// How long anything else holds.
    pub(super) unauthorized: Option<Duration>,
    /// The version of the review: `v1` or `v1beta1`.
    pub(super) version: &'static str,
    /// Whether a failure is a no, and not merely no opinion.
    pub(super) denies: bool,
    pub(super) conditions: Vec<Condition>,
}

/// An expression that has to hold for the webhook to be asked.
pub(super) struct Condition {
    source: String,
    compiled: Compiled,
}

impl Condition {
    /// Errors: a sentence.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let env = Env::kubernetes().declared("request", &REVIEW).build();
        Ok(Self {
            source: source.to_owned(),
            compiled: compile(&env, source, Wanted::Bool)?,
        })
    }
}

/// A webhook that says what somebody may do.
pub(crate) struct AccessWebhook {
    settings: Settings,
    answers: Answers<(Decision, String)>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    asked: Mutex<BTreeMap<&'static str, Histogram>>,
    failed_open: Mutex<BTreeMap<&'static str, u64>>,
    excluded: AtomicU64,
    failed_conditions: AtomicU64,
}

impl AccessWebhook {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            answers: Answers::new(),
            counts: Counts::default(),
        }
    }

    /// Its decision and its words; what the failure policy says when it cannot be asked.
    pub(super) async fn decide(&self, core: &Core, attributes: &Attributes<'_>) -> (Decision, String) {
        let mut spec = review_spec(attributes);
        match self.is_concerned(&spec) {
            Ok(true) => {}
            Ok(false) => return (Decision::NoOpinion(String::new()), String::new()),
            Err(why) => {
                tracing::warn!(
                    webhook = self.settings.name,
                    why,
                    "a match condition of an authorizer failed"
                );
                return self.failure();
            }
        }
        if self.settings.version == "v1beta1"
            && let Some(map) = spec.as_object_mut()
            && let Some(groups) = map.remove("groups")
        {
            map.insert("group".into(), groups);
        }
        let question = json!({"kind": "SubjectAccessReview", "metadata": {}, "spec": spec, "status": {"allowed": false},
            "apiVersion": format!("authorization.k8s.io/{}", self.settings.version)});
        let question = question.to_string().into_bytes();
        let key: [u8; 32] = Sha256::digest(&question).into();
        if let Some(known) = self.answers.get(&key) {
            return known;
        }
        let answer = match self.ask(core, &question).await {
            Ok(answer) => answer,
            Err((result, why)) => {
                tracing::warn!(
                    webhook = self.settings.name,
                    why,
                    "an authorization webhook did not answer"
                );
                if !self.settings.denies {
                    *lock(&self.counts.failed_open).entry(result).or_default() += 1;
                }
                return self.failure();
            }
        };
        let reason = json::text(&answer, "status.reason").to_owned();
        let allowed = json::flag(&answer, "status.allowed");
        let decision = match (allowed, json::flag(&answer, "status.denied")) {
            (_, true) => Decision::Deny(reason.clone()),
            (true, false) => Decision::Allow,
            (false, false) => Decision::NoOpinion(reason.clone()),
        };
        let decision = (decision, reason);
        let holds = if allowed {
            self.settings.authorized
        } else {
            self.settings.unauthorized
        };
        if let Some(holds) = holds.filter(|_| is_short(attributes)) {
            self.answers.put(key, decision.clone(), holds);
        }
        decision
    }

    fn failure(&self) -> (Decision, String) {
        let decision = match self.settings.denies {
            true => Decision::Deny(String::new()),
            false => Decision::NoOpinion(String::new()),
        };
        (decision, String::new())
    }

    /// Whether all conditions hold. Errors: one failed, and none is false.
    fn is_concerned(&self, spec: &Value) -> Result<bool, String> {
        let conditions = &self.settings.conditions;
        if conditions.is_empty() {
            return Ok(true);
        }
        let completed = completed(spec);
        let request = Seen(&completed);
        let mut failures = Vec::new();
        for condition in conditions {
            let run = condition.compiled.program.eval(&request, PER_CALL_LIMIT);
            match run.result.map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => {
                    self.counts.excluded.fetch_add(1, Ordering::Relaxed);
                    return Ok(false);
                }
                Ok(None) => failures.push(format!("expression '{}' is no bool", condition.source)),
                Err(error) => failures.push(format!(
                    "cel evaluation error: expression '{}' resulted in error: {error}",
                    condition.source
                )),
            }
        }
        match failures.is_empty() {
            true => Ok(true),
            false => {
                self.counts.failed_conditions.fetch_add(1, Ordering::Relaxed);
                Err(failures.join(", "))
            }
        }
    }

    /// Errors: what the metrics call it, and a sentence.
    async fn ask(&self, core: &Core, question: &[u8]) -> Result<Value, (&'static str, String)> {
        let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for attempt in 1.. {
            let started = Instant::now();
            let answer = ask(core, &self.settings.config, question, self.settings.timeout).await;
            let (result, again) = match &answer {
                Ok(_) => ("success", false),
                Err((_, Some(code))) => ("error", matches!(code, 429 | 500..)),
                Err((why, None)) if why.contains("deadline exceeded") => ("timeout", true),
                Err(_) => ("error", true),
            };
            {
                let mut asked = lock(&self.counts.asked);
                let times = asked.entry(result).or_insert_with(|| Histogram::new(DEFAULT));
                times.took(started.elapsed());
            }
            match answer {
                Ok(answer) => return Ok(answer),
                Err(_) if again && attempt < ATTEMPTS => tokio::time::sleep(pause.next()).await,
                Err((why, _)) => return Err((result, why)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Shows its counters.
    pub(super) fn show(&self, page: &mut Page) {
        let name = ("name", self.settings.name.as_str());
        for (result, times) in lock(&self.counts.asked).iter() {
            let labels = [name, ("result", *result)];
            let metric = "apiserver_authorization_webhook_evaluations_total";
            page.section(metric, Kind::Counter, "Round-trips to authorization webhooks.")
                .sample(&labels, times.count() as f64);
            let metric = "apiserver_authorization_webhook_duration_seconds";
            page.section(metric, Kind::Histogram, "Request latency in seconds.")
                .histogram(&labels, times);
        }
        for (result, count) in lock(&self.counts.failed_open).iter() {
            let metric = "apiserver_authorization_webhook_evaluations_fail_open_total";
            page.section(metric, Kind::Counter, "Failures that counted as no opinion.")
                .sample(&[name, ("result", result)], *count as f64);
        }
        for (metric, count) in [
            ("exclusions_total", &self.counts.excluded),
            ("evaluation_errors_total", &self.counts.failed_conditions),
        ] {
            let count = count.load(Ordering::Relaxed);
            let metric = format!("apiserver_authorization_match_condition_{metric}");
            if count > 0 {
                page.section(&metric, Kind::Counter, "What came of match conditions.")
                    .sample(&[name, ("type", "Webhook")], count as f64);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_short(a: &Attributes<'_>) -> bool {
    let parts = [
        a.namespace,
        a.verb,
        a.group,
        a.version,
        a.resource,
        a.subresource,
        a.name,
        a.path,
    ];
    parts.iter().map(|part| part.len()).sum::<usize>() < MAX_REMEMBERED
}

/// The question as a SubjectAccessReview's spec.
fn review_spec(a: &Attributes<'_>) -> Value {
    let mut spec = json!({"user": a.user.name, "groups": a.user.groups});
    if !a.user.uid.is_empty() {
        spec["uid"] = json!(a.user.uid);
    }
    if !a.user.extra.is_empty() {
        spec["extra"] = json!(a.user.extra);
    }
    if !a.is_resource {
        spec["nonResourceAttributes"] = json!({"path": a.path, "verb": a.verb});
        return spec;
    }
    let parts = [
        ("namespace", a.namespace),
        ("verb", a.verb),
        ("group", a.group),
        ("version", a.version),
        ("resource", a.resource),
        ("subresource", a.subresource),
        ("name", a.name),
    ];
    let named = parts.into_iter().filter(|(_, value)| !value.is_empty());
    let mut attributes: Value = named.map(|(member, value)| (member.to_owned(), json!(value))).collect();
    let fields = a.field_selector.map_or(&[][..], |fields| fields.terms.as_slice());
    if !fields.is_empty() {
        let requirement = |(key, equal, value): &(String, bool, String)| json!({"key": key, "operator": if *equal { "In" } else { "NotIn" }, "values": [value]});
        let requirements: Vec<Value> = fields.iter().map(requirement).collect();
        attributes["fieldSelector"] = json!({"requirements": requirements});
    }
    let labels = a.label_selector.map_or_else(Vec::new, |labels| labels.requirements());
    if !labels.is_empty() {
        attributes["labelSelector"] = json!({"requirements": labels});
    }
    spec["resourceAttributes"] = attributes;
    spec
}

/// What expressions see: every member that is a text is there, be it empty.
fn completed(spec: &Value) -> Value {
    let mut seen = spec.clone();
    let fill = |at: &mut Value, names: &[&str]| {
        for name in names {
            if at.get(name).is_none() {
                at[*name] = json!("");
            }
        }
    };
    fill(&mut seen, &["user", "uid"]);
    if seen.get("extra").is_none() {
        seen["extra"] = json!({});
    }
    if let Some(attributes) = seen.get_mut("resourceAttributes") {
        fill(
            attributes,
            &[
                "namespace",
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "name",
            ],
        );
    }
    seen
}

struct Seen<'a>(&'a Value);

impl<'a> Activation<'a> for Seen<'a> {
    fn variable(&self, name: &str) -> Option<CelValue<'a>> {
        let request = || CelValue::declared(self.0, &REVIEW).unwrap_or_else(|_| CelValue::dynamic(self.0));
        (name == "request").then(request)
    }
}

/// authorization.k8s.io/v1 SubjectAccessReviewSpec as expressions see it.
static REVIEW: LazyLock<DeclType> = LazyLock::new(|| {
    let text = || DeclType::string(0);
    let texts = || DeclType::list(Arc::new(text()), 0);
    let requirement = object(
        "kubernetes.SelectorRequirement",
        &[("key", text()), ("operator", text()), ("values", texts())],
    );
    let selector = |name: &str| {
        let requirements = DeclType::list(Arc::new(requirement.clone()), 0);
        object(name, &[("rawSelector", text()), ("requirements", requirements)])
    };
    let resource = object(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", text()),
            ("verb", text()),
            ("group", text()),
            ("version", text()),
            ("resource", text()),
            ("subresource", text()),
            ("name", text()),
            ("fieldSelector", selector("kubernetes.FieldSelectorAttributes")),
            ("labelSelector", selector("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let path = object(
        "kubernetes.NonResourceAttributes",
        &[("path", text()), ("verb", text())],
    );
    object(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", resource),
            ("nonResourceAttributes", path),
            ("user", text()),
            ("groups", texts()),
            ("extra", DeclType::map(Arc::new(texts()), 0)),
            ("uid", text()),
        ],
    )
});

#[cfg(test)]
mod tests {
    use super::*;
    use strata_auth::UserInfo;
    use strata_meta::{FieldSelector, Selector};

    fn webhook(conditions: &[&str]) -> AccessWebhook {
        AccessWebhook::new(Settings {
            name: "w".into(),
            config: ClientConfig::from_url("https://127.0.0.1:1/", Vec::new()).unwrap(),
            timeout: Duration::from_secs(1),
            authorized: None,
            unauthorized: None,
            version: "v1",
            denies: true,
            conditions: conditions.iter().map(|c| Condition::new(c).unwrap()).collect(),
        })
    }

    #[test]
    fn conditions_see_the_review() {
        let user = UserInfo::new("alice", &["devs"]);
        let fields = FieldSelector::parse("metadata.name=x").unwrap();
        let labels = Selector::parse("a in (b,c)").unwrap();
        let pods = Attributes {
            verb: "list",
            resource: "pods",
            namespace: "n",
            field_selector: Some(&fields),
            label_selector: Some(&labels),
            ..Attributes::of(&user)
        };
        let path = Attributes {
            path: "/x",
            verb: "get",
            is_resource: false,
            ..Attributes::of(&user)
        };
        for (condition, on_pods, on_path) in [
            ("request.user == 'alice'", Ok(true), Ok(true)),
            ("'devs' in request.groups", Ok(true), Ok(true)),
            ("has(request.resourceAttributes)", Ok(true), Ok(false)),
            ("request.resourceAttributes.__namespace__ == 'n'", Ok(true), Err(())),
            ("request.resourceAttributes.subresource == ''", Ok(true), Err(())),
            (
                "has(request.nonResourceAttributes) && request.nonResourceAttributes.path == '/x'",
                Ok(false),
                Ok(true),
            ),
            (
                "request.resourceAttributes.fieldSelector.requirements[0].values[0] == 'x'",
                Ok(true),
                Err(()),
            ),
            (
                "request.resourceAttributes.labelSelector.requirements[0].operator == 'In'",
                Ok(true),
                Err(()),
            ),
            ("!('k' in request.extra)", Ok(true), Ok(true)),
        ] {
            let webhook = webhook(&[condition]);
            for (attributes, wanted) in [(&pods, on_pods), (&path, on_path)] {
                let found = webhook.is_concerned(&review_spec(attributes)).map_err(drop);
                assert_eq!(found, wanted, "{condition}");
            }
        }
        // What is false outweighs what fails.
        let both = webhook(&["request.resourceAttributes.name == 'a'", "request.user == 'bob'"]);
        assert_eq!(both.is_concerned(&review_spec(&path)), Ok(false));
        assert!(Condition::new("request.nonsense").is_err());
        assert!(Condition::new("request.user").is_err());
    }
}
