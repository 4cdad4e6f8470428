//! What expressions may use: variables, types, functions.

use crate::{
    Checked, DeclType, EvalError, Issues, Type, Value, checker,
    decl::ObjectDecl,
    deep::{may_be_deep, with_room},
    functions::{self, Overload},
    macros::MacroSet,
    parser, validate,
    value::Record,
};
use std::{collections::HashMap, sync::Arc};

/// Where expressions are compiled: the declared variables and types, and the libraries.
///
/// Cloning is cheap; `extend` makes a new one on top of another.
#[derive(Clone, Debug)]
pub struct Env(Arc<Inner>);

#[derive(Clone, Default)]
struct Inner {
    variables: HashMap<Arc<str>, Type>,
    objects: HashMap<Arc<str>, Arc<ObjectDecl>>,
    providers: Vec<Arc<dyn TypeProvider>>,
    libraries: u32,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

/// Object types whose fields are told on demand, and which expressions may construct.
pub trait TypeProvider: Send + Sync {
    /// Whether there is an object type of this name.
    fn has_type(&self, name: &str) -> bool;

    /// The type of a field, or `None` when there is no such field.
    fn field(&self, type_name: &str, field: &str) -> Option<Type>;

    /// The value of `Name{field: value, …}`. Errors: the fields do not make one.
    fn construct<'a>(&self, type_name: &str, fields: Vec<(Arc<str>, Value<'a>)>) -> Result<Value<'a>, EvalError> {
        let type_name = type_name.into();
        Ok(Value::Record(Arc::new(Record { type_name, fields })))
    }
}

/// A group of functions and macros that is there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Library {
    /// The language's own.
    Standard,
    /// Optional values and their syntax.
    Optional,
    /// cel-go's strings, version 2.
    Strings,
    /// cel-go's sets.
    Sets,
    /// cel-go's lists, version 3.
    Lists,
    /// cel-go's comprehensions of two variables.
    TwoVariables,
    /// cel-go's base64.
    Encoders,
    /// cel-go's `cel.bind`.
    Bindings,
    /// Kubernetes' lists, regular expressions and URLs.
    Kubernetes,
    /// Kubernetes' quantities.
    Quantity,
    /// Kubernetes' addresses and networks.
    Network,
    /// Kubernetes' named formats.
    Format,
    /// Kubernetes' versions.
    Semver,
    /// Kubernetes' authorizer with selectors.
    Authorizer,
    /// `jsonpatch.escapeKey`, for mutating admission policies.
    JsonPatch,
}

/// What every Kubernetes expression may use in v1.36.
const KUBERNETES: [Library; 12] = [
    Library::Standard,
    Library::Optional,
    Library::Strings,
    Library::Sets,
    Library::Lists,
    Library::TwoVariables,
    Library::Kubernetes,
    Library::Quantity,
    Library::Network,
    Library::Format,
    Library::Semver,
    Library::Authorizer,
];

impl Env {
    /// Nothing but the language itself.
    pub fn standard() -> EnvBuilder {
        EnvBuilder(Inner::default()).library(Library::Standard)
    }

    /// The base environment of Kubernetes v1.36; add the variables to it.
    pub fn kubernetes() -> EnvBuilder {
        KUBERNETES.into_iter().fold(Self::standard(), EnvBuilder::library)
    }

    /// More on top of this one.
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder((*self.0).clone())
    }

    /// Parses and checks an expression. Errors: all that is wrong, in cel-go's rendering.
    pub fn compile(&self, source: &str) -> Result<Checked, Issues> {
        with_room(may_be_deep(source), || {
            let parsed = parser::parse(source, self.macros())?;
            let checked = checker::check(self.clone(), source, parsed)?;
            validate::validate(source, &checked)?;
            Ok(checked)
        })
    }

    fn has(&self, library: Library) -> bool {
        self.0.libraries & (1 << library as u32) != 0
    }

    fn macros(&self) -> MacroSet {
        MacroSet {
            optional: self.has(Library::Optional),
            two_variables: self.has(Library::TwoVariables),
            lists: self.has(Library::Lists),
            bindings: self.has(Library::Bindings),
        }
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.0.variables.get(name)
    }

    /// The type a name names.
    pub(crate) fn named_type(&self, name: &str) -> Option<Type> {
        let standard = match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "string" => Type::String,
            "null_type" => Type::Null,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "type" => Type::any_type(),
            "google.protobuf.Timestamp" => Type::Timestamp,
            "google.protobuf.Duration" => Type::Duration,
            "optional_type" if self.has(Library::Optional) => Type::optional(Type::Dyn),
            "net.IP" | "net.CIDR" if self.has(Library::Network) => Type::opaque(name, Vec::new()),
            _ if self.has_object(name) => Type::object(name),
            _ => return None,
        };
        Some(standard)
    }

    pub(crate) fn has_object(&self, name: &str) -> bool {
        self.0.objects.contains_key(name) || self.0.providers.iter().any(|p| p.has_type(name))
    }

    /// Whether an expression may construct objects of the type.
    pub(crate) fn provider(&self, name: &str) -> Option<&Arc<dyn TypeProvider>> {
        self.0.providers.iter().find(|provider| provider.has_type(name))
    }

    /// The type of an object type's field.
    pub(crate) fn field(&self, type_name: &str, field: &str) -> Option<Type> {
        if let Some(object) = self.0.objects.get(type_name) {
            return object.field(field).map(|field| field.decl.cel_type());
        }
        self.provider(type_name)?.field(type_name, field)
    }

    /// The overloads of a function, those of absent libraries left out.
    pub(crate) fn overloads(&self, function: &str) -> impl Iterator<Item = &'static Overload> + '_ {
        let all = functions::table().get(function).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|overload| self.has(overload.library))
    }

    pub(crate) fn has_function(&self, function: &str) -> bool {
        self.overloads(function).next().is_some()
    }
}

/// An environment in the making.
#[derive(Clone)]
pub struct EnvBuilder(Inner);

impl EnvBuilder {
    /// A variable of a type.
    #[must_use]
    pub fn variable(mut self, name: &str, variable: Type) -> Self {
        self.0.variables.insert(name.into(), variable);
        self
    }

    /// A variable of a declared type, whose object types become known.
    #[must_use]
    pub fn declared(self, name: &str, decl: &DeclType) -> Self {
        let variable = decl.cel_type();
        self.objects(decl).variable(name, variable)
    }

    /// Object types of a declaration, so that variables may be of them.
    #[must_use]
    pub fn objects(mut self, decl: &DeclType) -> Self {
        let mut found = Vec::new();
        decl.objects(&mut found);
        for object in found {
            self.0.objects.insert(object.name.as_str().into(), object);
        }
        self
    }

    /// Object types told on demand.
    #[must_use]
    pub fn types(mut self, provider: Arc<dyn TypeProvider>) -> Self {
        self.0.providers.push(provider);
        self
    }

    /// One more library.
    #[must_use]
    pub fn library(mut self, library: Library) -> Self {
        self.0.libraries |= 1 << library as u32;
        self
    }

    /// The environment.
    pub fn build(self) -> Env {
        Env(Arc::new(self.0))
    }
}
