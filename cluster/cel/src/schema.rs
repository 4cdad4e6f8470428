//! Declared types from schemas, with upstream's guesses of how large a value can be.

use crate::{
    decl::{DeclKind, DeclType, ListSemantics, ObjectDecl},
    limits::MAX_REQUEST_SIZE_BYTES,
};
use std::sync::Arc;

/// A structural or OpenAPI schema, as far as expressions are concerned.
pub trait Schema: Sized {
    /// `type`, empty when there is none.
    fn kind(&self) -> &str;
    /// `format`, empty when there is none.
    fn format(&self) -> &str;
    /// `items`.
    fn items(&self) -> Option<&Self>;
    /// `properties`; `None` and none at all are not the same.
    fn properties(&self) -> Option<Vec<(&str, &Self)>>;
    /// `additionalProperties`.
    fn additional_properties(&self) -> AdditionalProperties<'_, Self>;
    /// Whether a property is in `required`.
    fn is_required(&self, property: &str) -> bool;
    /// Whether there is a `default`.
    fn has_default(&self) -> bool;
    /// `nullable`.
    fn nullable(&self) -> bool;
    /// `maxLength`.
    fn max_length(&self) -> Option<i64>;
    /// `maxItems`.
    fn max_items(&self) -> Option<i64>;
    /// `maxProperties`.
    fn max_properties(&self) -> Option<i64>;
    /// The longest text in `enum`, in bytes; `None` without an `enum`.
    fn longest_enum(&self) -> Option<u64>;
    /// `x-kubernetes-int-or-string`.
    fn int_or_string(&self) -> bool;
    /// `x-kubernetes-embedded-resource`.
    fn embedded_resource(&self) -> bool;
    /// `x-kubernetes-preserve-unknown-fields`.
    fn preserve_unknown_fields(&self) -> bool;
    /// `x-kubernetes-list-type`, empty when there is none.
    fn list_type(&self) -> &str;
    /// `x-kubernetes-list-map-keys`.
    fn list_map_keys(&self) -> Vec<String>;
}

/// `additionalProperties`.
#[derive(Clone, Copy, Debug)]
pub enum AdditionalProperties<'s, S> {
    /// There is none.
    Absent,
    /// `true` or `false`.
    Bool,
    /// A schema.
    Schema(&'s S),
}

impl DeclType {
    /// The declaration of a schema, whose object types are named `name`, `name.field`, and so on.
    /// At the root of a resource `kind`, `apiVersion` and `metadata` are added. `None` for schemas
    /// that say too little to be used in expressions.
    pub fn from_schema<S: Schema>(schema: &S, name: &str, root: bool) -> Option<Self> {
        let mut decl = if schema.int_or_string() {
            let bound = schema.max_length().map_or(MAX_REQUEST_SIZE_BYTES - 2, characters);
            sized(DeclKind::IntOrString, bound, 1)
        } else {
            match schema.kind() {
                "array" => list(schema, name)?,
                "object" => object(schema, name, root)?,
                "string" => text(schema),
                "boolean" => Self::new(DeclKind::Bool, 4),
                "number" => Self::new(DeclKind::Double, 1),
                "integer" => Self::new(DeclKind::Int, 1),
                _ => return None,
            }
        };
        decl.nullable = schema.nullable();
        Some(decl)
    }
}

fn sized(kind: DeclKind, max_elements: u64, min_serialized_size: u64) -> DeclType {
    DeclType {
        max_elements,
        ..DeclType::new(kind, min_serialized_size)
    }
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// `maxLength` counts code points, of which each may be four bytes.
fn characters(max_length: i64) -> u64 {
    positive(max_length).saturating_mul(4)
}

fn list<S: Schema>(schema: &S, name: &str) -> Option<DeclType> {
    let items = schema.items()?;
    let element = DeclType::from_schema(items, &format!("{name}.@idx"), items.embedded_resource())?;
    let fitting = (MAX_REQUEST_SIZE_BYTES - 2) / (element.min_serialized_size + 1);
    let max = schema.max_items().map_or(fitting, positive);
    let semantics = match schema.list_type() {
        "set" => ListSemantics::Set,
        "map" => ListSemantics::Map(schema.list_map_keys().into()),
        _ => ListSemantics::Atomic,
    };
    let element = Arc::new(element);
    Some(sized(DeclKind::List { element, semantics }, max, 2))
}

fn object<S: Schema>(schema: &S, name: &str, root: bool) -> Option<DeclType> {
    if let AdditionalProperties::Schema(values) = schema.additional_properties() {
        let element = DeclType::from_schema(values, &format!("{name}.@elem"), values.embedded_resource())?;
        let fitting = (MAX_REQUEST_SIZE_BYTES - 2) / (element.min_serialized_size + 6);
        let max = schema.max_properties().map_or(fitting, positive);
        let element = Arc::new(element);
        return Some(sized(DeclKind::Map { element }, max, 2));
    }
    let mut fields: Vec<(String, Arc<DeclType>)> = Vec::new();
    let mut defaulted = Vec::new();
    for (property, inner) in schema.properties().unwrap_or_default() {
        let identifier = crate::escape(property);
        let inner_name = format!("{name}.{}", identifier.as_deref().unwrap_or(property));
        let Some(decl) = DeclType::from_schema(inner, &inner_name, inner.embedded_resource()) else {
            continue;
        };
        if inner.has_default() {
            defaulted.push(property);
        }
        fields.push((property.to_owned(), Arc::new(decl)));
    }
    if root && !describes_resource(&fields) {
        // They take the place of what the schema says of them.
        let added = resource_fields(name);
        fields.retain(|(property, _)| added.iter().all(|(other, _)| other != property));
        defaulted.retain(|property| added.iter().all(|(other, _)| other != property));
        fields.extend(added);
    }
    let required = |property: &str| schema.is_required(property) && !defaulted.contains(&property);
    let counted = fields.iter().filter(|(property, _)| required(property));
    let sizes = counted.map(|(property, decl)| property.len() as u64 + decl.min_serialized_size + 4);
    let min_size = 2 + sizes.sum::<u64>();
    let object = ObjectDecl::new(name, fields);
    let kind = DeclKind::Object(Arc::new(object));
    Some(sized(kind, 0, min_size))
}

/// Whether the schema itself says all that expressions may see of a resource.
fn describes_resource(fields: &[(String, Arc<DeclType>)]) -> bool {
    let find = |name: &str| fields.iter().find(|(property, _)| property == name);
    let text = |name: &str| find(name).is_some_and(|(_, decl)| matches!(decl.kind, DeclKind::String));
    let names = |decl: &DeclType| match &decl.kind {
        DeclKind::Object(object) => ["name", "generateName"].iter().all(|name| {
            let field = object.fields.get(*name);
            field.is_some_and(|field| matches!(field.decl.kind, DeclKind::String))
        }),
        _ => false,
    };
    text("kind") && text("apiVersion") && find("metadata").is_some_and(|(_, decl)| names(decl))
}

/// What every resource has, as far as expressions may see it.
fn resource_fields(name: &str) -> [(String, Arc<DeclType>); 3] {
    let text = || Arc::new(DeclType::string(MAX_REQUEST_SIZE_BYTES - 2));
    let names = ["name", "generateName"].map(|property| (property.to_owned(), text()));
    let metadata = ObjectDecl::new(&format!("{name}.metadata"), names);
    [
        ("kind".to_owned(), text()),
        ("apiVersion".to_owned(), text()),
        ("metadata".to_owned(), Arc::new(DeclType::object(metadata))),
    ]
}

fn text<S: Schema>(schema: &S) -> DeclType {
    let whole = MAX_REQUEST_SIZE_BYTES - 2;
    match schema.format() {
        "byte" => sized(DeclKind::Bytes, schema.max_length().map_or(whole, positive), 2),
        "duration" => sized(DeclKind::Duration, 32, 3),
        "date" => sized(DeclKind::Date, 12, 12),
        "date-time" => sized(DeclKind::DateTime, 32, 21),
        _ => {
            let max = match (schema.max_length(), schema.longest_enum()) {
                (Some(length), _) => characters(length),
                (None, Some(longest)) => longest,
                (None, None) => whole,
            };
            sized(DeclKind::String, max, 2)
        }
    }
}
