//! The question "may this user do that?" and those who answer it.

use crate::{UserInfo, user::GROUP_MASTERS};
use std::{fmt, sync::Arc};
use strata_meta::{FieldSelector, Selector};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, …; in lower case the HTTP method for a path that is no resource.
    pub verb: &'a str,
    /// The API group, `""` for the core group.
    pub group: &'a str,
    /// The API version.
    pub version: &'a str,
    /// The plural name.
    pub resource: &'a str,
    /// The subresource, `""` for the object itself.
    pub subresource: &'a str,
    /// The namespace, `""` for all or none.
    pub namespace: &'a str,
    /// The name, `""` for all or one not known yet.
    pub name: &'a str,
    /// The path, for a request that is about no resource.
    pub path: &'a str,
    /// Whether the request is about a resource.
    pub is_resource: bool,
    /// The field selector of a list or watch.
    pub field_selector: Option<&'a FieldSelector>,
    /// The label selector of a list or watch.
    pub label_selector: Option<&'a Selector>,
}

impl<'a> Attributes<'a> {
    /// Nothing yet, by somebody: to be filled with `..Attributes::of(user)`.
    pub fn of(user: &'a UserInfo) -> Self {
        Self {
            user,
            verb: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            is_resource: true,
            field_selector: None,
            label_selector: None,
        }
    }
}

/// The sentence of a refusal, as upstream words it after `forbidden: `.
impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User {:?} cannot {}", self.user.name, self.verb)?;
        if !self.is_resource {
            return write!(f, " path {:?}", self.path);
        }
        write!(f, " resource \"{}", self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        write!(f, "\" in API group {:?}", self.group)?;
        if self.namespace.is_empty() {
            f.write_str(" at the cluster scope")
        } else {
            write!(f, " in the namespace {:?}", self.namespace)
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No, whatever others say; with the reason.
    Deny(String),
    /// Not by this authorizer; with the reason, often empty.
    NoOpinion(String),
}

impl Decision {
    /// Whether the answer is yes.
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allow
    }

    /// The reason of a no.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow => "",
            Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// Answers from memory, so without waiting.
pub trait Authorizer: Send + Sync {
    /// May this be done?
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// Allows everything to members of `system:masters`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Superuser;

impl Authorizer for Superuser {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(GROUP_MASTERS) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// Asks one after another until somebody has an opinion.
#[derive(Clone)]
pub struct AuthorizerChain(Vec<Arc<dyn Authorizer>>);

impl AuthorizerChain {
    /// In the order they are asked.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(authorizers)
    }
}

impl Authorizer for AuthorizerChain {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons: Vec<String> = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}
