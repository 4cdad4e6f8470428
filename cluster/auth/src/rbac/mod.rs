//! Role-based access control from an index in memory.

mod rule;

pub use rule::{PolicyRule, compact, uncovered};

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
    subjects: Vec<Who>,
}

/// Whom a binding names.
enum Who {
    User(Box<str>),
    Group(Box<str>),
    /// The user name of a service account.
    Account(Box<str>),
}

impl Who {
    fn user(&self) -> Option<&str> {
        match self {
            Self::User(name) | Self::Account(name) => Some(name),
            Self::Group(_) => None,
        }
    }

    fn group(&self) -> Option<&str> {
        match self {
            Self::Group(name) => Some(name),
            _ => None,
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        self.user() == Some(user.name.as_str()) || self.group().is_some_and(|group| user.is_in(group))
    }
}

/// As upstream's reasons name a subject.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "User {name:?}"),
            Self::Group(name) => write!(f, "Group {name:?}"),
            Self::Account(user) => {
                let rest = user.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX).unwrap_or(user);
                let (namespace, name) = rest.split_once(':').unwrap_or(("", rest));
                write!(f, "ServiceAccount \"{name}/{namespace}\"")
            }
        }
    }
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
        self.read().visit(user, namespace, &mut |_, role| {
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

    /// Which roles somebody is bound to in a namespace (`""`: everywhere) that are not there, in upstream's words.
    pub fn absent_roles(&self, user: &UserInfo, namespace: &str) -> String {
        self.read().absent(user, namespace)
    }

    /// Why something is allowed, in upstream's words; nothing if it is not.
    pub fn reason(&self, attributes: &Attributes<'_>) -> Option<String> {
        let index = self.read();
        let mut found: BTreeSet<Key> = BTreeSet::new();
        index.visit(attributes.user, attributes.namespace, &mut |key, role| {
            if role.iter().any(|rule| rule.allows(attributes)) {
                found.insert(key.clone());
            }
            false
        });
        // Those of the whole cluster, whose namespace is empty, stand first.
        let key = found.first()?;
        let binding = index.bindings.get(key)?;
        let subject = binding.subjects.iter().find(|subject| subject.is(attributes.user))?;
        let (namespace, name) = key;
        let shown = match namespace.is_empty() {
            true => format!("ClusterRoleBinding {name:?}"),
            false => format!("RoleBinding \"{name}/{namespace}\""),
        };
        let kind = if binding.role.0.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        let role = &binding.role.1;
        Some(format!("RBAC: allowed by {shown} of {kind} {role:?} to {subject}"))
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
        let mut allows = |_: &Key, role: &[PolicyRule]| role.iter().any(|rule| rule.allows(attributes));
        if index.visit(attributes.user, attributes.namespace, &mut allows) {
            Decision::Allow
        } else {
            Decision::NoOpinion(match index.absent(attributes.user, attributes.namespace) {
                none if none.is_empty() => none,
                absent => format!("RBAC: {absent}"),
            })
        }
    }
}

impl Index {
    /// Shows the roles bound to a user until `until` says that it has seen enough; whether it did.
    fn visit(&self, user: &UserInfo, namespace: &str, until: &mut dyn FnMut(&Key, &[PolicyRule]) -> bool) -> bool {
        self.bound(user, namespace, &mut |key, binding| {
            let role = self.roles.get(&binding.role);
            role.is_some_and(|role| until(key, role))
        })
    }

    /// Which roles somebody is bound to that are not there, in upstream's words.
    fn absent(&self, user: &UserInfo, namespace: &str) -> String {
        let mut seen = BTreeSet::new();
        let mut lines = Vec::new();
        self.bound(user, namespace, &mut |key, binding| {
            if !self.roles.contains_key(&binding.role) {
                seen.insert((key.clone(), binding.role.clone()));
            }
            false
        });
        for (_, (namespace, name)) in seen {
            let kind = if namespace.is_empty() { "clusterrole" } else { "role" };
            let line = format!("{kind}.{GROUP} {name:?} not found");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        match lines.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }

    /// Shows the bindings that name a user until `until` says that it has seen enough; whether it did.
    fn bound(&self, user: &UserInfo, namespace: &str, until: &mut dyn FnMut(&Key, &Binding) -> bool) -> bool {
        let sets = || {
            let groups = user.groups.iter().filter_map(|group| self.groups.0.get(group.as_str()));
            self.users.0.get(user.name.as_str()).into_iter().chain(groups)
        };
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            // Keys are sorted, so those of one namespace stand together.
            let from = (Box::from(*scope), Box::from(""));
            for (index, set) in sets().enumerate() {
                for key in set.range(from.clone()..).take_while(|key| *key.0 == **scope) {
                    // A binding that names somebody twice grants once.
                    if sets().take(index).any(|earlier| earlier.contains(key)) {
                        continue;
                    }
                    if self.bindings.get(key).is_some_and(|binding| until(key, binding)) {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn bind(&mut self, key: Key, binding: Binding) {
        self.users.insert(binding.subjects.iter().filter_map(Who::user), &key);
        self.groups.insert(binding.subjects.iter().filter_map(Who::group), &key);
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, key: &Key) {
        if let Some(binding) = self.bindings.remove(key) {
            self.users.remove(binding.subjects.iter().filter_map(Who::user), key);
            self.groups.remove(binding.subjects.iter().filter_map(Who::group), key);
        }
    }
}

impl Subjects {
    fn insert<'a>(&mut self, names: impl Iterator<Item = &'a str>, key: &Key) {
        for name in names {
            self.0.entry(name.into()).or_default().insert(key.clone());
        }
    }

    fn remove<'a>(&mut self, names: impl Iterator<Item = &'a str>, key: &Key) {
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
        let mut subjects = Vec::new();
        for subject in body.subjects.unwrap_or_default() {
            match subject.kind.as_str() {
                "User" => subjects.push(Who::User(subject.name.into())),
                "Group" => subjects.push(Who::Group(subject.name.into())),
                "ServiceAccount" => {
                    let namespace = if subject.namespace.is_empty() {
                        object.namespace()
                    } else {
                        subject.namespace.as_str()
                    };
                    let user = format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{}", subject.name);
                    subjects.push(Who::Account(user.into()));
                }
                _ => {}
            }
        }
        Ok(Self {
            role: (role_namespace.into(), body.role_ref.name.into()),
            subjects,
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
