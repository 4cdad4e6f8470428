//! A request as handlers see it, and the shapes of answers.

use crate::connection::Connection;
use crate::error::{Answer, ApiError};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use strata_http::Body;

/// Largest JSON body of a request.
const BODY_LIMIT: usize = 4 << 20;

/// One request.
pub(crate) struct Call {
    /// What stood where the route has gaps.
    pub names: Vec<String>,
    query: Vec<(String, String)>,
    pub request: Request<Incoming>,
}

impl Call {
    pub fn new(request: Request<Incoming>, names: Vec<String>) -> Self {
        let query = parse_query(request.uri().query().unwrap_or(""));
        Self { names, query, request }
    }

    /// The version of the API that the path names; the newest if it names none.
    pub fn version(&self) -> (u32, u32) {
        let named = self.request.uri().path().split('/').nth(1);
        named
            .and_then(|word| version(word.strip_prefix('v')?))
            .unwrap_or((u32::MAX, 0))
    }

    /// The first name in the path.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// A parameter's first value; empty if it is absent.
    pub fn query(&self, key: &str) -> &str {
        self.values(key).next().unwrap_or("")
    }

    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.query
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// A switch as docker reads it: anything but a few words for no is yes.
    pub fn flag(&self, key: &str) -> bool {
        is_true(self.query(key))
    }

    /// [`Call::flag`] with a default for an absent one.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.values(key).next().is_none() {
            default
        } else {
            self.flag(key)
        }
    }

    pub fn number(&self, key: &str) -> Answer<Option<i64>> {
        match self.query(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))),
        }
    }

    pub fn filters(&self) -> Answer<Filters> {
        Filters::parse(self.query("filters"))
    }

    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The body as JSON, with nulls taken as absent; an empty body is an empty object.
    pub async fn json<T: DeserializeOwned>(self) -> Answer<T> {
        let value = self.value().await?;
        lenient(&value)
    }

    /// The body as it was sent.
    pub async fn value(self) -> Answer<Value> {
        decoded(&collect(self.request.into_body()).await?)
    }

    /// Takes the connection over; the answer that says so, and the connection once it was sent.
    pub fn hijack(
        &mut self,
        multiplexed: bool,
    ) -> (
        Response<Body>,
        impl Future<Output = std::io::Result<Connection>> + use<>,
    ) {
        let kind = if multiplexed {
            "application/vnd.docker.multiplexed-stream"
        } else {
            "application/vnd.docker.raw-stream"
        };
        let upgrade = hyper::upgrade::on(&mut self.request);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("content-type", kind), ("connection", "Upgrade"), ("upgrade", "tcp")] {
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
        }
        (response, Connection::take(upgrade))
    }
}

/// The answer that a connection is taken over, and the connection afterwards.
pub(crate) type Hijacked = (Response<Body>, BoxFuture<'static, std::io::Result<Connection>>);

impl Call {
    /// The body of a request that may ask to take the connection over, and how to do that if it does.
    pub async fn take_over(&mut self) -> Answer<(Value, Option<Hijacked>)> {
        let asked = self.headers().contains_key(http::header::UPGRADE);
        let hijacked = asked.then(|| {
            let (response, upgraded) = self.hijack(true);
            (response, upgraded.boxed())
        });
        let value = decoded(&collect(self.request.body_mut()).await?)?;
        Ok((value, hijacked))
    }
}

/// `1.44`
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A body as JSON; an empty one is an empty object.
fn decoded(bytes: &[u8]) -> Answer<Value> {
    if bytes.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

async fn collect<B>(body: B) -> Answer<Bytes>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = Limited::new(body, BODY_LIMIT).collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| ApiError::invalid(format!("reading the request: {error}")))
}

/// Decodes a value in which null stands for absent.
pub(crate) fn lenient<T: DeserializeOwned>(value: &Value) -> Answer<T> {
    let mut value = value.clone();
    strip(&mut value);
    serde_json::from_value(value).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Lays `given` over `base`, member by member; null in `given` keeps what `base` has.
pub(crate) fn overlay_object(base: &mut Map<String, Value>, given: &Value) {
    for (key, value) in given.as_object().into_iter().flatten() {
        match base.get_mut(key) {
            Some(known) if value.is_null() && !known.is_null() => {}
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

pub(crate) fn is_true(text: &str) -> bool {
    !matches!(
        text.trim().to_ascii_lowercase().as_str(),
        "" | "0" | "no" | "false" | "none"
    )
}

/// What a list is narrowed by: for each key some values, one of which must fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    pub fn parse(text: &str) -> Answer<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || ApiError::invalid("invalid filter");
        let value: Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut all = BTreeMap::new();
        for (key, values) in value.as_object().ok_or_else(invalid)? {
            let values = match values {
                Value::Object(map) => map
                    .iter()
                    .filter(|(_, on)| **on == json!(true))
                    .map(|(v, _)| v.clone())
                    .collect(),
                Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => return Err(invalid()),
            };
            all.insert(key.clone(), values);
        }
        Ok(Self(all))
    }

    /// Refuses keys that mean nothing here.
    pub fn only(&self, known: &[&str]) -> Answer<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether there is no such filter or one of its values fits.
    pub fn fits(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.get(key);
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Whether all of `label=` (and none of `label!=`) fit.
    pub fn fits_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
            None => labels.contains_key(wanted.as_str()),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }
}

pub(crate) fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// 200 with JSON.
pub(crate) fn ok(value: &Value) -> Answer<Response<Body>> {
    Ok(reply(StatusCode::OK, value))
}

/// 201 with JSON.
pub(crate) fn created(value: &Value) -> Answer<Response<Body>> {
    Ok(reply(StatusCode::CREATED, value))
}

/// 204.
pub(crate) fn nothing() -> Answer<Response<Body>> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// 200 with a stream of that type.
pub(crate) fn stream(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static(kind));
    response
}

fn parse_query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect()
}

/// Undoes percent encoding.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (b'+', _) if plus_is_space => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_filters_are_read_as_docker_writes_them() {
        assert_eq!(
            parse_query("a=1&b=x%2Fy+z&c"),
            [("a", "1"), ("b", "x/y z"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        let filters = Filters::parse(r#"{"label":{"a=b":true,"c":false},"name":["x","y"]}"#).expect("valid");
        assert_eq!(filters.get("label"), ["a=b"]);
        assert!(filters.fits("name", |name| name == "y") && filters.fits("absent", |_| false));
        assert!(filters.only(&["name"]).is_err());
        assert!(Filters::parse("[]").is_err());
    }
}
