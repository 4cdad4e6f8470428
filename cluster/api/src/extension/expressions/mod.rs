//! Expressions of schemas (`x-kubernetes-validations`): compiled and costed when a definition is written, and run
//! when an instance is.

mod check;
mod compile;
mod evaluate;

pub(super) use check::check_rules;
pub(super) use compile::Compiled;
pub(super) use evaluate::{check_default, evaluate};
