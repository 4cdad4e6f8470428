//! Finds what resources a server serves.

use crate::{Client, Error, Resource};
use serde::Deserialize;

/// Aggregated discovery first, plain as what older servers answer instead.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A served resource and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The resource, in its group's preferred version.
    pub resource: Resource,
    /// The verbs it answers.
    pub verbs: Vec<String>,
}

impl Served {
    /// Whether it answers a verb.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// What a server serves.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// Each resource once, in the preferred version, without subresources.
    pub resources: Vec<Served>,
    /// Groups and versions that could not be read, and why.
    pub failures: Vec<(String, String)>,
}

impl Discovered {
    /// The resource that serves a kind of a group, whatever the version.
    pub fn of_kind(&self, group: &str, kind: &str) -> Option<&Served> {
        self.resources
            .iter()
            .find(|s| s.resource.group == group && s.resource.kind == kind)
    }
}

/// Asks the server. A group that fails does not hide the others; see [`Discovered::failures`].
pub async fn discover(client: &Client) -> Result<Discovered, Error> {
    let mut found = Discovered::default();
    for root in ["/api", "/apis"] {
        let body = client.get_path(root, ACCEPT).await?;
        match serde_json::from_slice::<Root>(&body)? {
            Root { kind, items, .. } if kind == "APIGroupDiscoveryList" => {
                items.iter().for_each(|group| group.collect(&mut found));
            }
            plain => collect_plain(client, &plain, &mut found).await,
        }
    }
    Ok(found)
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Root {
    kind: String,
    /// Aggregated.
    items: Vec<GroupDiscovery>,
    /// Plain `/api`.
    versions: Vec<String>,
    /// Plain `/apis`.
    groups: Vec<PlainGroup>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupDiscovery {
    metadata: Name,
    versions: Vec<VersionDiscovery>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Name {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct VersionDiscovery {
    version: String,
    resources: Vec<ResourceDiscovery>,
    freshness: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ResourceDiscovery {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    verbs: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PlainGroup {
    preferred_version: PlainVersion,
    versions: Vec<PlainVersion>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default, rename_all = "camelCase")]
struct PlainVersion {
    group_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PlainList {
    resources: Vec<PlainResource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PlainResource {
    name: String,
    namespaced: bool,
    kind: String,
    verbs: Vec<String>,
}

impl Discovered {
    /// The first version that serves a resource is its preferred one.
    fn add(&mut self, group: &str, version: &str, plural: &str, kind: &str, namespaced: bool, verbs: &[String]) {
        let known = |s: &Served| s.resource.group == group && s.resource.plural == plural;
        if !self.resources.iter().any(known) {
            let resource = Resource::discovered(group, version, plural, kind, namespaced);
            self.resources.push(Served {
                resource,
                verbs: verbs.to_vec(),
            });
        }
    }
}

impl GroupDiscovery {
    fn collect(&self, found: &mut Discovered) {
        let group = &self.metadata.name;
        for version in &self.versions {
            if version.freshness == "Stale" {
                found.failures.push((
                    format!("{group}/{}", version.version),
                    "its server does not answer".into(),
                ));
            }
            for r in &version.resources {
                let kind = &r.response_kind;
                // An object may be of another group than the path says; then it is no resource of its own.
                let own_group = kind.group.is_empty() || kind.group == *group;
                if own_group && (kind.version.is_empty() || kind.version == version.version) {
                    found.add(
                        group,
                        &version.version,
                        &r.resource,
                        &kind.kind,
                        r.scope == "Namespaced",
                        &r.verbs,
                    );
                }
            }
        }
    }
}

async fn collect_plain(client: &Client, root: &Root, found: &mut Discovered) {
    let mut group_versions = root.versions.clone();
    for group in &root.groups {
        group_versions.push(group.preferred_version.group_version.clone());
        let others = group
            .versions
            .iter()
            .filter(|v| v.group_version != group.preferred_version.group_version);
        group_versions.extend(others.map(|v| v.group_version.clone()));
    }
    for group_version in group_versions {
        let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group_version}")
        };
        let list = async {
            Ok::<PlainList, Error>(serde_json::from_slice(
                &client.get_path(&path, "application/json").await?,
            )?)
        };
        match list.await {
            Ok(list) => list.resources.iter().filter(|r| !r.name.contains('/')).for_each(|r| {
                found.add(group, version, &r.name, &r.kind, r.namespaced, &r.verbs);
            }),
            Err(error) => found.failures.push((group_version.clone(), error.to_string())),
        }
    }
}
