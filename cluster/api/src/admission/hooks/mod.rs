//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: other people's plugins, asked over HTTPS.
//!
//! Mutating webhooks are asked one after another, validating ones all at once. Configurations themselves are exempt, so
//! that a broken one can always be removed.

mod call;
mod mutating;
pub(super) mod review;
#[cfg(test)]
mod tests;
mod validating;

pub(super) use mutating::{Memory, mutate};
pub(super) use validating::validate;

use super::{
    Request,
    asked::authorizer,
    conditions::Conditions,
    expressions::Inputs,
    matching::{Form, Matcher},
};
use crate::{json, metrics::Conditioned, webhook::ClientConfig};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use strata_meta::Status;

/// Upstream's default for `timeoutSeconds`.
const TIMEOUT_SECONDS: i64 = 10;

/// One webhook of a configuration.
pub(super) struct Hook {
    /// The configuration's name.
    pub(super) configuration: String,
    /// The webhook's name.
    pub(super) name: String,
    /// Tells webhooks of one name in a configuration apart.
    uid: String,
    client: Result<ClientConfig, String>,
    matcher: Matcher,
    conditions: Conditions,
    ignores_failure: bool,
    without_side_effects: bool,
    reinvoked: bool,
    timeout: Duration,
    versions: Vec<String>,
}

impl Hook {
    /// The webhooks of a configuration.
    pub(super) fn read_all(configuration: &str, value: &Value) -> Vec<Arc<Self>> {
        let hooks = json::list(value, "webhooks").iter().enumerate();
        hooks
            .map(|(at, hook)| Arc::new(Self::read(configuration, at, hook)))
            .collect()
    }

    fn read(configuration: &str, at: usize, value: &Value) -> Self {
        let seconds = json::int(value, "timeoutSeconds").unwrap_or(TIMEOUT_SECONDS);
        let seconds = seconds.clamp(1, 30);
        let versions = json::list(value, "admissionReviewVersions").iter();
        let none = Value::Null;
        Self {
            configuration: configuration.to_owned(),
            name: json::text(value, "name").to_owned(),
            uid: format!("{configuration}/{at}"),
            client: ClientConfig::from_value(value.get("clientConfig").unwrap_or(&none)),
            matcher: Matcher::read(value),
            conditions: Conditions::read(value, false),
            ignores_failure: json::text(value, "failurePolicy") == "Ignore",
            without_side_effects: matches!(json::text(value, "sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: json::text(value, "reinvocationPolicy") == "IfNeeded",
            timeout: Duration::from_secs(seconds.unsigned_abs()),
            versions: versions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

impl Hook {
    /// The form in which the webhook is to be asked, if it is to be asked at all. Errors: 403 when a match condition
    /// fails and failures are not ignored, and what [`Matcher::form`] says.
    async fn form(
        &self,
        request: &Request<'_>,
        (new, old): (Option<&Value>, Option<&Value>),
        mutating: bool,
    ) -> Result<Option<Form>, Status> {
        let Some(form) = self.matcher.form(request, new, old)? else {
            return Ok(None);
        };
        if self.conditions.is_empty() {
            return Ok(Some(form));
        }
        let object = review::shown(request, &form, new).await?;
        let before = review::shown(request, &form, old).await?;
        let attributes = review::attributes(request, &form);
        let inputs = || {
            let mut inputs = Inputs::new(&object, &before, &attributes, &[]);
            inputs.authorizer = Some(authorizer(request));
            inputs
        };
        let of = Conditioned {
            name: &self.name,
            kind: "webhook",
            step: if mutating { "admit" } else { "validate" },
            operation: request.operation,
        };
        match self.conditions.hold(request, inputs, self.ignores_failure, of).await {
            Ok(true) => Ok(Some(form)),
            Ok(false) => Ok(None),
            Err(why) => Err(request.forbidden_object(new, why)),
        }
    }
}

/// Whether a request is about configurations of admission, which no webhook or policy is asked about.
pub(super) fn is_exempt(request: &Request<'_>) -> bool {
    request.row.resource.group == "admissionregistration.k8s.io"
}
