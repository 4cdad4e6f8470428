//! Requests that ask registries: logins, and what a name stands for there.

use crate::call::{Call, ok};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;
use strata_image::{Credentials, ImageError};

/// What a client sends along in `X-Registry-Auth`: JSON in the URL's alphabet of base64.
pub(crate) fn credentials(call: &Call) -> Answer<Option<Credentials>> {
    let header = call.headers().get("x-registry-auth");
    let Some(text) = header
        .and_then(|header| header.to_str().ok())
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let invalid = || ApiError::invalid("invalid X-Registry-Auth header");
    // Some clients leave the padding away.
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let bytes = base64::Engine::decode(&engine, text).map_err(|_| invalid())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let member = |key: &str| value[key].as_str().unwrap_or("").to_owned();
    let all = Credentials {
        username: member("username"),
        password: member("password"),
        token: member("identitytoken"),
    };
    Ok(Some(all).filter(|all| *all != Credentials::default()))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    identitytoken: String,
    serveraddress: String,
}

/// `POST /auth`: whether a registry knows a login.
pub(crate) async fn auth(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let login: Login = call.json().await?;
    let server = server_of(&login.serveraddress);
    let credentials = Credentials {
        username: login.username,
        password: login.password,
        token: login.identitytoken,
    };
    match inner.images.verify_login(&server, &credentials).await {
        Ok(()) => ok(&json!({"Status": "Login Succeeded", "IdentityToken": ""})),
        Err(error @ ImageError::Login { .. }) => Err(ApiError::new(StatusCode::UNAUTHORIZED, error.to_string())),
        Err(other) => Err(other.into()),
    }
}

/// The registry that an address of a login means.
fn server_of(address: &str) -> String {
    let bare = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    match bare.split('/').next().unwrap_or(bare) {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// `GET /distribution/{name}/json`: what a name stands for at its registry.
pub(crate) async fn describe(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let credentials = credentials(&call)?;
    let described = inner.images.describe(call.name(), credentials).await;
    let described = described.map_err(|error| match error {
        error @ ImageError::Denied { .. } => ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()),
        error @ ImageError::NotFound { .. } => ApiError::not_found(error.to_string()),
        other => other.into(),
    })?;
    ok(&json!({
        "Descriptor": {
            "mediaType": described.media_type, "digest": described.digest.to_string(), "size": described.size,
        },
        "Platforms": described.platforms,
    }))
}

#[cfg(test)]
mod tests {
    use super::server_of;

    #[test]
    fn logins_name_their_registry_in_several_ways() {
        for (address, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://r.example:80/v2/", "r.example:80"),
        ] {
            assert_eq!(server_of(address), expected, "{address}");
        }
    }
}
