//! Declared types: what a schema says of a value, for the checker (its type), for the estimate
//! (how large it may be) and for the run (how its JSON reads).

use crate::Type;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

/// A node of a schema.
#[derive(Clone, Debug)]
pub struct DeclType {
    /// What the value is.
    pub kind: DeclKind,
    /// Most elements of a list or map, most characters of a string; zero means scalars of no size.
    pub max_elements: u64,
    /// Fewest bytes the value takes in a request.
    pub min_serialized_size: u64,
    /// Whether `null` is a value of it.
    pub nullable: bool,
}

/// What a declared value is.
#[derive(Clone, Debug)]
pub enum DeclKind {
    /// Any JSON; numbers without a fraction are ints.
    Dyn,
    /// `x-kubernetes-int-or-string`: an int or a string, dyn to the checker.
    IntOrString,
    /// `x-kubernetes-preserve-unknown-fields` without a type: may only be compared.
    Preserved,
    /// A boolean.
    Bool,
    /// An integer.
    Int,
    /// A number.
    Double,
    /// Text.
    String,
    /// Text in base64 (`format: byte`).
    Bytes,
    /// Text of `format: date`.
    Date,
    /// Text of `format: date-time`.
    DateTime,
    /// Text of `format: duration`.
    Duration,
    /// A list.
    List {
        /// Its elements.
        element: Arc<DeclType>,
        /// What makes two of them equal, and what adding does.
        semantics: ListSemantics,
    },
    /// `additionalProperties`.
    Map {
        /// Its values; the keys are strings.
        element: Arc<DeclType>,
    },
    /// `properties`.
    Object(Arc<ObjectDecl>),
    /// A value of a type that has no JSON of its own (variables only).
    Opaque(Type),
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListSemantics {
    /// A list as any.
    #[default]
    Atomic,
    /// No order, no duplicates.
    Set,
    /// No order, one element of each key; the names of the key properties.
    Map(Arc<[String]>),
}

/// An object type.
#[derive(Clone, Debug, Default)]
pub struct ObjectDecl {
    /// The name the checker knows it by.
    pub name: String,
    fields: OnceLock<BTreeMap<String, FieldDecl>>,
    source: Option<Arc<dyn ObjectSource>>,
}

/// Where the fields of an object type come from that are made when somebody asks for one.
pub trait ObjectSource: fmt::Debug + Send + Sync {
    /// The properties and what they hold.
    fn properties(&self) -> Vec<(String, Arc<DeclType>)>;
}

/// A field of an object type.
#[derive(Clone, Debug)]
pub struct FieldDecl {
    /// The property in JSON, unescaped.
    pub property: String,
    /// What it holds.
    pub decl: Arc<DeclType>,
}

impl ObjectDecl {
    /// An object type of these properties; those that cannot be named in an expression are left out.
    pub fn new(name: &str, properties: impl IntoIterator<Item = (String, Arc<DeclType>)>) -> Self {
        Self::of_fields(name, by_identifier(properties))
    }

    /// An object type of fields whose identifiers are known.
    pub fn of_fields(name: &str, fields: BTreeMap<String, FieldDecl>) -> Self {
        Self {
            name: name.to_owned(),
            fields: fields.into(),
            source: None,
        }
    }

    /// An object type whose fields are made when first asked for, and kept from then on.
    pub fn on_demand(name: &str, source: Arc<dyn ObjectSource>) -> Self {
        Self {
            name: name.to_owned(),
            fields: OnceLock::new(),
            source: Some(source),
        }
    }

    /// The fields by their escaped names.
    pub fn fields(&self) -> &BTreeMap<String, FieldDecl> {
        let made = || self.source.as_ref().map(|source| by_identifier(source.properties()));
        self.fields.get_or_init(|| made().unwrap_or_default())
    }

    /// The field of an identifier; a reserved word need not be escaped where it can be written.
    pub fn field(&self, identifier: &str) -> Option<&FieldDecl> {
        let found = self.fields().get(identifier);
        found.or_else(|| {
            let reserved = crate::escape::RESERVED.contains(&identifier);
            reserved
                .then(|| self.fields().get(&format!("__{identifier}__")))
                .flatten()
        })
    }

    /// The field of a property as JSON has it.
    pub fn property(&self, property: &str) -> Option<&FieldDecl> {
        match self.fields().get(property) {
            Some(field) if field.property == property => Some(field),
            _ => self.fields().get(&crate::escape(property)?),
        }
    }
}

/// Properties that can be named in an expression, by their identifiers.
fn by_identifier(properties: impl IntoIterator<Item = (String, Arc<DeclType>)>) -> BTreeMap<String, FieldDecl> {
    let field = |(property, decl): (String, _)| {
        let identifier = crate::escape(&property)?;
        Some((identifier, FieldDecl { property, decl }))
    };
    properties.into_iter().filter_map(field).collect()
}

impl DeclType {
    /// A value of this kind without a size.
    pub fn new(kind: DeclKind, min_serialized_size: u64) -> Self {
        Self {
            kind,
            max_elements: 0,
            min_serialized_size,
            nullable: false,
        }
    }

    /// Any JSON.
    pub fn dynamic() -> Self {
        Self {
            nullable: true,
            ..Self::new(DeclKind::Dyn, 1)
        }
    }

    /// Text of at most so many characters.
    pub fn string(max_length: u64) -> Self {
        Self {
            max_elements: max_length,
            ..Self::new(DeclKind::String, 2)
        }
    }

    /// A list of at most so many elements.
    pub fn list(element: Arc<DeclType>, max_items: u64) -> Self {
        let semantics = ListSemantics::Atomic;
        Self {
            max_elements: max_items,
            ..Self::new(DeclKind::List { element, semantics }, 2)
        }
    }

    /// A map from strings, of at most so many entries.
    pub fn map(element: Arc<DeclType>, max_properties: u64) -> Self {
        Self {
            max_elements: max_properties,
            ..Self::new(DeclKind::Map { element }, 2)
        }
    }

    /// An object type.
    pub fn object(object: ObjectDecl) -> Self {
        Self::new(DeclKind::Object(Arc::new(object)), 2)
    }

    /// The type the checker sees.
    pub fn cel_type(&self) -> Type {
        match &self.kind {
            DeclKind::Dyn | DeclKind::IntOrString | DeclKind::Preserved => Type::Dyn,
            DeclKind::Bool => Type::Bool,
            DeclKind::Int => Type::Int,
            DeclKind::Double => Type::Double,
            DeclKind::String => Type::String,
            DeclKind::Bytes => Type::Bytes,
            DeclKind::Date | DeclKind::DateTime => Type::Timestamp,
            DeclKind::Duration => Type::Duration,
            DeclKind::List { element, .. } => Type::list(element.cel_type()),
            DeclKind::Map { element } => Type::map(Type::String, element.cel_type()),
            DeclKind::Object(object) => Type::object(&object.name),
            DeclKind::Opaque(inner) => inner.clone(),
        }
    }

    /// Every object type below and including this one.
    pub fn objects(&self, found: &mut Vec<Arc<ObjectDecl>>) {
        match &self.kind {
            DeclKind::List { element, .. } | DeclKind::Map { element } => element.objects(found),
            DeclKind::Object(object) => {
                found.push(object.clone());
                object.fields().values().for_each(|field| field.decl.objects(found));
            }
            _ => {}
        }
    }
}
