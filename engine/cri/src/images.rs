//! Images: list, status, pull, remove, and the space they take.

use crate::error::{Answer, OrStatus, invalid, required};
use crate::generated::v1 as api;
use crate::sandbox::nanos;
use crate::service::Service;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::time::SystemTime;
use strata_http::GrpcStatus;
use strata_image::{Credentials, Image, ImageError, ImageStore};

impl Service {
    /// Work on the store off the async workers.
    async fn with_images<T: Send + 'static>(
        &self,
        work: impl FnOnce(ImageStore) -> Result<T, ImageError> + Send + 'static,
    ) -> Answer<T> {
        let images = self.engine.images().clone();
        let done = tokio::task::spawn_blocking(move || work(images)).await;
        done.map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))?.status()
    }

    pub(crate) async fn list_images(&self, request: api::ListImagesRequest) -> Answer<api::ListImagesResponse> {
        let wanted = request.filter.and_then(|filter| filter.image).map(|image| image.image);
        let images = self
            .with_images(move |images| match wanted.filter(|name| !name.is_empty()) {
                Some(name) => Ok(images.resolve(&name)?.into_iter().collect()),
                None => images.list(),
            })
            .await?;
        Ok(api::ListImagesResponse {
            images: images.iter().map(describe).collect(),
        })
    }

    pub(crate) async fn image_status(&self, request: api::ImageStatusRequest) -> Answer<api::ImageStatusResponse> {
        let name = required(request.image, "image")?.image;
        let image = self.with_images(move |images| images.resolve(&name)).await?;
        let mut response = api::ImageStatusResponse {
            image: image.as_ref().map(describe),
            ..api::ImageStatusResponse::default()
        };
        if let Some(image) = image.filter(|_| request.verbose) {
            let info = serde_json::json!({
                "chainLength": image.layers.len(),
                "imageSpec": { "created": image.created, "os": "linux", "config": image.config },
            });
            response.info.insert("info".into(), info.to_string());
        }
        Ok(response)
    }

    pub(crate) async fn pull_image(&self, request: api::PullImageRequest) -> Answer<api::PullImageResponse> {
        let name = required(request.image, "image")?.image;
        let credentials = request.auth.map(|auth| credentials(&name, auth)).transpose()?.flatten();
        let image = self.engine.images().pull(&name, credentials, None).await.status()?;
        Ok(api::PullImageResponse {
            image_ref: image.id.to_string(),
        })
    }

    pub(crate) async fn remove_image(&self, request: api::RemoveImageRequest) -> Answer<api::RemoveImageResponse> {
        let name = required(request.image, "image")?.image;
        let removed = self.with_images(move |images| {
            // The interface speaks of the image, not of a name of it.
            match images.resolve(&name)? {
                Some(image) => images.remove(&image.id.to_string()).map(drop),
                None => Ok(()),
            }
        });
        match removed.await {
            Err(status) if status.code == GrpcStatus::NOT_FOUND => Ok(api::RemoveImageResponse {}),
            other => other.map(|()| api::RemoveImageResponse {}),
        }
    }

    pub(crate) async fn image_fs_info(&self, _: api::ImageFsInfoRequest) -> Answer<api::ImageFsInfoResponse> {
        let usage = |folder: &'static str| {
            let path = self.data_dir.join(folder);
            let space = self.space.clone();
            async move {
                let (bytes, inodes) = tokio::task::spawn_blocking({
                    let path = path.clone();
                    move || space.of(&path)
                })
                .await
                .map_err(|e| GrpcStatus::new(GrpcStatus::INTERNAL, e))?;
                Ok::<_, GrpcStatus>(api::FilesystemUsage {
                    timestamp: nanos(SystemTime::now()),
                    fs_id: Some(api::FilesystemIdentifier {
                        mountpoint: path.display().to_string(),
                    }),
                    used_bytes: Some(api::UInt64Value { value: bytes }),
                    inodes_used: Some(api::UInt64Value { value: inodes }),
                })
            }
        };
        Ok(api::ImageFsInfoResponse {
            image_filesystems: vec![usage("images").await?],
            container_filesystems: vec![usage("engine").await?],
        })
    }
}

fn describe(image: &Image) -> api::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok().map(|value| api::Int64Value { value });
    api::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        uid,
        spec: None,
        pinned: false,
    }
}

/// What a registry is to be told; nothing if the credentials are another registry's.
pub(crate) fn credentials(image: &str, auth: api::AuthConfig) -> Answer<Option<Credentials>> {
    if !auth.server_address.is_empty() && !is_of(image, &auth.server_address) {
        return Ok(None);
    }
    if !auth.identity_token.is_empty() || !auth.registry_token.is_empty() {
        let token = if auth.identity_token.is_empty() {
            auth.registry_token
        } else {
            auth.identity_token
        };
        return Ok(Some(Credentials {
            token,
            ..Credentials::default()
        }));
    }
    if !auth.username.is_empty() {
        return Ok(Some(Credentials {
            username: auth.username,
            password: auth.password,
            ..Credentials::default()
        }));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let bad = || invalid("the credentials' auth is not base64 of user:password");
    let text = STANDARD.decode(auth.auth.trim_end_matches('\0')).map_err(|_| bad())?;
    let text = String::from_utf8(text).map_err(|_| bad())?;
    let (username, password) = text.split_once(':').ok_or_else(bad)?;
    Ok(Some(Credentials {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
        ..Credentials::default()
    }))
}

/// Whether an image comes from that server, which may be written as a URL.
fn is_of(image: &str, server: &str) -> bool {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let registry = image.split_once('/').map(|(first, _)| first);
    let registry = registry.filter(|first| first.contains(['.', ':']) || *first == "localhost");
    // What docker logs in to and what its images are named by are two hosts of one registry.
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    registry.unwrap_or("docker.io") == host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        let auth = |server: &str| api::AuthConfig {
            auth: STANDARD.encode("u:p:q"),
            server_address: server.into(),
            ..api::AuthConfig::default()
        };
        let of = |image: &str, server: &str| credentials(image, auth(server)).expect("readable");
        let found = of("localhost:5000/a", "http://localhost:5000").expect("its own");
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p:q"));
        assert!(of("localhost:5001/a", "http://localhost:5000").is_none());
        assert!(of("busybox", "https://index.docker.io/v1/").is_some());
        assert!(of("docker.io/library/busybox", "https://index.docker.io/v1/").is_some());
        assert!(of("a.example/b", "").is_some());
        let broken = api::AuthConfig {
            auth: "!".into(),
            ..api::AuthConfig::default()
        };
        assert!(credentials("a", broken).is_err());
    }
}
