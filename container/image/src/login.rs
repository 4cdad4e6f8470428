//! Logging in to registries: what a 401 asks for and how it is answered.
//!
//! RFC 7235 challenges; distribution's token specification; RFC 6749 refresh for identity tokens.

use crate::Credentials;
use crate::transport::root_cause;
use base64::Engine as _;
use serde::Deserialize;

/// What a server demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: String,
        scope: String,
    },
}

const MAX_TOKEN_ANSWER: usize = 1 << 20;

/// The strongest challenge of the WWW-Authenticate headers that can be answered.
pub(crate) fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for header in headers {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let value = |name: &str| parameter(parameters, name).unwrap_or_default();
            let realm = value("realm");
            if !realm.is_empty() {
                return Some(Challenge::Bearer {
                    realm,
                    service: value("service"),
                    scope: value("scope"),
                });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
    }
    found
}

/// One `name="value"` of a challenge; a quoted value may hold commas and escaped quotes.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches([' ', ',', '\t']);
        let (value, remaining) = match after.strip_prefix('"') {
            None => {
                let (value, remaining) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), remaining)
            }
            Some(quoted) => quoted_text(quoted),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = remaining;
    }
}

fn quoted_text(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The header for basic authentication.
pub(crate) fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// Gets an access token from the realm; the header to use, or a sentence why there is none.
pub(crate) async fn fetch_token(
    client: &reqwest::Client,
    realm: &str,
    service: &str,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<String, String> {
    let url = reqwest::Url::parse(realm).map_err(|error| format!("invalid token realm {realm:?}: {error}"))?;
    let identity = credentials.filter(|credentials| !credentials.token.is_empty());
    let (method, request) = match identity {
        Some(credentials) => (
            "POST",
            exchange(client, url.clone(), service, scope, &credentials.token),
        ),
        None => ("GET", ask(client, url.clone(), service, scope, credentials)),
    };
    let kind = if credentials.is_some() {
        "oauth token"
    } else {
        "anonymous token"
    };
    let failed = |why: String| format!("failed to authorize: failed to fetch {kind}: {why}");
    let response = request
        .send()
        .await
        .map_err(|error| failed(format!("{} {realm:?}: {}", title(method), root_cause(&error))))?;
    let status = response.status();
    if !status.is_success() {
        return Err(failed(format!(
            "unexpected status from {method} request to {url}: {status}"
        )));
    }
    let text = bounded_body(response, MAX_TOKEN_ANSWER).await.map_err(failed)?;
    let answer: TokenAnswer =
        serde_json::from_slice(&text).map_err(|_| failed("unable to decode token response".into()))?;
    match (answer.token.is_empty(), answer.access_token.is_empty()) {
        (false, _) => Ok(format!("Bearer {}", answer.token)),
        (true, false) => Ok(format!("Bearer {}", answer.access_token)),
        (true, true) => Err(failed(
            "authorization server did not include a token in the response".into(),
        )),
    }
}

fn title(method: &str) -> &'static str {
    if method == "POST" { "Post" } else { "Get" }
}

fn ask(
    client: &reqwest::Client,
    mut url: reqwest::Url,
    service: &str,
    scope: &str,
    credentials: Option<&Credentials>,
) -> reqwest::RequestBuilder {
    {
        let mut query = url.query_pairs_mut();
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        for scope in scope.split_ascii_whitespace() {
            query.append_pair("scope", scope);
        }
    }
    match credentials.filter(|credentials| !credentials.username.is_empty()) {
        Some(credentials) => client
            .get(url)
            .header(reqwest::header::AUTHORIZATION, basic(credentials)),
        None => client.get(url),
    }
}

fn exchange(
    client: &reqwest::Client,
    mut url: reqwest::Url,
    service: &str,
    scope: &str,
    token: &str,
) -> reqwest::RequestBuilder {
    // The form encoding is the query's; a scratch address does the escaping.
    let mut form = reqwest::Url::parse("http://form").unwrap_or_else(|_| url.clone());
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service)
        .append_pair("client_id", "strata")
        .append_pair("scope", scope)
        .append_pair("refresh_token", token);
    url.set_fragment(None);
    client
        .post(url)
        .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.query().unwrap_or_default().to_owned())
}

/// A whole body that must not be larger than `limit`.
pub(crate) async fn bounded_body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| root_cause(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(format!("answer is larger than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer =
            r#"Bearer realm="https://auth.example/token?a=1,2",service="reg",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token?a=1,2".into(),
            service: "reg".into(),
            scope: "repository:a/b:pull,push".into(),
        };
        assert_eq!(challenge([bearer].into_iter()), Some(expected.clone()));
        assert_eq!(challenge(["Basic realm=\"x\"", bearer].into_iter()), Some(expected));
        assert_eq!(challenge(["basic realm=\"x\""].into_iter()), Some(Challenge::Basic));
        for none in ["", "Negotiate", "Bearer", "Bearer realm=", "Bearer realm=\"unclosed"] {
            assert!(
                !matches!(challenge([none].into_iter()), Some(Challenge::Basic)),
                "{none}"
            );
        }
    }
}
