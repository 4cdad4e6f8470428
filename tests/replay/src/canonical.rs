//! What differs between any two runs: identities, revisions, moments, random names, addresses of the server.

use serde_json::Value;
use std::collections::BTreeMap;

/// Gives names to what one server made up: to uids by the objects' own names, so that one answer that differs shifts
/// none after it; to revisions in the order an object is first seen at them.
pub struct Canon {
    port: String,
    uids: BTreeMap<String, String>,
    revisions: BTreeMap<(String, String), String>,
    counts: BTreeMap<String, usize>,
}

impl Canon {
    /// For a server on a port.
    pub fn new(port: u16) -> Self {
        Self {
            port: format!(":{port}"),
            uids: BTreeMap::new(),
            revisions: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// An answer that can be compared.
    pub fn mask(&mut self, mut answer: Value) -> Value {
        if let Some(members) = answer.as_object_mut() {
            members.remove("etag");
        }
        self.learn(&answer);
        self.value("", answer)
    }

    /// Finds the uids of objects, which later stand in sentences as well. One that no named object has is left as it is.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(members) => {
                let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or("");
                let (uid, generated) = (text("uid"), text("generateName"));
                let name = match generated {
                    "" => text("name"),
                    base => base,
                };
                if is_uid(uid) && !name.is_empty() && members.contains_key("creationTimestamp") {
                    let label = format!("<uid of {}/{name}>", text("namespace"));
                    self.uids.entry(uid.to_owned()).or_insert(label);
                }
                members.values().for_each(|member| self.learn(member));
            }
            _ => {}
        }
    }

    fn value(&mut self, name: &str, value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.value("", item)).collect(),
            Value::Object(mut members) => {
                sort_what_has_no_order(&mut members);
                let uid = members.get("uid").and_then(Value::as_str).unwrap_or("").to_owned();
                if let Some(Value::String(revision)) = members.get_mut("resourceVersion") {
                    *revision = self.revision(&uid, revision);
                }
                let generated = members
                    .get("generateName")
                    .and_then(Value::as_str)
                    .unwrap_or("")
                    .to_owned();
                if let Some(Value::String(text)) = members.get_mut("name")
                    && !generated.is_empty()
                    && text.starts_with(&generated)
                {
                    *text = format!("{generated}<random {}>", text.len() - generated.len());
                }
                members
                    .into_iter()
                    .map(|(n, v)| (n.clone(), self.value(&n, v)))
                    .collect()
            }
            Value::String(text) => Value::String(self.text(name, text)),
            other => other,
        }
    }

    /// The revisions of one object are numbered; those of lists and bookmarks are not compared.
    fn revision(&mut self, uid: &str, revision: &str) -> String {
        if revision.is_empty() || revision == "0" || revision.starts_with('<') {
            return revision.to_owned();
        }
        if uid.is_empty() {
            return "<revision>".into();
        }
        let count = self.counts.entry(uid.to_owned()).or_default();
        let known = self.revisions.entry((uid.to_owned(), revision.to_owned()));
        known
            .or_insert_with(|| {
                *count += 1;
                format!("<revision {count} of the object>")
            })
            .clone()
    }

    fn text(&self, name: &str, text: String) -> String {
        if name == "resourceVersion" {
            return text;
        }
        if let Some(shape) = moment(&text) {
            return shape.into();
        }
        if matches!(name, "continue" | "token") && !text.is_empty() {
            return format!("<{name}>");
        }
        if name.is_empty() && is_age(&text) {
            return "<age>".into();
        }
        if let Some(kind) = credential(&text) {
            return format!("{kind}=<credential>");
        }
        if let Some(suffix) = text.strip_prefix("kube-api-access-") {
            return format!("kube-api-access-<random {}>", suffix.len());
        }
        // Of an OpenAPI document, which is written otherwise.
        if let Some((address, hash)) = text.split_once("?hash=")
            && hash.len() == 128
        {
            return format!("{address}?hash=<hash>");
        }
        if let Some(label) = self.uids.get(&text) {
            return label.clone();
        }
        let mut text = without_revisions(&quoted_objects(&text)).replace(&self.port, ":<port>");
        for (uid, label) in &self.uids {
            if text.contains(uid.as_str()) {
                text = text.replace(uid.as_str(), label);
            }
        }
        text
    }
}

/// Entries of managers stand in the order of their seconds, which differs from run to run; conflicts and what is wrong
/// with custom resources and their definitions in that of a Go map.
fn sort_what_has_no_order(members: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(entries)) = members.get_mut("managedFields") {
        let key = |entry: &Value| ["manager", "operation", "apiVersion", "subresource"].map(|m| entry[m].to_string());
        entries.sort_by_key(key);
    }
    let Some(details) = members.get_mut("details") else {
        return;
    };
    let custom = details["group"] == "example.com" || details["kind"] == "CustomResourceDefinition";
    let Some(Value::Array(causes)) = details.get_mut("causes") else {
        return;
    };
    if !custom && causes.iter().any(|cause| cause["reason"] != "FieldManagerConflict") {
        return;
    }
    let text = |cause: &Value| {
        let part = |name: &str| cause[name].as_str().unwrap_or("").to_owned();
        format!("{}: {}", part("field"), part("message"))
    };
    let told = causes.iter().map(text).collect::<Vec<_>>().join(", ");
    causes.sort_by_key(text);
    let sorted = causes.iter().map(text).collect::<Vec<_>>().join(", ");
    if let Some(Value::String(message)) = members.get_mut("message") {
        *message = message.replace(&told, &sorted);
    }
}

/// What kind of credential a text identifies.
fn credential(text: &str) -> Option<&str> {
    let (kind, id) = text.split_once('=')?;
    let identifies = match kind {
        "JTI" => is_uid(id),
        "X509SHA256" => id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        _ => false,
    };
    identifies.then_some(kind)
}

/// How long ago something was, as tables tell it.
fn is_age(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    digits > 0
        && text.ends_with(['s', 'm', 'h', 'd'])
        && text.bytes().all(|b| b.is_ascii_digit() || b"smhd".contains(&b))
}

/// Sentences quote whole objects, whose members stand in the order of Go structs: they are sorted, their moments and revisions masked.
fn quoted_objects(text: &str) -> String {
    let Some(start) = text.find(r#""{\""#) else {
        return text.to_owned();
    };
    let mut strings = serde_json::Deserializer::from_str(&text[start..]).into_iter::<String>();
    let Some(Ok(object)) = strings.next() else {
        return text.to_owned();
    };
    let end = start + strings.byte_offset();
    let Ok(value) = serde_json::from_str::<Value>(&object) else {
        return text.to_owned();
    };
    format!("{}{}{}", &text[..start], moments_masked(value), &text[end..])
}

fn moments_masked(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(moments_masked).collect(),
        Value::Object(members) => {
            let masked = |(name, value): (String, Value)| match name.as_str() {
                "resourceVersion" => (name, "<revision>".into()),
                _ => (name, moments_masked(value)),
            };
            members.into_iter().map(masked).collect()
        }
        Value::String(text) => Value::String(moment(&text).map_or(text, str::to_owned)),
        other => other,
    }
}

/// Revisions in sentences about them.
fn without_revisions(text: &str) -> String {
    let mut out = text.to_owned();
    for before in ["current: ", "precondition (", "record ("] {
        if let Some((head, tail)) = out.split_once(before) {
            let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            let ends = rest.is_empty() || rest.starts_with(')') || before.starts_with("current");
            if rest.len() < tail.len() && ends {
                out = format!("{head}{before}<revision>{rest}");
            }
        }
    }
    out
}

fn is_uid(text: &str) -> bool {
    text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The shape of a moment of this century: with or without a fraction.
fn moment(text: &str) -> Option<&'static str> {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    if day.len() != 10 || !day.starts_with("20") || time.len() < 8 {
        return None;
    }
    match time.split_once('.') {
        None if time.len() == 8 => Some("<time>"),
        Some((_, fraction)) if digits(fraction) && fraction.len() == 6 => Some("<time in microseconds>"),
        Some((_, fraction)) if digits(fraction) => Some("<time with a fraction>"),
        _ => None,
    }
}
