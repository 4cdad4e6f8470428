//! Defaulting: what upstream's defaulting functions do to an object, as data.
//!
//! Most defaults are rows of [`rows`] or declared in the table; what depends on other fields is a
//! small function of [`hooks`] or [`pod`]. All are attached to types, and one walk applies them
//! from the root down, visiting only types below which there is something to default.

mod hooks;
mod pod;
mod rows;

use crate::decode::is_empty;
use crate::{Schema, Shape, TypeId};
use serde_json::{Map, Value};
use std::sync::LazyLock;
use strata_meta::{GroupVersionKind, Quantity};

/// Fills in what the object leaves open. An object of an unknown kind stays as it is.
///
/// The object is in the form [`crate::decode()`] gives, and stays in it.
pub fn apply_defaults(gvk: &GroupVersionKind, value: &mut Value) {
    let schema = Schema::builtin();
    if let (Some(id), Value::Object(object)) = (schema.type_of(gvk), value) {
        Walk { schema, plans: &PLANS }.object(id, object);
    }
}

/// A default that depends on more than its own field.
type Hook = fn(&mut Map<String, Value>);

/// What there is to default in a type.
#[derive(Default)]
struct Plan {
    /// Place of the field and its default.
    fields: Vec<(usize, Value)>,
    hook: Option<Hook>,
    /// Places of the fields below which there is something to default.
    below: Vec<usize>,
}

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| plans(Schema::builtin()));

fn plans(schema: &Schema) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for (_, info) in schema.types() {
        let mut plan = Plan::default();
        for (at, field) in info.fields.iter().enumerate() {
            if let Some(default) = field.default.and_then(|text| serde_json::from_str::<Value>(text).ok())
                && (field.pointer || !is_empty(schema, &field.shape, &default))
            {
                plan.fields.push((at, default));
            }
        }
        for row in rows::ROWS
            .iter()
            .filter(|row| (row.package, row.kind) == (info.package, info.name))
        {
            let at = info.position(row.field).expect("a default is of a field in the table");
            plan.fields.push((at, row.default.value()));
        }
        let hook = hooks::HOOKS
            .iter()
            .find(|(package, kind, _)| (*package, *kind) == (info.package, info.name));
        plan.hook = hook.map(|(_, _, hook)| *hook);
        plans.push(plan);
    }
    find_reachable(schema, &mut plans);
    plans
}

/// Fills `below` until nothing changes; types refer to each other in circles.
fn find_reachable(schema: &Schema, plans: &mut [Plan]) {
    let mut active: Vec<bool> = plans
        .iter()
        .map(|plan| plan.hook.is_some() || !plan.fields.is_empty())
        .collect();
    loop {
        let mut changed = false;
        for (id, info) in schema.types() {
            if !active[id.index()]
                && info
                    .fields
                    .iter()
                    .any(|field| leads_to_default(schema, &field.shape, &active))
            {
                active[id.index()] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for (id, info) in schema.types() {
        let fields = info.fields.iter().enumerate();
        plans[id.index()].below = fields
            .filter(|(_, field)| leads_to_default(schema, &field.shape, &active))
            .map(|(at, _)| at)
            .collect();
    }
}

fn leads_to_default(schema: &Schema, shape: &Shape, active: &[bool]) -> bool {
    match schema.resolve(shape) {
        Shape::Struct(id) => active[id.index()],
        Shape::List(item) => leads_to_default(schema, item, active),
        Shape::Map(_, item) => is_resource_list(schema, shape) || leads_to_default(schema, item, active),
        _ => false,
    }
}

fn is_resource_list(schema: &Schema, shape: &Shape) -> bool {
    matches!(shape, Shape::Named(index) if schema.named(*index).name == "ResourceList")
}

struct Walk<'a> {
    schema: &'a Schema,
    plans: &'a [Plan],
}

impl Walk<'_> {
    fn object(&self, id: TypeId, object: &mut Map<String, Value>) {
        let (info, plan) = (self.schema.type_info(id), &self.plans[id.index()]);
        if let Some(hook) = plan.hook {
            hook(object);
        }
        for (at, default) in &plan.fields {
            let field = &info.fields[*at];
            let unset = match object.get(field.name) {
                None | Some(Value::Null) => true,
                Some(value) => !field.pointer && is_zero(value),
            };
            if unset {
                object.insert(field.name.to_owned(), default.clone());
            }
        }
        for at in &plan.below {
            let field = &info.fields[*at];
            if let Some(value) = object.get_mut(field.name) {
                self.value(&field.shape, value);
            }
        }
    }

    fn value(&self, shape: &Shape, value: &mut Value) {
        match (self.schema.resolve(shape), value) {
            (Shape::Struct(id), Value::Object(object)) => self.object(*id, object),
            (Shape::List(item), Value::Array(items)) => items.iter_mut().for_each(|each| self.value(item, each)),
            (Shape::Map(_, item), Value::Object(members)) => match is_resource_list(self.schema, shape) {
                true => members.values_mut().for_each(round_to_milli),
                false => members.values_mut().for_each(|each| self.value(item, each)),
            },
            _ => {}
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::Bool(b) => !b,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Amounts of resources are rounded up to thousandths; only micro and nano suffixes go below.
fn round_to_milli(value: &mut Value) {
    if let Value::String(text) = value
        && text.ends_with(['u', 'n'])
        && let Ok(quantity) = text.parse::<Quantity>()
    {
        *text = Quantity::from_milli(quantity.milli_value()).to_string();
    }
}

#[cfg(test)]
mod tests;
