//! Webhooks that review tokens and access, and what they said a little while ago.

use crate::{core::Core, json, webhook::ClientConfig};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use strata_auth::{Attributes, Decision, GROUP_AUTHENTICATED, UserInfo};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers hold (upstream's defaults).
const TOKENS: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const REFUSED: Duration = Duration::from_secs(30);
/// Answers kept.
const ENTRIES: usize = 4096;

/// Answers by the digest of their question.
struct Answers<T>(Mutex<HashMap<[u8; 32], (Instant, T)>>);

impl<T: Clone> Answers<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &[u8; 32]) -> Option<T> {
        let mut known = self.0.lock().expect("no panic under this lock");
        match known.get(key) {
            Some((until, answer)) if *until > Instant::now() => Some(answer.clone()),
            Some(_) => {
                known.remove(key);
                None
            }
            None => None,
        }
    }

    fn put(&self, key: [u8; 32], answer: T, time: Duration) {
        let mut known = self.0.lock().expect("no panic under this lock");
        if known.len() >= ENTRIES {
            known.clear();
        }
        known.insert(key, (Instant::now() + time, answer));
    }
}

async fn ask(core: &Core, config: &ClientConfig, question: &[u8]) -> Result<Value, String> {
    let body = Bytes::copy_from_slice(question);
    let answer = core.webhooks.post(core, config, "", body, TIMEOUT).await;
    serde_json::from_slice(&answer.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// Says who holds a token.
pub(super) struct TokenWebhook {
    config: ClientConfig,
    answers: Answers<(Arc<UserInfo>, Vec<String>)>,
}

impl TokenWebhook {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            answers: Answers::new(),
        }
    }

    /// Who holds a token, and for which of the wanted audiences. Errors: a sentence for the log.
    pub(super) async fn user(
        &self,
        core: &Core,
        token: &str,
        wanted: &[String],
    ) -> Result<(Arc<UserInfo>, Vec<String>), String> {
        let question = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"token": token, "audiences": wanted}, "status": {"user": {}}});
        let question = question.to_string().into_bytes();
        let key: [u8; 32] = Sha256::digest(&question).into();
        if let Some(known) = self.answers.get(&key) {
            return Ok(known);
        }
        let answer = ask(core, &self.config, &question).await?;
        if !json::flag(&answer, "status.authenticated") {
            return Err(format!(
                "the webhook refuses the token: {}",
                json::text(&answer, "status.error")
            ));
        }
        let user = json::get(&answer, "status.user").cloned().unwrap_or_default();
        let mut user: UserInfo = serde_json::from_value(user).map_err(|e| e.to_string())?;
        if user.name.is_empty() {
            return Err("the webhook names nobody".into());
        }
        if !user.is_in(GROUP_AUTHENTICATED) {
            user.groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        let stated: Vec<&str> = json::list(&answer, "status.audiences")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        // A webhook that knows no audiences vouches for the server's own only.
        let own = core.authenticator.audiences();
        let is_for = |audience: &&String| match stated.as_slice() {
            [] => own.contains(*audience),
            stated => stated.contains(&audience.as_str()),
        };
        let audiences: Vec<String> = wanted.iter().filter(is_for).cloned().collect();
        if audiences.is_empty() {
            return Err("the token is not for this server".into());
        }
        let found = (Arc::new(user), audiences);
        self.answers.put(key, found.clone(), TOKENS);
        Ok(found)
    }
}

/// Says what somebody may do.
pub(crate) struct AuthorizationWebhook {
    config: ClientConfig,
    answers: Answers<Decision>,
}

impl AuthorizationWebhook {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            answers: Answers::new(),
        }
    }

    /// Its decision; no opinion when it cannot be asked.
    pub(crate) async fn decide(&self, core: &Core, attributes: &Attributes<'_>) -> Decision {
        let question = access_review(attributes).to_string().into_bytes();
        let key: [u8; 32] = Sha256::digest(&question).into();
        if let Some(known) = self.answers.get(&key) {
            return known;
        }
        let answer = match ask(core, &self.config, &question).await {
            Ok(answer) => answer,
            Err(why) => {
                tracing::warn!(why, "the authorization webhook did not answer");
                return Decision::NoOpinion(String::new());
            }
        };
        let reason = json::text(&answer, "status.reason").to_owned();
        let (allowed, denied) = (
            json::flag(&answer, "status.allowed"),
            json::flag(&answer, "status.denied"),
        );
        let (decision, time) = match (allowed, denied) {
            (_, true) => (Decision::Deny(reason), REFUSED),
            (true, false) => (Decision::Allow, ALLOWED),
            (false, false) => (Decision::NoOpinion(reason), REFUSED),
        };
        self.answers.put(key, decision.clone(), time);
        decision
    }
}

fn access_review(a: &Attributes<'_>) -> Value {
    let mut spec = json!({"user": a.user.name, "groups": a.user.groups});
    if !a.user.uid.is_empty() {
        spec["uid"] = json!(a.user.uid);
    }
    if !a.user.extra.is_empty() {
        spec["extra"] = json!(a.user.extra);
    }
    if a.is_resource {
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
        spec["resourceAttributes"] = named.map(|(member, value)| (member.to_owned(), json!(value))).collect();
    } else {
        spec["nonResourceAttributes"] = json!({"path": a.path, "verb": a.verb});
    }
    json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": spec,
        "status": {"allowed": false}})
}
