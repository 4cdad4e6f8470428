//! ValidatingAdmissionWebhook.

use super::{Hook, call::Failure, call::ask, is_exempt, review::sent};
use crate::{
    admission::{Request, matching::Form},
    flow,
    metrics::waits::{self, Layer},
};
use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use std::{sync::Arc, time::Instant};
use strata_meta::Status;

/// Asks every webhook at once; the first refusal, in the order of configuration, is the request's.
pub(in crate::admission) fn validate<'a>(
    request: &'a Request<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        if is_exempt(request) {
            return Ok(());
        }
        let mut asked: Vec<(Arc<Hook>, Form)> = Vec::new();
        for hook in request.core.configured.validating.all().iter() {
            if let Some(form) = hook.form(request, (new, old), false).await? {
                asked.push((hook.clone(), form));
            }
        }
        let calls = asked.iter().map(|(hook, form)| async move {
            let object = sent(request, form, new).await.map_err(Failure::Internal)?;
            let before = sent(request, form, old).await.map_err(Failure::Internal)?;
            ask(request, hook, form, (object, before), false).await
        });
        let started = Instant::now();
        let answers = flow::parked(join_all(calls)).await;
        waits::add(started.elapsed());
        waits::took(Layer::ValidatingWebhook, started.elapsed());
        for (at, ((hook, _), answer)) in asked.iter().zip(answers).enumerate() {
            if let Err(failure) = answer {
                let open = matches!(failure, Failure::Calling(..));
                failure.decided(hook)?;
                if open {
                    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
                    request.annotate(key, hook.name.as_str());
                }
            }
        }
        Ok(())
    })
}
