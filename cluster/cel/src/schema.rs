//! Declared types from schemas, with upstream's guesses of how large a value can be.

use crate::{
    decl::{DeclKind, DeclType, ListSemantics, ObjectDecl, ObjectSource},
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

/// A schema whose parts are shared.
pub trait SharedSchema: Schema + std::fmt::Debug + Send + Sync + 'static {
    /// `items`.
    fn shared_items(&self) -> Option<Arc<Self>>;
    /// `properties`.
    fn shared_properties(&self) -> Vec<(&str, Arc<Self>)>;
    /// The schema in `additionalProperties`.
    fn shared_additional(&self) -> Option<Arc<Self>>;
}

/// An object whose fields are declared when somebody looks at them.
#[derive(Debug)]
struct OnDemand<S> {
    schema: Arc<S>,
    root: bool,
}

impl<S: SharedSchema> ObjectSource for OnDemand<S> {
    fn properties(&self) -> Vec<(String, Arc<DeclType>)> {
        let declared = |(property, schema): (&str, Arc<S>)| {
            let root = schema.embedded_resource();
            Some((property.to_owned(), Arc::new(DeclType::on_demand(&schema, root)?)))
        };
        let properties = self.schema.shared_properties().into_iter();
        let mut fields: Vec<_> = properties.filter_map(declared).collect();
        if self.root {
            add_resource_fields(&mut fields, "");
        }
        fields
    }
}

impl DeclType {
    /// The declaration of a schema for running expressions that were checked against [`DeclType::from_schema`]:
    /// it says how JSON reads and knows no sizes. Objects are taken apart when a field of theirs is looked at, so it
    /// takes room for what expressions use of a schema, not for the schema.
    pub fn on_demand<S: SharedSchema>(schema: &Arc<S>, root: bool) -> Option<Self> {
        let part = |schema: &Arc<S>| Some(Arc::new(Self::on_demand(schema, schema.embedded_resource())?));
        let kind = match schema.kind() {
            _ if schema.int_or_string() => DeclKind::IntOrString,
            "array" => DeclKind::List {
                element: part(&schema.shared_items()?)?,
                semantics: semantics(&**schema),
            },
            "object" => match schema.shared_additional() {
                Some(values) => DeclKind::Map {
                    element: part(&values)?,
                },
                None => {
                    let schema = schema.clone();
                    DeclKind::Object(Arc::new(ObjectDecl::on_demand(
                        "object",
                        Arc::new(OnDemand { schema, root }),
                    )))
                }
            },
            "string" => text(&**schema).kind,
            "boolean" => DeclKind::Bool,
            "number" => DeclKind::Double,
            "integer" => DeclKind::Int,
            _ => return None,
        };
        let mut decl = Self::new(kind, 1);
        decl.nullable = schema.nullable();
        Some(decl)
    }

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
    let (element, semantics) = (Arc::new(element), semantics(schema));
    Some(sized(DeclKind::List { element, semantics }, max, 2))
}

fn semantics<S: Schema>(schema: &S) -> ListSemantics {
    match schema.list_type() {
        "set" => ListSemantics::Set,
        "map" => ListSemantics::Map(schema.list_map_keys().into()),
        _ => ListSemantics::Atomic,
    }
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
    if root && add_resource_fields(&mut fields, name) {
        defaulted.retain(|property| !["kind", "apiVersion", "metadata"].contains(property));
    }
    let required = |property: &str| schema.is_required(property) && !defaulted.contains(&property);
    let counted = fields.iter().filter(|(property, _)| required(property));
    let sizes = counted.map(|(property, decl)| property.len() as u64 + decl.min_serialized_size + 4);
    let min_size = 2 + sizes.sum::<u64>();
    let object = ObjectDecl::new(name, fields);
    let kind = DeclKind::Object(Arc::new(object));
    Some(sized(kind, 0, min_size))
}

/// Adds what every resource has, in the place of what the schema says of it; whether that was needed.
fn add_resource_fields(fields: &mut Vec<(String, Arc<DeclType>)>, name: &str) -> bool {
    if describes_resource(fields) {
        return false;
    }
    let added = resource_fields(name);
    fields.retain(|(property, _)| added.iter().all(|(other, _)| other != property));
    fields.extend(added);
    true
}

/// Whether the schema itself says all that expressions may see of a resource.
fn describes_resource(fields: &[(String, Arc<DeclType>)]) -> bool {
    let find = |name: &str| fields.iter().find(|(property, _)| property == name);
    let text = |name: &str| find(name).is_some_and(|(_, decl)| matches!(decl.kind, DeclKind::String));
    let names = |decl: &DeclType| match &decl.kind {
        DeclKind::Object(object) => ["name", "generateName"].iter().all(|name| {
            let field = object.fields().get(*name);
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
