//! Tokens kept in secrets: without audience or end, good for as long as their secret holds them.

use super::{BoundRef, Claims, KubernetesClaims};
use crate::user::SERVICE_ACCOUNT_USER_PREFIX;
use serde::{Deserialize, Serialize};

/// Their issuer, whatever that of other tokens is.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

/// What such a token says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LegacyClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

impl LegacyClaims {
    pub(super) fn new(namespace: &str, account: &str, uid: &str, secret: &str) -> Self {
        Self {
            iss: ISSUER.into(),
            namespace: namespace.into(),
            secret: secret.into(),
            account: account.into(),
            uid: uid.into(),
            sub: format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{account}"),
        }
    }

    /// As claims of the newer form, for the API server's `audience`.
    pub(super) fn modern(self, audience: &str) -> Claims {
        Claims {
            audiences: vec![audience.to_owned()],
            expires: i64::MAX,
            issued: 0,
            issuer: self.iss,
            id: String::new(),
            kubernetes: KubernetesClaims {
                namespace: self.namespace,
                secret: Some(BoundRef {
                    name: self.secret,
                    uid: "".into(),
                }),
                service_account: BoundRef {
                    name: self.account,
                    uid: self.uid.as_str().into(),
                },
                ..KubernetesClaims::default()
            },
            not_before: 0,
            subject: self.sub,
        }
    }
}
