//! What server-side apply has to know of a type to walk its values.
//!
//! [`Node`] is one place of a type: the root, a field, an item. The built-in table implements it
//! for [`Shape`] and [`Field`](crate::Field); other sources of types implement it for theirs.

use crate::{Field, ListType, Schema, Shape, TypeId};
use serde_json::Value;

/// A place of a type.
pub trait Node: Send + Sync {
    /// What values look like here.
    fn form(&self) -> Form<'_>;

    /// Whether a list or an object is treated as one value. Lists without an [`Identity`] always are.
    fn atomic(&self) -> bool;

    /// The type of a member that is declared by name, if [`Form::Object`].
    fn member(&self, name: &str) -> Option<&dyn Node>;

    /// The declared default; items of lists that leave a key out have it for the key.
    fn default(&self) -> Option<Value> {
        None
    }
}

/// What values look like.
#[derive(Clone, Copy)]
pub enum Form<'t> {
    /// One value.
    Scalar(Scalar),
    /// Members declared by name ([`Node::member`]); `others` is the type of all the rest, `None` if
    /// there may be none. A map is an object without declared members.
    Object {
        /// The type of members that are not declared.
        others: Option<&'t dyn Node>,
    },
    /// A list.
    List {
        /// The type of its items.
        item: &'t dyn Node,
        /// What its items are known by.
        identity: Identity<'t>,
    },
    /// Anything: objects are walked member by member, the rest is one value.
    Any,
    /// Anything, as one value.
    Opaque,
}

/// What a scalar may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// Whole or floating.
    Number,
    /// Any of these.
    Any,
}

/// What an item of a list is known by.
#[derive(Clone, Copy)]
pub enum Identity<'t> {
    /// Nothing: the list is one value.
    None,
    /// Itself: the list is a set of scalars.
    Value,
    /// Some of its members.
    Keys(Keys<'t>),
}

/// Names of key members.
#[derive(Clone, Copy)]
pub enum Keys<'t> {
    /// As the built-in table has them.
    Static(&'t [&'static str]),
    /// As read at run time.
    Owned(&'t [String]),
}

impl<'t> Keys<'t> {
    /// The names in declared order.
    pub fn iter(self) -> impl Iterator<Item = &'t str> {
        let (fixed, owned): (&'t [&'static str], &'t [String]) = match self {
            Self::Static(names) => (names, &[]),
            Self::Owned(names) => (&[], names),
        };
        fixed.iter().copied().chain(owned.iter().map(String::as_str))
    }
}

/// A type that says nothing of its values: objects are walked, the rest is one value.
pub struct Anything;

impl Node for Anything {
    fn form(&self) -> Form<'_> {
        Form::Any
    }
    fn atomic(&self) -> bool {
        false
    }
    fn member(&self, _name: &str) -> Option<&dyn Node> {
        None
    }
}

impl Node for Shape {
    fn form(&self) -> Form<'_> {
        form(self, Identity::None)
    }
    fn atomic(&self) -> bool {
        match resolved(self) {
            Shape::Struct(id) => Schema::builtin().type_info(*id).atomic,
            _ => false,
        }
    }
    fn member(&self, name: &str) -> Option<&dyn Node> {
        member(self, name)
    }
}

impl Node for Field {
    fn form(&self) -> Form<'_> {
        let identity = match self.list_type {
            ListType::Atomic => Identity::None,
            ListType::Set => Identity::Value,
            ListType::Map => Identity::Keys(Keys::Static(&self.list_keys)),
        };
        form(&self.shape, identity)
    }
    fn atomic(&self) -> bool {
        self.atomic.unwrap_or_else(|| self.shape.atomic())
    }
    fn member(&self, name: &str) -> Option<&dyn Node> {
        member(&self.shape, name)
    }
    fn default(&self) -> Option<Value> {
        if let Some(text) = self.default {
            // The table is generated: a default that is no JSON is found by its tests.
            return serde_json::from_str(text).ok();
        }
        // What is always written has its zero value as upstream's description tells it.
        match resolved(&self.shape) {
            _ if self.pointer || self.omit_empty => None,
            Shape::String => Some("".into()),
            Shape::Int32 | Shape::Int64 => Some(0.into()),
            _ => None,
        }
    }
}

fn resolved(shape: &Shape) -> &Shape {
    match shape {
        Shape::Named(_) => Schema::builtin().resolve(shape),
        other => other,
    }
}

fn member<'s>(shape: &'s Shape, name: &str) -> Option<&'s dyn Node> {
    let field: &'static Field = match resolved(shape) {
        Shape::Struct(id) => struct_field(*id, name)?,
        _ => return None,
    };
    Some(field)
}

fn struct_field(id: TypeId, name: &str) -> Option<&'static Field> {
    Schema::builtin().type_info(id).field(name)
}

fn form<'s>(shape: &'s Shape, identity: Identity<'s>) -> Form<'s> {
    match resolved(shape) {
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => Form::Scalar(Scalar::Text),
        Shape::Bool => Form::Scalar(Scalar::Bool),
        Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float64 => Form::Scalar(Scalar::Number),
        Shape::Quantity | Shape::IntOrString | Shape::Named(_) => Form::Scalar(Scalar::Any),
        Shape::Raw => Form::Opaque,
        Shape::Fields | Shape::Json | Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings => Form::Any,
        Shape::Struct(_) => Form::Object { others: None },
        Shape::Map(_, item) => Form::Object {
            others: Some(item.as_ref()),
        },
        Shape::List(item) => Form::List {
            item: item.as_ref(),
            identity,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_meta::GroupVersionKind;

    #[test]
    fn the_table_tells_lists_apart() {
        let pod = GroupVersionKind::new("", "v1", "Pod");
        let root = Shape::Struct(Schema::builtin().type_of(&pod).expect("known"));
        let spec = root.member("spec").expect("declared");
        let containers = spec.member("containers").expect("declared");
        let Form::List { item, identity } = containers.form() else {
            panic!("no list")
        };
        assert!(matches!(identity, Identity::Keys(keys) if keys.iter().eq(["name"])));
        let ports = item.member("ports").expect("declared");
        let Form::List { item, identity } = ports.form() else {
            panic!("no list")
        };
        assert!(matches!(identity, Identity::Keys(keys) if keys.iter().eq(["containerPort", "protocol"])));
        assert_eq!(
            item.member("protocol").and_then(Node::default),
            Some(Value::from("TCP"))
        );
        assert!(spec.member("nodeSelector").is_some_and(Node::atomic));
        assert!(
            root.member("metadata")
                .and_then(|m| m.member("labels"))
                .is_some_and(|l| !l.atomic())
        );
    }
}
