//! Who may do what: the questions the pipeline asks, and what tokens are bound to.

use crate::{
    cache::{Cache, ResourceCache, prefix_of},
    core::Core,
    json, legacy_tokens,
    request::{Query, RequestInfo},
};
use std::sync::Arc;
use strata_auth::{
    Attributes, BOOTSTRAP_SECRET_PREFIX, BootstrapToken, BoundKind, BoundState, Decision, KeptToken, TokenLookup,
    UserInfo,
};
use strata_meta::{FieldSelector, ObjectMeta, Selector, Status};

impl Core {
    /// Whether the request may be made. Errors: 403.
    pub(crate) async fn authorize_request(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        query: &Query,
    ) -> Result<(), Status> {
        let selectors = Selectors::of(info, query);
        self.require(&selectors.attributes(user, info)).await
    }

    /// The same, and why, as the audit log has it.
    pub(crate) async fn judge_request(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        query: &Query,
    ) -> (Result<(), Status>, String) {
        let selectors = Selectors::of(info, query);
        let attributes = selectors.attributes(user, info);
        let verdict = self.authorizer.judge(self, &attributes).await;
        let reason = verdict.reason(self, &attributes);
        (refusal(&attributes, &verdict.decision), reason)
    }

    /// Whether the user may also create what an update would. Errors: 403.
    pub(crate) async fn authorize_create(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        let mut create = info.clone();
        create.verb = "create";
        self.authorize_request(user, &create, &Query::default()).await
    }

    /// Whether something may be done. Errors: 403 with upstream's sentence.
    pub(crate) async fn require(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        refusal(attributes, &self.authorizer.decide(self, attributes).await)
    }
}

/// The selectors of a request that names many objects.
pub(crate) struct Selectors {
    fields: Option<FieldSelector>,
    labels: Option<Selector>,
}

impl Selectors {
    pub(crate) fn of(info: &RequestInfo, query: &Query) -> Self {
        let many = matches!(info.verb, "list" | "watch" | "deletecollection");
        let stated = |name: &str| Some(query.get(name)).filter(|text| many && !text.is_empty());
        Self {
            fields: stated("fieldSelector").and_then(|text| FieldSelector::parse(text).ok()),
            labels: stated("labelSelector").and_then(|text| Selector::parse(text).ok()),
        }
    }

    /// A request as authorizers see it.
    pub(crate) fn attributes<'a>(&'a self, user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
        Attributes {
            verb: info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            is_resource: info.is_resource,
            field_selector: self.fields.as_ref(),
            label_selector: self.labels.as_ref(),
            ..Attributes::of(user)
        }
    }
}

/// Errors: 403 with upstream's sentence, unless something is allowed.
fn refusal(attributes: &Attributes<'_>, decision: &Decision) -> Result<(), Status> {
    if decision.is_allowed() {
        return Ok(());
    }
    Err(forbidden(attributes, decision.reason()))
}

/// 403 with upstream's sentence.
pub(crate) fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = attributes.to_string();
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    let resource = if attributes.is_resource {
        attributes.resource
    } else {
        ""
    };
    let resource = strata_meta::GroupResource::new(attributes.group, resource);
    Status::forbidden(&resource, attributes.name, why)
}

/// Reads from the cache what tokens are bound to.
pub(crate) struct Lookup {
    accounts: Option<Arc<ResourceCache>>,
    pods: Option<Arc<ResourceCache>>,
    secrets: Option<Arc<ResourceCache>>,
    nodes: Option<Arc<ResourceCache>>,
}

impl Lookup {
    /// Over the built-in resources.
    pub(crate) fn new(cache: &Cache) -> Self {
        let core = |plural| cache.named(&prefix_of("", plural));
        Self {
            accounts: core("serviceaccounts"),
            pods: core("pods"),
            secrets: core("secrets"),
            nodes: core("nodes"),
        }
    }
}

impl TokenLookup for Lookup {
    fn find(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<BoundState> {
        let resource = match kind {
            BoundKind::ServiceAccount => &self.accounts,
            BoundKind::Pod => &self.pods,
            BoundKind::Secret => &self.secrets,
            BoundKind::Node => &self.nodes,
        };
        let object = resource.as_ref()?.get(namespace, name)?;
        let deletion = if object.deleting {
            #[derive(serde::Deserialize)]
            struct Outline {
                metadata: ObjectMeta,
            }
            object.decode::<Outline>().ok()?.metadata.deletion_timestamp
        } else {
            None
        };
        Some(BoundState {
            uid: object.uid.clone(),
            deletion,
        })
    }

    fn kept_token(&self, namespace: &str, secret: &str, account: &str, token: &str) -> Option<KeptToken> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let found = self.secrets.as_ref()?.get(namespace, secret).filter(|s| !s.deleting)?;
        let value = found.to_value().ok()?;
        let held = STANDARD.decode(json::text(&value, "data.token"));
        let label = |name: &str| found.label(name).unwrap_or("").to_owned();
        let owner = self.accounts.as_ref().and_then(|a| a.get(namespace, account));
        let owner = owner
            .and_then(|owner| owner.to_value().ok())
            .unwrap_or(serde_json::Value::Null);
        let mut named = json::list(&owner, "secrets").iter();
        Some(KeptToken {
            uid: found.uid.clone(),
            holds: held.is_ok_and(|held| strata_auth::constant_time_eq(&held, token.as_bytes())),
            is_invalid: !label(legacy_tokens::INVALID_SINCE).is_empty(),
            last_used: label(legacy_tokens::LAST_USED),
            is_generated: named.any(|reference| json::text(reference, "name") == secret),
        })
    }

    fn bootstrap_token(&self, id: &str) -> Option<BootstrapToken> {
        let name = format!("{BOOTSTRAP_SECRET_PREFIX}{id}");
        let secret = self
            .secrets
            .as_ref()?
            .get("kube-system", &name)
            .filter(|s| !s.deleting)?;
        BootstrapToken::from_secret(&secret.to_value().ok()?)
    }
}
