//! Who sent a request: client certificates, service account tokens, bootstrap tokens.

use crate::{BootstrapToken, BoundRef, Claims, KeptToken, Notes, RequestHeaders, TokenError, TokenIssuer, UserInfo};
use http::{HeaderMap, header::AUTHORIZATION};
use std::{fmt, sync::Arc};
use strata_http::Peer;
use strata_meta::{Time, Uid};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long after its deletion a thing still backs a token.
const DELETION_LEEWAY_SECONDS: i64 = 60;
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
const MAX_HEADER_BYTES: usize = 32 << 10;

/// What a token may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundKind {
    /// A service account.
    ServiceAccount,
    /// A pod.
    Pod,
    /// A secret.
    Secret,
    /// A node.
    Node,
}

/// The present state of what a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundState {
    /// Its identity.
    pub uid: Uid,
    /// Its deletionTimestamp.
    pub deletion: Option<Time>,
}

/// Tells what is there now; answered from memory.
pub trait TokenLookup: Send + Sync {
    /// The object of that name; `namespace` is `""` for nodes.
    fn find(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<BoundState>;

    /// What a secret that is not being deleted says of this token of an account.
    fn kept_token(&self, namespace: &str, secret: &str, account: &str, token: &str) -> Option<KeptToken> {
        let _ = (namespace, secret, account, token);
        None
    }

    /// The bootstrap token with that id, from its Secret (see [`BootstrapToken::from_secret`]).
    fn bootstrap_token(&self, id: &str) -> Option<BootstrapToken> {
        let _ = id;
        None
    }
}

/// Why a request is answered with 401. The reason is for the log, never for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// The client's certificate.
    #[error("client certificate: {0}")]
    Certificate(String),
    /// The bearer token.
    #[error("bearer token: {0}")]
    Token(#[from] TokenError),
    /// The Authorization header.
    #[error("authorization header is malformed")]
    Header,
}

/// Finds out who sent a request.
pub struct Authenticator {
    issuer: Arc<TokenIssuer>,
    lookup: Arc<dyn TokenLookup>,
    audiences: Vec<String>,
    proxies: Option<RequestHeaders>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

/// What a certificate says, remembered for the life of its connection.
struct CertificateIdentity {
    user: Arc<UserInfo>,
    not_before: i64,
    not_after: i64,
}

impl Authenticator {
    /// Tokens for the issuer's own URL are for this API server.
    pub fn new(issuer: Arc<TokenIssuer>, lookup: Arc<dyn TokenLookup>) -> Self {
        let audiences = vec![issuer.issuer().to_owned()];
        Self {
            issuer,
            lookup,
            audiences,
            proxies: None,
        }
    }

    /// Believes front proxies too.
    pub fn believing(mut self, proxies: Option<RequestHeaders>) -> Self {
        self.proxies = proxies;
        self
    }

    /// The headers in which front proxies speak.
    pub fn proxies(&self) -> Option<&RequestHeaders> {
        self.proxies.as_ref()
    }

    /// The audiences of this API server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Who sent a request: as a front proxy says, by certificate, else by bearer token, else anonymous. What is presented and not believed
    /// is an error.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        notes: &mut Notes,
    ) -> Result<Arc<UserInfo>, Unauthenticated> {
        if let Some(user) = self.proxies.as_ref().and_then(|proxies| proxies.user(headers, peer)) {
            return Ok(Arc::new(user));
        }
        if let Some(error) = &peer.certificate_error {
            return Err(Unauthenticated::Certificate(error.to_string()));
        }
        if let Some(user) = certificate_user(peer)? {
            return Ok(user);
        }
        match bearer_token(headers)? {
            Some(token) => Ok(Arc::new(self.token(&token, &self.audiences, notes)?.0)),
            None => Ok(Arc::new(UserInfo::anonymous())),
        }
    }

    /// The bearer token of a request. Errors: a header that cannot be read.
    pub fn bearer_token(headers: &HeaderMap) -> Result<Option<String>, Unauthenticated> {
        bearer_token(headers)
    }

    /// Who holds a token that is for one of the wanted audiences, and for which of them (TokenReview).
    pub fn token(
        &self,
        token: &str,
        wanted: &[String],
        notes: &mut Notes,
    ) -> Result<(UserInfo, Vec<String>), TokenError> {
        if let Some(id) = BootstrapToken::id_of(token) {
            let known = self.lookup.bootstrap_token(id).ok_or(TokenError::Signature)?;
            known.verify(token, Time::now())?;
            return Ok((known.user(), wanted.to_vec()));
        }
        let now = Time::now();
        let claims = self.issuer.verify(token, now)?;
        let audiences: Vec<String> = wanted
            .iter()
            .filter(|audience| claims.audiences.contains(audience))
            .cloned()
            .collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience {
                found: claims.audiences,
                wanted: wanted.to_vec(),
            });
        }
        match claims.is_kept_in_secret() {
            true => self.check_secret(&claims, token, now, notes)?,
            false => {
                self.check_bindings(&claims, now)?;
                notes.of_age(&claims, now);
            }
        }
        Ok((user_of(&claims), audiences))
    }

    fn check_secret(&self, claims: &Claims, token: &str, now: Time, notes: &mut Notes) -> Result<(), TokenError> {
        let invalid = |why: &str| Err(TokenError::Invalidated(why.to_owned()));
        let kubernetes = &claims.kubernetes;
        let (namespace, account) = (kubernetes.namespace.as_str(), &kubernetes.service_account);
        let secret = kubernetes.secret.as_ref().map_or("", |s| s.name.as_str());
        let Some(kept) = self.lookup.kept_token(namespace, secret, &account.name, token) else {
            return invalid("Token has been invalidated");
        };
        if !kept.holds {
            return invalid("Token does not match server's copy");
        }
        self.check(BoundKind::ServiceAccount, namespace, account, now)?;
        if notes.of_secret(namespace, secret, &kept, now) {
            return Ok(());
        }
        invalid(&format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token",
            account.name
        ))
    }

    fn check_bindings(&self, claims: &Claims, now: Time) -> Result<(), TokenError> {
        let kubernetes = &claims.kubernetes;
        let namespace = kubernetes.namespace.as_str();
        self.check(BoundKind::ServiceAccount, namespace, &kubernetes.service_account, now)?;
        if let Some(secret) = &kubernetes.secret {
            self.check(BoundKind::Secret, namespace, secret, now)?;
        }
        match (&kubernetes.pod, &kubernetes.node) {
            // The node of a pod is information only.
            (Some(pod), _) => self.check(BoundKind::Pod, namespace, pod, now),
            (None, Some(node)) => self.check(BoundKind::Node, "", node, now),
            (None, None) => Ok(()),
        }
    }

    fn check(&self, kind: BoundKind, namespace: &str, bound: &BoundRef, now: Time) -> Result<(), TokenError> {
        let state = self.lookup.find(kind, namespace, &bound.name);
        let invalid = |why: String| Err(TokenError::Invalidated(why));
        let (name, is_account) = (&bound.name, kind == BoundKind::ServiceAccount);
        match state {
            None if is_account => invalid(format!("serviceaccounts {name:?} not found")),
            None => invalid("service account token has been invalidated".into()),
            Some(state) if state.uid != bound.uid => {
                let (what, claim) = match kind {
                    BoundKind::ServiceAccount => ("service account", "claim"),
                    BoundKind::Pod => ("pod", "service account pod ref claim"),
                    BoundKind::Secret => ("secret", "service account secret ref claim"),
                    BoundKind::Node => ("node", "service account node ref claim"),
                };
                invalid(format!(
                    "{what} UID ({}) does not match {claim} ({})",
                    state.uid, bound.uid
                ))
            }
            Some(BoundState { deletion: Some(at), .. }) if now.seconds_since(at) > DELETION_LEEWAY_SECONDS => {
                match is_account {
                    true => invalid(format!("service account {namespace}/{name} has been deleted")),
                    false => invalid("service account token has been invalidated".into()),
                }
            }
            Some(_) => Ok(()),
        }
    }
}

fn user_of(claims: &Claims) -> UserInfo {
    let kubernetes = &claims.kubernetes;
    let account = &kubernetes.service_account;
    let mut user = UserInfo::service_account(&kubernetes.namespace, &account.name, account.uid.as_str());
    let mut add = |key: &str, value: &str| user.extra.insert(key.to_owned(), vec![value.to_owned()]);
    if !claims.id.is_empty() {
        add(CREDENTIAL_ID, &format!("JTI={}", claims.id));
    }
    if let Some(pod) = &kubernetes.pod {
        add("authentication.kubernetes.io/pod-name", &pod.name);
        add("authentication.kubernetes.io/pod-uid", pod.uid.as_str());
    }
    if let Some(node) = &kubernetes.node {
        add("authentication.kubernetes.io/node-name", &node.name);
        if !node.uid.as_str().is_empty() {
            add("authentication.kubernetes.io/node-uid", node.uid.as_str());
        }
    }
    user
}

/// Seconds that the certificate has left by which the caller of a connection was authenticated; `None` without one.
pub fn certificate_lifetime(peer: &Peer) -> Option<i64> {
    let identity = peer.memo.get()?.downcast_ref::<CertificateIdentity>()?;
    Some(identity.not_after - Time::now().as_second())
}

fn certificate_user(peer: &Peer) -> Result<Option<Arc<UserInfo>>, Unauthenticated> {
    let Some(leaf) = peer.certificates.as_ref().and_then(|chain| chain.first()) else {
        return Ok(None);
    };
    let identity = match peer
        .memo
        .get()
        .and_then(|memo| memo.downcast_ref::<CertificateIdentity>())
    {
        Some(known) => known,
        None => {
            let parsed = identity_of(leaf)?;
            let memo = peer.memo.get_or_init(|| Box::new(parsed));
            memo.downcast_ref()
                .ok_or_else(|| Unauthenticated::Certificate("connection memo is taken".into()))?
        }
    };
    // The chain was checked when the connection was made; connections may outlive certificates.
    let now = Time::now().as_second();
    if now > identity.not_after || now < identity.not_before {
        return Err(Unauthenticated::Certificate("expired or not yet valid".into()));
    }
    Ok(Some(identity.user.clone()))
}

fn identity_of(leaf: &[u8]) -> Result<CertificateIdentity, Unauthenticated> {
    let wrong = |why: &str| Unauthenticated::Certificate(why.to_owned());
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| wrong("cannot be parsed"))?;
    let subject = certificate.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let name = subject
        .iter_common_name()
        .next()
        .and_then(text)
        .filter(|name| !name.is_empty());
    let mut user = UserInfo {
        name: name.ok_or_else(|| wrong("names nobody"))?,
        ..UserInfo::default()
    };
    user.groups = subject
        .iter_organization()
        .map(|organization| text(organization).ok_or_else(|| wrong("names a group that is no text")))
        .collect::<Result<_, _>>()?;
    user.add_authenticated();
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let fingerprint = digest
        .as_ref()
        .iter()
        .fold("X509SHA256=".to_owned(), |hex, byte| hex + &format!("{byte:02x}"));
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![fingerprint]);
    let validity = certificate.validity();
    Ok(CertificateIdentity {
        user: Arc::new(user),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// The bearer token of the Authorization header, or of a WebSocket subprotocol (for browsers, which cannot set it).
fn bearer_token(headers: &HeaderMap) -> Result<Option<String>, Unauthenticated> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| Unauthenticated::Header)?;
        if text.len() > MAX_HEADER_BYTES {
            return Err(Unauthenticated::Header);
        }
        // Other schemes are not ours to judge: such a caller is anonymous, as upstream has it.
        return Ok(text
            .trim()
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim_start().to_owned())
            .filter(|token| !token.is_empty()));
    }
    let protocols = headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|value| value.to_str().ok());
    for protocol in protocols.flat_map(|list| list.split(',')).map(str::trim) {
        if let Some(encoded) = protocol.strip_prefix("base64url.bearer.authorization.k8s.io.") {
            use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
            let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Unauthenticated::Header)?;
            return String::from_utf8(bytes).map(Some).map_err(|_| Unauthenticated::Header);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
