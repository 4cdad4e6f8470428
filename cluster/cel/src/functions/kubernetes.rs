//! Kubernetes' libraries and the types they bring.

mod authorizer;
mod named_format;
mod net;
mod quantity;
mod regular;
mod semver;
mod url;

pub use authorizer::{
    Authorizer, AuthorizerValue, Decision, PathCheck, ResourceCheck, authorizer_type, resource_check_type,
};
pub(crate) use named_format::Format;
pub(crate) use regular::{call as regex_call, compile as compile_regex, with as with_regex};
pub use regular::{pattern, pattern_weight};

use super::{Row, row};
use crate::{EvalError, Type, Value, env::Library::JsonPatch};
use net::{Address, Network};
use semver::Version;
use std::sync::Arc;
use strata_meta::Quantity;
use url::Url;

pub(crate) const QUANTITY: &str = "kubernetes.Quantity";
pub(crate) const URL: &str = "kubernetes.URL";
pub(crate) const IP: &str = "net.IP";
pub(crate) const CIDR: &str = "net.CIDR";
pub(crate) const FORMAT: &str = "kubernetes.NamedFormat";
pub(crate) const SEMVER: &str = "kubernetes.Semver";
pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

/// As long as the estimate takes a named format's pattern to be.
pub(crate) const MAX_FORMAT_REGEX: u64 = 128;

/// A value of a library's type.
#[derive(Clone, Debug)]
pub enum Opaque {
    /// A resource quantity.
    Quantity(Quantity),
    /// A URL.
    Url(Arc<Url>),
    /// An address.
    Ip(Address),
    /// A network.
    Cidr(Network),
    /// A named format.
    Format(&'static Format),
    /// A version.
    Semver(Arc<Version>),
    /// Who may be asked what someone may do.
    Authorizer(AuthorizerValue),
    /// A check of a path, in the making.
    PathCheck(Arc<PathCheck>),
    /// A check of a resource, of which but the group is known.
    GroupCheck(Arc<ResourceCheck>),
    /// A check of a resource, in the making.
    ResourceCheck(Arc<ResourceCheck>),
    /// What an authorizer decided.
    Decision(Arc<Decision>),
}

impl Opaque {
    /// The type.
    pub fn type_of(&self) -> Type {
        named_type(self.type_name())
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => QUANTITY,
            Self::Url(_) => URL,
            Self::Ip(_) => IP,
            Self::Cidr(_) => CIDR,
            Self::Format(_) => FORMAT,
            Self::Semver(_) => SEMVER,
            Self::Authorizer(_) => AUTHORIZER,
            Self::PathCheck(_) => PATH_CHECK,
            Self::GroupCheck(_) => GROUP_CHECK,
            Self::ResourceCheck(_) => RESOURCE_CHECK,
            Self::Decision(_) => DECISION,
        }
    }

    pub(crate) fn same_type(&self, other: &Self) -> bool {
        self.type_name() == other.type_name()
    }

    /// Bytes of an address, and of a network's prefix; one for anything else.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Ip(address) => address.bytes(),
            Self::Cidr(network) => u64::from(network.bits).div_ceil(8),
            _ => 1,
        }
    }

    /// As text, for those that have one.
    pub(crate) fn text(&self) -> Option<String> {
        Some(match self {
            Self::Quantity(quantity) => quantity.to_string(),
            Self::Url(url) => url.text.clone(),
            Self::Ip(address) => address.to_string(),
            Self::Cidr(network) => network.to_string(),
            Self::Semver(version) => version.to_string(),
            _ => return None,
        })
    }
}

impl PartialEq for Opaque {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            (Self::Semver(a), Self::Semver(b)) => a.order(b).is_eq(),
            _ => false,
        }
    }
}

/// The type a signature names; optional and list types are not among them.
pub(crate) fn named_type(name: &str) -> Type {
    match name {
        "quantity" => Type::object(QUANTITY),
        "url" => Type::object(URL),
        "ip" | IP => Type::opaque(IP, Vec::new()),
        "cidr" | CIDR => Type::opaque(CIDR, Vec::new()),
        "format" => Type::object(FORMAT),
        "semver" => Type::object(SEMVER),
        "authorizer" => Type::object(AUTHORIZER),
        "path_check" => Type::object(PATH_CHECK),
        "group_check" => Type::object(GROUP_CHECK),
        "resource_check" => Type::object(RESOURCE_CHECK),
        "decision" => Type::object(DECISION),
        other => Type::object(other),
    }
}

/// Whether an object type is a library's, whose values compare at the cost of one.
pub(crate) fn is_library_type(name: &str) -> bool {
    [
        QUANTITY,
        SEMVER,
        AUTHORIZER,
        PATH_CHECK,
        GROUP_CHECK,
        RESOURCE_CHECK,
        DECISION,
    ]
    .contains(&name)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = url::rows();
    rows.extend(regular::rows());
    rows.extend(authorizer::rows());
    rows.extend(quantity::rows());
    rows.extend(net::rows());
    rows.extend(named_format::rows());
    rows.extend(semver::rows());
    rows.push(row(
        JsonPatch,
        "jsonpatch.escapeKey",
        "string_jsonpatch_escapeKey_string",
        "(string) -> string",
        escape,
    ));
    rows
}

fn escape<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::String(key)] => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// The text of a function's only argument.
fn only_text<'v>(args: &'v [Value<'_>]) -> Result<&'v str, EvalError> {
    match args {
        [Value::String(text)] => Ok(text),
        _ => Err(EvalError::no_such_overload()),
    }
}
