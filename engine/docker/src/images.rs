//! Requests about images that are here: which there are, what they are, their names. `transfer.rs` has those
//! that come and go.

use crate::call::{Call, Filters, created, ok};
use crate::create::find_image;
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::Record;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;
use strata_image::{Image, ImageFilters, Reference, Removed, Summary};

/// Clients before this one are told `<none>:<none>` of an image without names.
const WITHOUT_NONE: (u32, u32) = (1, 43);
/// Clients before this one are told the size twice.
const WITHOUT_VIRTUAL_SIZE: (u32, u32) = (1, 44);

/// Filters as the image store has them.
fn conditions(filters: &Filters, keys: &[&str]) -> Answer<ImageFilters> {
    filters.only(keys)?;
    let mut texts = Vec::new();
    for key in keys {
        for value in filters.get(key) {
            if *key == "dangling" && !matches!(value.as_str(), "true" | "false" | "1" | "0") {
                return Err(ApiError::invalid(format!("invalid filter 'dangling=[{value}]'")));
            }
            texts.push(format!("{key}={value}"));
        }
    }
    Ok(ImageFilters::parse(&texts)?)
}

/// `GET /images/json`
pub(crate) async fn list(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    let keys = ["before", "dangling", "label", "label!", "reference", "since", "until"];
    let conditions = conditions(&filters, &keys)?;
    for name in filters.get("before").iter().chain(filters.get("since")) {
        find_image(&inner, name)?;
    }
    let version = call.version();
    let rows = blocking(move || {
        let images = conditions.apply(&inner.images, inner.images.summaries()?)?;
        Ok(images.iter().map(|image| row(image, version)).collect())
    });
    ok(&Value::Array(rows.await?))
}

fn row(summary: &Summary, version: (u32, u32)) -> Value {
    let image = &summary.image;
    // A condition on names leaves those that meet it.
    let kept = |name: &&String| image.repo_tags.is_empty() || summary.names.iter().any(|(known, _)| known == *name);
    let mut tags: Vec<String> = image.repo_tags.iter().filter(kept).map(|tag| familiar(tag)).collect();
    let mut digests: Vec<String> = image.repo_digests.iter().map(|name| familiar(name)).collect();
    if tags.is_empty() && digests.is_empty() && version < WITHOUT_NONE {
        tags.push("<none>:<none>".into());
        digests.push("<none>@<none>".into());
    }
    let labels = match image.config.labels.is_empty() {
        true => Value::Null,
        false => json!(image.config.labels),
    };
    let mut row = json!({
        "Containers": -1, "Created": summary.created, "Id": image.id.to_string(), "Labels": labels, "ParentId": "",
        "RepoDigests": digests, "RepoTags": tags, "SharedSize": -1, "Size": summary.disk_size,
    });
    if version < WITHOUT_VIRTUAL_SIZE {
        row["VirtualSize"] = row["Size"].clone();
    }
    row
}

/// A name as people write it: without the usual registry.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    find_image(&inner, call.name())?;
    let (name, version) = (call.name().to_owned(), call.version());
    let details = blocking(move || Ok(inner.images.inspect(&name)?)).await?;
    let mut value = serde_json::to_value(&details).map_err(|error| ApiError::internal(error.to_string()))?;
    if version < WITHOUT_VIRTUAL_SIZE {
        value["VirtualSize"] = value["Size"].clone();
    }
    ok(&value)
}

/// `GET /images/{name}/history`
pub(crate) async fn history(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    find_image(&inner, call.name())?;
    let name = call.name().to_owned();
    let steps = blocking(move || Ok(inner.images.history(&name)?)).await?;
    let rows = steps.iter().map(|step| {
        json!({
            "Id": step.id, "Created": step.created, "CreatedBy": step.created_by,
            "Tags": if step.tags.is_empty() { Value::Null } else { json!(step.tags) },
            "Size": step.size, "Comment": step.comment,
        })
    });
    ok(&Value::Array(rows.collect()))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (name, force) = (call.name().to_owned(), call.flag("force"));
    if name.trim().is_empty() {
        return Err(ApiError::invalid("image name cannot be blank"));
    }
    let image = find_image(&inner, &name)?;
    let stays = may_go(&inner, &image, &name, force)?;
    let shared = Arc::clone(&inner);
    let removed = blocking(move || match stays {
        // Some container needs it still.
        true => Ok(Removed {
            untagged: shared.images.untag(&name)?,
            ..Removed::default()
        }),
        false => Ok(shared.images.remove_with(&name, force)?),
    })
    .await?;
    let id = image.id.to_string();
    for _ in &removed.untagged {
        inner.events.image(&image, "untag", &id);
    }
    for gone in &removed.deleted {
        inner.events.image(&image, "delete", gone);
    }
    ok(&Value::Array(rows_of(&removed)))
}

/// Refuses what docker refuses; whether the image has to stay without its name.
fn may_go(inner: &Inner, image: &Image, name: &str, force: bool) -> Answer<bool> {
    let id = image.id.to_string();
    let users: Vec<Record> = inner
        .all()
        .iter()
        .map(|container| container.record())
        .filter(|record| record.image_id == id)
        .collect();
    let conflict = |sentence: String| Err(ApiError::conflict(format!("conflict: {sentence}")));
    let short = image.id.short();
    if !id.starts_with(name) && !image.id.hex().starts_with(name) {
        let last = image.repo_tags.len() < 2;
        return match users.first().filter(|_| last) {
            Some(user) if !force => conflict(format!(
                "unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {short}",
                user.short_id()
            )),
            user => Ok(user.is_some()),
        };
    }
    if let Some(user) = users.iter().find(|user| user.state.status.is_alive()) {
        return conflict(format!(
            "unable to delete {short} (cannot be forced) - image is being used by running container {}",
            user.short_id()
        ));
    }
    let repository = |tag: &String| tag.rsplit_once(':').map(|(name, _)| name.to_owned());
    let mut repositories: Vec<_> = image.repo_tags.iter().map(repository).collect();
    repositories.dedup();
    if repositories.len() > 1 && !force {
        return conflict(format!(
            "unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        ));
    }
    match users.first() {
        Some(user) if !force => conflict(format!(
            "unable to delete {short} (must be forced) - image is being used by stopped container {}",
            user.short_id()
        )),
        user => Ok(user.is_some()),
    }
}

fn rows_of(removed: &Removed) -> Vec<Value> {
    let untagged = removed.untagged.iter().map(|tag| json!({"Untagged": familiar(tag)}));
    let deleted = removed.deleted.iter().map(|id| json!({"Deleted": id}));
    untagged.chain(deleted).collect()
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (repository, tag) = (call.query("repo").to_owned(), call.query("tag").to_owned());
    let image = find_image(&inner, call.name())?;
    let target = match tag.as_str() {
        "" => strata_template::tagged(&repository),
        tag => format!("{repository}:{tag}"),
    };
    let reference: Reference = target.parse()?;
    let (name, shared) = (call.name().to_owned(), Arc::clone(&inner));
    blocking(move || Ok(shared.images.tag(&name, &target)?)).await?;
    let attributes = [("name".to_owned(), reference.familiar())].into();
    inner.events.tell("image", "tag", &image.id.to_string(), attributes);
    let mut response = created(&Value::Null)?;
    *response.body_mut() = Body::empty();
    Ok(response)
}

/// `POST /images/prune`
pub(crate) async fn prune(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    let all = filters.get("dangling").iter().any(|value| !crate::call::is_true(value));
    let mut rest = filters.clone();
    // `dangling` has been answered; the rest is a matter of each image.
    rest.remove("dangling");
    let conditions = conditions(&rest, &["label", "label!", "until"])?;
    let removed = blocking(move || Ok(inner.images.prune_with(all, &conditions)?)).await?;
    ok(&json!({"ImagesDeleted": rows_of(&removed), "SpaceReclaimed": removed.freed}))
}
