//! Kinds that are defined at run time: CustomResourceDefinitions and the rows they make.
//!
//! A [`Definition`] is what a CustomResourceDefinition says, read when it changes; the schemas of its versions are
//! parsed when first needed. [`Extensions`] follows the definitions in the cache, before anybody else hears of a
//! change: it puts rows into the registry and takes them out. The [`controller`] accepts names, establishes, and
//! removes the instances of definitions that go. Custom resources run through the same pipeline as every kind;
//! what differs is in [`Custom`], their `RowSchema`, and [`strategy`].

mod columns;
pub(crate) mod controller;
mod convert;
mod custom;
mod definition;
mod definitions;
mod expressions;
mod install;
mod jsonpath;
mod strategy;
mod terminate;

pub(crate) use columns::PrinterColumn;
pub(crate) use custom::Custom;
pub(crate) use definition::Definition;
pub(crate) use definitions::CustomResourceDefinition;
pub(crate) use install::Extensions;
pub(crate) use jsonpath::JsonPath;

/// Runs the rules of a schema over an instance.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn run_rules(
    schema: &std::sync::Arc<strata_schema::structural::Structural>,
    new: &serde_json::Value,
    old: Option<&serde_json::Value>,
    causes: &mut crate::strategy::Causes,
) {
    expressions::evaluate(&expressions::Compiled::of(schema), schema, new, old, causes);
}
