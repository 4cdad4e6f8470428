//! Definitions that go: their instances are removed first.

use super::{
    Definition,
    controller::{set_condition, write},
    install::storage_row,
};
use crate::{
    core::Core,
    json,
    registry::Row,
    verbs::{DeleteOptions, delete_object},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use strata_auth::UserInfo;
use strata_meta::{Status, Time};

/// Held by definitions that have instances to be removed with them.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const IN_PROGRESS: &str = "InstanceDeletionInProgress";
const CHECK: &str = "InstanceDeletionCheck";
/// How long upstream waits for instances to go before it says that they do not.
const LONGEST: Duration = Duration::from_secs(60);

/// Removes the instances of a definition, and lets it go when none is left.
pub(super) async fn finish(core: &Arc<Core>, user: &UserInfo, definition: &Arc<Definition>) -> Result<(), Status> {
    let value = definition.object.to_value().map_err(Status::internal)?;
    if !json::list(&value, "metadata.finalizers").iter().any(|f| f == FINALIZER) {
        return Ok(());
    }
    let name = definition.object.name();
    let conditions = json::list(&value, "status.conditions");
    // What failed stays said until it does not fail any more.
    let said = [IN_PROGRESS, "InstanceDeletionFailed", CHECK];
    let told = |c: &&Value| json::text(c, "type") == "Terminating" && said.contains(&json::text(c, "reason"));
    let told = conditions.iter().find(told);
    if told.is_none() {
        let why = "CustomResource deletion is in progress";
        say(core, user, name, "True", IN_PROGRESS, why).await?;
    }
    let (reason, message) = match storage_row(core, definition) {
        _ if is_own(definition) => (
            "OverlappingBuiltInResource",
            "instances overlap with built-in resources in storage",
        ),
        _ if !definition.established => ("NeverEstablished", "resource was never established"),
        None => ("InstanceDeletionCompleted", "removed all instances"),
        Some(row) => match remove_instances(core, user, &row).await {
            Ok(0) => ("InstanceDeletionCompleted", "removed all instances"),
            // The last of them brings us back here.
            Ok(_) => return held_up(core, user, definition, told).await,
            Err(status) => {
                let why = format!("could not issue all deletes: {}", status.message);
                say(core, user, name, "True", "InstanceDeletionFailed", &why).await?;
                return Err(status);
            }
        },
    };
    write(core, user, name, |new| {
        set_condition(&mut new["status"], "Terminating", "False", reason, message);
        let rest: Vec<Value> = json::list(new, "metadata.finalizers")
            .iter()
            .filter(|f| *f != FINALIZER)
            .cloned()
            .collect();
        match rest.is_empty() {
            true => drop(json::remove(new, "metadata.finalizers")),
            false => json::set(new, "metadata.finalizers", rest),
        }
    })
    .await
}

/// Says so when instances are held by finalizers of their own for longer than upstream waits for them.
async fn held_up(
    core: &Arc<Core>,
    user: &UserInfo,
    definition: &Definition,
    told: Option<&Value>,
) -> Result<(), Status> {
    let name = definition.object.name();
    if told.is_some_and(|condition| json::text(condition, "reason") == CHECK) {
        return Ok(());
    }
    let since = told.and_then(|condition| Time::parse(json::text(condition, "lastTransitionTime")));
    let waited = since.map_or(0, |since| Time::now().as_second() - since.as_second());
    match LONGEST.checked_sub(Duration::from_secs(waited.max(0).unsigned_abs())) {
        Some(left) if !left.is_zero() => {
            core.extensions.look_later(name, left, &core.cancel);
            Ok(())
        }
        _ => {
            let why = "could not confirm zero CustomResources remaining: context deadline exceeded";
            say(core, user, name, "True", CHECK, why).await
        }
    }
}

/// Whether upstream keeps its own objects where the instances would be.
fn is_own(definition: &Definition) -> bool {
    matches!(
        (definition.group.as_str(), definition.object.name()),
        ("apiregistration.k8s.io", "apiservices.apiregistration.k8s.io")
            | ("apiextensions.k8s.io", "customresourcedefinitions.apiextensions.k8s.io")
    )
}

async fn say(
    core: &Arc<Core>,
    user: &UserInfo,
    name: &str,
    holds: &str,
    reason: &str,
    message: &str,
) -> Result<(), Status> {
    write(core, user, name, |new| {
        set_condition(&mut new["status"], "Terminating", holds, reason, message);
    })
    .await
}

/// Deletes every instance, which nobody else is asked about; how many are held by finalizers of their own.
async fn remove_instances(core: &Arc<Core>, user: &UserInfo, row: &Arc<Row>) -> Result<usize, Status> {
    let cache = core.stored(row)?;
    let objects: Vec<_> = cache.objects(None).collect();
    for object in objects {
        let options = DeleteOptions {
            unasked: true,
            ..DeleteOptions::default()
        };
        let (namespace, name) = (object.namespace(), object.name());
        match delete_object(core, user, row, namespace, name, &options, &mut Vec::new()).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(cache.len())
}
