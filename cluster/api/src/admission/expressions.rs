//! CEL expressions of admission: match conditions, policies and their variables.
//!
//! What an expression may see is upstream's: object, oldObject, request, namespaceObject, params, authorizer, variables.

use serde_json::Value as Json;
use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use strata_cel::{
    Activation, DeclKind, DeclType, Env, EvalError, FieldDecl, Library, ObjectDecl, Program, Text, Type, TypeProvider,
    Value, authorizer_type, limits::PER_CALL_LIMIT, resource_check_type,
};

/// Upstream's name of the type of `variables`.
const VARIABLES: &str = "kubernetes.variables";

/// What the expressions of one place may use.
#[derive(Clone, Default)]
pub(crate) struct Vocabulary {
    /// Whether there are params.
    pub(crate) params: bool,
    /// Whether the authorizer may be asked.
    pub(crate) authorizer: bool,
    /// Whether objects and JSON patches may be made.
    pub(crate) patches: bool,
    /// The type of `object` and `oldObject`, when it is known.
    pub(crate) object: Option<Arc<DeclType>>,
    /// The type of `params`, when it is known.
    pub(crate) param: Option<Arc<DeclType>>,
    /// Named expressions that came before, if there are any.
    pub(crate) variables: Option<BTreeMap<String, Type>>,
}

impl Vocabulary {
    /// Where expressions with this vocabulary are compiled.
    pub(crate) fn env(&self) -> Env {
        let mut env = Env::kubernetes()
            .declared("request", &REQUEST)
            .declared("namespaceObject", &NAMESPACE);
        env = match &self.object {
            Some(decl) => env.declared("object", decl).declared("oldObject", decl),
            None => env.variable("object", Type::Dyn).variable("oldObject", Type::Dyn),
        };
        if self.params {
            env = match &self.param {
                Some(decl) => env.declared("params", decl),
                None => env.variable("params", Type::Dyn),
            };
        }
        if self.authorizer {
            env = env
                .variable("authorizer", authorizer_type())
                .variable("authorizer.requestResource", resource_check_type());
        }
        if self.patches {
            env = env.types(Arc::new(PatchTypes)).library(Library::JsonPatch);
        }
        if let Some(variables) = &self.variables {
            env = env
                .types(Arc::new(VariableTypes(variables.clone())))
                .variable("variables", Type::object(VARIABLES));
        }
        env.build()
    }
}

/// What an expression has to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// True or false.
    Bool,
    /// Text.
    Text,
    /// Text or nothing.
    TextOrNull,
    /// An object to apply.
    Object,
    /// A list of patch operations.
    Patches,
    /// Anything.
    Any,
}

impl Wanted {
    fn types(self) -> Vec<Type> {
        match self {
            Self::Bool => vec![Type::Bool],
            Self::Text => vec![Type::String],
            Self::TextOrNull => vec![Type::String, Type::Null],
            Self::Object => vec![Type::object("Object")],
            Self::Patches => vec![Type::list(Type::object("JSONPatch"))],
            Self::Any => Vec::new(),
        }
    }
}

/// An expression that can be run, and the type of what it comes to.
pub(crate) struct Compiled {
    pub(crate) program: Program,
    pub(crate) output: Type,
}

/// Compiles an expression. Errors: a sentence as upstream has it.
pub(crate) fn compile(env: &Env, source: &str, wanted: Wanted) -> Result<Compiled, String> {
    let checked = env
        .compile(source)
        .map_err(|issues| format!("compilation failed: {issues}"))?;
    let output = checked.output_type().clone();
    let types = wanted.types();
    if !types.is_empty() && !types.contains(&output) {
        return Err(match types.as_slice() {
            [only] => format!("must evaluate to {only} but got {output}"),
            many => {
                let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("must evaluate to one of [{}] but got {output}", names.join(" "))
            }
        });
    }
    let program = checked
        .program()
        .map_err(|e| format!("program instantiation failed: {e}"))?;
    Ok(Compiled { program, output })
}

/// An expression as it was configured: what it says, and what came of compiling it.
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) compiled: Result<Compiled, String>,
}

impl Expression {
    pub(super) fn new(env: &Env, source: &str, wanted: Wanted) -> Self {
        Self {
            source: source.to_owned(),
            compiled: compile(env, source, wanted),
        }
    }
}

/// A named expression that others may refer to.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) expression: Expression,
}

/// Compiles variables in order, each seeing those before it; the vocabulary then has them all.
pub(super) fn compile_variables(vocabulary: &mut Vocabulary, pairs: &[(String, String)]) -> Vec<Variable> {
    vocabulary.variables = Some(BTreeMap::new());
    let mut variables = Vec::new();
    for (name, source) in pairs {
        let expression = Expression::new(&vocabulary.env(), source, Wanted::Any);
        let output = expression.compiled.as_ref().map_or(Type::Dyn, |c| c.output.clone());
        if let Some(known) = &mut vocabulary.variables {
            known.insert(name.clone(), output);
        }
        variables.push(Variable {
            name: name.clone(),
            expression,
        });
    }
    variables
}

/// What an evaluation of several expressions may cost together.
pub(super) struct Budget(Cell<u64>);

/// Everything was spent.
pub(super) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self(Cell::new(limit))
    }

    fn spend(&self, cost: u64) -> Result<(), Failure> {
        match self.0.get().checked_sub(cost) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => {
                self.0.set(0);
                Err(Failure::Budget)
            }
        }
    }
}

/// Why an expression came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// This one failed.
    Failed(String),
    /// Nothing more may be run.
    Budget,
}

/// What expressions see of one request.
pub(super) struct Inputs<'a> {
    pub(super) object: &'a Json,
    pub(super) old: &'a Json,
    pub(super) request: &'a Json,
    pub(super) namespace: &'a Json,
    pub(super) params: &'a Json,
    pub(super) authorizer: Option<(Value<'a>, Value<'a>)>,
    variables: &'a [Variable],
    found: Mutex<HashMap<&'a str, Result<Value<'a>, EvalError>>>,
    spent: AtomicU64,
}

impl<'a> Inputs<'a> {
    /// Of an object, its previous state and the request's attributes.
    pub(super) fn new(object: &'a Json, old: &'a Json, request: &'a Json, variables: &'a [Variable]) -> Self {
        Self {
            object,
            old,
            request,
            namespace: &Json::Null,
            params: &Json::Null,
            authorizer: None,
            variables,
            found: Mutex::default(),
            spent: AtomicU64::new(0),
        }
    }

    /// Runs an expression.
    pub(super) fn run(&self, expression: &'a Expression, budget: &Budget) -> Result<Value<'a>, Failure> {
        let compiled = match &expression.compiled {
            Ok(compiled) => compiled,
            Err(why) => return Err(Failure::Failed(format!("compilation error: {why}"))),
        };
        let run = compiled.program.eval(self, PER_CALL_LIMIT);
        budget.spend(self.spent.swap(0, Ordering::Relaxed))?;
        budget.spend(run.cost)?;
        run.result.map_err(|e| {
            let source = &expression.source;
            Failure::Failed(format!("expression '{source}' resulted in error: {e}"))
        })
    }

    /// The variables that have been asked for already.
    fn known(&self) -> MutexGuard<'_, HashMap<&'a str, Result<Value<'a>, EvalError>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn variable_value(&self, variable: &'a Variable) -> Result<Value<'a>, EvalError> {
        let name = &variable.name;
        let compiled = variable
            .expression
            .compiled
            .as_ref()
            .map_err(|why| EvalError::failed(format!("composited variable {name:?} fails to compile: {why}")))?;
        let run = compiled.program.eval(self, PER_CALL_LIMIT);
        self.spent.fetch_add(run.cost, Ordering::Relaxed);
        run.result
            .map_err(|e| EvalError::failed(format!("composited variable {name:?} fails to evaluate: {e}")))
    }
}

impl<'a> Activation<'a> for Inputs<'a> {
    fn variable(&self, name: &str) -> Option<Value<'a>> {
        match name {
            "object" => Some(Value::dynamic(self.object)),
            "oldObject" => Some(Value::dynamic(self.old)),
            "params" => Some(Value::dynamic(self.params)),
            "request" => declared(self.request, &REQUEST),
            "namespaceObject" => declared(self.namespace, &NAMESPACE),
            "authorizer" => self.authorizer.as_ref().map(|(whole, _)| whole.clone()),
            "authorizer.requestResource" => self.authorizer.as_ref().map(|(_, own)| own.clone()),
            "variables" => Some(Value::Deferred(Text::Borrowed("variables"), Type::object(VARIABLES))),
            _ => None,
        }
    }

    fn field(&self, variable: &str, field: &str) -> Option<Result<Value<'a>, EvalError>> {
        if variable != "variables" {
            return None;
        }
        let variable = self.variables.iter().find(|v| v.name == field)?;
        if let Some(found) = self.known().get(variable.name.as_str()) {
            return Some(found.clone());
        }
        let value = self.variable_value(variable);
        self.known().insert(&variable.name, value.clone());
        Some(value)
    }
}

fn declared<'a>(json: &'a Json, decl: &'a DeclType) -> Option<Value<'a>> {
    if json.is_null() {
        return Some(Value::Null);
    }
    Some(Value::declared(json, decl).unwrap_or_else(|_| Value::dynamic(json)))
}

/// The types of named expressions.
struct VariableTypes(BTreeMap<String, Type>);

impl TypeProvider for VariableTypes {
    fn has_type(&self, name: &str) -> bool {
        name == VARIABLES
    }

    fn field(&self, _type_name: &str, field: &str) -> Option<Type> {
        self.0.get(field).cloned()
    }
}

/// `Object`, `Object.spec` and so on, and `JSONPatch`.
struct PatchTypes;

impl TypeProvider for PatchTypes {
    fn has_type(&self, name: &str) -> bool {
        name == "JSONPatch" || name == "Object" || name.starts_with("Object.")
    }

    fn field(&self, type_name: &str, field: &str) -> Option<Type> {
        match (type_name, field) {
            ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
            ("JSONPatch", "value") => Some(Type::Dyn),
            ("JSONPatch", _) => None,
            _ => Some(Type::Dyn),
        }
    }
}

/// A type with fields by their names.
pub(crate) fn object(name: &str, fields: &[(&str, DeclType)]) -> DeclType {
    let properties = fields.iter().map(|(name, decl)| {
        let field = FieldDecl {
            property: (*name).to_owned(),
            decl: Arc::new(decl.clone()),
        };
        // `namespace` is a reserved word that Kubernetes' own types escape.
        (strata_cel::escape(name).unwrap_or_else(|| (*name).to_owned()), field)
    });
    DeclType::object(ObjectDecl::of_fields(name, properties.collect()))
}

fn nullable(mut decl: DeclType) -> DeclType {
    decl.nullable = true;
    decl
}

fn string() -> DeclType {
    nullable(DeclType::string(0))
}

fn scalar(kind: DeclKind) -> DeclType {
    nullable(DeclType::new(kind, 1))
}

fn strings() -> DeclType {
    nullable(DeclType::list(Arc::new(string()), 0))
}

fn string_map() -> DeclType {
    nullable(DeclType::map(Arc::new(string()), 0))
}

/// admission.k8s.io AdmissionRequest without its objects.
static REQUEST: LazyLock<DeclType> = LazyLock::new(|| {
    let kind = object(
        "kubernetes.GroupVersionKind",
        &[("group", string()), ("version", string()), ("kind", string())],
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", string()), ("version", string()), ("resource", string())],
    );
    let extra = nullable(DeclType::map(Arc::new(strings()), 0));
    let user = object(
        "kubernetes.UserInfo",
        &[
            ("username", string()),
            ("uid", string()),
            ("groups", strings()),
            ("extra", extra),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", string()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", string()),
            ("name", string()),
            ("namespace", string()),
            ("operation", string()),
            ("userInfo", user),
            ("dryRun", scalar(DeclKind::Bool)),
            ("options", DeclType::dynamic()),
        ],
    )
});

/// core/v1 Namespace as expressions see it.
static NAMESPACE: LazyLock<DeclType> = LazyLock::new(|| {
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", string()),
            ("type", string()),
            ("lastTransitionTime", scalar(DeclKind::DateTime)),
            ("message", string()),
            ("reason", string()),
        ],
    );
    let conditions = nullable(DeclType::list(Arc::new(condition), 0));
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", string()),
            ("generateName", string()),
            ("namespace", string()),
            ("labels", string_map()),
            ("annotations", string_map()),
            ("UID", string()),
            ("creationTimestamp", scalar(DeclKind::DateTime)),
            ("deletionGracePeriodSeconds", scalar(DeclKind::Int)),
            ("deletionTimestamp", scalar(DeclKind::DateTime)),
            ("generation", scalar(DeclKind::Int)),
            ("resourceVersion", string()),
            ("finalizers", strings()),
        ],
    );
    object(
        "kubernetes.Namespace",
        &[
            ("metadata", metadata),
            ("spec", object("kubernetes.NamespaceSpec", &[("finalizers", strings())])),
            (
                "status",
                object(
                    "kubernetes.NamespaceStatus",
                    &[("conditions", conditions), ("phase", string())],
                ),
            ),
        ],
    )
});
