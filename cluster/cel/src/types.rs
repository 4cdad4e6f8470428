//! Types of expressions.

use std::{fmt, sync::Arc};

/// The type of an expression, a variable or a field.
///
/// `Display` is the checker's rendering: `list(int)`, `map(string, dyn)`, `optional_type(string)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Known only when it runs.
    Dyn,
    /// What an expression with an error has; it agrees with everything, so one error is one issue.
    Error,
    /// Any value whatever, as a declared field may be.
    Any,
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// 64 bits, signed.
    Int,
    /// 64 bits, unsigned.
    Uint,
    /// 64 bits, IEEE 754.
    Double,
    /// Unicode text.
    String,
    /// Octets.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of one type.
    List(Arc<Composite>),
    /// A map from one type to another.
    Map(Arc<Composite>),
    /// An object type by its name; its fields are told by the environment.
    Struct(Arc<str>),
    /// An abstract type with parameters, such as `optional_type`.
    Opaque(Arc<str>, Arc<Composite>),
    /// The type of a type.
    Type(Arc<Composite>),
    /// A parameter of a generic function.
    Param(Arc<str>),
}

/// Parameters of a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Composite {
    parameters: Vec<Type>,
    /// How many nodes the type has when written out; shared parts count each time.
    weight: u32,
    /// Whether a parameter of a generic function is somewhere in it.
    open: bool,
}

impl Composite {
    fn new(parameters: Vec<Type>) -> Arc<Self> {
        let weight = parameters.iter().map(Type::weight).fold(1, u32::saturating_add);
        let open = parameters.iter().any(Type::is_open);
        Arc::new(Self {
            parameters,
            weight,
            open,
        })
    }
}

const OPTIONAL: &str = "optional_type";

impl Type {
    /// A list of `element`.
    pub fn list(element: Self) -> Self {
        Self::List(Composite::new(vec![element]))
    }

    /// A map from `key` to `value`.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Composite::new(vec![key, value]))
    }

    /// An optional value of `inner`.
    pub fn optional(inner: Self) -> Self {
        Self::opaque(OPTIONAL, vec![inner])
    }

    /// An abstract type.
    pub fn opaque(name: &str, parameters: Vec<Self>) -> Self {
        Self::Opaque(name.into(), Composite::new(parameters))
    }

    /// An object type by name.
    pub fn object(name: &str) -> Self {
        Self::Struct(name.into())
    }

    /// The type of the type `inner`.
    pub fn type_of(inner: Self) -> Self {
        Self::Type(Composite::new(vec![inner]))
    }

    /// `type` itself, of no type in particular.
    pub fn any_type() -> Self {
        Self::Type(Composite::new(Vec::new()))
    }

    pub(crate) fn param(name: &str) -> Self {
        Self::Param(name.into())
    }

    /// What stands between the parentheses.
    pub fn parameters(&self) -> &[Self] {
        match self {
            Self::List(c) | Self::Map(c) | Self::Opaque(_, c) | Self::Type(c) => &c.parameters,
            _ => &[],
        }
    }

    /// What an optional type is of.
    pub fn optional_of(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, c) if &**name == OPTIONAL => c.parameters.first(),
            _ => None,
        }
    }

    /// How many nodes the type has when written out.
    pub(crate) fn weight(&self) -> u32 {
        match self {
            Self::List(c) | Self::Map(c) | Self::Opaque(_, c) | Self::Type(c) => c.weight,
            _ => 1,
        }
    }

    /// The name as the language has it at run time: `type(x)` compares these.
    pub fn name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Error => "error",
            Self::Any => "google.protobuf.Any",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Struct(name) | Self::Opaque(name, _) | Self::Param(name) => name,
        }
    }

    /// Whether a parameter of a generic function is in it.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::List(c) | Self::Map(c) | Self::Opaque(_, c) | Self::Type(c) => c.open,
            Self::Param(_) => true,
            _ => false,
        }
    }

    /// The same with other parameters.
    pub(crate) fn with(&self, parameters: Vec<Self>) -> Self {
        let composite = Composite::new(parameters);
        match self {
            Self::List(_) => Self::List(composite),
            Self::Map(_) => Self::Map(composite),
            Self::Opaque(name, _) => Self::Opaque(name.clone(), composite),
            Self::Type(_) => Self::Type(composite),
            other => other.clone(),
        }
    }

    /// Whether both are of one kind, whatever their parameters and names.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        self.is_dyn() || matches!(self, Self::Error)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => return f.write_str("any"),
            Self::Duration => return f.write_str("duration"),
            Self::Timestamp => return f.write_str("timestamp"),
            Self::Null => return f.write_str("null"),
            Self::Error => return f.write_str("!error!"),
            _ => f.write_str(self.name())?,
        }
        let [first, rest @ ..] = self.parameters() else {
            return Ok(());
        };
        write!(f, "({first}")?;
        rest.iter().try_for_each(|parameter| write!(f, ", {parameter}"))?;
        f.write_str(")")
    }
}
