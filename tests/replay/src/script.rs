//! The requests as they are written down.
//!
//! ```text
//! ### a title
//! POST /api/v1/namespaces/{{namespace}}/configmaps?dryRun=All
//! Accept: application/json
//! @save uid /body/metadata/uid
//!
//! {"metadata": {"name": "a"}}
//! ```
//!
//! Accept and Content-Type are JSON unless they are named; named without a value they are not sent. Lines with `@`:
//! `@save NAME POINTER` keeps a part of the answer as `{{NAME}}`, `@anonymous` presents no certificate, `@protobuf`
//! sends the JSON body in that form, `@stream N` reads N frames of a stream and goes, `@until POINTER
//! VALUE` asks again until the answer has that there, for what a server does on its own after a while. `{{repeat TEXT N}}`
//! is TEXT N times.

use crate::Outcome;
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// The header with a request's name in the audit log.
const AUDIT_ID: &str = "audit-id";

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What it is about.
    pub title: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// Parts of the answer to keep: name, JSON pointer.
    pub saves: Vec<(String, String)>,
    /// Without a client certificate.
    pub anonymous: bool,
    /// Send the body as protobuf.
    pub protobuf: bool,
    /// Read this many frames and go.
    pub frames: Option<usize>,
    /// Ask again until the answer has this text at this pointer.
    pub awaited: Option<(String, String)>,
}

/// What was kept of one server's answers.
#[derive(Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Keeps what a request asks for.
    pub fn save(&mut self, request: &Request, answer: &Value) {
        for (name, pointer) in &request.saves {
            let text = match answer.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
            self.0.insert(name.clone(), text);
        }
    }

    fn fill(&self, text: &str) -> Outcome<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, inner)) = rest.split_once("{{") {
            let (name, after) = inner.split_once("}}").ok_or("{{ without }}")?;
            out.push_str(before);
            match name.split(' ').collect::<Vec<_>>().as_slice() {
                ["repeat", text, count] => out.push_str(&text.repeat(count.parse()?)),
                _ => out.push_str(
                    self.0
                        .get(name)
                        .ok_or_else(|| format!("{{{{{name}}}}} was not saved"))?,
                ),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

impl Request {
    /// With the variables' values.
    pub fn filled(&self, variables: &Variables) -> Outcome<Self> {
        let mut filled = self.clone();
        filled.path = variables.fill(&self.path)?;
        filled.body = variables.fill(&self.body)?;
        for (_, value) in &mut filled.headers {
            *value = variables.fill(value)?;
        }
        Ok(filled)
    }

    /// Gives the request a name in the audit log, unless it has one of its own.
    pub fn named(&mut self, name: &str) {
        self.headers.retain(|(header, _)| header != AUDIT_ID);
        if self.header(AUDIT_ID, "").is_none() {
            self.headers.push((AUDIT_ID.to_owned(), name.to_owned()));
        }
    }

    /// Whether an answer is the one that is waited for.
    pub fn is_awaited(&self, answer: &Value) -> bool {
        self.awaited.as_ref().is_none_or(|(pointer, value)| {
            let found = answer.pointer(pointer);
            let text = found.map(|found| found.as_str().map_or_else(|| found.to_string(), str::to_owned));
            text.as_ref() == Some(value)
        })
    }

    /// A header's value; `None` when it is not to be sent.
    pub fn header<'a>(&'a self, name: &str, default: &'a str) -> Option<&'a str> {
        let named = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = named.map_or(default, |(_, value)| value.as_str());
        (!value.is_empty()).then_some(value)
    }
}

/// Reads a file of requests. Errors: where it is not understood.
pub fn read(path: &Path) -> Outcome<Vec<Request>> {
    let text = fs::read_to_string(path)?;
    let parts = text.split("\n### ").skip(usize::from(!text.starts_with("### ")));
    parts
        .map(|part| part.strip_prefix("### ").unwrap_or(part))
        .map(|part| one(part).map_err(|why| format!("{}: {part}: {why}", path.display()).into()))
        .collect()
}

fn one(text: &str) -> Outcome<Request> {
    let mut request = Request::default();
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines().filter(|line| !line.starts_with("# "));
    request.title = lines.next().ok_or("no title")?.trim().to_owned();
    let (method, path) = lines.next().and_then(|l| l.split_once(' ')).ok_or("no request line")?;
    (request.method, request.path) = (method.to_owned(), path.trim().to_owned());
    request.body = body.trim_end().to_owned();
    for line in lines {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["@save", name, pointer] => request.saves.push(((*name).to_owned(), (*pointer).to_owned())),
            ["@anonymous"] => request.anonymous = true,
            ["@protobuf"] => request.protobuf = true,
            ["@until", pointer, value] => request.awaited = Some(((*pointer).to_owned(), (*value).to_owned())),
            ["@stream", count] => request.frames = Some(count.parse()?),
            _ => {
                let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} is no header"))?;
                request.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    Ok(request)
}
