//! The API server's settings from files: audit, encryption, who else is asked.

use crate::{
    cli::ApiSettings,
    failure::{During, Outcome},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use strata_api::{AuditLog, AuditOptions, EncryptionOptions, OutsideOptions};

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

/// What is written down about requests.
pub fn audit(settings: &ApiSettings) -> Outcome<Option<AuditOptions>> {
    let Some(policy) = &settings.audit_policy_file else {
        return Ok(None);
    };
    Ok(Some(AuditOptions {
        policy: read(policy)?,
        log: settings.audit_log_path.clone().map(|path| AuditLog {
            path,
            megabytes: settings.audit_log_maxsize,
            backups: settings.audit_log_maxbackup,
            days: settings.audit_log_maxage,
        }),
        webhook: settings.audit_webhook_config_file.as_deref().map(read).transpose()?,
    }))
}
