//! Bootstrap tokens, with which a machine joins: `ID.SECRET`.

use crate::{TokenError, UserInfo};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use std::fmt;
use strata_meta::Time;
use subtle::ConstantTimeEq;

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// The type of the secrets that hold such tokens, in `kube-system`.
pub const BOOTSTRAP_SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What the names of those secrets start with.
pub const BOOTSTRAP_SECRET_PREFIX: &str = "bootstrap-token-";
/// The group of everybody who presents such a token.
pub const GROUP_BOOTSTRAPPERS: &str = "system:bootstrappers";

/// A bootstrap token.
#[derive(Clone)]
pub struct BootstrapToken {
    /// The public half, six characters.
    pub id: String,
    secret: String,
    /// When it ends; `None`: never.
    pub expires: Option<Time>,
    /// Groups beyond `system:bootstrappers`.
    pub groups: Vec<String>,
    /// What it is for, in words.
    pub description: String,
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootstrapToken")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl BootstrapToken {
    /// A new one.
    pub fn generate(expires: Option<Time>) -> Self {
        Self {
            id: random_text(ID_LENGTH),
            secret: random_text(SECRET_LENGTH),
            expires,
            groups: Vec::new(),
            description: String::new(),
        }
    }

    /// Reads `ID.SECRET`.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = split(text)?;
        Some(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            expires: None,
            groups: Vec::new(),
            description: String::new(),
        })
    }

    /// `ID.SECRET`. Secret.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The id in `ID.SECRET`, if the text has that form.
    pub fn id_of(text: &str) -> Option<&str> {
        split(text).map(|(id, _)| id)
    }

    /// Whether the text is this token and it has not expired.
    pub fn verify(&self, text: &str, now: Time) -> Result<(), TokenError> {
        let (id, secret) = split(text).ok_or(TokenError::Malformed("not ID.SECRET"))?;
        if id != self.id || !bool::from(secret.as_bytes().ct_eq(self.secret.as_bytes())) {
            return Err(TokenError::Signature);
        }
        if self.expires.is_some_and(|end| end <= now) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// A detached signature of a text by this token (RFC 7515 appendix F, HS256, the id as `kid`).
    pub fn sign_detached(&self, content: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": self.id}).to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = ring::hmac::sign(&key, signed.as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Who presents it.
    pub fn user(&self) -> UserInfo {
        let mut groups = vec![GROUP_BOOTSTRAPPERS];
        groups.extend(
            self.groups
                .iter()
                .map(String::as_str)
                .filter(|g| g.starts_with("system:bootstrappers:")),
        );
        UserInfo::new(format!("system:bootstrap:{}", self.id), &groups)
    }

    /// The Secret that holds it, for `kube-system`.
    pub fn to_secret(&self) -> Value {
        let mut data = json!({
            "token-id": STANDARD.encode(&self.id),
            "token-secret": STANDARD.encode(&self.secret),
            "usage-bootstrap-authentication": STANDARD.encode("true"),
            "usage-bootstrap-signing": STANDARD.encode("true"),
        });
        let optional = [
            ("expiration", self.expires.map(|time| time.to_string())),
            (
                "auth-extra-groups",
                (!self.groups.is_empty()).then(|| self.groups.join(",")),
            ),
            (
                "description",
                (!self.description.is_empty()).then(|| self.description.clone()),
            ),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                data[key] = Value::String(STANDARD.encode(value));
            }
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": BOOTSTRAP_SECRET_TYPE, "data": data,
            "metadata": {"name": format!("{BOOTSTRAP_SECRET_PREFIX}{}", self.id), "namespace": "kube-system"},
        })
    }

    /// Reads a Secret; `None` if it holds no token that may be used to authenticate.
    pub fn from_secret(secret: &Value) -> Option<Self> {
        let text = |key: &str| -> Option<String> {
            String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
        };
        if secret["type"] != BOOTSTRAP_SECRET_TYPE || text("usage-bootstrap-authentication")? != "true" {
            return None;
        }
        let mut token = Self::parse(&format!("{}.{}", text("token-id")?, text("token-secret")?))?;
        if secret["metadata"]["name"] != format!("{BOOTSTRAP_SECRET_PREFIX}{}", token.id) {
            return None;
        }
        if let Some(expiration) = text("expiration") {
            // A token whose end cannot be read is not one without end.
            token.expires = Some(Time::parse(&expiration)?);
        }
        token.groups = text("auth-extra-groups")
            .map(|list| {
                list.split(',')
                    .map(str::trim)
                    .filter(|g| !g.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        token.description = text("description").unwrap_or_default();
        Some(token)
    }
}

/// Compares secrets in a time that depends on their length only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// `sha256:HEX` of the public key of a PEM certificate, by which a joining machine knows the right cluster.
pub fn certificate_pin(certificate_pem: &str) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
    Some(
        digest
            .as_ref()
            .iter()
            .fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    )
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.split_once('.')?;
    let valid = |part: &str, length| part.len() == length && part.bytes().all(|b| ALPHABET.contains(&b));
    (valid(id, ID_LENGTH) && valid(secret, SECRET_LENGTH)).then_some((id, secret))
}

fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).expect("the kernel's random source does not fail once seeded");
        // Bytes from 252 on are left out, so that every character is equally likely.
        let fair = bytes.into_iter().filter(|byte| *byte < 252);
        text.extend(
            fair.map(|byte| char::from(ALPHABET[usize::from(byte) % 36]))
                .take(length - text.len()),
        );
    }
    text
}

#[cfg(test)]
mod tests;
