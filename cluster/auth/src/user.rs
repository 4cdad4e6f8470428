//! Who somebody is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Members may do everything; not even RBAC is asked.
pub const GROUP_MASTERS: &str = "system:masters";
/// Everybody who proved who they are.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Everybody who presented nothing.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The node agents.
pub const GROUP_NODES: &str = "system:nodes";
/// All service accounts.
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The name of those who presented nothing.
pub const USER_ANONYMOUS: &str = "system:anonymous";
/// What a node agent's name starts with.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// What a service account's name starts with.
pub const SERVICE_ACCOUNT_USER_PREFIX: &str = "system:serviceaccount:";

/// authentication.k8s.io/v1 UserInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// Unique among all users at one time.
    #[serde(rename = "username", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Tells one life of the name from the next; often empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups the user is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// More that the authenticator knows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with groups, to which `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut user = Self {
            name: name.into(),
            ..Self::default()
        };
        user.groups.extend(groups.iter().map(|group| (*group).to_owned()));
        user.add_authenticated();
        user
    }

    /// Somebody who presented nothing.
    pub fn anonymous() -> Self {
        Self {
            name: USER_ANONYMOUS.to_owned(),
            groups: vec![GROUP_UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        Self::new(format!("{NODE_USER_PREFIX}{name}"), &[GROUP_NODES])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let of_namespace = format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}");
        let mut user = Self::new(
            format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}"),
            &[GROUP_SERVICE_ACCOUNTS, &of_namespace],
        );
        uid.clone_into(&mut user.uid);
        user
    }

    /// The node whose agent this is; `Some("")` for an agent that does not say.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_USER_PREFIX)?;
        self.is_in(GROUP_NODES).then_some(name)
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether nothing was presented.
    pub fn is_anonymous(&self) -> bool {
        self.name == USER_ANONYMOUS || self.is_in(GROUP_UNAUTHENTICATED)
    }

    pub(crate) fn add_authenticated(&mut self) {
        if !self.is_in(GROUP_AUTHENTICATED) {
            self.groups.push(GROUP_AUTHENTICATED.to_owned());
        }
    }
}
