//! MutatingAdmissionWebhook.

use super::{
    Hook,
    call::{Failure, ask},
    is_exempt,
    review::{sent, taken_back},
};
use crate::{
    admission::{Request, Round, matching::Form},
    audit, flow, json, jsonpatch,
    metrics::waits::{self, Layer},
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Instant};
use strata_meta::Status;

/// What the webhooks of one request's rounds know of each other (upstream's webhookReinvokeContext).
#[derive(Default)]
pub(in crate::admission) struct Memory {
    last: Option<Value>,
    invoked: BTreeSet<String>,
    invoked_again: BTreeSet<String>,
}

impl Memory {
    /// Those that were asked and want to be asked again after later changes.
    fn require(&mut self) {
        self.invoked_again.append(&mut self.invoked);
    }
}

/// Asks each webhook in turn.
pub(in crate::admission) fn mutate<'a>(
    request: &'a Request<'a>,
    round: &'a mut Round,
    new: Option<&'a mut Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        if is_exempt(request) {
            return Ok(());
        }
        let hooks = request.core.configured.mutating.all();
        if hooks.is_empty() {
            return Ok(());
        }
        let mut nothing = Value::Null;
        let absent = new.is_none();
        let object = new.unwrap_or(&mut nothing);
        if round.again && round.hooks.last.as_ref() != Some(&*object) {
            round.hooks.require();
        }
        for (at, hook) in hooks.iter().enumerate() {
            let present = (!absent).then_some(&*object);
            let Some(form) = hook.form(request, (present, old), true).await? else {
                continue;
            };
            if round.again && !round.hooks.invoked_again.contains(&hook.uid) {
                continue;
            }
            let asked = Instant::now();
            let answer = flow::parked(change(request, hook, &form, present, old)).await;
            waits::add(asked.elapsed());
            waits::took(Layer::MutatingWebhook, asked.elapsed());
            let changed = match answer {
                Ok(changed) => changed,
                Err(failure) => {
                    let open = matches!(failure, Failure::Calling(..));
                    failure.decided(hook)?;
                    if open {
                        let number = u8::from(round.again);
                        let key = format!("failed-open.mutation.webhook.admission.k8s.io/round_{number}_index_{at}");
                        request.annotate(key, hook.name.as_str());
                    }
                    None
                }
            };
            let place = (u8::from(round.again), at);
            annotate(request, hook, place, changed.is_some());
            if let Some((changed, patch)) = changed {
                annotate_patch(hook, place, &patch);
                *object = changed;
                round.hooks.require();
                round.wanted = true;
            }
            if hook.reinvoked {
                round.hooks.invoked.insert(hook.uid.clone());
            }
        }
        round.hooks.last = (!absent).then(|| object.clone());
        Ok(())
    })
}

fn annotate(request: &Request<'_>, hook: &Hook, (round, at): (u8, usize), mutated: bool) {
    let note = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated});
    let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{at}");
    request.annotate(key, note.to_string());
}

/// What was changed is written down where the object itself is.
fn annotate_patch(hook: &Hook, (round, at): (u8, usize), patch: &[jsonpatch::Operation]) {
    let key = format!("patch.webhook.admission.k8s.io/round_{round}_index_{at}");
    audit::note_of_object(&key, || {
        let note = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch,
            "patchType": "JSONPatch"});
        note.to_string()
    });
}

/// What a webhook makes of the object, and how; `None` when that is what it was.
async fn change(
    request: &Request<'_>,
    hook: &Hook,
    form: &Form,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<Option<(Value, Vec<jsonpatch::Operation>)>, Failure> {
    let object = sent(request, form, new).await.map_err(Failure::Internal)?;
    let before = sent(request, form, old).await.map_err(Failure::Internal)?;
    let answer = ask(request, hook, form, (object.clone(), before), true).await?;
    if answer.patch.is_empty() {
        return Ok(None);
    }
    let patch: Vec<jsonpatch::Operation> = serde_json::from_slice(&answer.patch)
        .map_err(|e| Failure::calling(format_args!("received undecodable patch in webhook response: {e}")))?;
    if patch.is_empty() {
        return Ok(None);
    }
    if new.is_none() {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Failure::Internal(Status::internal(why)));
    }
    if answer.patch_type != "JSONPatch" {
        return Err(Failure::calling(format_args!(
            "unsupported patch type {:?}",
            answer.patch_type
        )));
    }
    let mut patched = object.clone();
    jsonpatch::apply(&mut patched, &patch).map_err(|e| Failure::Internal(Status::internal(e)))?;
    for fixed in ["apiVersion", "kind"] {
        json::copy(&object, &mut patched, fixed);
    }
    let back = taken_back(request, form, patched)
        .await
        .map_err(|e| Failure::Internal(Status::internal(e)))?;
    Ok((Some(&back) != new).then_some((back, patch)))
}
