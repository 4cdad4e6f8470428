//! What server-side apply has to know.

use super::{Flags, Kind, Structural};
use crate::{
    Schema, TypeInfo,
    apply::{Anything, Form, Identity, Keys, Node, Scalar},
};
use serde_json::Value;
use std::sync::Arc;
use strata_meta::GroupVersionKind;

/// A schema as the type of whole objects, whose metadata is ObjectMeta.
pub struct Root(Arc<Structural>);

/// The type of whole objects.
pub fn root(schema: &Arc<Structural>) -> Root {
    Root(schema.clone())
}

impl Node for Root {
    fn form(&self) -> Form<'_> {
        match self.0.form() {
            Form::Scalar(_) | Form::List { .. } => Form::Any,
            other => other,
        }
    }
    fn atomic(&self) -> bool {
        false
    }
    fn member(&self, name: &str) -> Option<&dyn Node> {
        meta_member(name).or_else(|| self.0.member_node(name))
    }
}

/// `apiVersion`, `kind` and `metadata` of any object.
fn meta_member(name: &str) -> Option<&'static dyn Node> {
    if !matches!(name, "apiVersion" | "kind" | "metadata") {
        return None;
    }
    let any_kind = GroupVersionKind::new("", "v1", "ConfigMap");
    let schema = Schema::builtin();
    let info: &'static TypeInfo = schema.type_info(schema.type_of(&any_kind)?);
    info.field(name).map(|field| field as &dyn Node)
}

impl Structural {
    fn member_node(&self, name: &str) -> Option<&dyn Node> {
        self.property(name).map(|schema| schema as &dyn Node)
    }
}

impl Node for Structural {
    fn form(&self) -> Form<'_> {
        if self.is(Flags::INT_OR_STRING) {
            return Form::Scalar(Scalar::Any);
        }
        match self.kind {
            Kind::Object => Form::Object {
                others: match (self.others(), self.is(Flags::PRESERVE)) {
                    (Some(others), _) => Some(others),
                    (None, true) => Some(&Anything),
                    (None, false) => None,
                },
            },
            Kind::Array => Form::List {
                item: match self.items.as_deref() {
                    Some(items) => items,
                    None => &Anything,
                },
                identity: match (self.is(Flags::LIST_MAP), self.is(Flags::SET)) {
                    (true, _) => Identity::Keys(Keys::Owned(self.list_keys())),
                    (_, true) => Identity::Value,
                    _ => Identity::None,
                },
            },
            Kind::String => Form::Scalar(Scalar::Text),
            Kind::Integer | Kind::Number => Form::Scalar(Scalar::Number),
            Kind::Boolean => Form::Scalar(Scalar::Bool),
            Kind::Any => Form::Any,
        }
    }
    fn atomic(&self) -> bool {
        self.is(Flags::ATOMIC)
    }
    fn member(&self, name: &str) -> Option<&dyn Node> {
        if self.is(Flags::EMBEDDED)
            && let Some(node) = meta_member(name)
        {
            return Some(node);
        }
        self.member_node(name)
    }
    fn default(&self) -> Option<Value> {
        self.default_value().cloned()
    }
}
