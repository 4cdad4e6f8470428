//! `/openapi/v2` and `/openapi/v3`: what is served, described from the rows, with what other servers say of theirs.
//!
//! A document is told from the one before by a hash of what it is made from, so that a client that has it costs
//! nothing; it is built when first asked for and kept compressed ([`Cache`]).

mod answer;
mod cache;
mod custom;
pub(crate) mod foreign;

pub(crate) use cache::Cache;

use crate::{
    core::Core,
    pipeline::Call,
    registry::{Row, Rows},
};
use answer::Encoding;
use cache::Which;
use http::{HeaderMap, Response};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupVersion, Status};
use strata_schema::{DescribedKind, DescribedSubresource, Document, Form, Subject, document_path, gnostic};

/// What `info.version` says: upstream's version to the minor one.
const VERSION: &str = "1.36";

/// Whether a path is below `/openapi`.
pub(crate) fn is_asked(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next() == Some("openapi")
}

/// A request for a document.
struct Asked {
    core: Arc<Core>,
    path: String,
    /// The hash that the client knows the document by.
    hash: String,
    headers: HeaderMap,
}

/// Answers below `/openapi`, beside the threads that answer other requests: to write a document takes a while.
/// Errors: 500.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, Status> {
    let asked = Asked {
        core: call.core.clone(),
        path: call.info.path.clone(),
        hash: call.query.get("hash").to_owned(),
        headers: call.headers.clone(),
    };
    let answering = tokio::task::spawn_blocking(move || answered(&asked));
    answering.await.map_err(Status::internal)?
}

fn answered(asked: &Asked) -> Result<Response<Body>, Status> {
    let rows = asked.core.registry.rows();
    match asked.path.strip_prefix("/openapi/") {
        Some("v2") => v2(asked, &rows),
        Some("v3") => answer::index(&index(&asked.core, &rows)),
        Some(path) => match path.strip_prefix("v3/") {
            Some(path) => v3(asked, &rows, path),
            None => Ok(crate::pipeline::not_found()),
        },
        None => Ok(crate::pipeline::not_found()),
    }
}

/// What has a v3 document.
enum Topic {
    Root(&'static str),
    Group(String),
    Builtin(GroupVersion),
    Custom(GroupVersion),
    Foreign(GroupVersion, Arc<foreign::Described>),
}

impl Topic {
    fn path(&self) -> String {
        match self {
            Self::Root(path) => (*path).to_owned(),
            Self::Group(group) => format!("apis/{group}"),
            Self::Builtin(version) | Self::Custom(version) | Self::Foreign(version, _) => document_path(version),
        }
    }

    /// Changes whenever the document does.
    fn hash(&self, rows: &Rows) -> String {
        let mut hash = Sha512::new();
        match self {
            Self::Foreign(_, described) => return described.hash.clone(),
            Self::Custom(version) => custom::digest(rows, version, &mut hash),
            _ => {}
        }
        hash.update(self.path());
        hash.update(strata_schema::openapi_fingerprint().to_be_bytes());
        hex(hash)
    }

    /// The document; of other servers in the words they said it in. Errors: 500.
    fn write(&self, rows: &Rows, encoding: Encoding) -> Result<Vec<u8>, Status> {
        let subject = match self {
            Self::Root(path) => Subject::Root(path),
            Self::Group(group) => Subject::Group(group),
            Self::Builtin(version) => Subject::Builtin(builtin(rows, version)),
            Self::Custom(version) => custom::subject(rows, version, Form::V3),
            Self::Foreign(_, described) => {
                let json = described.v3()?;
                if encoding == Encoding::Json {
                    return Ok(json);
                }
                let value: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
                return Ok(gnostic::encode(&gnostic::v3::DOCUMENT, &value));
            }
        };
        let document = Document::v3(subject, VERSION).ok_or_else(|| Status::internal("a description of nothing"))?;
        encoding.write(&document)
    }
}

fn hex(hash: Sha512) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Everything that has a v3 document, once.
fn topics(core: &Core, rows: &Rows) -> Vec<Topic> {
    let mut found: Vec<Topic> = Subject::ROOTS.into_iter().map(Topic::Root).collect();
    let mut seen: Vec<(GroupVersion, bool)> = Vec::new();
    for row in rows.iter() {
        let (version, custom) = (row.gvk.group_version(), row.schema.is_custom());
        if seen
            .iter()
            .any(|(known, other)| *known == version && (*other == custom || custom))
        {
            continue;
        }
        let new_group =
            !custom && !version.group.is_empty() && !seen.iter().any(|(v, c)| v.group == version.group && !c);
        if new_group {
            found.push(Topic::Group(version.group.clone()));
        }
        seen.push((version.clone(), custom));
        found.push(if custom {
            Topic::Custom(version)
        } else {
            Topic::Builtin(version)
        });
    }
    for remote in core.aggregator.all() {
        if let Some(described) = core.aggregator.documents.get(&remote).openapi {
            found.push(Topic::Foreign(remote.version.clone(), described));
        }
    }
    found
}

fn builtin<'r>(rows: &'r Rows, version: &GroupVersion) -> Vec<DescribedKind<'r>> {
    let here = |row: &&Arc<Row>| !row.schema.is_custom() && row.gvk.group_version() == *version;
    rows.iter().filter(here).map(|row| described(row)).collect()
}

/// A row as a document describes it.
fn described(row: &Row) -> DescribedKind<'_> {
    let subresources = row.subresources.iter().map(|sub| DescribedSubresource {
        name: &sub.name,
        group: &sub.gvk.group,
        version: &sub.gvk.version,
        kind: &sub.gvk.kind,
        verbs: sub.verbs.iter().map(String::as_str).collect(),
    });
    DescribedKind {
        group: &row.gvk.group,
        version: &row.gvk.version,
        kind: &row.gvk.kind,
        list_kind: &row.list_kind,
        plural: &row.resource.resource,
        namespaced: row.namespaced,
        custom: row.schema.is_custom(),
        returns_deleted: row.strategy.returns_deleted(),
        verbs: row.verbs.iter().map(String::as_str).collect(),
        subresources: subresources.collect(),
    }
}

/// Where the document of each path is, by its hash.
fn index(core: &Core, rows: &Rows) -> Value {
    let mut paths = Map::new();
    for topic in topics(core, rows) {
        let path = topic.path();
        let url = format!("/openapi/v3/{path}?hash={}", topic.hash(rows));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn v3(asked: &Asked, rows: &Rows, path: &str) -> Result<Response<Body>, Status> {
    // Another server's word on its own group and version goes before this one's.
    let mut topics = topics(&asked.core, rows).into_iter().rev();
    let Some(topic) = topics.find(|topic| topic.path() == path) else {
        return Ok(answer::bare(404, false));
    };
    let Some(encoding) = Encoding::of_v3(&asked.headers) else {
        return Ok(answer::bare(406, true));
    };
    let hash = topic.hash(rows);
    let wanted = asked.hash.as_str();
    if !wanted.is_empty() && wanted != hash {
        return answer::elsewhere(&format!("/openapi/v3/{path}?hash={hash}"), &hash, encoding);
    }
    let which = Which {
        path: path.to_owned(),
        encoding,
    };
    let document = || asked.core.openapi.get(which, &hash, || topic.write(rows, encoding));
    let mut response = answer::document(&asked.headers, &hash, encoding, document)?;
    if !wanted.is_empty() {
        answer::keep(&mut response)?;
    }
    Ok(response)
}

fn v2(asked: &Asked, rows: &Rows) -> Result<Response<Body>, Status> {
    let Some(encoding) = Encoding::of_v2(&asked.headers) else {
        let mut response = answer::bare(406, true);
        answer::vary_by_coding(&mut response);
        return Ok(response);
    };
    let topics = topics(&asked.core, rows);
    let mut hash = Sha512::new();
    topics.iter().for_each(|topic| hash.update(topic.hash(rows)));
    let hash = hex(hash);
    let which = Which {
        path: "v2".to_owned(),
        encoding,
    };
    let document = || {
        asked
            .core
            .openapi
            .get(which, &hash, || write_v2(&topics, rows, encoding))
    };
    let mut response = answer::document(&asked.headers, &hash, encoding, document)?;
    answer::vary_by_coding(&mut response);
    Ok(response)
}

fn write_v2(topics: &[Topic], rows: &Rows, encoding: Encoding) -> Result<Vec<u8>, Status> {
    let mut subjects = Vec::new();
    let mut foreign = Vec::new();
    for topic in topics {
        match topic {
            Topic::Root(path) => subjects.push(Subject::Root(path)),
            Topic::Group(group) => subjects.push(Subject::Group(group)),
            Topic::Builtin(version) => {
                subjects.push(Subject::Builtin(builtin(rows, version)));
                if !custom::rows_of(rows, version).is_empty() {
                    subjects.push(custom::subject(rows, version, Form::V2));
                }
            }
            Topic::Custom(version) => subjects.push(custom::subject(rows, version, Form::V2)),
            Topic::Foreign(_, described) => foreign.extend(described.v2()?),
        }
    }
    encoding.write(&Document::v2(subjects, VERSION, foreign.iter().collect()))
}

#[cfg(test)]
mod tests;
