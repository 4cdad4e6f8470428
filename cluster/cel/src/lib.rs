//! The Common Expression Language (CEL) as Kubernetes v1.36 has it.
//!
//! For: compiling, costing and running the expressions of CustomResourceDefinitions, admission
//! policies, match conditions and authentication mappings exactly as upstream would: the same types,
//! the same values, the same sentences, and the same numbers for estimated and actual cost, which
//! are protocol. It knows nothing of an API server and can be used without one.
//!
//! Not for: protocol buffers, partial evaluation, user-defined functions.
//!
//! Start at [`Env`]: declare variables with a [`DeclType`] (or a bare [`Type`]), `compile` a
//! [`Checked`] expression, ask it for its estimated cost by the sizes of the declaration, make a
//! [`Program`] of it, and run that over [`Bindings`]. Values read JSON where it lies.
//!
//! ```
//! use strata_cel::{Bindings, Env, Type, Value, limits};
//!
//! let env = Env::kubernetes().variable("replicas", Type::Int).build();
//! let checked = env.compile("replicas > 2").unwrap();
//! let program = checked.program().unwrap();
//! let variables = Bindings::new().with("replicas", Value::Int(3));
//! let run = program.eval(&variables, limits::PER_CALL_LIMIT);
//! assert_eq!(run.result.unwrap().as_bool(), Some(true));
//! ```
//!
//! Why ours: `kube-cel` 0.8 has Kubernetes' functions but stands on `cel`, which does not check
//! types, and its costs are heuristics; `cel-core` 0.5 checks types but counts no cost, bounds no
//! run, and has none of Kubernetes' libraries. Neither has the sentences that clients read.

mod actual;
mod ast;
mod checker;
mod cost;
mod decl;
mod deep;
mod env;
mod error;
mod escape;
mod eval;
mod functions;
mod issue;
mod lexer;
pub mod limits;
mod literal;
mod macros;
mod parser;
mod plan;
mod program;
mod schema;
mod types;
mod unify;
mod validate;
mod value;

/// The page's example is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use cost::{CostRange, Range, SizeRange, Sizes, UnknownSizes};
pub use decl::{DeclKind, DeclType, FieldDecl, ListSemantics, ObjectDecl, ObjectSource};
pub use env::{Env, EnvBuilder, Library, TypeProvider};
pub use error::{ErrorKind, EvalError};
pub use escape::{escape, unescape};
pub use eval::{Activation, Bindings};
pub use functions::kubernetes::{
    Authorizer, AuthorizerValue, Decision, Opaque, PathCheck, ResourceCheck, authorizer_type, pattern, pattern_weight,
    resource_check_type,
};
pub use issue::{Issue, Issues};
pub use program::{Checked, Evaluation, Program};
pub use schema::{AdditionalProperties, Schema, SharedSchema};
pub use types::Type;
pub use value::{Duration, List, Map, Record, Text, Timestamp, Value};
