//! Secrets of type `kubernetes.io/service-account-token`: filled with a token of their account, removed with it.

use crate::{
    Error,
    context::{Context, SHARED_INFORMERS},
    error::During,
    tracked::value,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_auth::TokenIssuer;
use strata_client::{
    Client, DeleteOptions, Informer, Scope, WorkQueue,
    resources::{SECRETS, SERVICE_ACCOUNTS},
};
use strata_meta::{Object, ObjectKey};

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

struct Tokens {
    client: Client,
    issuer: Arc<TokenIssuer>,
    ca_pem: String,
    secrets: Informer<Arc<Object>>,
    accounts: Informer<Arc<Object>>,
}

pub(super) fn start(context: &Arc<Context>) {
    let Some(issuer) = context.options.issuer.clone() else {
        return;
    };
    let scope = Scope {
        field_selector: format!("type={TYPE}"),
        ..Scope::default()
    };
    let client = context.client(SHARED_INFORMERS);
    let secrets = Informer::start_with(
        &client,
        SECRETS,
        scope,
        context.cancel.clone(),
        crate::tracked::undecoded,
    );
    let accounts = context.objects(SERVICE_ACCOUNTS);
    let queue: WorkQueue<ObjectKey> = context.queue("serviceaccount_tokens_secret");
    let changed = queue.clone();
    secrets.on_change(move |change| changed.add(change.key.clone()));
    let (known, changed) = (secrets.clone(), queue.clone());
    accounts.on_change(move |change| {
        let namespace = change.key.namespace.clone();
        for (key, _) in known.select(|key, _| key.namespace == namespace) {
            changed.add(key);
        }
    });
    let engine = Arc::new(Tokens {
        client,
        issuer,
        ca_pem: context.options.ca_pem.clone(),
        secrets,
        accounts,
    });
    let ready = {
        let engine = engine.clone();
        async move {
            engine.secrets.synced().await;
            engine.accounts.synced().await;
        }
    };
    context.run(&queue, 1, ready, move |key| {
        let engine = engine.clone();
        async move { engine.reconcile(&key).await }
    });
}

impl Tokens {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(secret) = self.secrets.get(key).filter(|s| !s.deleting) else {
            return Ok(None);
        };
        let mut whole = value(&secret)?;
        let annotation = |whole: &Value, name: &str| whole["metadata"]["annotations"][name].as_str().map(str::to_owned);
        let name = annotation(&whole, NAME).unwrap_or_default();
        let account_key = ObjectKey::new(&key.namespace, &name);
        let mut account = self.accounts.get(&account_key);
        if account.is_none() {
            // The cache of accounts may be behind that of secrets: what is deleted is gone for good, so look.
            account = match self.client.get(SERVICE_ACCOUNTS, &key.namespace, &name).await {
                Ok(found) => Some(Arc::new(found)),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error).during(|| format!("reading {account_key}")),
            };
        }
        let uid = annotation(&whole, UID).filter(|uid| !uid.is_empty());
        let account = account.filter(|a| uid.as_ref().is_none_or(|uid| *uid == a.uid.as_str()));
        let Some(account) = account else {
            let deleted = self
                .client
                .delete(SECRETS, &key.namespace, &key.name, DeleteOptions::only(&secret.uid))
                .await;
            return match deleted {
                Err(error) if !error.is_not_found() && !error.is_conflict() => {
                    Err(error).during(|| format!("removing the token {key} of an account that is gone"))
                }
                _ => Ok(None),
            };
        };
        if !self.fill(&mut whole, &account, key)? {
            return Ok(None);
        }
        match self.client.update(SECRETS, &key.namespace, &key.name, &whole).await {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(|_| None).during(|| format!("filling {key}")),
        }
    }

    /// Adds what is missing; whether anything was.
    fn fill(&self, whole: &mut Value, account: &Object, key: &ObjectKey) -> Result<bool, Error> {
        let before = whole.clone();
        if !whole["data"].is_object() {
            whole["data"] = json!({});
        }
        whole["data"]["ca.crt"] = json!(STANDARD.encode(&self.ca_pem));
        whole["data"]["namespace"] = json!(STANDARD.encode(key.namespace.as_bytes()));
        let has_token = whole["data"]["token"].as_str().is_some_and(|t| !t.is_empty());
        if !has_token {
            let token = self
                .issuer
                .issue_for_secret(&key.namespace, account.name(), account.uid.as_str(), &key.name)
                .map_err(|e| Error::Incomplete(e.to_string()))?;
            whole["data"]["token"] = json!(STANDARD.encode(token));
        }
        whole["metadata"]["annotations"][NAME] = json!(account.name());
        whole["metadata"]["annotations"][UID] = json!(account.uid.as_str());
        Ok(*whole != before)
    }
}
