//! Trying a login at a registry.

use crate::connection::{Access, Call, Failure, Server};
use crate::hosts::endpoints;
use crate::transfer::blocking;
use crate::transport::Transport;
use crate::{Credentials, ImageError, ImageOptions, ImageStore};
use reqwest::Method;
use std::sync::Arc;

impl ImageStore {
    /// Asks a registry whether it knows this login.
    pub async fn verify_login(&self, registry: &str, login: &Credentials) -> Result<(), ImageError> {
        verify(&self.inner.transport, &self.inner.options, registry, login).await
    }
}

/// Asks a registry whether it knows this login; needs no store, only how registries are reached.
pub async fn verify_login(options: &ImageOptions, registry: &str, login: &Credentials) -> Result<(), ImageError> {
    let transport = Arc::new(Transport::new(options.proxy.clone()));
    verify(&transport, options, registry, login).await
}

async fn verify(
    transport: &Arc<Transport>,
    options: &ImageOptions,
    registry: &str,
    login: &Credentials,
) -> Result<(), ImageError> {
    let (hosts, name) = (options.hosts_dir.clone(), registry.to_owned());
    let found = blocking(move || endpoints(hosts.as_deref(), &name)).await?;
    let failed = |why: String| ImageError::Login {
        registry: registry.to_owned(),
        why,
    };
    let origin = found.into_iter().rfind(|endpoint| endpoint.origin);
    let origin = origin.ok_or_else(|| failed("no server is configured for the registry".into()))?;
    let server = Server::new(Arc::clone(transport), origin);
    let access = Access {
        credentials: Some(login.clone()),
        scope: String::new(),
    };
    match server.send(&access, &Call::new(Method::GET, "")).await {
        Ok(_) => Ok(()),
        Err(Failure::Denied(why)) => Err(failed(why)),
        Err(Failure::NotFound) => Err(failed("this is no registry of the second version".into())),
        Err(Failure::Status { status, text, url }) => Err(failed(format!("{url}: {status}{text}"))),
        Err(Failure::Transport(why)) => Err(failed(why)),
    }
}
