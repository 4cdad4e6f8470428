//! Role-based access control from an index in memory.

mod rule;

pub use rule::{PolicyRule, uncovered};

use crate::{Attributes, Authorizer, Decision, UserInfo, user::SERVICE_ACCOUNT_USER_PREFIX};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};
use strata_meta::{LabelSelector, Object, ObjectError, WatchEvent};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Answers by roles and bindings, which it is fed through [`Rbac::apply`].
#[derive(Default)]
pub struct Rbac {
    index: RwLock<Index>,
}

impl fmt::Debug for Rbac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.read();
        f.debug_struct("Rbac")
            .field("roles", &index.roles.len())
            .field("bindings", &index.bindings.len())
            .finish_non_exhaustive()
    }
}

/// Namespace (`""` for cluster-scoped) and name.
type Key = (Box<str>, Box<str>);

#[derive(Default)]
struct Index {
    roles: HashMap<Key, Arc<[PolicyRule]>>,
    bindings: HashMap<Key, Binding>,
    users: Subjects,
    groups: Subjects,
}

/// Subject name → keys of the bindings that name it.
#[derive(Default)]
struct Subjects(HashMap<Box<str>, BTreeSet<Key>>);

struct Binding {
    role: Key,
    users: Vec<Box<str>>,
    groups: Vec<Box<str>>,
}

#[derive(Deserialize)]
struct RoleBody {
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingBody {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Rbac {
    /// Nobody may do anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a change of a Role, ClusterRole, RoleBinding or ClusterRoleBinding; others are ignored. Errors: the
    /// object is not of its kind's shape; it is then treated as absent.
    pub fn apply(&self, event: &WatchEvent) -> Result<(), ObjectError> {
        let Some(object) = event.object() else { return Ok(()) };
        if object.kind.group != GROUP {
            return Ok(());
        }
        let gone = matches!(event, WatchEvent::Deleted(_));
        let key = (Box::from(object.namespace()), Box::from(object.name()));
        match object.kind.kind.as_str() {
            "Role" | "ClusterRole" => {
                let role = if gone {
                    Ok(None)
                } else {
                    object.decode::<RoleBody>().map(Some)
                };
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                match role {
                    Ok(Some(role)) => drop(index.roles.insert(key, role.rules.unwrap_or_default().into())),
                    Ok(None) => drop(index.roles.remove(&key)),
                    Err(error) => {
                        index.roles.remove(&key);
                        return Err(error);
                    }
                }
            }
            "RoleBinding" | "ClusterRoleBinding" => {
                let binding = if gone {
                    Ok(None)
                } else {
                    Binding::decode(object).map(Some)
                };
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                index.unbind(&key);
                if let Some(binding) = binding? {
                    index.bind(key, binding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a user may do in a namespace (`""`: everywhere).
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        self.read().visit(user, namespace, &mut |role| {
            rules.extend(role.iter().cloned());
            false
        });
        rules
    }

    /// Whether a user holds everything that rules allow: nobody grants what they lack.
    pub fn covers(&self, user: &UserInfo, namespace: &str, rules: &[PolicyRule]) -> bool {
        self.missing(user, namespace, rules).is_empty()
    }

    /// What rules allow and a user does not hold, as rules of one verb, group and resource each.
    pub fn missing(&self, user: &UserInfo, namespace: &str, rules: &[PolicyRule]) -> Vec<PolicyRule> {
        uncovered(&self.rules_for(user, namespace), rules)
    }

    /// The rules of a role; `namespace` is `""` for a cluster role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[PolicyRule]>> {
        self.read().roles.get(&(namespace.into(), name.into())).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let index = self.read();
        let mut allows = |role: &[PolicyRule]| role.iter().any(|rule| rule.allows(attributes));
        if index.visit(attributes.user, attributes.namespace, &mut allows) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

impl Index {
    /// Shows the roles bound to a user until `until` says that it has seen enough; whether it did.
    fn visit(&self, user: &UserInfo, namespace: &str, until: &mut dyn FnMut(&[PolicyRule]) -> bool) -> bool {
        let sets = || {
            let groups = user.groups.iter().filter_map(|group| self.groups.0.get(group.as_str()));
            self.users.0.get(user.name.as_str()).into_iter().chain(groups)
        };
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            // Keys are sorted, so those of one namespace stand together.
            let from = (Box::from(*scope), Box::from(""));
            for set in sets() {
                for key in set.range(from.clone()..).take_while(|key| *key.0 == **scope) {
                    let role = self.bindings.get(key).and_then(|binding| self.roles.get(&binding.role));
                    if role.is_some_and(|role| until(role)) {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn bind(&mut self, key: Key, binding: Binding) {
        self.users.insert(&binding.users, &key);
        self.groups.insert(&binding.groups, &key);
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, key: &Key) {
        if let Some(binding) = self.bindings.remove(key) {
            self.users.remove(&binding.users, key);
            self.groups.remove(&binding.groups, key);
        }
    }
}

impl Subjects {
    fn insert(&mut self, names: &[Box<str>], key: &Key) {
        for name in names {
            self.0.entry(name.clone()).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, names: &[Box<str>], key: &Key) {
        for name in names {
            if let Some(keys) = self.0.get_mut(name) {
                keys.remove(key);
                if keys.is_empty() {
                    self.0.remove(name);
                }
            }
        }
    }
}

impl Binding {
    fn decode(object: &Object) -> Result<Self, ObjectError> {
        let body: BindingBody = object.decode()?;
        let role_namespace = if body.role_ref.kind == "Role" {
            object.namespace()
        } else {
            ""
        };
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for subject in body.subjects.unwrap_or_default() {
            match subject.kind.as_str() {
                "User" => users.push(subject.name.into()),
                "Group" => groups.push(subject.name.into()),
                "ServiceAccount" => {
                    let namespace = if subject.namespace.is_empty() {
                        object.namespace()
                    } else {
                        subject.namespace.as_str()
                    };
                    let user = format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{}", subject.name);
                    users.push(user.into());
                }
                _ => {}
            }
        }
        Ok(Self {
            role: (role_namespace.into(), body.role_ref.name.into()),
            users,
            groups,
        })
    }
}

/// The rules of an aggregated ClusterRole: those of every other ClusterRole that one of its selectors matches, each
/// once, roles in the order of their names.
pub fn aggregate(selectors: &[LabelSelector], roles: &[(&Object, Vec<PolicyRule>)], name: &str) -> Vec<PolicyRule> {
    let selectors: Vec<_> = selectors
        .iter()
        .filter_map(|selector| selector.to_selector().ok())
        .collect();
    let mut chosen: Vec<_> = roles
        .iter()
        .filter(|(role, _)| role.name() != name && selectors.iter().any(|selector| selector.matches_object(role)))
        .collect();
    chosen.sort_by(|(a, _), (b, _)| a.name().cmp(b.name()));
    let mut seen = HashSet::new();
    let rules = chosen.into_iter().flat_map(|(_, rules)| rules);
    rules.filter(|rule| seen.insert((*rule).clone())).cloned().collect()
}

#[cfg(test)]
mod tests;
