//! What people and programs are told about an image, in docker's shapes.

use crate::records::ImageRecord;
use crate::{Digest, Image, ImageError, ImageStore, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The document of `image inspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Inspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub config: Value,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    /// Bytes of its files.
    pub size: u64,
    pub graph_driver: Value,
    #[serde(rename = "RootFS")]
    pub root_fs: Value,
    pub metadata: Value,
}

/// One step of an image's making, the newest first.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct HistoryStep {
    #[serde(rename = "Id")]
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    pub tags: Vec<String>,
    /// Bytes of its layer's files.
    pub size: u64,
    pub comment: String,
}

/// One image of a list.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The image.
    pub image: Image,
    /// Names and the manifest or index each stands for, if that is known.
    pub names: Vec<(String, Option<Digest>)>,
    /// Bytes of its files, with what it shares.
    pub disk_size: u64,
    /// Seconds since 1970 when it was built; 0 if it does not say.
    pub created: i64,
    /// Who uses it.
    pub users: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigHistory {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

impl ImageStore {
    /// What docker's `image inspect` says of an image. Blocking.
    pub fn inspect(&self, name: &str) -> Result<Inspect, ImageError> {
        let index = self.inner.folder.read_index()?;
        let (id, record) = index.find(name).ok_or_else(|| ImageError::Absent(name.to_owned()))?;
        let document = self.config_value(id)?;
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let last = document["history"].as_array().and_then(|steps| steps.last());
        let comment = last.and_then(|step| step["comment"].as_str()).unwrap_or_default();
        let folders: Vec<String> = record
            .layers
            .iter()
            .rev()
            .map(|key| self.inner.folder.layer_files(key).display().to_string())
            .collect();
        let data = match folders.split_first() {
            None => json!({}),
            Some((upper, [])) => json!({"UpperDir": upper}),
            Some((upper, lower)) => json!({"LowerDir": lower.join(":"), "UpperDir": upper}),
        };
        Ok(Inspect {
            id: id.to_string(),
            repo_tags: record.tags.iter().map(|name| familiar(name)).collect(),
            repo_digests: record.digests.iter().map(|name| familiar(name)).collect(),
            parent: String::new(),
            comment: comment.to_owned(),
            created: text("created"),
            docker_version: text("docker_version"),
            author: text("author"),
            config: match &document["config"] {
                Value::Null => json!({}),
                config => config.clone(),
            },
            architecture: text("architecture"),
            variant: text("variant"),
            os: text("os"),
            size: self.disk_size(record)?,
            graph_driver: json!({"Name": "overlay2", "Data": data}),
            root_fs: json!({"Type": "layers", "Layers": document["rootfs"]["diff_ids"]}),
            metadata: json!({"LastTagTime": timestamp(record.entered)}),
        })
    }

    /// How an image was made, the newest step first. Blocking.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryStep>, ImageError> {
        let index = self.inner.folder.read_index()?;
        let (id, record) = index.find(name).ok_or_else(|| ImageError::Absent(name.to_owned()))?;
        let document = self.config_value(id)?;
        let malformed = |error: serde_json::Error| ImageError::Malformed {
            image: name.to_owned(),
            what: "configuration",
            why: error.to_string(),
        };
        let diffs: Vec<Digest> = serde_json::from_value(document["rootfs"]["diff_ids"].clone()).map_err(malformed)?;
        let told: Option<Vec<ConfigHistory>> =
            serde_json::from_value(document["history"].clone()).map_err(malformed)?;
        // An image that says nothing about its making still has layers.
        let told = told.unwrap_or_else(|| diffs.iter().map(|_| ConfigHistory::default()).collect());
        let mut layers = diffs.iter();
        let mut steps = Vec::new();
        for step in told {
            let size = match step.empty_layer.unwrap_or(false) {
                true => 0,
                false => layers.next().map_or(Ok(0), |diff| self.layer_size(&diff.hex()))?,
            };
            steps.push(HistoryStep {
                id: "<missing>".to_owned(),
                created: seconds(step.created.as_deref()),
                created_by: step.created_by.unwrap_or_default(),
                tags: Vec::new(),
                size,
                comment: step.comment.unwrap_or_default(),
            });
        }
        steps.reverse();
        if let Some(newest) = steps.first_mut() {
            newest.id = id.to_string();
            newest.tags = record.tags.iter().map(|name| familiar(name)).collect();
        }
        Ok(steps)
    }

    /// All images with what lists show of them, the newest first. Blocking.
    pub fn summaries(&self) -> Result<Vec<Summary>, ImageError> {
        let index = self.inner.folder.read_index()?;
        let leases = self.inner.folder.leases()?;
        let mut found = Vec::new();
        for (id, record) in &index.images {
            let users = leases.iter().filter(|(_, lease)| lease.image == *id);
            found.push(Summary {
                image: self.inner.folder.image(*id, record),
                names: names(record),
                disk_size: self.disk_size(record)?,
                created: seconds(record.created.as_deref()),
                users: users.map(|(owner, _)| owner.clone()).collect(),
            });
        }
        found.sort_by_key(|summary| std::cmp::Reverse(summary.created));
        Ok(found)
    }

    fn disk_size(&self, record: &ImageRecord) -> Result<u64, ImageError> {
        record.layers.iter().map(|key| self.layer_size(key)).sum()
    }

    fn layer_size(&self, key: &str) -> Result<u64, ImageError> {
        Ok(self.inner.folder.layer_record(key)?.map_or(0, |record| record.bytes))
    }
}

/// Tags with what they stand for; for an image without tags, its digest names.
fn names(record: &ImageRecord) -> Vec<(String, Option<Digest>)> {
    if record.tags.is_empty() {
        return record
            .digests
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    name.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok()),
                )
            })
            .collect();
    }
    let target = |tag: &String| record.targets.get(tag).copied().or(record.manifest);
    record.tags.iter().map(|tag| (tag.clone(), target(tag))).collect()
}

/// A stored name as people write it.
pub(crate) fn familiar(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => reference.familiar(),
        Err(_) => name.to_owned(),
    }
}

/// Seconds since 1970 of a moment written in an image; 0 for none that can be read.
pub(crate) fn seconds(text: Option<&str>) -> i64 {
    text.and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map_or(0, jiff::Timestamp::as_second)
}

fn timestamp(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    moment.unwrap_or_default().to_string()
}

/// A moment in seconds since 1970 as docker's lists write it: `2024-05-01 12:00:00 +0000 UTC`.
pub fn moment_text(seconds: i64) -> Option<String> {
    let text = jiff::Timestamp::from_second(seconds).ok()?.to_string();
    Some(format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " ")))
}
