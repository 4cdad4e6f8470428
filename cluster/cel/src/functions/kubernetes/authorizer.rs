//! Asking what someone may do.

use super::{
    super::{Row, row},
    AUTHORIZER, Opaque, RESOURCE_CHECK,
};
use crate::{EvalError, Type, Value, env::Library::Authorizer as Lib};
use std::{fmt, sync::Arc};
use strata_meta::names;

/// Decides what a user may do; whoever runs expressions gives one.
///
/// `service_account` is the namespace and name of a service account to ask for instead of the user
/// that the authorizer stands for.
pub trait Authorizer: Send + Sync {
    /// May the user do `verb` to what is not a resource?
    fn authorize_path(&self, service_account: Option<&(String, String)>, path: &str, verb: &str) -> Decision;

    /// May the user do `verb` to the resource?
    fn authorize_resource(
        &self,
        service_account: Option<&(String, String)>,
        check: &ResourceCheck,
        verb: &str,
    ) -> Decision;
}

/// What an authorizer decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// An authorizer, and whom it is asked for.
#[derive(Clone)]
pub struct AuthorizerValue {
    authorizer: Arc<dyn Authorizer>,
    service_account: Option<Arc<(String, String)>>,
}

impl fmt::Debug for AuthorizerValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorizer")
    }
}

/// A check of a path that is not a resource.
#[derive(Clone, Debug)]
pub struct PathCheck {
    authorizer: AuthorizerValue,
    path: String,
}

/// A check of a resource; empty means not said.
#[derive(Clone, Debug)]
pub struct ResourceCheck {
    authorizer: AuthorizerValue,
    /// API group.
    pub group: String,
    /// Resource, plural.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Field selector, unparsed.
    pub field_selector: String,
    /// Label selector, unparsed.
    pub label_selector: String,
}

/// The type of the variable `authorizer`.
pub fn authorizer_type() -> Type {
    Type::object(AUTHORIZER)
}

/// The type of the variable `authorizer.requestResource`.
pub fn resource_check_type() -> Type {
    Type::object(RESOURCE_CHECK)
}

impl AuthorizerValue {
    /// The value of the variable `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            authorizer,
            service_account: None,
        }
    }

    fn check(&self, group: &str) -> ResourceCheck {
        ResourceCheck {
            authorizer: self.clone(),
            group: group.to_owned(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            field_selector: String::new(),
            label_selector: String::new(),
        }
    }

    /// A check of a resource, for the variable `authorizer.requestResource`.
    pub fn resource_check<'a>(
        &self,
        (group, resource, subresource): (&str, &str, &str),
        (namespace, name): (&str, &str),
    ) -> Value<'a> {
        let mut check = self.check(group);
        check.resource = resource.to_owned();
        check.subresource = subresource.to_owned();
        check.namespace = namespace.to_owned();
        check.name = name.to_owned();
        Value::Opaque(Opaque::ResourceCheck(Arc::new(check)))
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            Lib,
            "path",
            "authorizer_path",
            "authorizer.(string) -> path_check",
            path,
        ),
        row(
            Lib,
            "group",
            "authorizer_group",
            "authorizer.(string) -> group_check",
            group,
        ),
        row(
            Lib,
            "serviceAccount",
            "authorizer_serviceaccount",
            "authorizer.(string, string) -> authorizer",
            account,
        ),
        row(
            Lib,
            "resource",
            "groupcheck_resource",
            "group_check.(string) -> resource_check",
            resource,
        ),
        row(
            Lib,
            "subresource",
            "resourcecheck_subresource",
            "resource_check.(string) -> resource_check",
            |a| with(a, |check, text| check.subresource = text),
        ),
        row(
            Lib,
            "namespace",
            "resourcecheck_namespace",
            "resource_check.(string) -> resource_check",
            |a| with(a, |check, text| check.namespace = text),
        ),
        row(
            Lib,
            "name",
            "resourcecheck_name",
            "resource_check.(string) -> resource_check",
            |a| with(a, |check, text| check.name = text),
        ),
        row(
            Lib,
            "fieldSelector",
            "authorizer_fieldselector",
            "resource_check.(string) -> resource_check",
            |a| with(a, |check, text| check.field_selector = text),
        ),
        row(
            Lib,
            "labelSelector",
            "authorizer_labelselector",
            "resource_check.(string) -> resource_check",
            |a| with(a, |check, text| check.label_selector = text),
        ),
        row(
            Lib,
            "check",
            "pathcheck_check",
            "path_check.(string) -> decision",
            check,
        ),
        row(
            Lib,
            "check",
            "resourcecheck_check",
            "resource_check.(string) -> decision",
            check,
        ),
        row(Lib, "errored", "decision_errored", "decision.() -> bool", |a| {
            Ok(Value::Bool(decision(a)?.error.is_some()))
        }),
        row(Lib, "error", "decision_error", "decision.() -> string", |a| {
            Ok(Value::text(decision(a)?.error.clone().unwrap_or_default()))
        }),
        row(Lib, "allowed", "decision_allowed", "decision.() -> bool", |a| {
            Ok(Value::Bool(decision(a)?.allowed))
        }),
        row(Lib, "reason", "decision_reason", "decision.() -> string", |a| {
            Ok(Value::text(decision(a)?.reason.clone()))
        }),
    ]
}

fn refuse<T>() -> Result<T, EvalError> {
    Err(EvalError::no_such_overload())
}

fn path<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::Opaque(Opaque::Authorizer(authorizer)), Value::String(path)] = args else {
        return refuse();
    };
    if path.trim().is_empty() {
        return Err(EvalError::failed("path must not be empty"));
    }
    let check = PathCheck {
        authorizer: authorizer.clone(),
        path: path.to_string(),
    };
    Ok(Value::Opaque(Opaque::PathCheck(Arc::new(check))))
}

fn group<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::Opaque(Opaque::Authorizer(authorizer)), Value::String(group)] = args else {
        return refuse();
    };
    Ok(Value::Opaque(Opaque::GroupCheck(Arc::new(authorizer.check(group)))))
}

fn account<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [
        Value::Opaque(Opaque::Authorizer(authorizer)),
        Value::String(namespace),
        Value::String(name),
    ] = args
    else {
        return refuse();
    };
    if !names::dns1123_subdomain(name).is_empty() {
        return Err(EvalError::failed("Invalid service account name"));
    }
    if !names::dns1123_label(namespace).is_empty() {
        return Err(EvalError::failed("Invalid service account namespace"));
    }
    let service_account = Some(Arc::new((namespace.to_string(), name.to_string())));
    let authorizer = authorizer.authorizer.clone();
    Ok(Value::Opaque(Opaque::Authorizer(AuthorizerValue {
        authorizer,
        service_account,
    })))
}

fn resource<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::Opaque(Opaque::GroupCheck(check)), Value::String(resource)] = args else {
        return refuse();
    };
    if resource.trim().is_empty() {
        return Err(EvalError::failed("resource must not be empty"));
    }
    let check = ResourceCheck {
        resource: resource.to_string(),
        ..(**check).clone()
    };
    Ok(Value::Opaque(Opaque::ResourceCheck(Arc::new(check))))
}

fn with<'a>(args: &[Value<'a>], set: fn(&mut ResourceCheck, String)) -> Result<Value<'a>, EvalError> {
    let [Value::Opaque(Opaque::ResourceCheck(check)), Value::String(text)] = args else {
        return refuse();
    };
    let mut check = (**check).clone();
    set(&mut check, text.to_string());
    Ok(Value::Opaque(Opaque::ResourceCheck(Arc::new(check))))
}

fn check<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let decision = match args {
        [Value::Opaque(Opaque::PathCheck(check)), Value::String(verb)] => {
            let AuthorizerValue {
                authorizer,
                service_account,
            } = &check.authorizer;
            authorizer.authorize_path(service_account.as_deref(), &check.path, verb)
        }
        [Value::Opaque(Opaque::ResourceCheck(check)), Value::String(verb)] => {
            let AuthorizerValue {
                authorizer,
                service_account,
            } = &check.authorizer;
            authorizer.authorize_resource(service_account.as_deref(), check, verb)
        }
        _ => return refuse(),
    };
    Ok(Value::Opaque(Opaque::Decision(Arc::new(decision))))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, EvalError> {
    match args {
        [Value::Opaque(Opaque::Decision(decision))] => Ok(decision),
        _ => refuse(),
    }
}
