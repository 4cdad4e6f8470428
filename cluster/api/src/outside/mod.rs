//! Identity and rights that others decide about: OpenID providers and token webhooks say who somebody is, a webhook
//! what they may do. They are asked when the server's own answer is that it does not know.

mod access;
mod authorization;
mod claims;
mod jwt;
mod keys;
mod review;

pub(crate) use authorization::Authorization;

use crate::{core::Core, webhook::from_kubeconfig};
use jwt::JwtAuthenticator;
use review::TokenWebhook;
use serde::Deserialize;
use std::{path::PathBuf, sync::Arc};
use strata_auth::{NodeAuthorizer, Rbac, UserInfo};

/// Where identity and rights come from besides the server itself; files are given as their content.
#[derive(Clone, Debug, Default)]
pub struct OutsideOptions {
    /// An AuthenticationConfiguration in YAML: OpenID providers.
    pub authentication: Option<String>,
    /// A kubeconfig that says where tokens are reviewed.
    pub token_webhook: Option<String>,
    /// A kubeconfig that says where access is reviewed, when neither the node authorizer nor RBAC allow it.
    pub authorization_webhook: Option<String>,
    /// The file of an AuthorizationConfiguration; it is read again when it changes.
    pub authorization: Option<PathBuf>,
}

/// Those who may know who holds a token.
#[derive(Default)]
pub(crate) struct Outside {
    jwt: Vec<JwtAuthenticator>,
    webhook: Option<TokenWebhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<jwt::Settings>,
}

impl Outside {
    /// Reads the settings. Errors: one that cannot be used.
    pub(crate) fn open(options: &OutsideOptions) -> Result<Self, crate::Error> {
        let wrong = |setting: &'static str| move |why: String| crate::Error::Setting { setting, why };
        let mut outside = Self::default();
        if let Some(text) = &options.authentication {
            let wrong = wrong("authentication-config");
            let file: Configuration = serde_saphyr::from_str(text).map_err(|e| wrong(e.to_string()))?;
            let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
            if file.kind != "AuthenticationConfiguration" || !known.contains(&file.api_version) {
                return Err(wrong(format!(
                    "{} {} is no AuthenticationConfiguration",
                    file.api_version, file.kind
                )));
            }
            let jwt = file
                .jwt
                .into_iter()
                .map(JwtAuthenticator::new)
                .collect::<Result<_, _>>();
            outside.jwt = jwt.map_err(wrong)?;
        }
        if let Some(text) = &options.token_webhook {
            let config = from_kubeconfig(text).map_err(wrong("authentication-token-webhook-config-file"))?;
            outside.webhook = Some(TokenWebhook::new(config));
        }
        Ok(outside)
    }

    /// Who decides what somebody may do. Errors: a setting that cannot be used.
    pub(crate) fn authorization(
        options: &OutsideOptions,
        nodes: Arc<NodeAuthorizer>,
        rbac: Arc<Rbac>,
    ) -> Result<Authorization, crate::Error> {
        let (file, webhook) = (
            options.authorization.as_deref(),
            options.authorization_webhook.as_deref(),
        );
        let opened = Authorization::open(nodes, rbac, file, webhook);
        opened.map_err(|(setting, why)| crate::Error::Setting { setting, why })
    }

    /// Whether anybody besides the server knows tokens.
    pub(crate) fn knows_tokens(&self) -> bool {
        !self.jwt.is_empty() || self.webhook.is_some()
    }

    /// Who holds a token, and for which of the wanted audiences. Errors: a sentence for the log.
    pub(crate) async fn token(
        &self,
        core: &Core,
        token: &str,
        wanted: &[String],
    ) -> Result<(Arc<UserInfo>, Vec<String>), String> {
        let issuer = jwt::issuer_of(token);
        let provider = issuer.and_then(|issuer| self.jwt.iter().find(|p| p.is_of(&issuer)));
        // Whoever claims an issuer is judged by it.
        if let Some(provider) = provider {
            // A provider's token is for this server, not for whom a review asks about.
            let own = core.authenticator.audiences();
            let audiences: Vec<String> = wanted.iter().filter(|a| own.contains(a)).cloned().collect();
            if audiences.is_empty() {
                return Err("the token is not for the audiences asked about".into());
            }
            return provider.user(token).await.map(|user| (Arc::new(user), audiences));
        }
        match &self.webhook {
            Some(webhook) => webhook.user(core, token, wanted).await,
            None => Err("nobody knows the token".into()),
        }
    }
}
