//! Structural schemas: the types of custom resources, read at run time.
//!
//! A [`Structural`] is a tree that holds what behaviour needs and no prose: some forty bytes a
//! node, facts that few nodes have in a list of [`Rule`]s, names shared. It prunes, fills in
//! defaults, validates as the OpenAPI validator of upstream does, and tells server-side apply how
//! to merge. Expressions ([`Validation`]) are kept here and evaluated elsewhere.

mod cel;
mod decode;
mod defaults;
mod embedded;
mod formats;
mod intern;
mod items;
mod lists;
mod node;
mod parse;
mod path;
mod prune;
mod validate;

pub use crate::decode::{as_written_down, whole_numbers};
pub use decode::decode_embedded_metadata;
pub use formats::supports as supports_format;
pub use items::OldItems;
pub use node::{Root, root as apply_root};
pub use path::Path;
pub use validate::{Shown, compiled_pattern, go_float};

use serde_json::Value;
use std::sync::Arc;

/// What `type` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    #[default]
    Any,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

/// One place of a schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Structural {
    /// The type.
    pub kind: Kind,
    /// Yes-or-no facts.
    pub flags: Flags,
    /// Declared members, sorted by name.
    pub properties: Box<[Property]>,
    /// The type of a list's items.
    pub items: Option<Arc<Structural>>,
    /// Members that are not declared.
    pub additional: Additional,
    /// What else is said.
    pub rules: Box<[Rule]>,
}

/// A declared member.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub schema: Arc<Structural>,
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Additional {
    /// Not stated.
    #[default]
    Absent,
    /// `true` or `false`.
    Allowed(bool),
    /// A schema.
    Of(Arc<Structural>),
}

/// Yes-or-no facts of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// `nullable`
    pub const NULLABLE: u16 = 1;
    /// `x-kubernetes-preserve-unknown-fields`
    pub const PRESERVE: u16 = 2;
    /// `x-kubernetes-embedded-resource`
    pub const EMBEDDED: u16 = 4;
    /// `x-kubernetes-int-or-string`
    pub const INT_OR_STRING: u16 = 8;
    /// `x-kubernetes-list-type: set`
    pub const SET: u16 = 16;
    /// `x-kubernetes-list-type: map`
    pub const LIST_MAP: u16 = 32;
    /// `x-kubernetes-list-type: atomic` or `x-kubernetes-map-type: atomic`
    pub const ATOMIC: u16 = 64;
    /// `uniqueItems`
    pub const UNIQUE: u16 = 128;
    /// Something below has a default.
    pub const DEFAULTS_BELOW: u16 = 256;
    /// Here or below are expressions.
    pub const EXPRESSIONS: u16 = 512;

    /// Whether a fact holds.
    pub fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.0 |= flag;
        }
    }
}

/// What few places say.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// `default`
    Default(Box<Value>),
    /// `enum`
    Enum(Box<[Value]>),
    /// `format`
    Format(Box<str>),
    /// `pattern`
    Pattern(Box<str>),
    /// `maximum`, and whether it is excluded.
    Maximum(f64, bool),
    /// `minimum`, and whether it is excluded.
    Minimum(f64, bool),
    /// `multipleOf`
    MultipleOf(f64),
    /// `maxLength`
    MaxLength(i64),
    /// `minLength`
    MinLength(i64),
    /// `maxItems`
    MaxItems(i64),
    /// `minItems`
    MinItems(i64),
    /// `maxProperties`
    MaxProperties(i64),
    /// `minProperties`
    MinProperties(i64),
    /// `required`
    Required(Box<[Arc<str>]>),
    /// `allOf`
    AllOf(Box<[Structural]>),
    /// `anyOf`
    AnyOf(Box<[Structural]>),
    /// `oneOf`
    OneOf(Box<[Structural]>),
    /// `not`
    Not(Box<Structural>),
    /// `x-kubernetes-list-map-keys`
    ListKeys(Box<[String]>),
    /// `x-kubernetes-validations`
    Validations(Box<[Validation]>),
}

/// One expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validation {
    /// The expression.
    pub rule: String,
    /// What is said when it does not hold.
    pub message: String,
    /// An expression for what is said.
    pub message_expression: String,
    /// The reason, such as `FieldValueInvalid`.
    pub reason: String,
    /// The place that is named, relative to this one.
    pub field_path: String,
    /// Whether it also holds where there is no old value.
    pub optional_old_self: bool,
}

impl Structural {
    /// A declared member.
    pub fn property(&self, name: &str) -> Option<&Structural> {
        let at = self.properties.binary_search_by(|p| p.name.as_ref().cmp(name)).ok()?;
        Some(&self.properties[at].schema)
    }

    /// The type of a member, declared or not.
    pub fn member(&self, name: &str) -> Option<&Structural> {
        match (self.property(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Additional::Of(schema)) => Some(schema),
            _ => None,
        }
    }

    /// The type of members that are not declared.
    pub fn others(&self) -> Option<&Structural> {
        match &self.additional {
            Additional::Of(schema) => Some(schema),
            _ => None,
        }
    }

    /// Whether it says anything of members that are not declared.
    pub fn has_additional(&self) -> bool {
        !matches!(self.additional, Additional::Absent)
    }

    /// Whether a fact holds.
    pub fn is(&self, flag: u16) -> bool {
        self.flags.has(flag)
    }

    /// The default.
    pub fn default_value(&self) -> Option<&Value> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Default(value) => Some(&**value),
            _ => None,
        })
    }

    /// Names of the members that items of a list are known by.
    pub fn list_keys(&self) -> &[String] {
        let keys = self.rules.iter().find_map(|rule| match rule {
            Rule::ListKeys(keys) => Some(&**keys),
            _ => None,
        });
        keys.unwrap_or(&[])
    }

    /// Expressions of this place.
    pub fn validations(&self) -> &[Validation] {
        let found = self.rules.iter().find_map(|rule| match rule {
            Rule::Validations(list) => Some(&**list),
            _ => None,
        });
        found.unwrap_or(&[])
    }

    /// The words of `type`, as messages have them.
    pub fn type_words(&self) -> &'static str {
        if self.is(Flags::INT_OR_STRING) {
            return "integer,string";
        }
        match self.kind {
            Kind::Any => "",
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

#[cfg(test)]
mod tests;
