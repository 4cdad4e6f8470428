//! The types of the schema table.

mod load;

use crate::kinds::{self, KindInfo};
use std::collections::HashMap;
use std::sync::LazyLock;
use strata_meta::GroupVersionKind;

/// All built-in kinds and types.
pub struct Schema {
    types: Vec<TypeInfo>,
    named: Vec<Named>,
    roots: HashMap<(&'static str, &'static str, &'static str), TypeId>,
    kinds: Vec<KindInfo>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), usize>,
    by_resource: HashMap<(&'static str, &'static str, &'static str), usize>,
}

/// A struct type's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u32);

impl TypeId {
    /// The place among [`Schema::types`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A struct type.
#[derive(Debug)]
pub struct TypeInfo {
    /// Its name, such as `DeploymentSpec`.
    pub name: &'static str,
    /// Its package in short form, such as `apps/v1` or `meta/v1`.
    pub package: &'static str,
    /// The package's own name, which messages prefix the type with: `v1`.
    pub package_name: &'static str,
    /// Whether server-side apply treats it as one value.
    pub atomic: bool,
    /// `type:a=A,b=B` if one of the fields `a` and `b` is set, which Go calls `A` and `B`, and `type` tells which.
    pub union: Option<&'static str>,
    /// Fields as JSON shows them, inlined structs resolved, in declared order.
    pub fields: Vec<Field>,
    /// Fields as protobuf numbers them.
    pub wire: Vec<Wire>,
    by_name: Vec<u16>,
}

/// A field of a struct as JSON shows it.
#[derive(Clone, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// Names of the inlined structs it lies in, outermost first; messages show them.
    pub via: Vec<&'static str>,
    /// What its value is.
    pub shape: Shape,
    /// Whether absent and zero differ.
    pub pointer: bool,
    /// Whether a zero value is left out of JSON.
    pub omit_empty: bool,
    /// Whether a zero struct is left out of JSON.
    pub omit_zero: bool,
    /// Whether the API description calls it required.
    pub required: bool,
    /// How server-side apply sees a list.
    pub list_type: ListType,
    /// Whether the description says so, or nothing.
    pub list_declared: bool,
    /// Keys of a [`ListType::Map`].
    pub list_keys: Vec<&'static str>,
    /// Whether server-side apply treats the map or struct as one value, if the field says so.
    pub atomic: Option<bool>,
    /// How a strategic merge patch treats it.
    pub patch: Patch,
    /// JSON text of the default that the description declares.
    pub default: Option<&'static str>,
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// As one value; also where nothing is declared.
    Atomic,
    /// As a set of scalars.
    Set,
    /// By key fields.
    Map,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Lists are merged rather than replaced.
    pub merge: bool,
    /// The patch names the members that stay.
    pub retain_keys: bool,
    /// Structs are replaced rather than merged.
    pub replace: bool,
    /// Key field by which items of a list are merged; `None` for scalars.
    pub key: Option<&'static str>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed.
    Int64,
    /// 64 bits, unsigned.
    Uint64,
    /// 32 bits, unsigned.
    Uint32,
    /// 64 bits, floating.
    Float64,
    /// Base64 text.
    Bytes,
    /// resource.Quantity.
    Quantity,
    /// metav1.Time.
    Time,
    /// metav1.MicroTime.
    MicroTime,
    /// metav1.Duration.
    Duration,
    /// intstr.IntOrString.
    IntOrString,
    /// runtime.RawExtension: an object of any kind.
    Raw,
    /// metav1.FieldsV1.
    Fields,
    /// Any JSON value.
    Json,
    /// apiextensions JSONSchemaPropsOrArray.
    SchemaOrArray,
    /// apiextensions JSONSchemaPropsOrBool.
    SchemaOrBool,
    /// apiextensions JSONSchemaPropsOrStringArray.
    SchemaOrStrings,
    /// A struct.
    Struct(TypeId),
    /// A named scalar, list or map; index into the table's named types.
    Named(u16),
    /// A list of pointers or values.
    List(Box<Shape>),
    /// A map; its key is text, perhaps of a named type.
    Map(Box<Shape>, Box<Shape>),
}

/// A named type that is no struct.
#[derive(Debug)]
pub struct Named {
    /// Its name, such as `PullPolicy`.
    pub name: &'static str,
    /// The package's own name, which messages prefix the type with.
    pub package_name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// All its values, if it is an enumeration.
    pub values: Vec<&'static str>,
    /// Whether protobuf wraps it into a message with one repeated field.
    pub wrapped: bool,
}

/// A protobuf field of a struct.
#[derive(Clone, Copy, Debug)]
pub enum Wire {
    /// The number and the index into [`TypeInfo::fields`].
    Field(u32, u16),
    /// The number of an inlined struct, whose fields JSON shows among its parent's.
    Inline(u32, TypeId),
}

impl Wire {
    /// The protobuf field number.
    pub fn number(self) -> u32 {
        match self {
            Self::Field(number, _) | Self::Inline(number, _) => number,
        }
    }
}

impl Schema {
    /// The table of the built-in kinds.
    pub fn builtin() -> &'static Schema {
        static BUILTIN: LazyLock<Schema> = LazyLock::new(load::builtin);
        &BUILTIN
    }

    /// Every resource the table knows, core first, then groups in discovery order.
    pub fn kinds(&self) -> &[KindInfo] {
        &self.kinds
    }

    /// The resource that serves a kind.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&KindInfo> {
        let index = self
            .by_kind
            .get(&(gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str()))?;
        self.kinds.get(*index)
    }

    /// The resource of a path.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&KindInfo> {
        self.kinds.get(*self.by_resource.get(&(group, version, plural))?)
    }

    /// The type of a kind, also of kinds that are no resources (lists, options, Scale, Eviction).
    /// Kinds of the meta group (DeleteOptions, Status, …) are found in every group.
    pub fn type_of(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        let (group, version, kind) = (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str());
        let found = self.roots.get(&(group, version, kind));
        found.or_else(|| self.roots.get(&("meta.k8s.io", "v1", kind))).copied()
    }

    /// Every group and version that has types.
    pub(crate) fn group_versions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.roots.keys().map(|(group, version, _)| (*group, *version))
    }

    /// The kinds that a type is the form of, in order: none unless its objects name their kind. The meta group's are core's.
    pub(crate) fn kinds_of(&self, id: TypeId) -> Vec<(&'static str, &'static str, &'static str)> {
        let info = self.type_info(id);
        let named = info.fields.iter().any(|field| field.via.first() == Some(&"TypeMeta"));
        if !named && info.name != "WatchEvent" {
            return Vec::new();
        }
        let kinds = self.roots.iter().filter(|(_, known)| **known == id);
        let mut kinds: Vec<_> = kinds
            .map(|((group, version, kind), _)| (if *group == "meta.k8s.io" { "" } else { *group }, *version, *kind))
            .collect();
        kinds.sort_unstable();
        kinds
    }

    /// A type's row.
    pub fn type_info(&self, id: TypeId) -> &TypeInfo {
        &self.types[id.0 as usize]
    }

    /// A named type's row.
    pub fn named(&self, index: u16) -> &Named {
        &self.named[usize::from(index)]
    }

    /// The shape below a name.
    pub fn resolve<'a>(&'a self, shape: &'a Shape) -> &'a Shape {
        match shape {
            Shape::Named(index) => self.resolve(&self.named(*index).shape),
            other => other,
        }
    }

    /// What messages call a shape: `int32`, `[]v1.Container`, `v1.PullPolicy`.
    pub fn go_name(&self, shape: &Shape) -> String {
        match shape {
            Shape::String => "string".to_owned(),
            Shape::Bool => "bool".to_owned(),
            Shape::Int32 => "int32".to_owned(),
            Shape::Int64 => "int64".to_owned(),
            Shape::Uint64 => "uint64".to_owned(),
            Shape::Uint32 => "uint32".to_owned(),
            Shape::Float64 => "float64".to_owned(),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::Quantity => "resource.Quantity".to_owned(),
            Shape::Time => "v1.Time".to_owned(),
            Shape::MicroTime => "v1.MicroTime".to_owned(),
            Shape::Duration => "v1.Duration".to_owned(),
            Shape::IntOrString => "intstr.IntOrString".to_owned(),
            Shape::Raw => "runtime.RawExtension".to_owned(),
            Shape::Fields => "v1.FieldsV1".to_owned(),
            Shape::Json => "v1.JSON".to_owned(),
            Shape::SchemaOrArray => "v1.JSONSchemaPropsOrArray".to_owned(),
            Shape::SchemaOrBool => "v1.JSONSchemaPropsOrBool".to_owned(),
            Shape::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".to_owned(),
            Shape::Struct(id) => self.type_info(*id).go_name(),
            Shape::Named(index) => {
                let named = self.named(*index);
                format!("{}.{}", named.package_name, named.name)
            }
            Shape::List(item) => format!("[]{}", self.go_name(item)),
            Shape::Map(key, value) => format!("map[{}]{}", self.go_name(key), self.go_name(value)),
        }
    }

    /// Every struct type.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &TypeInfo)> {
        self.types
            .iter()
            .enumerate()
            .map(|(at, info)| (TypeId(at as u32), info))
    }

    fn with_kinds(mut self) -> Self {
        self.kinds = kinds::load(&self.roots);
        for (at, kind) in self.kinds.iter().enumerate() {
            self.by_kind.insert((kind.group, kind.version, kind.kind), at);
            self.by_resource.insert((kind.group, kind.version, kind.plural), at);
        }
        self
    }
}

impl TypeInfo {
    /// The field of a JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        Some(&self.fields[self.position(name)?])
    }

    /// The place among [`TypeInfo::fields`] of a JSON name.
    pub fn position(&self, name: &str) -> Option<usize> {
        let at = self
            .by_name
            .binary_search_by(|at| self.fields[usize::from(*at)].name.cmp(name))
            .ok()?;
        Some(usize::from(self.by_name[at]))
    }

    /// The name messages call it by: `v1.Pod`.
    pub fn go_name(&self) -> String {
        format!("{}.{}", self.package_name, self.name)
    }

    fn index(&mut self) {
        self.by_name = (0..self.fields.len() as u16).collect();
        self.by_name.sort_by_key(|at| self.fields[usize::from(*at)].name);
    }
}
