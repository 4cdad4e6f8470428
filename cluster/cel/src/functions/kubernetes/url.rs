//! URLs, as Go's `net/url` reads them.

use super::{
    super::{Row, row},
    Opaque, only_text,
};
use crate::{EvalError, Value, env::Library::Kubernetes as Lib};
use std::{collections::BTreeMap, sync::Arc};

/// A URL.
#[derive(Clone, Debug, Default)]
pub struct Url {
    /// As it was written.
    pub(crate) text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// An absolute URL, or an absolute path. Errors: why it is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("parse {text:?}: {why}"));
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return refuse("net/url: invalid control character in URL");
        }
        if text.is_empty() {
            return refuse("empty url");
        }
        let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
        let _ = fragment;
        let (scheme, rest) = match split_scheme(before) {
            Ok(split) => split,
            Err(why) => return refuse(why),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            // `mailto:someone` says no place; a relative path is none from here.
            return match scheme.is_empty() {
                true => refuse("invalid URI for request"),
                false => Ok(Self {
                    text: text.to_owned(),
                    scheme,
                    query: query.to_owned(),
                    ..Self::default()
                }),
            };
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
                let end = after.find('/').unwrap_or(after.len());
                after.split_at(end)
            }
            _ => ("", rest),
        };
        let host = match host_of(authority) {
            Ok(host) => host,
            Err(why) => return refuse(&why),
        };
        let path = match escaped_path(path) {
            Ok(path) => path,
            Err(why) => return refuse(&why),
        };
        Ok(Self {
            text: text.to_owned(),
            scheme,
            host,
            path,
            query: query.to_owned(),
        })
    }

    fn host_and_port(&self) -> (&str, &str) {
        let (host, port) = match self.host.rfind(':') {
            Some(at) if self.host[at + 1..].bytes().all(|b| b.is_ascii_digit()) => {
                (&self.host[..at], &self.host[at + 1..])
            }
            _ => (&*self.host, ""),
        };
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        (inner.unwrap_or(host), port)
    }

    fn queries(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in self
            .query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) {
                found.entry(key).or_default().push(value);
            }
        }
        found
    }
}

fn split_scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            '0'..='9' | '+' | '-' | '.' => return Ok((String::new(), text)),
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => return Ok((String::new(), text)),
        }
    }
    Ok((String::new(), text))
}

fn host_of(authority: &str) -> Result<String, String> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
    if !user.bytes().all(allowed) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let port = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, port)) => port,
            None => return Err("missing ']' in host".to_owned()),
        },
        None => host.find(':').map_or("", |at| &host[host.rfind(':').unwrap_or(at)..]),
    };
    let digits = port
        .strip_prefix(':')
        .is_none_or(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    if !digits || (!port.is_empty() && !port.starts_with(':')) {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(bad) = host
        .chars()
        .find(|c| c.is_ascii() && matches!(c, ' ' | '^' | '`' | '{' | '}' | '|' | '\\'))
    {
        return Err(format!("invalid character {:?} in host name", bad.to_string()));
    }
    unescape(host, false).ok_or_else(|| format!("invalid URL escape {:?}", bad_escape(host)))
}

/// The path with what must be escaped escaped, and what was written so left so.
fn escaped_path(path: &str) -> Result<String, String> {
    if unescape(path, false).is_none() {
        return Err(format!("invalid URL escape {:?}", bad_escape(path)));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/[]%".contains(&b);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match plain(byte) {
            true => out.push(byte.into()),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(out)
}

fn bad_escape(text: &str) -> &str {
    let at = text.match_indices('%').map(|(at, _)| at).find(|at| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let at = at.unwrap_or(0);
    text.get(at..(at + 3).min(text.len())).unwrap_or(&text[at..])
}

fn unescape(text: &str, plus: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = text
                    .get(at + 1..at + 3)
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 3;
                continue;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(*other),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            Lib,
            "url",
            "string_to_url",
            "(string) -> url",
            |args| match Url::parse(only_text(args)?) {
                Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
                Err(e) => Err(EvalError::failed(format!(
                    "URL parse error during conversion from string: {e}"
                ))),
            },
        ),
        row(Lib, "isURL", "is_url_string", "(string) -> bool", |args| {
            Ok(Value::Bool(Url::parse(only_text(args)?).is_ok()))
        }),
        row(Lib, "getScheme", "url_get_scheme", "url.() -> string", |args| {
            get(args, |url| &url.scheme)
        }),
        row(Lib, "getHost", "url_get_host", "url.() -> string", |args| {
            get(args, |url| &url.host)
        }),
        row(Lib, "getHostname", "url_get_hostname", "url.() -> string", |args| {
            get(args, |url| url.host_and_port().0)
        }),
        row(Lib, "getPort", "url_get_port", "url.() -> string", |args| {
            get(args, |url| url.host_and_port().1)
        }),
        row(
            Lib,
            "getEscapedPath",
            "url_get_escaped_path",
            "url.() -> string",
            |args| get(args, |url| &url.path),
        ),
        row(
            Lib,
            "getQuery",
            "url_get_query",
            "url.() -> map(string, list(string))",
            |args| match args {
                [Value::Opaque(Opaque::Url(url))] => {
                    let list = |values: Vec<String>| Value::list(values.into_iter().map(Value::text).collect());
                    Ok(Value::map(
                        url.queries().into_iter().map(|(key, values)| (key, list(values))),
                    ))
                }
                _ => Err(EvalError::no_such_overload()),
            },
        ),
    ]
}

fn get<'a>(args: &[Value<'a>], part: fn(&Url) -> &str) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(Value::text(part(url))),
        _ => Err(EvalError::no_such_overload()),
    }
}
