//! Admission: what an allowed request may contain, and what the server puts in.
//!
//! Plugins are rows, asked in upstream's order: first all that change, then all that only refuse.

mod certificates;
mod escalation;
mod lifecycle;
pub(crate) mod nodes;
mod pods;
mod service_account;

use crate::{core::Core, registry::Row};
use serde_json::Value;
use std::sync::Arc;
use strata_auth::UserInfo;
use strata_meta::Status;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// An object is made.
    Create,
    /// An object is changed.
    Update,
    /// An object is removed.
    Delete,
}

/// A request as plugins see it.
pub(crate) struct Request<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) user: &'a UserInfo,
    pub(crate) row: &'a Row,
    pub(crate) operation: Operation,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    #[expect(dead_code, reason = "webhooks with side effects ask for it")]
    pub(crate) dry_run: bool,
}

impl Request<'_> {
    /// Whether this is about a resource itself, not a subresource.
    fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.row.resource.group == group && self.row.resource.resource == plural
    }

    /// 403 as plugins give it.
    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.row.resource, self.name, why)
    }
}

type Mutate = fn(&Request<'_>, &mut Value, Option<&Value>) -> Result<(), Status>;
type Validate = fn(&Request<'_>, Option<&Value>, Option<&Value>) -> Result<(), Status>;

const MUTATING: &[Mutate] = &[
    service_account::mutate,
    nodes::taint_new,
    pods::priority,
    pods::default_tolerations,
];

const VALIDATING: &[Validate] = &[
    nodes::restriction,
    escalation::validate,
    certificates::signer,
    certificates::subject,
];

/// Lets plugins change a new state. Errors: the first refusal.
pub(crate) async fn mutate(
    request: &Request<'_>,
    new: Option<&mut Value>,
    old: Option<&Value>,
    _warnings: &mut Vec<String>,
) -> Result<(), Status> {
    lifecycle::check(request)?;
    let Some(new) = new else {
        return Ok(());
    };
    service_account::wait(request, new).await;
    for plugin in MUTATING {
        plugin(request, new, old)?;
    }
    Ok(())
}

/// Lets plugins refuse. Errors: the first refusal.
pub(crate) async fn validate(request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    for plugin in VALIDATING {
        plugin(request, new, old)?;
    }
    Ok(())
}
