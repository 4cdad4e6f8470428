//! How many pods the owners of some pods want.

use super::{CONTROLLER, Failure};
use crate::{context::Context, scale, tracked::decode, views::Pod};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use strata_client::{
    Informer, Resource,
    resources::{DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS},
};
use strata_meta::{Object, ObjectKey, OwnerReference, Uid};

/// Finds owners: those of the built-in kinds in caches, all others by their scale.
pub(super) struct Scales {
    others_served: scale::Scales,
    replica_sets: Informer<Arc<Object>>,
    others: [(Resource, Informer<Arc<Object>>); 3],
}

/// What several owners want together.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub count: i32,
    /// Some of the pods have no owner.
    pub unmanaged: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sized {
    metadata: Meta,
    spec: SizedSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    uid: Uid,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SizedSpec {
    replicas: Option<i32>,
}

/// An owner and how many pods it wants.
type Found = Option<(Uid, i32)>;

impl Scales {
    pub fn new(context: &Arc<Context>) -> Self {
        let follow = |resource| (resource, context.objects(resource));
        Self {
            others_served: scale::Scales::new(context.client(CONTROLLER)),
            replica_sets: context.replica_sets.clone(),
            others: [DEPLOYMENTS, STATEFUL_SETS, REPLICATION_CONTROLLERS].map(follow),
        }
    }

    /// Ends when all caches are filled.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + use<> {
        let others = self.others.iter().map(|(_, informer)| informer.clone());
        let all: Vec<_> = others.chain([self.replica_sets.clone()]).collect();
        async move {
            for informer in all {
                informer.synced().await;
            }
        }
    }

    /// Adds up what the owners of the pods want, each owner once.
    pub async fn total(&self, pods: &[Arc<Pod>]) -> Result<Total, Failure> {
        let (mut known, mut scales, mut unmanaged) = (HashSet::new(), BTreeMap::new(), false);
        for pod in pods {
            let Some(owner) = pod.controller() else {
                unmanaged = true;
                continue;
            };
            if !known.insert(owner.uid.clone()) {
                continue;
            }
            let (uid, scale) = match self.cached(owner, pod.namespace())? {
                Some(found) => found,
                None => {
                    let asked = self.asked(owner, pod.namespace()).await?;
                    asked.ok_or_else(|| Failure::Said(format!("found no controllers for pod {:?}", pod.name())))?
                }
            };
            scales.insert(uid.as_str().to_owned(), scale);
        }
        let count = scales.values().fold(0i32, |sum, scale| sum.saturating_add(*scale));
        Ok(Total { count, unmanaged })
    }

    fn cached(&self, owner: &OwnerReference, namespace: &str) -> Result<Found, Failure> {
        let key = ObjectKey::new(namespace, &owner.name);
        if REPLICA_SETS.is_kind(&owner.api_version, &owner.kind) {
            let set = self.replica_sets.get(&key).filter(|set| set.uid == owner.uid);
            let Some(set) = set else { return Ok(None) };
            return match set.controller().filter(|above| above.kind == DEPLOYMENTS.kind) {
                Some(above) => self.cached(above, namespace),
                None => size(&set).map(Some),
            };
        }
        let named = |(resource, _): &&(Resource, _)| resource.is_kind(&owner.api_version, &owner.kind);
        let owners = self.others.iter().find(named).map(|(_, informer)| informer);
        let found = owners.and_then(|informer| informer.get(&key));
        let found = found.filter(|object| object.uid == owner.uid);
        found.map(|object| size(&object)).transpose()
    }

    /// By the scale subresource, which any kind may have.
    async fn asked(&self, owner: &OwnerReference, namespace: &str) -> Result<Found, Failure> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let resource = self.others_served.resource(group, &owner.kind).await;
        let resource = resource.map_err(Failure::Unknown)?.ok_or_else(|| {
            Failure::Said(format!(
                "no matches for kind {:?} in version {:?}",
                owner.kind, owner.api_version
            ))
        })?;
        match self.others_served.get(resource, namespace, &owner.name).await {
            Ok(scale) => {
                let scale: Sized = serde_json::from_value(scale).map_err(|e| Failure::Said(e.to_string()))?;
                let same = scale.metadata.uid == owner.uid;
                Ok(same.then(|| (owner.uid.clone(), scale.spec.replicas.unwrap_or(0))))
            }
            // An object that is not there is named; a path that is not served names nothing.
            Err(error) if error.is_not_found() => {
                let details = error.status().and_then(|status| status.details.as_ref());
                if details.is_some_and(|details| !details.name.is_empty()) {
                    return Ok(None);
                }
                self.others_served.forget().await;
                let named = resource.group_resource();
                Err(Failure::Said(format!(
                    "{named} does not implement the scale subresource"
                )))
            }
            Err(error) => Err(Failure::Said(error.to_string())),
        }
    }
}

fn size(object: &Arc<Object>) -> Result<(Uid, i32), Failure> {
    let sized: Sized = decode(object).map_err(Failure::Unknown)?;
    // Absent only where defaulting has not run.
    Ok((object.uid.clone(), sized.spec.replicas.unwrap_or(1)))
}
