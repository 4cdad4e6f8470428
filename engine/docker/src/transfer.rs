//! Images that come and go: pulled, pushed, imported, loaded and saved, with a line for each step.

use crate::archive::Sink;
use crate::call::{Call, stream};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::registry::credentials;
use crate::upload::with_body;
use http::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use strata_http::{Body, BodySender};
use strata_image::{
    ArchiveFormat, Credentials, Image, ImportOptions, LayerState, Platform, Progress, PullOptions, PushOptions,
    Reference,
};
use strata_template::tagged;
use tokio::sync::mpsc;

/// Layers whose progress may wait to be told.
const PROGRESS_QUEUE: usize = 64;
/// Lines of an answer that may wait to be sent.
const LINES: usize = 64;
/// Bytes of an archive that are sent at a time.
const PIECE: usize = 64 << 10;

/// Tells a client what happens. One that has gone does not end the work: the next gets what is there by then.
struct Teller(BodySender);

impl Teller {
    async fn line(&self, value: Value) {
        let _ = self.0.send(format!("{value}\r\n")).await;
    }

    async fn status(&self, text: impl Into<String>) {
        self.line(json!({"status": text.into()})).await;
    }

    async fn failed(&self, why: &str) {
        self.line(json!({"errorDetail": {"message": why}, "error": why})).await;
    }

    async fn layers(&self, mut told: mpsc::Receiver<Progress>, done: &str) {
        while let Some(progress) = told.recv().await {
            self.line(progress_json(&progress, done)).await;
        }
    }
}

fn progress_json(progress: &Progress, done: &str) -> Value {
    let pushing = done == "Pushed";
    let (status, detail) = match progress.state {
        LayerState::Waiting if pushing => ("Preparing", json!({})),
        LayerState::Waiting => ("Pulling fs layer", json!({})),
        LayerState::Present if pushing => ("Layer already exists", json!({})),
        LayerState::Present => ("Already exists", json!({})),
        LayerState::Fetching { done, total } => ("Downloading", json!({"current": done, "total": total})),
        LayerState::Pushing { done, total } => ("Pushing", json!({"current": done, "total": total})),
        LayerState::Mounted => ("Mounted from another repository", json!({})),
        LayerState::Done => (done, json!({})),
        _ => ("Working", json!({})),
    };
    json!({"status": status, "progressDetail": detail, "id": progress.layer.short()})
}

/// `POST /images/create`: fetches an image, or makes one of the tar of a root.
pub(crate) async fn create(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    match call.query("fromImage") {
        "" => import(inner, call).await,
        _ => pull(inner, call).await,
    }
}

fn platform(call: &Call) -> Answer<Option<Platform>> {
    match call.query("platform") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(ApiError::invalid),
    }
}

async fn pull(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    // Clients that want every tag write the name with a colon after it.
    let from = call.query("fromImage").trim_end_matches(':').to_owned();
    let tag = call.query("tag").to_owned();
    let written = tagged(&from) == from;
    let name = match tag.as_str() {
        "" => from.clone(),
        digest if digest.contains(':') => format!("{from}@{digest}"),
        tag => format!("{from}:{tag}"),
    };
    let reference: Reference = name.parse()?;
    let options = PullOptions {
        credentials: credentials(&call)?,
        platform: platform(&call)?,
        ..PullOptions::default()
    };
    let (sender, body) = Body::channel(LINES);
    let busy = inner.activity.begin();
    tokio::spawn(async move {
        let _busy = busy;
        let teller = Teller(sender);
        let mut names = vec![reference.to_string()];
        if tag.is_empty() && !written {
            match inner.images.remote_tags(&name, options.credentials.clone()).await {
                Ok(tags) => names = tags.iter().map(|tag| format!("{}:{tag}", reference.name())).collect(),
                Err(error) => return teller.failed(&error.to_string()).await,
            }
        }
        for name in names {
            if let Err(error) = pull_one(&inner, &name, options.clone(), &teller).await {
                return teller.failed(&error.message).await;
            }
        }
    });
    Ok(stream("application/json", body))
}

async fn pull_one(inner: &Inner, name: &str, mut options: PullOptions, teller: &Teller) -> Answer<()> {
    let reference: Reference = name.parse()?;
    let selector = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
    };
    let begun = format!("Pulling from {}", reference.repository);
    teller.line(json!({"status": begun, "id": selector})).await;
    let before = inner.images.resolve(name)?.map(|image| image.id);
    let (progress, told) = mpsc::channel(PROGRESS_QUEUE);
    options.progress = Some(progress);
    let (pulled, ()) = tokio::join!(
        inner.images.pull_with(name, options),
        teller.layers(told, "Pull complete")
    );
    let image = pulled?;
    let own = format!("{}@", reference.name());
    if let Some(digest) = image.repo_digests.iter().find_map(|known| known.strip_prefix(&own)) {
        teller.status(format!("Digest: {digest}")).await;
    }
    let what = match before == Some(image.id) {
        true => "Image is up to date for",
        false => "Downloaded newer image for",
    };
    teller.status(format!("Status: {what} {}", reference.familiar())).await;
    inner.events.image(&image, "pull", &reference.familiar());
    Ok(())
}

async fn import(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    match call.query("fromSrc") {
        "-" => {}
        "" => return Err(ApiError::invalid("fromImage or fromSrc is needed")),
        _ => return Err(ApiError::unsupported("importing an image from an address")),
    }
    let message = match call.query("message") {
        "" => "Imported from -",
        own => own,
    };
    let options = ImportOptions {
        reference: new_name(call.query("repo"), call.query("tag"))?,
        changes: call.values("changes").flat_map(str::lines).map(str::to_owned).collect(),
        message: message.to_owned(),
        platform: platform(&call)?,
    };
    let shared = Arc::clone(&inner);
    let image = with_body(call.request.into_body(), move |upload| {
        Ok(shared.images.import(upload, &options)?)
    })
    .await?;
    inner.events.image(&image, "import", &image.id.to_string());
    let line = json!({"status": image.id.to_string()});
    Ok(stream("application/json", Body::full(format!("{line}\r\n"))))
}

/// A name and a tag as one; nothing if there is no name.
fn new_name(repository: &str, tag: &str) -> Answer<Option<String>> {
    let text = match (repository, tag) {
        ("", _) => return Ok(None),
        (name, "") => name.to_owned(),
        (name, tag) => format!("{name}:{tag}"),
    };
    let reference: Reference = text.parse()?;
    match reference.digest {
        Some(_) => Err(ApiError::invalid("cannot import digest reference")),
        None => Ok(Some(text)),
    }
}

/// `POST /images/{name}/push`
pub(crate) async fn push(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (name, tag) = (call.name().to_owned(), call.query("tag").to_owned());
    let text = match tag.as_str() {
        "" => name,
        tag => format!("{name}:{tag}"),
    };
    let reference: Reference = text.parse()?;
    let credentials = credentials(&call)?;
    // A name alone means all its tags.
    let every = tag.is_empty() && tagged(&text) != text;
    let (sender, body) = Body::channel(LINES);
    let busy = inner.activity.begin();
    tokio::spawn(async move {
        let _busy = busy;
        let teller = Teller(sender);
        let refers = format!("The push refers to repository [{}]", reference.name());
        teller.status(refers).await;
        let shared = Arc::clone(&inner);
        let names = match blocking(move || pushed_names(&shared, &reference, every)).await {
            Ok(names) => names,
            Err(error) => return teller.failed(&error.message).await,
        };
        for name in names {
            if let Err(error) = push_one(&inner, name, credentials.clone(), &teller).await {
                return teller.failed(&error.message).await;
            }
        }
    });
    Ok(stream("application/json", body))
}

/// The names that are to be pushed, all of which are here.
fn pushed_names(inner: &Inner, reference: &Reference, every: bool) -> Answer<Vec<String>> {
    if reference.digest.is_some() {
        return Err(ApiError::invalid("cannot push a digest reference"));
    }
    let own = tags_of(&inner.images.list()?, reference);
    let familiar = reference.familiar();
    if own.is_empty() {
        let (bare, _) = familiar.rsplit_once(':').unwrap_or((&familiar, ""));
        return Err(ApiError::not_found(format!(
            "An image does not exist locally with the tag: {bare}"
        )));
    }
    if every {
        return Ok(own.into_iter().collect());
    }
    match own.contains(&reference.to_string()) {
        true => Ok(vec![reference.to_string()]),
        false => Err(ApiError::not_found(format!("tag does not exist: {familiar}"))),
    }
}

/// Names with a tag of a repository that images here have.
fn tags_of(images: &[Image], reference: &Reference) -> BTreeSet<String> {
    let begin = format!("{}:", reference.name());
    let all = images.iter().flat_map(|image| &image.repo_tags);
    all.filter(|tag| tag.starts_with(&begin)).cloned().collect()
}

async fn push_one(inner: &Arc<Inner>, name: String, credentials: Option<Credentials>, teller: &Teller) -> Answer<()> {
    let (progress, told) = mpsc::channel(PROGRESS_QUEUE);
    let options = PushOptions {
        credentials,
        progress: Some(progress),
        ..PushOptions::default()
    };
    // The options hold the sender, so the lines end with the push.
    let (pushed, ()) = tokio::join!(inner.images.push(&name, options), teller.layers(told, "Pushed"));
    let pushed = pushed?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let (digest, size) = (pushed.digest.to_string(), pushed.size);
    teller.status(format!("{tag}: digest: {digest} size: {size}")).await;
    let aux = json!({"Tag": tag, "Digest": digest, "Size": size});
    teller.line(json!({"progressDetail": {}, "aux": aux})).await;
    let inner = Arc::clone(inner);
    blocking(move || {
        if let Some(image) = inner.images.resolve(&name)? {
            let reference: Reference = name.parse()?;
            inner.events.image(&image, "push", &reference.familiar());
        }
        Ok(())
    })
    .await
}

/// `POST /images/load`
pub(crate) async fn load(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let shared = Arc::clone(&inner);
    let loaded = with_body(call.request.into_body(), move |upload| {
        Ok(shared.images.load_from(upload)?)
    });
    let mut lines = String::new();
    match loaded.await {
        Ok(images) => {
            for image in images {
                inner.events.image(&image, "load", &image.id.to_string());
                let mut said: Vec<String> = image
                    .repo_tags
                    .iter()
                    .map(|tag| format!("Loaded image: {}\n", crate::images::familiar(tag)))
                    .collect();
                if said.is_empty() {
                    said.push(format!("Loaded image ID: {}\n", image.id));
                }
                lines.extend(said.iter().map(|text| format!("{}\r\n", json!({"stream": text}))));
            }
        }
        // As docker: the answer was fine, its content says what went wrong.
        Err(error) => {
            let why = error.message;
            lines = format!("{}\r\n", json!({"errorDetail": {"message": why}, "error": why}));
        }
    }
    Ok(stream("application/json", Body::full(lines)))
}

/// `GET /images/get`: several images in one archive.
pub(crate) async fn save(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let names: Vec<String> = call.values("names").map(str::to_owned).collect();
    save_names(inner, names).await
}

/// `GET /images/{name}/get`
pub(crate) async fn save_one(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let name = call.name().to_owned();
    save_names(inner, vec![name]).await
}

/// The names that are to be saved, all of which are here.
fn saved_names(inner: &Inner, given: Vec<String>) -> Answer<Vec<String>> {
    let images = inner.images.list()?;
    let mut names = Vec::new();
    for name in given {
        let reference: Reference = name.parse()?;
        // A name alone means all its tags.
        let tags = match tagged(&name) != name {
            true => tags_of(&images, &reference),
            false => BTreeSet::new(),
        };
        if tags.is_empty() && inner.images.resolve(&name)?.is_none() {
            return Err(match tagged(&name) == name && !name.contains('@') {
                true => ApiError::not_found("reference does not exist"),
                false => ApiError::not_found(format!("No such image: {name}")),
            });
        }
        names.extend(if tags.is_empty() { BTreeSet::from([name]) } else { tags });
    }
    Ok(names)
}

async fn save_names(inner: Arc<Inner>, given: Vec<String>) -> Answer<Response<Body>> {
    let shared = Arc::clone(&inner);
    let names = blocking(move || saved_names(&shared, given)).await?;
    let (sender, body) = Body::channel(LINES);
    let busy = inner.activity.begin();
    tokio::spawn(async move {
        let _busy = busy;
        let sink = std::io::BufWriter::with_capacity(PIECE, Sink(sender.clone()));
        let saved = inner.images.save(&names, ArchiveFormat::Docker, None, sink).await;
        if let Err(error) = saved {
            tracing::warn!(%error, "could not save images");
            // The end must not look like one.
            sender.abort(error.to_string()).await;
        }
    });
    Ok(stream("application/x-tar", body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_new_images_are_checked() {
        assert_eq!(new_name("", "x").expect("none"), None);
        assert_eq!(new_name("a", "b").expect("valid").as_deref(), Some("a:b"));
        assert!(new_name("A", "").is_err());
    }
}
