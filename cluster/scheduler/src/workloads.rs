//! Selectors of services and controllers, by which pods that ask for nothing are spread.

use crate::{body, pod::Pod};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use strata_meta::{Object, ObjectError, ObjectKey, Selector, selector::LabelSelector};

/// The kinds whose selectors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Workload {
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

/// Every selector by kind, namespace and name.
#[derive(Default)]
pub(crate) struct Workloads {
    services: HashMap<Arc<str>, HashMap<Arc<str>, Selector>>,
    controllers: HashMap<(Workload, ObjectKey), Selector>,
}

impl Workloads {
    pub fn set(&mut self, kind: Workload, key: &ObjectKey, selector: Option<Selector>) {
        if kind != Workload::Service {
            match selector {
                Some(selector) => self.controllers.insert((kind, key.clone()), selector),
                None => self.controllers.remove(&(kind, key.clone())),
            };
            return;
        }
        match selector {
            Some(selector) => {
                self.services
                    .entry(key.namespace.clone())
                    .or_default()
                    .insert(key.name.clone(), selector);
            }
            None => {
                if let Some(services) = self.services.get_mut(&key.namespace) {
                    services.remove(&key.name);
                    if services.is_empty() {
                        self.services.remove(&key.namespace);
                    }
                }
            }
        }
    }

    /// The selectors of what a pod belongs to; a pod matches all of them.
    pub fn selectors(&self, pod: &Pod) -> Vec<Selector> {
        let mut found = Vec::new();
        if let Some(services) = self.services.get(pod.namespace()) {
            found.extend(
                services
                    .values()
                    .filter(|selector| selector.matches_object(&pod.object))
                    .cloned(),
            );
        }
        if let Some(owner) = pod.object.controller() {
            let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
                ("v1", "ReplicationController") => Some(Workload::ReplicationController),
                ("apps/v1", "ReplicaSet") => Some(Workload::ReplicaSet),
                ("apps/v1", "StatefulSet") => Some(Workload::StatefulSet),
                _ => None,
            };
            let key = |kind| (kind, ObjectKey::new(pod.namespace(), &owner.name));
            found.extend(kind.and_then(|kind| self.controllers.get(&key(kind))).cloned());
        }
        found.retain(|selector| !selector.is_everything());
        found
    }
}

/// What is read of a Service or ReplicationController.
pub(crate) struct MapSelector(pub Option<Selector>);

/// What is read of a ReplicaSet or StatefulSet.
pub(crate) struct SetSelector(pub Option<Selector>);

#[derive(Deserialize)]
struct Raw<S> {
    spec: Option<RawSpec<S>>,
}

#[derive(Deserialize)]
struct RawSpec<S> {
    selector: Option<S>,
}

fn read<S: serde::de::DeserializeOwned>(object: &Object) -> Result<Option<S>, ObjectError> {
    let raw: Raw<S> = body::read(object)?;
    Ok(raw.spec.and_then(|spec| spec.selector))
}

impl MapSelector {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let labels: Option<BTreeMap<String, String>> = read(object)?;
        Ok(Self(
            labels
                .filter(|labels| !labels.is_empty())
                .map(|labels| Selector::from_map(&labels)),
        ))
    }
}

impl SetSelector {
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let selector: Option<LabelSelector> = read(object)?;
        Ok(Self(selector.as_ref().map(crate::affinity::selector).transpose()?))
    }
}
