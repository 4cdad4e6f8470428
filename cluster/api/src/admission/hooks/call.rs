//! Asking one webhook.

use super::{Hook, review};
use crate::admission::{Request, matching::Form};
use bytes::Bytes;
use serde_json::Value;
use strata_meta::{Status, Uid};

/// Why a webhook did not say yes.
pub(super) enum Failure {
    /// It could not be asked, or its answer is none: `failurePolicy` decides.
    Calling(String),
    /// It said no, or the request cannot be.
    Refused(Status),
}

impl Failure {
    /// The refusal that a failure amounts to, unless it is to be ignored.
    pub(super) fn decided(self, hook: &Hook) -> Result<(), Status> {
        match self {
            Self::Refused(status) => Err(status),
            Self::Calling(why) if hook.ignores_failure => {
                tracing::warn!(
                    webhook = hook.name,
                    configuration = hook.configuration,
                    why,
                    "failing open"
                );
                Ok(())
            }
            Self::Calling(why) => {
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

/// Asks a webhook about objects in the form it is shown them.
pub(super) async fn ask(
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
        return Err(Failure::Calling(why.into()));
    };
    let uid = Uid::random();
    let question = review::review(request, form, version, &uid, objects);
    let body = serde_json::to_vec(&question)
        .map(Bytes::from)
        .map_err(|e| Failure::Calling(format!("could not create admission objects: {e}")))?;
    drop(question);
    let client = hook
        .client
        .as_ref()
        .map_err(|e| Failure::Calling(format!("could not get REST client: {e}")))?;
    let query = format!("timeout={}s", hook.seconds);
    let core = request.core;
    let bytes = core
        .webhooks
        .post(core, client, &query, body, hook.timeout)
        .await
        .map_err(|e| Failure::Calling(format!("failed to call webhook: {e}")))?;
    let answer = review::read(&bytes, version, &uid, mutating).map_err(Failure::Calling)?;
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
