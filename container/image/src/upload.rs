//! Writing to a registry: OCI distribution v2, with uploads resumed where they broke.

use crate::connection::{Call, Content, Failure, Server, Target, location};
use crate::registry::Registry;
use crate::{Digest, ImageError};
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Up to here a blob goes in one request.
const SMALL: u64 = 4 << 20;
/// Interruptions without progress until an upload fails.
const RESUMES: u32 = 5;
const RESUME_DELAY: Duration = Duration::from_millis(500);

/// What a registry answered to a new upload.
pub(crate) enum Start {
    /// It has the blob now, from another repository.
    Mounted,
    /// The bytes are to be sent there.
    Upload(Url),
}

impl Registry {
    /// Whether the repository has a blob.
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, ImageError> {
        let server = self.origin()?;
        let call = Call::new(Method::HEAD, self.tail(server, &format!("blobs/{digest}"))).header(ACCEPT, "*/*");
        match server.send(&self.access, &call).await {
            Ok(_) => Ok(true),
            Err(Failure::NotFound) => Ok(false),
            // Registries that do not know the method; the upload will show.
            Err(Failure::Status { status, .. }) if status == StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            Err(failure) => Err(self.not_pushed(failure)),
        }
    }

    /// Begins an upload; with `from`, asks for the blob of another repository first.
    pub async fn start(&self, digest: Digest, from: Option<&str>) -> Result<Start, ImageError> {
        let server = self.origin()?;
        let rest = match from {
            Some(from) => format!("blobs/uploads/?mount={digest}&from={from}"),
            None => "blobs/uploads/".to_owned(),
        };
        let call = Call::new(Method::POST, self.tail(server, &rest));
        let answer = server.send(&self.access, &call).await;
        let response = answer.map_err(|failure| self.not_pushed(failure))?;
        if response.status() == StatusCode::CREATED {
            return Ok(Start::Mounted);
        }
        let address = location(&response).map_err(|failure| self.not_pushed(failure))?;
        Ok(Start::Upload(address))
    }

    /// Sends a file's bytes to where an upload was begun; `sent` tells how many went out.
    pub async fn upload(
        &self,
        digest: Digest,
        size: u64,
        file: &Path,
        start: Url,
        sent: &Arc<AtomicU64>,
    ) -> Result<(), ImageError> {
        let server = self.origin()?;
        let content = |offset: u64| Content::File {
            path: file.to_owned(),
            offset,
            length: size - offset,
            sent: Arc::clone(sent),
        };
        if size <= SMALL {
            return self.finish(server, start, digest, content(0)).await;
        }
        // Progress is what no attempt before has reached: a registry that forgets what it took cannot hold this up forever.
        let (mut address, mut offset, mut reached, mut failures) = (start, 0, 0, 0);
        while offset < size {
            let call = Call {
                method: Method::PATCH,
                target: Target::Address(address.clone()),
                headers: vec![
                    (CONTENT_TYPE, "application/octet-stream".into()),
                    (CONTENT_RANGE, format!("{offset}-{}", size - 1)),
                ],
                content: content(offset),
                once: true,
            };
            let failure = match server.send(&self.access, &call).await {
                Ok(response) => {
                    address = location(&response).map_err(|failure| self.not_pushed(failure))?;
                    offset = received(&response).unwrap_or(size);
                    if offset >= size {
                        break;
                    }
                    Failure::Transport(format!("the registry took {offset} of {size} bytes"))
                }
                Err(failure @ (Failure::Denied(_) | Failure::NotFound)) => return Err(self.not_pushed(failure)),
                Err(failure) => failure,
            };
            if failures >= RESUMES && offset <= reached {
                return Err(self.not_pushed(failure));
            }
            tracing::debug!(%digest, offset, size, ?failure, "resuming an upload");
            tokio::time::sleep(RESUME_DELAY).await;
            let taken = offset;
            (address, offset) = self.standing(server, digest, address).await?;
            failures = match taken.max(offset) > reached {
                true => 0,
                false => failures + 1,
            };
            reached = reached.max(taken).max(offset);
        }
        self.finish(server, address, digest, Content::None).await
    }

    /// Where a broken upload goes on; it begins anew if the registry forgot it.
    async fn standing(&self, server: &Server, digest: Digest, address: Url) -> Result<(Url, u64), ImageError> {
        let mut call = Call::new(Method::GET, "");
        call.target = Target::Address(address.clone());
        match server.send(&self.access, &call).await {
            Ok(response) => {
                let next = location(&response).unwrap_or(address);
                Ok((next, received(&response).unwrap_or(0)))
            }
            Err(Failure::NotFound | Failure::Status { .. }) => match self.start(digest, None).await? {
                Start::Upload(address) => Ok((address, 0)),
                Start::Mounted => Err(self.not_pushed(Failure::Transport("the upload was lost".into()))),
            },
            Err(failure) => Err(self.not_pushed(failure)),
        }
    }

    async fn finish(
        &self,
        server: &Server,
        mut address: Url,
        digest: Digest,
        content: Content,
    ) -> Result<(), ImageError> {
        address.query_pairs_mut().append_pair("digest", &digest.to_string());
        let call = Call {
            method: Method::PUT,
            target: Target::Address(address),
            headers: vec![(CONTENT_TYPE, "application/octet-stream".into())],
            content,
            once: false,
        };
        match server.send(&self.access, &call).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.not_pushed(failure)),
        }
    }

    /// Puts a manifest or index under a tag or digest.
    pub async fn put_manifest(&self, selector: &str, media_type: &str, body: &[u8]) -> Result<(), ImageError> {
        let server = self.origin()?;
        let call = Call {
            method: Method::PUT,
            target: Target::Tail(self.tail(server, &format!("manifests/{selector}"))),
            headers: vec![(CONTENT_TYPE, media_type.to_owned())],
            content: Content::Bytes(Bytes::copy_from_slice(body)),
            once: false,
        };
        match server.send(&self.access, &call).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.not_pushed(failure)),
        }
    }

    /// The sentence for a push that failed.
    pub(crate) fn not_pushed(&self, failure: Failure) -> ImageError {
        let why = match failure {
            Failure::NotFound => "not found".to_owned(),
            Failure::Denied(why) => format!("push access denied, may require authorization: {why}"),
            Failure::Status { status, text, url } => format!("unexpected status from request to {url}: {status}{text}"),
            Failure::Transport(why) => why,
        };
        ImageError::Push {
            image: self.reference.to_string(),
            why,
        }
    }
}

/// How many bytes of an upload a registry has; it says `0-LAST`.
fn received(response: &Response) -> Option<u64> {
    let text = response.headers().get(RANGE)?.to_str().ok()?;
    let last: u64 = text
        .trim_start_matches("bytes=")
        .strip_prefix("0-")?
        .trim()
        .parse()
        .ok()?;
    // Nothing is written as one byte is; an upload of one byte goes in one request.
    Some(if last == 0 { 0 } else { last + 1 })
}
