//! One step of a deployment: from what is to what should be done.

use super::{
    progress, revision, scale,
    types::{Annotations, Deployment, REVISION, Set, Status},
};
use crate::dependents::template::{self, HASH_LABEL};
use serde_json::Value;
use strata_meta::{ObjectMeta, Time, Uid, names::DNS1123_SUBDOMAIN_MAX};

/// What to do, in this order, and the status that then is right.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub actions: Vec<Action>,
    pub status: Status,
    /// The revision annotation of the deployment.
    pub revision: Option<String>,
    /// Seconds after which to look again.
    pub again: Option<u64>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Make a set with this hash label.
    Create {
        name: String,
        hash: String,
        replicas: i32,
        annotations: Annotations,
    },
    /// Change a set.
    Update {
        name: String,
        replicas: Option<(i32, i32)>,
        annotations: Annotations,
        min_ready_seconds: Option<i64>,
    },
    /// Remove a set without pods.
    Delete { name: String },
}

/// Decides one step. `pods_of` tells of a set whether it still has pods that are not finished.
pub(super) fn plan(deployment: Deployment, sets: Vec<Set>, pods_of: impl Fn(&Uid) -> bool, now: Time) -> Plan {
    let mut planner = Planner::new(deployment, sets, now);
    planner.run(pods_of);
    planner.finish()
}

struct Planner {
    /// Its status holds the conditions set on the way, as upstream changes its copy.
    deployment: Deployment,
    new: Option<Set>,
    /// By age.
    old: Vec<Set>,
    /// As observed, to see what changed.
    before: Vec<Set>,
    create: Option<Action>,
    deletes: Vec<Action>,
    status: Option<Status>,
    now: Time,
}

impl Planner {
    fn new(deployment: Deployment, mut sets: Vec<Set>, now: Time) -> Self {
        sets.sort_by_key(Set::age);
        let before = sets.clone();
        // Of several with the same template the oldest is the newest set.
        let newest = sets
            .iter()
            .position(|set| template::equal(&set.template, &deployment.spec.template));
        let new = newest.map(|at| sets.remove(at));
        Self {
            deployment,
            new,
            old: sets,
            before,
            create: None,
            deletes: Vec::new(),
            status: None,
            now,
        }
    }

    fn run(&mut self, pods_of: impl Fn(&Uid) -> bool) {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return;
        }
        progress::note_pause(&mut self.deployment, self.now);
        let all: Vec<&Set> = self.old.iter().chain(&self.new).collect();
        if self.deployment.spec.paused || scale::is_resized(&self.deployment, &all) {
            self.resize();
        } else if self.deployment.is_rolling() {
            self.roll();
        } else {
            self.recreate(pods_of);
        }
    }

    fn resize(&mut self) {
        self.adopt_new();
        for (name, size, force) in scale::resize(&self.deployment, self.new.as_ref(), &self.old) {
            self.scale(&name, size, force);
        }
        if self.deployment.spec.paused {
            self.clean_up();
        }
    }

    fn roll(&mut self) {
        self.adopt_new();
        self.create_new();
        let total = self.old.iter().chain(&self.new).map(|s| s.replicas).sum();
        let Some(new) = self.new.clone() else { return };
        let wanted = self.deployment.replicas();
        let size = match new.replicas.cmp(&wanted) {
            std::cmp::Ordering::Equal => new.replicas,
            std::cmp::Ordering::Greater => wanted,
            std::cmp::Ordering::Less => scale::new_set_size(&self.deployment, total, new.replicas),
        };
        if size != new.replicas {
            self.scale(&new.name, size, false);
        } else {
            let shrunk = scale::shrink_old(&self.deployment, &new, &self.old);
            let done = shrunk.is_empty();
            for (name, size) in shrunk {
                self.scale(&name, size, false);
            }
            if done && progress::is_complete(&self.deployment, &self.deployment.status) {
                self.clean_up();
            }
        }
        self.tell_progress();
    }

    fn recreate(&mut self, pods_of: impl Fn(&Uid) -> bool) {
        self.adopt_new();
        let active: Vec<String> = self
            .old
            .iter()
            .filter(|s| s.replicas > 0)
            .map(|s| s.name.clone())
            .collect();
        let has_pods = |set: &Set| set.status.replicas > 0 || pods_of(&set.uid);
        if !active.is_empty() {
            active.iter().for_each(|name| self.scale(name, 0, false));
        } else if !self.old.iter().any(has_pods) {
            self.create_new();
            if let Some(name) = self.new.as_ref().map(|s| s.name.clone()) {
                self.scale(&name, self.deployment.replicas(), false);
            }
            if progress::is_complete(&self.deployment, &self.deployment.status) {
                self.clean_up();
            }
        }
        self.tell_progress();
    }

    /// Brings the newest set's annotations up to date, if there is one.
    fn adopt_new(&mut self) {
        let revision = revision::next(&self.old);
        let Some(new) = &mut self.new else { return };
        revision::annotate(&self.deployment, &mut new.annotations, revision);
        new.min_ready_seconds = self.deployment.spec.min_ready_seconds;
        progress::note_new_set(&mut self.deployment, &new.name, false, self.now);
    }

    /// Makes the newest set, if there is none.
    fn create_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let hash = template::hash(&self.deployment.spec.template, self.deployment.status.collision_count);
        let name = set_name(&self.deployment.metadata, &hash);
        let total = self.old.iter().map(|s| s.replicas).sum();
        let replicas = scale::new_set_size(&self.deployment, total, 0);
        let mut annotations = Annotations::new();
        revision::annotate(&self.deployment, &mut annotations, revision::next(&self.old));
        revision::note_size(&self.deployment, &mut annotations);
        progress::note_new_set(&mut self.deployment, &name, true, self.now);
        self.create = Some(Action::Create {
            name: name.clone(),
            hash,
            replicas,
            annotations: annotations.clone(),
        });
        let set = Set {
            name,
            uid: Uid::default(),
            created: Some(self.now),
            deleting: false,
            generation: 0,
            annotations,
            replicas,
            min_ready_seconds: self.deployment.spec.min_ready_seconds,
            template: Value::Null,
            status: Default::default(),
        };
        self.before.push(set.clone());
        self.new = Some(set);
    }

    fn scale(&mut self, name: &str, size: i32, force: bool) {
        let Some(set) = self.old.iter_mut().chain(&mut self.new).find(|s| s.name == name) else {
            return;
        };
        if force || set.replicas != size {
            set.replicas = size;
            revision::note_size(&self.deployment, &mut set.annotations);
        }
    }

    /// Removes the oldest revisions beyond the history limit, if they have no pods.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.history_limit() else {
            return;
        };
        let mut sets: Vec<&Set> = self.old.iter().filter(|s| !s.deleting).collect();
        sets.sort_by_key(|s| (s.revision(), s.age()));
        let surplus = sets.len().saturating_sub(limit);
        let idle =
            |s: &&&Set| s.status.replicas == 0 && s.replicas == 0 && s.generation <= s.status.observed_generation;
        let names = sets
            .iter()
            .take(surplus)
            .filter(idle)
            .map(|s| Action::Delete { name: s.name.clone() });
        self.deletes = names.collect();
    }

    fn tell_progress(&mut self) {
        self.status = Some(progress::rolled_out(
            &self.deployment,
            self.new.as_ref(),
            &self.old,
            self.now,
        ));
    }

    fn finish(self) -> Plan {
        let status = self
            .status
            .unwrap_or_else(|| progress::counted(&self.deployment, self.new.as_ref(), &self.old, self.now));
        let mut actions: Vec<Action> = self.create.into_iter().collect();
        // The new set first: pods are added before others are taken away.
        for set in self.new.iter().chain(&self.old) {
            let before = self.before.iter().find(|b| b.name == set.name);
            actions.extend(before.and_then(|before| difference(before, set)));
        }
        actions.extend(self.deletes);
        let again = progress::check_again(&self.deployment, &status, self.now);
        let revision = self.new.as_ref().and_then(|s| s.annotations.get(REVISION)).cloned();
        let revision = revision.filter(|r| self.deployment.metadata.annotations.get(REVISION) != Some(r));
        Plan {
            actions,
            status,
            revision,
            again,
        }
    }
}

fn difference(before: &Set, after: &Set) -> Option<Action> {
    let changed = |(key, value): &(&String, &String)| before.annotations.get(*key) != Some(value);
    let annotations: Annotations = after
        .annotations
        .iter()
        .filter(changed)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let replicas = (before.replicas != after.replicas).then_some((before.replicas, after.replicas));
    let min_ready = (before.min_ready_seconds != after.min_ready_seconds).then_some(after.min_ready_seconds);
    let unchanged = annotations.is_empty() && replicas.is_none() && min_ready.is_none();
    (!unchanged).then(|| Action::Update {
        name: after.name.clone(),
        replicas,
        annotations,
        min_ready_seconds: min_ready,
    })
}

/// The deployment's name and the hash, within the length of a name.
fn set_name(deployment: &ObjectMeta, hash: &str) -> String {
    let most = DNS1123_SUBDOMAIN_MAX - 1 - hash.len();
    let name = &deployment.name;
    format!("{}-{hash}", &name[..name.len().min(most)])
}

/// A map of labels with the hash added.
pub(super) fn with_hash(labels: Option<&Value>, hash: &str) -> Value {
    let mut labels = labels.cloned().unwrap_or_else(|| Value::Object(Default::default()));
    labels[HASH_LABEL] = hash.into();
    labels
}
