//! Asking one webhook.

use super::{Hook, review};
use crate::{
    admission::{Request, matching::Form},
    metrics::{Asked, waits},
};
use bytes::Bytes;
use serde_json::Value;
use std::time::Instant;
use strata_meta::{Status, Uid};

/// Why a webhook did not say yes.
pub(super) enum Failure {
    /// It could not be asked, or its answer is none: `failurePolicy` decides. The code of the answer, if there was
    /// one.
    Calling(String, Option<u16>),
    /// It said no, or the request cannot be.
    Refused(Status),
    /// What it answered cannot be done.
    Internal(Status),
}

impl Failure {
    /// Without an answer.
    pub(super) fn calling(why: impl std::fmt::Display) -> Self {
        Self::Calling(why.to_string(), None)
    }

    /// The refusal that a failure amounts to, unless it is to be ignored.
    pub(super) fn decided(self, hook: &Hook) -> Result<(), Status> {
        match self {
            Self::Refused(status) | Self::Internal(status) => Err(status),
            Self::Calling(why, _) if hook.ignores_failure => {
                tracing::warn!(
                    webhook = hook.name,
                    configuration = hook.configuration,
                    why,
                    "failing open"
                );
                Ok(())
            }
            Self::Calling(why, _) => {
                tracing::warn!(
                    webhook = hook.name,
                    configuration = hook.configuration,
                    why,
                    "failing closed"
                );
                Err(Status::internal(format_args!(
                    "failed calling webhook {:?}: {why}",
                    hook.name
                )))
            }
        }
    }
}

/// Asks a webhook about objects in the form it is shown them, and takes note of what came of it.
pub(super) async fn ask(
    request: &Request<'_>,
    hook: &Hook,
    form: &Form,
    objects: (Value, Value),
    mutating: bool,
) -> Result<review::Answer, Failure> {
    let started = Instant::now();
    let answer = ask_once(request, hook, form, objects, mutating).await;
    let took = started.elapsed();
    let asked = match &answer {
        Ok(_) => Asked::Allowed,
        Err(Failure::Refused(status)) => Asked::Denied(status.code.into()),
        Err(Failure::Calling(_, code)) => Asked::Failed {
            rejected: !hook.ignores_failure,
            code: code.unwrap_or(0).into(),
        },
        Err(Failure::Internal(_)) => Asked::Internal,
    };
    let step = if mutating { "admit" } else { "validating" };
    let metrics = &request.core.metrics.admission;
    metrics.webhook(&hook.name, step, request.operation, asked, took);
    answer
}

async fn ask_once(
    request: &Request<'_>,
    hook: &Hook,
    form: &Form,
    objects: (Value, Value),
    mutating: bool,
) -> Result<review::Answer, Failure> {
    if request.dry_run && !hook.without_side_effects {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Refused(Status::bad_request(why)));
    }
    let Some(version) = review::version_of(hook) else {
        let why =
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::calling(why));
    };
    let uid = Uid::random();
    let question = review::review(request, form, version, &uid, objects);
    let body = serde_json::to_vec(&question)
        .map(Bytes::from)
        .map_err(|e| Failure::calling(format_args!("could not create admission objects: {e}")))?;
    drop(question);
    let client = hook
        .client
        .as_ref()
        .map_err(|e| Failure::calling(format_args!("could not get REST client: {e}")))?;
    // No longer than the request itself may take; the webhook is told, in whole seconds.
    let timeout = waits::left().map_or(hook.timeout, |left| left.min(hook.timeout));
    let query = format!("timeout={}s", timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0));
    let core = request.core;
    let bytes = core
        .webhooks
        .post(core, client, &query, body, timeout)
        .await
        .map_err(|e| Failure::Calling(format!("failed to call webhook: {e}"), e.code))?;
    let answer = review::read(&bytes, version, &uid, mutating).map_err(Failure::calling)?;
    for (key, value) in &answer.annotations {
        request.annotate(format!("{}/{key}", hook.name), value);
    }
    for warning in &answer.warnings {
        request.warn(warning);
    }
    if !answer.allowed {
        return Err(Failure::Refused(review::denial(&hook.name, answer.result)));
    }
    Ok(answer)
}
