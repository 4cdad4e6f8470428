//! Requests about images, as far as running containers needs them.

use crate::call::{Call, created, nothing, ok, stream};
use crate::create::{find_image, tagged};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;
use strata_image::{Image, ImageFilters, LayerState, Progress};

/// Layers whose progress may wait to be told.
const PROGRESS_QUEUE: usize = 64;

fn seconds(image: &Image) -> i64 {
    let created = image
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    created.map_or(0, jiff::Timestamp::as_second)
}

/// `GET /images/json`
pub(crate) async fn list(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    let images = inner.images.list()?;
    let mut rows: Vec<Value> = images
        .iter()
        .filter(|image| {
            filters.fits("dangling", |wanted| {
                crate::call::is_true(wanted) == image.repo_tags.is_empty()
            }) && filters.fits("reference", |wanted| {
                image.repo_tags.iter().any(|tag| fits_reference(tag, wanted))
            }) && filters.fits_labels(&image.config.labels)
        })
        .map(|image| {
            let used = inner
                .all()
                .iter()
                .filter(|c| c.lock().image_id == image.id.to_string())
                .count();
            json!({
                "Containers": used, "Created": seconds(image), "Id": image.id.to_string(),
                "Labels": image.config.labels, "ParentId": "", "RepoDigests": image.repo_digests,
                "RepoTags": image.repo_tags.iter().map(|tag| familiar(tag)).collect::<Vec<_>>(),
                "SharedSize": -1, "Size": image.size,
            })
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row["Created"].as_i64()));
    ok(&Value::Array(rows))
}

fn fits_reference(tag: &str, wanted: &str) -> bool {
    let tag = familiar(tag);
    let name = tag.rsplit_once(':').map_or(tag.as_str(), |(name, _)| name);
    match wanted.split_once('*') {
        Some((begin, end)) => [tag.as_str(), name]
            .iter()
            .any(|text| text.starts_with(begin) && text.ends_with(end) && text.len() >= begin.len() + end.len()),
        None => tag == wanted || name == wanted,
    }
}

/// A name as people write it: without the usual registry.
pub(crate) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    find_image(&inner, call.name())?;
    let name = call.name().to_owned();
    let details = blocking(move || Ok(inner.images.inspect(&name)?)).await?;
    let value = serde_json::to_value(&details).map_err(|error| ApiError::internal(error.to_string()))?;
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

/// `POST /images/create`: fetches an image and tells how far it is.
pub(crate) async fn pull(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (from, tag) = (call.query("fromImage").to_owned(), call.query("tag").to_owned());
    if from.is_empty() {
        return Err(ApiError::unsupported("importing an image"));
    }
    let name = match tag.as_str() {
        "" => tagged(&from),
        digest if digest.contains(':') => format!("{from}@{digest}"),
        tag => format!("{from}:{tag}"),
    };
    let credentials = credentials(call.headers().get("x-registry-auth"))?;
    let (sender, body) = Body::channel(64);
    let busy = inner.activity.begin();
    tokio::spawn(async move {
        let _busy = busy;
        let line = |value: Value| Bytes::from(format!("{value}\r\n"));
        let tag = name.rsplit([':', '@']).next().unwrap_or("latest").to_owned();
        let begun = json!({"status": format!("Pulling from {}", repository(&from)), "id": tag});
        // A client that has gone does not end the pull: the next gets what is there by then.
        let _ = sender.send(line(begun)).await;
        let (progress, mut told) = tokio::sync::mpsc::channel::<Progress>(PROGRESS_QUEUE);
        let before = inner
            .images
            .resolve(&name)
            .ok()
            .flatten()
            .map(|image| image.id.to_string());
        let work = inner.images.pull(&name, credentials, Some(progress));
        let tell = async {
            while let Some(progress) = told.recv().await {
                let _ = sender.send(line(progress_json(&progress))).await;
            }
        };
        let (result, ()) = tokio::join!(work, tell);
        match result {
            Ok(image) => {
                let digest = image.repo_digests.first().and_then(|digest| digest.split('@').nth(1));
                if let Some(digest) = digest {
                    let _ = sender.send(line(json!({"status": format!("Digest: {digest}")}))).await;
                }
                let fresh = before.as_deref() != Some(&image.id.to_string());
                let what = if fresh {
                    "Downloaded newer image for"
                } else {
                    "Image is up to date for"
                };
                let text = format!("Status: {what} {}", familiar(&name));
                let _ = sender.send(line(json!({"status": text}))).await;
                let attributes = [("name".to_owned(), name.clone())].into();
                inner.events.tell("image", "pull", &name, attributes);
            }
            Err(error) => {
                let text = error.to_string();
                let failed = json!({"errorDetail": {"message": text}, "error": text});
                let _ = sender.send(line(failed)).await;
            }
        }
    });
    Ok(stream("application/json", body))
}

fn repository(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    if short.contains('/') {
        short.to_owned()
    } else {
        format!("library/{short}")
    }
}

fn progress_json(progress: &Progress) -> Value {
    let id = progress.layer.short();
    match progress.state {
        LayerState::Present => json!({"status": "Already exists", "progressDetail": {}, "id": id}),
        LayerState::Fetching { done, total } => {
            json!({"status": "Downloading", "progressDetail": {"current": done, "total": total}, "id": id})
        }
        LayerState::Done => json!({"status": "Pull complete", "progressDetail": {}, "id": id}),
        #[allow(unreachable_patterns, reason = "states may be added")]
        _ => json!({"status": "Waiting", "progressDetail": {}, "id": id}),
    }
}

/// What a client sends along: JSON in the URL's alphabet of base64.
fn credentials(header: Option<&http::HeaderValue>) -> Answer<Option<strata_image::Credentials>> {
    let Some(text) = header
        .and_then(|header| header.to_str().ok())
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let invalid = || ApiError::invalid("invalid X-Registry-Auth header");
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE, text).map_err(|_| invalid())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let member = |key: &str| value[key].as_str().unwrap_or("").to_owned();
    let all = strata_image::Credentials {
        username: member("username"),
        password: member("password"),
        token: member("identitytoken"),
    };
    Ok(Some(all).filter(|all| *all != strata_image::Credentials::default()))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (name, force) = (call.name().to_owned(), call.flag("force"));
    let image = find_image(&inner, &name)?;
    let users: Vec<String> = inner
        .all()
        .iter()
        .filter(|container| container.lock().image_id == image.id.to_string())
        .map(|container| container.record().short_id().to_owned())
        .collect();
    if let Some(user) = users.first()
        && !force
        && image.repo_tags.len() < 2
    {
        return Err(ApiError::conflict(format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {user} is using its referenced image {}",
            image.id.short()
        )));
    }
    let shared = Arc::clone(&inner);
    let removed = blocking(move || Ok(shared.images.remove(&name)?)).await?;
    let untagged = removed.untagged.iter().map(|tag| json!({"Untagged": familiar(tag)}));
    let deleted = removed.deleted.iter().map(|id| json!({"Deleted": id}));
    ok(&Value::Array(untagged.chain(deleted).collect()))
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (repository, tag) = (call.query("repo").to_owned(), call.query("tag").to_owned());
    find_image(&inner, call.name())?;
    let target = if tag.is_empty() {
        repository
    } else {
        format!("{repository}:{tag}")
    };
    let (name, shared) = (call.name().to_owned(), Arc::clone(&inner));
    blocking(move || Ok(shared.images.tag(&name, &target)?)).await?;
    let mut response = created(&Value::Null)?;
    *response.body_mut() = Body::empty();
    Ok(response)
}

/// `POST /images/prune`
pub(crate) async fn prune(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["dangling", "label", "label!", "until"])?;
    let all = filters.get("dangling").iter().any(|value| !crate::call::is_true(value));
    // `dangling` has been answered; the rest is a matter of each image.
    let mut texts = Vec::new();
    for key in ["label", "label!", "until"] {
        texts.extend(filters.get(key).iter().map(|value| format!("{key}={value}")));
    }
    let filters = ImageFilters::parse(&texts)?;
    let removed = blocking(move || Ok(inner.images.prune_with(all, &filters)?)).await?;
    let untagged = removed.untagged.iter().map(|tag| json!({"Untagged": familiar(tag)}));
    let deleted = removed.deleted.iter().map(|id| json!({"Deleted": id}));
    ok(&json!({"ImagesDeleted": untagged.chain(deleted).collect::<Vec<_>>(), "SpaceReclaimed": removed.freed}))
}

/// `POST /build/prune`: nothing is built here, so nothing of it is kept.
pub(crate) async fn prune_builds(_: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    ok(&json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

/// `POST /auth`
pub(crate) async fn auth(_: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    nothing()
}
