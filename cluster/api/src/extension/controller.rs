//! Accepts names, establishes definitions, and removes the instances of those that go.

use super::{
    Definition,
    definition::Names,
    install::{GROUP, PLURAL},
    terminate::finish,
};
use crate::{
    core::Core,
    json,
    verbs::{Change, Part, apply_change},
};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc, time::Duration};
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_meta::{Status, Time};
use strata_task::CancellationToken;

/// When something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until cancelled.
pub(crate) async fn run(core: Arc<Core>, cancel: CancellationToken) {
    let Some(mut todo) = core.extensions.take_todo() else {
        return;
    };
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    loop {
        let name = tokio::select! {
            () = cancel.cancelled() => return,
            name = todo.recv() => name,
        };
        let Some(name) = name else { return };
        let mut names = HashSet::from([name]);
        while let Ok(more) = todo.try_recv() {
            names.insert(more);
        }
        for name in names {
            if let Err(status) = sync(&core, &user, &name).await {
                tracing::warn!(%name, why = status.message, "a definition could not be brought forward; trying again");
                let (extensions, cancel) = (core.extensions.clone(), cancel.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        () = tokio::time::sleep(AGAIN) => extensions.look_at(&name),
                    }
                });
            }
        }
    }
}

async fn sync(core: &Arc<Core>, user: &UserInfo, name: &str) -> Result<(), Status> {
    let Some(definition) = core.extensions.get(name) else {
        // Its names are free: others may have waited for them.
        let group = name.split_once('.').map_or("", |(_, group)| group);
        look_at_others(core, group, name);
        return Ok(());
    };
    if definition.terminating {
        return finish(core, user, &definition).await;
    }
    let value = definition.object.to_value().map_err(Status::internal)?;
    let wanted = status_of(core, &definition, &value);
    if wanted == value["status"] {
        return Ok(());
    }
    let renamed = value["status"].get("acceptedNames") != wanted.get("acceptedNames");
    write(core, user, name, |new| new["status"] = wanted.clone()).await?;
    if renamed {
        look_at_others(core, &definition.group, name);
    }
    Ok(())
}

fn look_at_others(core: &Core, group: &str, name: &str) {
    for other in core.extensions.all() {
        let waits = !other.established || other.group == group;
        if waits && other.group == group && other.object.name() != name {
            core.extensions.look_at(other.object.name());
        }
    }
}

/// Changes a definition on the server's own behalf.
pub(super) async fn write(
    core: &Arc<Core>,
    user: &UserInfo,
    name: &str,
    change: impl Fn(&mut Value),
) -> Result<(), Status> {
    let Some(row) = core.registry.get(GROUP, "v1", PLURAL) else {
        return Err(Status::internal("there are no definitions"));
    };
    let target = Change {
        subresource: "status",
        ..Change::own(core, user, &row, ("", name), Part::Internal)
    };
    let mut warnings = Vec::new();
    let written = apply_change(&target, &mut warnings, |old, _| {
        let mut new = old.clone();
        json::remove(&mut new, "metadata.resourceVersion");
        change(&mut new);
        Ok(new)
    });
    match written.await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

/// The status a definition should have.
fn status_of(core: &Core, definition: &Definition, value: &Value) -> Value {
    let mut status = value["status"].clone();
    let wanted: Names = serde_json::from_value(value["spec"]["names"].clone()).unwrap_or_else(|_| Names::default());
    let accepted = definition.names.clone();
    if wanted != accepted {
        let (names, conflict) = names_to_accept(core, definition, &wanted, &accepted);
        status["acceptedNames"] = names_value(&names);
        let (holds, reason, message) = match &conflict {
            None => ("True", "NoConflicts", "no conflicts found"),
            Some((reason, message)) => ("False", *reason, message.as_str()),
        };
        set_condition(&mut status, "NamesAccepted", holds, reason, message);
        if conflict.is_some() && !has_condition(&status, "Established", None) {
            set_condition(
                &mut status,
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
            );
        }
    }
    if !definition.established && has_condition(&status, "NamesAccepted", Some("True")) {
        set_condition(
            &mut status,
            "Established",
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        );
    }
    // Whatever is accepted is structural: nobody says otherwise for long.
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|c| json::text(c, "type") != "NonStructuralSchema");
    }
    if let Some((holds, reason, message)) = super::definitions::conformance(value) {
        set_condition(
            &mut status,
            "KubernetesAPIApprovalPolicyConformant",
            holds,
            reason,
            &message,
        );
    }
    status
}

/// Whether there is a condition of a kind, that holds or does not as wanted.
fn has_condition(status: &Value, kind: &str, holds: Option<&str>) -> bool {
    let mut conditions = json::list(status, "conditions").iter();
    conditions.any(|c| json::text(c, "type") == kind && holds.is_none_or(|holds| json::text(c, "status") == holds))
}

type Conflict = Option<(&'static str, String)>;

fn names_to_accept(core: &Core, own: &Definition, wanted: &Names, accepted: &Names) -> (Names, Conflict) {
    let (mut resources, mut kinds) = (HashSet::new(), HashSet::new());
    // What it is known by itself is taken too: a short name that is its plural conflicts.
    for other in core.extensions.all() {
        if other.group == own.group {
            let names = &other.names;
            resources.extend([names.plural.clone(), names.singular.clone()]);
            resources.extend(names.short_names.iter().cloned());
            kinds.extend([names.kind.clone(), names.list_kind.clone()]);
        }
    }
    let mut conflict = None;
    let mut names = accepted.clone();
    let taken = |name: &str, before: &str, used: &HashSet<String>| name != before && used.contains(name);
    let say = |name: &str| format!("{name:?} is already in use");
    for (reason, wanted, accepted, used) in [
        ("PluralConflict", &wanted.plural, &mut names.plural, &resources),
        ("SingularConflict", &wanted.singular, &mut names.singular, &resources),
    ] {
        match taken(wanted, accepted, used) {
            true => conflict = Some((reason, say(wanted))),
            false => wanted.clone_into(accepted),
        }
    }
    let clashes: Vec<String> = wanted
        .short_names
        .iter()
        .filter(|name| !accepted.short_names.contains(name) && resources.contains(*name))
        .map(|name| say(name))
        .collect();
    match clashes.len() {
        0 => names.short_names.clone_from(&wanted.short_names),
        1 => conflict = Some(("ShortNamesConflict", clashes[0].clone())),
        _ => conflict = Some(("ShortNamesConflict", format!("[{}]", clashes.join(", ")))),
    }
    for (reason, wanted, accepted, used) in [
        ("KindConflict", &wanted.kind, &mut names.kind, &kinds),
        ("ListKindConflict", &wanted.list_kind, &mut names.list_kind, &kinds),
    ] {
        match taken(wanted, accepted, used) {
            true => conflict = Some((reason, say(wanted))),
            false => wanted.clone_into(accepted),
        }
    }
    names.categories.clone_from(&wanted.categories);
    (names, conflict)
}

fn names_value(names: &Names) -> Value {
    let mut value = json!({"plural": names.plural, "kind": names.kind});
    for (name, text) in [("singular", &names.singular), ("listKind", &names.list_kind)] {
        if !text.is_empty() {
            value[name] = json!(text);
        }
    }
    for (name, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        if !list.is_empty() {
            value[name] = json!(list);
        }
    }
    value
}

/// Sets a condition of a definition's status; its time moves when it turns.
pub(crate) fn set_condition(status: &mut Value, kind: &str, holds: &str, reason: &str, message: &str) {
    let now = Time::now().to_string();
    if !status.is_object() {
        *status = json!({});
    }
    let conditions = json::object_mut(status, "")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let known = list.iter_mut().find(|c| json::text(c, "type") == kind);
    match known {
        Some(condition) => {
            if json::text(condition, "status") != holds {
                condition["lastTransitionTime"] = json!(now);
            }
            condition["status"] = json!(holds);
            condition["reason"] = json!(reason);
            condition["message"] = json!(message);
        }
        None => list.push(json!({"type": kind, "status": holds, "lastTransitionTime": now,
            "reason": reason, "message": message})),
    }
}
