//! The API server's settings from files: encryption, who else is asked.

use crate::{
    cli::ApiSettings,
    failure::{During, Failure, Outcome},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use strata_api::{EncryptionOptions, OutsideOptions};
use strata_auth::{FRONT_PROXY_CLIENT, RequestHeaders};

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).during(format!("reading {}", path.display()))
}

/// The content of a file that may be named.
fn optional(path: &Option<PathBuf>) -> Outcome<Option<String>> {
    path.as_deref().map(read).transpose()
}

/// Who else knows identities and rights.
pub fn outside(settings: &ApiSettings) -> Outcome<OutsideOptions> {
    Ok(OutsideOptions {
        authentication: optional(&settings.authentication_config)?,
        token_webhook: optional(&settings.authentication_token_webhook_config_file)?,
        authorization_webhook: optional(&settings.authorization_webhook_config_file)?,
        authorization: settings.authorization_config.clone(),
    })
}

/// What is encrypted in the store.
pub fn encryption(settings: &ApiSettings) -> Option<EncryptionOptions> {
    let path = settings.encryption_provider_config.as_ref()?;
    Some(EncryptionOptions {
        reload: settings.encryption_provider_config_automatic_reload,
        ..EncryptionOptions::new(path)
    })
}

/// The longest life of a service account's token in seconds, if there is a limit. Errors: one that upstream refuses.
pub fn longest_token(settings: &ApiSettings) -> Outcome<Option<i64>> {
    const LEAST: u64 = 3600;
    const MOST: u64 = 1 << 32;
    let limit = settings.service_account_max_token_expiration;
    match limit.as_secs() {
        _ if limit.is_zero() => Ok(None),
        seconds if limit >= Duration::from_secs(LEAST) && limit <= Duration::from_secs(MOST) => {
            Ok(Some(i64::try_from(seconds).during("reading a limit")?))
        }
        _ => Err(Failure(
            "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds".into(),
        )),
    }
}

/// The authorities of front proxies, PEM: the server's own and the one that is configured.
pub fn front_proxies(settings: &ApiSettings, own: &str) -> Outcome<String> {
    let configured = optional(&settings.requestheader_client_ca_file)?;
    Ok(configured.map_or(own.to_owned(), |pem| format!("{}\n{own}", pem.trim_end())))
}

/// Which front proxies are believed, and in which headers: with an authority of one's own any name is, as upstream,
/// unless names are given.
pub fn request_headers(settings: &ApiSettings) -> RequestHeaders {
    let mut allowed = settings.requestheader_allowed_names.clone();
    if settings.requestheader_client_ca_file.is_none() || !allowed.is_empty() {
        allowed.push(FRONT_PROXY_CLIENT.to_owned());
    }
    RequestHeaders {
        allowed_names: allowed,
        names: settings.requestheader_username_headers.clone(),
        uids: settings.requestheader_uid_headers.clone(),
        groups: settings.requestheader_group_headers.clone(),
        extra_prefixes: settings.requestheader_extra_headers_prefix.clone(),
    }
}
