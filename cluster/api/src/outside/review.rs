//! A webhook that reviews tokens, and what webhooks said a little while ago.

use crate::{core::Core, json, webhook::ClientConfig};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use strata_auth::{GROUP_AUTHENTICATED, UserInfo};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers about tokens hold (upstream's default).
const TOKENS: Duration = Duration::from_secs(120);
/// Answers kept.
const ENTRIES: usize = 4096;

/// Answers by the digest of their question.
pub(super) struct Answers<T>(Mutex<HashMap<[u8; 32], (Instant, T)>>);

impl<T: Clone> Answers<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn get(&self, key: &[u8; 32]) -> Option<T> {
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

    pub(super) fn put(&self, key: [u8; 32], answer: T, time: Duration) {
        let mut known = self.0.lock().expect("no panic under this lock");
        if known.len() >= ENTRIES {
            known.clear();
        }
        known.insert(key, (Instant::now() + time, answer));
    }
}

/// Posts a review and reads the answer. Errors: a sentence, and the status code if there was one.
pub(super) async fn ask(
    core: &Core,
    config: &ClientConfig,
    question: &[u8],
    timeout: Duration,
) -> Result<Value, (String, Option<u16>)> {
    let body = Bytes::copy_from_slice(question);
    let answer = core.webhooks.post(core, config, "", body, timeout).await;
    let answer = answer.map_err(|e| (e.to_string(), e.code))?;
    serde_json::from_slice(&answer).map_err(|e| (e.to_string(), Some(200)))
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
        let answer = ask(core, &self.config, &question, TIMEOUT)
            .await
            .map_err(|(why, _)| why)?;
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
