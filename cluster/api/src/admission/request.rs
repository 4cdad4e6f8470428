//! A request as plugins see it.

use super::asked::Asked;
use crate::{audit, core::Core, json, registry::Row};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock};
use strata_auth::UserInfo;
use strata_meta::{GroupVersionKind, Status};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// An object is made.
    Create,
    /// An object is changed.
    Update,
    /// An object is removed.
    Delete,
    /// A stream to something is opened.
    Connect,
}

impl Operation {
    /// As rules and reviews name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A request as plugins see it. Objects are in the version that is stored.
pub(crate) struct Request<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) user: &'a UserInfo,
    pub(crate) row: &'a Row,
    pub(crate) operation: Operation,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    /// As the path has it; `""` for an object whose name is still to be made.
    pub(crate) name: &'a str,
    pub(crate) dry_run: bool,
    /// What authorizers call it, where that is not plain from the operation: `update` or `patch`.
    pub(crate) verb: &'static str,
    /// What plugins have to say besides yes and no.
    warnings: Mutex<Vec<String>>,
    /// What expressions ask about rights, once one does.
    asked: OnceLock<Arc<Asked>>,
}

impl<'a> Request<'a> {
    /// A request about a resource itself; `with_` methods say more.
    pub(crate) fn new(
        core: &'a Arc<Core>,
        user: &'a UserInfo,
        row: &'a Row,
        operation: Operation,
        (namespace, name): (&'a str, &'a str),
    ) -> Self {
        Self {
            core,
            user,
            row,
            operation,
            subresource: "",
            namespace,
            name,
            dry_run: false,
            verb: "update",
            warnings: Mutex::default(),
            asked: OnceLock::new(),
        }
    }

    /// About a subresource.
    pub(crate) fn on(mut self, subresource: &'a str) -> Self {
        self.subresource = subresource;
        self
    }

    /// Whether nothing is to be written.
    pub(crate) fn dry(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// By an update or by a patch.
    pub(crate) fn by(mut self, verb: &'static str) -> Self {
        self.verb = verb;
        self
    }

    /// Whether this is about a resource itself, not a subresource.
    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.is_row(group, plural)
    }

    /// Whether this is about a resource or one of its subresources.
    pub(super) fn is_row(&self, group: &str, plural: &str) -> bool {
        self.row.resource.group == group && self.row.resource.resource == plural
    }

    /// The kind of the request's object.
    pub(super) fn kind(&self) -> GroupVersionKind {
        kind_of(self.row, self.subresource, self.operation)
    }

    /// Whether the object is the row's own kind, not that of a subresource.
    pub(super) fn is_own_kind(&self) -> bool {
        self.kind().group_kind() == self.row.gvk.group_kind()
    }

    /// The namespace as rules see it: an object that is a namespace is in itself.
    pub(super) fn rule_namespace(&self) -> &'a str {
        match self.namespace {
            "" if self.is_row("", "namespaces") => self.name,
            namespace => namespace,
        }
    }

    /// 403 as plugins give it.
    pub(super) fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.row.resource, self.name, why)
    }

    /// 403 about an object whose name may still have to be made.
    pub(super) fn forbidden_object(&self, object: Option<&Value>, why: impl std::fmt::Display) -> Status {
        let text = |path| object.map_or("", |o| json::text(o, path));
        let names = [self.name, text("metadata.name"), text("metadata.generateName")];
        let name = names.into_iter().find(|n| !n.is_empty()).unwrap_or("Unknown");
        Status::forbidden(&self.row.resource, name, why)
    }

    /// A sentence for the `Warning` header.
    pub(super) fn warn(&self, text: impl Into<String>) {
        self.said().push(text.into());
    }

    /// A note for the audit log.
    pub(super) fn annotate(&self, key: impl AsRef<str>, value: impl AsRef<str>) {
        audit::note(key.as_ref(), value.as_ref());
    }

    /// The questions of its expressions, to add to.
    pub(super) fn asks(&self) -> Arc<Asked> {
        self.asked.get_or_init(Arc::default).clone()
    }

    /// The questions of its expressions, if there are any.
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.asked.get().map(AsRef::as_ref)
    }

    pub(super) fn take_warnings(&self, into: &mut Vec<String>) {
        for warning in self.said().drain(..) {
            if !into.contains(&warning) {
                into.push(warning);
            }
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.warnings.lock().expect("no panic under this lock")
    }

    /// The options of the operation, as reviews show them.
    pub(super) fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            json::set(&mut options, "dryRun", json!(["All"]));
        }
        options
    }
}

/// The kind of what is sent to a row or one of its subresources.
pub(super) fn kind_of(row: &Row, subresource: &str, operation: Operation) -> GroupVersionKind {
    let kind = match (operation, row.gvk.kind.as_str(), subresource) {
        (Operation::Connect, kind, "proxy") => format!("{kind}ProxyOptions"),
        (Operation::Connect, _, "exec") => "PodExecOptions".to_owned(),
        (Operation::Connect, _, "attach") => "PodAttachOptions".to_owned(),
        (Operation::Connect, _, "portforward") => "PodPortForwardOptions".to_owned(),
        _ => {
            let sub = row.subresource(subresource).map(|s| s.gvk.clone());
            return sub.unwrap_or_else(|| (*row.gvk).clone());
        }
    };
    GroupVersionKind::new("", "v1", &kind)
}
