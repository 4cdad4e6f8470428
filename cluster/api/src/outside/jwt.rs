//! Tokens of OpenID providers (RFC 7519): their signature, issuer, audience and time; then `claims` says who it is.

use super::{
    claims::{Mappings, Rules},
    keys::Keys,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use strata_auth::UserInfo;
use strata_meta::Time;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 64 << 10;
/// Clocks may differ by this.
const LEEWAY_SECONDS: i64 = 10;

/// One provider, as the configuration has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<super::claims::Rule>,
    claim_mappings: super::claims::MappingSettings,
    #[serde(default)]
    user_validation_rules: Vec<super::claims::Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL", default)]
    discovery_url: Option<String>,
    #[serde(default)]
    certificate_authority: Option<String>,
    audiences: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crit: Option<Value>,
}

/// A provider whose tokens are believed.
pub(super) struct JwtAuthenticator {
    url: String,
    audiences: Vec<String>,
    keys: Keys,
    claims: Rules,
    mappings: Mappings,
    users: Rules,
}

/// The issuer that a token claims, without a check.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1).filter(|_| token.len() <= MAX_TOKEN)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims["iss"].as_str().map(str::to_owned)
}

impl JwtAuthenticator {
    pub(super) fn new(settings: Settings) -> Result<Self, String> {
        let issuer = settings.issuer;
        if !issuer.url.starts_with("https://") {
            return Err(format!(
                "issuer.url: Invalid value: {:?}: URL scheme must be https",
                issuer.url
            ));
        }
        if issuer.audiences.is_empty() {
            return Err("issuer.audiences: Required value: at least one issuer.audiences is required".into());
        }
        let keys = Keys::new(
            &issuer.url,
            issuer.discovery_url.as_deref(),
            issuer.certificate_authority,
        );
        Ok(Self {
            keys,
            url: issuer.url,
            audiences: issuer.audiences,
            claims: Rules::new("claims", settings.claim_validation_rules)?,
            mappings: Mappings::new(settings.claim_mappings)?,
            users: Rules::new("user", settings.user_validation_rules)?,
        })
    }

    /// Whether the provider's tokens claim that issuer.
    pub(super) fn is_of(&self, issuer: &str) -> bool {
        self.url == issuer
    }

    /// Who holds a token of this provider. Errors: a sentence for the log.
    pub(super) async fn user(&self, token: &str) -> Result<UserInfo, String> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts.as_slice() else {
            return Err("the token has not three parts".into());
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| "a part of the token is not base64url".to_owned())
        };
        let fields: Header = serde_json::from_slice(&decode(header)?).map_err(|e| e.to_string())?;
        if fields.crit.is_some() {
            return Err("the token demands an extension".into());
        }
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        self.keys
            .verify(&fields.alg, &fields.kid, signed, &decode(signature)?)
            .await?;
        let claims: Value = serde_json::from_slice(&decode(payload)?).map_err(|e| e.to_string())?;
        self.judge(&claims, Time::now().as_second())
    }

    /// Who verified claims are about, at a time.
    fn judge(&self, claims: &Value, now: i64) -> Result<UserInfo, String> {
        // NumericDate may have a fraction (RFC 7519 section 2).
        let number = |name: &str| claims[name].as_f64();
        let end = number("exp").ok_or("the token has no end")?;
        if end + (LEEWAY_SECONDS as f64) < now as f64 {
            return Err("the token has expired".into());
        }
        if number("nbf").is_some_and(|start| start > (now + LEEWAY_SECONDS) as f64) {
            return Err("the token is not valid yet".into());
        }
        let audience = &claims["aud"];
        let names = |wanted: &String| match audience {
            Value::Array(list) => list.iter().any(|a| a == wanted.as_str()),
            one => one == wanted.as_str(),
        };
        if !self.audiences.iter().any(names) {
            return Err(format!("expected audience in {:?} got {audience}", self.audiences));
        }
        self.claims.check(claims)?;
        let user = self.mappings.user(claims)?;
        self.users
            .check(&serde_json::to_value(&user).map_err(|e| e.to_string())?)?;
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn provider(settings: Value) -> JwtAuthenticator {
        JwtAuthenticator::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    #[test]
    fn claims_become_a_user_as_the_configuration_says() {
        let plain = provider(json!({
            "issuer": {"url": "https://issuer.example", "audiences": ["us"]},
            "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}],
            "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "roles", "prefix": "r:"}},
        }));
        let claims = json!({"sub": "a", "aud": "us", "exp": 100, "hd": "example.com", "roles": ["x", "y"]});
        let user = plain.judge(&claims, 50).unwrap();
        assert_eq!(user.name, "oidc:a");
        assert_eq!(user.groups, ["r:x", "r:y", "system:authenticated"]);
        for (member, value) in [
            ("aud", json!("them")),
            ("exp", json!(10)),
            ("hd", json!("other")),
            ("sub", json!(null)),
            ("nbf", json!(90)),
        ] {
            let mut wrong = claims.clone();
            wrong[member] = value;
            assert!(plain.judge(&wrong, 50).is_err(), "{member}");
        }
    }

    #[test]
    fn expressions_map_and_judge_claims() {
        let provider = provider(json!({
            "issuer": {"url": "https://issuer.example", "audiences": ["us", "more"]},
            "claimValidationRules": [{"expression": "claims.exp - claims.nbf <= 3600", "message": "too long"}],
            "claimMappings": {
                "username": {"expression": "'u:' + claims.sub"},
                "groups": {"expression": "claims.roles.split(',')"},
                "uid": {"expression": "claims.sub"},
                "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
            },
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
        }));
        let mut claims = json!({"sub": "a", "aud": ["more"], "nbf": 0, "exp": 3600, "roles": "x,y", "tenant": "t"});
        let user = provider.judge(&claims, 50).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("u:a", "a"));
        assert_eq!(user.groups, ["x", "y", "system:authenticated"]);
        assert_eq!(user.extra["example.com/tenant"], ["t"]);
        claims["exp"] = json!(4000);
        assert_eq!(provider.judge(&claims, 50), Err("too long".into()));
    }
}
