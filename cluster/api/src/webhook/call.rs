//! One exchange over one connection, and why it may fail.

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use std::fmt;
use strata_http::{Body, Connection};
use strata_meta::{Reason, Status};

use super::{
    ClientConfig,
    room::{Received, Room},
};

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) struct CallError {
    /// The sentence, as client-go words it.
    pub(crate) why: String,
    /// The status code the webhook answered with, if it answered.
    pub(crate) code: Option<u16>,
}

impl CallError {
    pub(super) fn new(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            code: None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// How an exchange ended.
pub(super) enum Exchange {
    /// The webhook answered with 2xx.
    Answered(Received),
    /// The connection had been closed before the request was sent: another one may be tried.
    NotSent(String),
    /// No (good) answer.
    Failed(CallError),
}

/// Sends a body and reads the answer.
pub(super) async fn exchange(
    connection: &mut Connection,
    config: &ClientConfig,
    (query, body): (&str, Bytes),
    room: &Room,
) -> Exchange {
    let request = match request(config, query, body) {
        Ok(request) => request,
        Err(why) => return Exchange::Failed(CallError::new(why)),
    };
    match connection.send(request).await {
        Ok(response) => match read(response, room).await {
            Ok(bytes) => Exchange::Answered(bytes),
            Err(error) => Exchange::Failed(error),
        },
        Err(strata_http::Error::Http(error)) if error.is_canceled() || error.is_closed() => {
            Exchange::NotSent(error.to_string())
        }
        Err(error) => Exchange::Failed(CallError::new(error)),
    }
}

fn request(config: &ClientConfig, query: &str, body: Bytes) -> Result<Request<Body>, http::Error> {
    let join = if config.path.contains('?') { '&' } else { '?' };
    let uri = match query {
        "" => config.path.clone(),
        query => format!("{}{join}{query}", config.path),
    };
    let mut request = Request::post(uri)
        .header(HOST, config.endpoint.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, */*")
        .header(USER_AGENT, "kube-apiserver-admission");
    if let Some(text) = &config.authorization {
        let mut value = HeaderValue::from_str(text)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Body::full(body))
}

async fn read(response: Response<hyper::body::Incoming>, room: &Room) -> Result<Received, CallError> {
    let code = response.status().as_u16();
    let bytes = room.read(response.into_body()).await?;
    if (200..300).contains(&code) {
        return Ok(bytes);
    }
    Err(CallError {
        why: refusal(code, &bytes),
        code: Some(code),
    })
}

/// The sentence for an answer that is no success: the Status it holds, or what client-go makes of its code.
fn refusal(code: u16, body: &[u8]) -> String {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && status.reason != Reason::Unknown
        && !status.message.is_empty()
    {
        return status.message;
    }
    /// Upstream quotes no more of an answer than this.
    const QUOTED: usize = 2048;
    let text = String::from_utf8_lossy(&body[..body.len().min(QUOTED)]);
    let text = text.trim();
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 415 => text.to_owned(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}
