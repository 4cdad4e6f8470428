//! Who may ask what of the agent: certificates of the cluster's authority and bearer tokens that the API believes
//! (TokenReview), for what the API permits on the node and its subresources (SubjectAccessReview). Nobody is anonymous.

mod cache;
mod request;

use cache::Cache;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use strata_client::{Client, Error, Resource, resources};
use strata_http::Peer;
use strata_task::Backoff;
use x509_parser::prelude::X509Certificate;

/// How long answers are kept (the kubelet's defaults).
const AUTHENTICATED: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const NOT_ALLOWED: Duration = Duration::from_secs(30);
/// A question longer than this is asked every time, lest somebody fill the memory with questions.
const LONGEST_KEPT: usize = 10_000;
/// How often a review is tried, and the first wait between (client-go's defaults for reviews).
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(4);

const AUTHENTICATED_GROUP: &str = "system:authenticated";
/// Members may do everything, so that nobody has to be asked: the API server itself is one.
const MASTERS: &str = "system:masters";

/// A refused request: status and sentence.
type Refusal = (StatusCode, String);

/// Decides who is let in.
pub struct Access {
    client: Client,
    node: String,
    /// By token; what the API does not believe is kept as well.
    users: Cache<Option<Arc<User>>>,
    /// By the review's specification.
    verdicts: Cache<bool>,
}

/// Who asks (authentication.k8s.io UserInfo).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: User,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
    denied: bool,
}

impl Access {
    /// For the agent of a node, which asks as itself.
    pub fn new(client: Client, node: &str) -> Self {
        Self {
            client,
            node: node.to_owned(),
            users: Cache::new(),
            verdicts: Cache::new(),
        }
    }

    /// Whether a request is to be answered. Errors: what is answered instead.
    pub async fn check(&self, method: &Method, path: &str, headers: &HeaderMap, peer: &Peer) -> Result<(), Refusal> {
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let token = request::bearer_token(headers);
        let user = match peer_user(peer) {
            Some(user) => Arc::new(user),
            None => self
                .token_user(token.ok_or_else(unauthorized)?)
                .await
                .inspect_err(|error| tracing::warn!(%error, "a token cannot be reviewed"))
                .ok()
                .flatten()
                .ok_or_else(unauthorized)?,
        };
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        self.authorise(&user, request::verb(method), path).await
    }

    async fn authorise(&self, user: &User, verb: &str, path: &str) -> Result<(), Refusal> {
        let subresources = request::subresources(path);
        let name = &user.username;
        for subresource in &subresources {
            let allowed = self.allowed(user, verb, subresource).await.map_err(|error| {
                tracing::warn!(%error, user = name, verb, subresource, "access cannot be reviewed");
                let sentence = format!(
                    "Authorization error (user={name}, verb={verb}, resource=nodes, subresource={subresource})"
                );
                (StatusCode::INTERNAL_SERVER_ERROR, sentence)
            })?;
            if allowed {
                return Ok(());
            }
        }
        let tried = subresources.join(" ");
        let sentence = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{tried}])\n");
        Err((StatusCode::FORBIDDEN, sentence))
    }

    async fn token_user(&self, token: String) -> Result<Option<Arc<User>>, Error> {
        if let Some(known) = self.users.get(&token, Instant::now()) {
            return Ok(known);
        }
        let status: TokenStatus = self.review(resources::TOKEN_REVIEWS, json!({"token": token})).await?;
        if !status.authenticated && !status.error.is_empty() {
            tracing::debug!(error = status.error, "a token is not believed");
        }
        let user = status.authenticated.then(|| Arc::new(authenticated(status.user)));
        if token.len() <= LONGEST_KEPT {
            self.users.put(token, user.clone(), Instant::now(), AUTHENTICATED);
        }
        Ok(user)
    }

    async fn allowed(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Error> {
        let spec = json!({
            "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra,
            "resourceAttributes": {"verb": verb, "version": "v1", "resource": "nodes",
                "subresource": subresource, "name": self.node},
        });
        let question = spec.to_string();
        if let Some(known) = self.verdicts.get(&question, Instant::now()) {
            return Ok(known);
        }
        let status: AccessStatus = self.review(resources::SUBJECT_ACCESS_REVIEWS, spec).await?;
        let allowed = status.allowed && !status.denied;
        if question.len() <= LONGEST_KEPT {
            let keep = if allowed { ALLOWED } else { NOT_ALLOWED };
            self.verdicts.put(question, allowed, Instant::now(), keep);
        }
        Ok(allowed)
    }

    /// The status of a review; asked again while the API has no time or cannot be reached.
    async fn review<T: serde::de::DeserializeOwned>(&self, resource: Resource, spec: Value) -> Result<T, Error> {
        #[derive(Deserialize)]
        struct Review<T> {
            status: T,
        }
        let review = json!({"metadata": {}, "spec": spec});
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut tries = 1;
        loop {
            match self.client.create(resource, "", &review).await {
                Ok(object) => return Ok(object.decode::<Review<T>>()?.status),
                Err(error) if tries < TRIES && is_passing(&error) => {
                    tries += 1;
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether asking again may help.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Transport(_) => true,
        Error::Status(status) => matches!(status.code, 429 | 500 | 503 | 504),
        _ => false,
    }
}

/// Who the certificate says it is; nobody without a common name.
fn peer_user(peer: &Peer) -> Option<User> {
    let leaf = peer.certificates.as_ref()?.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    certificate_user(&certificate)
}

fn certificate_user(certificate: &X509Certificate<'_>) -> Option<User> {
    let subject = certificate.subject();
    let username = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    let user = User {
        groups: groups.map(str::to_owned).collect(),
        username,
        ..User::default()
    };
    (!user.username.is_empty()).then(|| authenticated(user))
}

/// The same with the group of all who are known.
fn authenticated(mut user: User) -> User {
    if !user.groups.iter().any(|group| group == AUTHENTICATED_GROUP) {
        user.groups.push(AUTHENTICATED_GROUP.to_owned());
    }
    user
}
