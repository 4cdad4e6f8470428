//! What differs between any two runs: identities, revisions, moments, random names, addresses of the server.

use serde_json::Value;
use std::collections::BTreeMap;

/// Gives names to what one server made up, in the order it is first seen.
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

    /// Finds uids and the revisions of objects, which later stand in sentences as well.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(members) => {
                if let Some(uid) = members.get("uid").and_then(Value::as_str).filter(|u| is_uid(u)) {
                    let next = format!("<uid {}>", self.uids.len() + 1);
                    self.uids.entry(uid.to_owned()).or_insert(next);
                }
                members.values().for_each(|member| self.learn(member));
            }
            _ => {}
        }
    }

    fn value(&mut self, name: &str, value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.value(name, item)).collect(),
            Value::Object(mut members) => {
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
        let mut text = text.replace(&self.port, ":<port>");
        for (uid, label) in &self.uids {
            if text.contains(uid.as_str()) {
                text = text.replace(uid.as_str(), label);
            }
        }
        text
    }
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
