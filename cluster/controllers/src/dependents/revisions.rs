//! ControllerRevisions: the templates that an owner had, numbered, so that it can go back to one.

use crate::{
    Error,
    claim::{self, Claim},
    context::orphans_of,
    dependents::{Manager, template},
    error::During,
    tracked::value,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use strata_client::{DeleteOptions, Patch, resources::CONTROLLER_REVISIONS};
use strata_meta::{Object, Selector};

/// Names are cut so that the hash still fits (a label has 63 bytes, a name 253).
const PREFIX_MAX: usize = 223;
/// Templates that may have the same hash before something else must be wrong.
const MAX_COLLISIONS: i32 = 16;
/// The label of pods that tells which revision they are of.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// One template an owner has or had.
#[derive(Clone)]
pub(crate) struct Revision {
    pub object: Arc<Object>,
    pub number: i64,
    pub template: Value,
    /// When it was made, of equal numbers the later is the newer.
    created: String,
}

impl Revision {
    fn read(object: &Arc<Object>) -> Result<Self, Error> {
        let mut whole = value(object)?;
        let mut template = whole
            .pointer_mut("/data/spec/template")
            .map(Value::take)
            .unwrap_or_default();
        if let Some(members) = template.as_object_mut() {
            members.remove("$patch");
        }
        Ok(Self {
            object: object.clone(),
            number: whole["revision"].as_i64().unwrap_or(0),
            template,
            created: whole["metadata"]["creationTimestamp"].to_string(),
        })
    }
}

/// The revisions of an owner, oldest number first, and what has become of collisions.
pub(crate) struct History {
    pub revisions: Vec<Revision>,
    /// Where the owner's present template is among them.
    pub update: usize,
    pub collisions: Option<i32>,
}

impl History {
    pub fn update(&self) -> &Revision {
        &self.revisions[self.update]
    }
}

/// Reads an owner's revisions and sees to it that its present template is the newest; `hash_label` holds a new one's hash.
pub(crate) async fn record(
    manager: &Manager,
    owner: &Object,
    selector: &Selector,
    hash_label: &str,
) -> Result<History, Error> {
    let whole = value(owner)?;
    let present = &whole["spec"]["template"];
    let collisions = whole["status"]["collisionCount"].as_i64();
    let mut collisions = collisions.and_then(|count| i32::try_from(count).ok());
    let mut revisions = owned(manager, owner, selector).await?;
    let next = revisions.last().map_or(1, |newest| newest.number + 1);
    let same = revisions
        .iter()
        .rposition(|revision| template::equal(&revision.template, present));
    let update = match same {
        Some(at) if at + 1 == revisions.len() => at,
        // Gone back to: it becomes the newest.
        Some(at) => {
            let old = revisions.remove(at);
            revisions.push(renumber(manager, old, next).await?);
            revisions.len() - 1
        }
        None => {
            revisions.push(create(manager, owner, &whole, next, hash_label, &mut collisions).await?);
            revisions.len() - 1
        }
    };
    Ok(History {
        revisions,
        update,
        collisions,
    })
}

/// Removes the oldest revisions that nobody lives by, beyond the limit.
pub(crate) async fn truncate(
    manager: &Manager,
    history: &History,
    live: &BTreeSet<String>,
    limit: Option<i32>,
) -> Result<(), Error> {
    let Ok(keep) = usize::try_from(limit.unwrap_or(10)) else {
        return Ok(());
    };
    let update = history.update().object.name();
    let dead: Vec<&Revision> = history
        .revisions
        .iter()
        .filter(|revision| revision.object.name() != update && !live.contains(revision.object.name()))
        .collect();
    for revision in dead.iter().take(dead.len().saturating_sub(keep)) {
        let (namespace, name) = (revision.object.namespace(), revision.object.name());
        let options = DeleteOptions::only(&revision.object.uid);
        match manager
            .client
            .delete(CONTROLLER_REVISIONS, namespace, name, options)
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                return Err(error).during(|| format!("deleting the revision {namespace}/{name}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Those that the owner manages, adopting orphans, by number and age.
async fn owned(manager: &Manager, owner: &Object, selector: &Selector) -> Result<Vec<Revision>, Error> {
    let known = &manager.context.revisions_by_owner;
    let mut mine = Vec::new();
    let mut may_adopt = None;
    let candidates = [known.get(owner.uid.as_str()), known.get(&orphans_of(owner.namespace()))];
    for object in candidates.iter().flatten() {
        match claim::decide(&owner.uid, owner.deleting, selector, object) {
            Claim::Keep => mine.push(Revision::read(object)?),
            Claim::Ignore => {}
            Claim::Release => {
                patch(manager, object, claim::removal(object, &[&owner.uid])).await?;
            }
            Claim::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(manager.is_still_there(owner).await?);
                }
                if may_adopt == Some(true)
                    && let Some(adopted) = patch(manager, object, claim::adoption(owner, object)).await?
                {
                    mine.push(Revision::read(&adopted)?);
                }
            }
        }
    }
    mine.sort_by(|a, b| {
        let age = a.number.cmp(&b.number).then_with(|| a.created.cmp(&b.created));
        age.then_with(|| a.object.name().cmp(b.object.name()))
    });
    Ok(mine)
}

async fn patch(manager: &Manager, object: &Object, patch: Patch) -> Result<Option<Arc<Object>>, Error> {
    let (namespace, name) = (object.namespace(), object.name());
    match manager
        .client
        .patch(CONTROLLER_REVISIONS, namespace, name, None, patch)
        .await
    {
        Ok(patched) => Ok(Some(patched)),
        Err(error) if error.is_not_found() => Ok(None),
        // Another life of the name: the precondition on the uid failed.
        Err(error) if error.status().is_some_and(|s| s.code == 422) => Ok(None),
        Err(error) => Err(error).during(|| format!("changing the revision {namespace}/{name}")),
    }
}

async fn renumber(manager: &Manager, revision: Revision, number: i64) -> Result<Revision, Error> {
    let body = json!({"metadata": {"uid": revision.object.uid}, "revision": number});
    match patch(manager, &revision.object, Patch::Merge(body)).await? {
        Some(object) => Ok(Revision {
            object,
            number,
            ..revision
        }),
        None => Err(Error::Incomplete(format!(
            "the revision {} is gone",
            revision.object.key
        ))),
    }
}

async fn create(
    manager: &Manager,
    owner: &Object,
    whole: &Value,
    number: i64,
    hash_label: &str,
    collisions: &mut Option<i32>,
) -> Result<Revision, Error> {
    let present = &whole["spec"]["template"];
    let mut data = present.clone();
    data["$patch"] = "replace".into();
    let prefix = owner.name().get(..PREFIX_MAX).unwrap_or(owner.name());
    loop {
        let hash = template::hash(present, *collisions);
        let name = format!("{prefix}-{hash}");
        let mut labels = match present["metadata"]["labels"].as_object() {
            Some(labels) => labels.clone(),
            None => serde_json::Map::new(),
        };
        labels.insert(hash_label.into(), hash.into());
        let mut body = json!({
            "metadata": {"name": name, "labels": labels, "ownerReferences": [claim::reference(owner)]},
            "data": {"spec": {"template": data}},
            "revision": number,
        });
        if let Some(annotations) = whole["metadata"]["annotations"].as_object() {
            body["metadata"]["annotations"] = json!(annotations);
        }
        let namespace = owner.namespace();
        let error = match manager.client.create(CONTROLLER_REVISIONS, namespace, &body).await {
            Ok(created) => return Revision::read(&created),
            Err(error) if error.is_already_exists() => error,
            Err(error) => return Err(error).during(|| format!("creating the revision {namespace}/{name}")),
        };
        let there = manager.client.get(CONTROLLER_REVISIONS, namespace, &name).await;
        let there = Revision::read(&there.during(|| format!("reading the revision {namespace}/{name}"))?)?;
        // Made by an earlier pass that the cache does not show yet.
        let ours = there.object.controller().is_some_and(|c| c.uid == owner.uid);
        if ours && template::equal(&there.template, present) {
            return Ok(there);
        }
        let count = collisions.unwrap_or(0) + 1;
        if count > MAX_COLLISIONS {
            return Err(error).during(|| format!("creating the revision {namespace}/{name}"));
        }
        *collisions = Some(count);
    }
}
