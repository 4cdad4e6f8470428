//! Reads the types file. One line is one fact, words separated by blanks:
//!
//! ```text
//! p apps/v1 v1 apps v1          a package: short path, Go name, group ("-" core, "!" none), version
//! n PullPolicy string enum=A|B  a named scalar, list or map, perhaps with all its values
//! a List meta/v1.List           another name of a struct
//! t DeploymentSpec atomic       a struct, then its fields; `union=TYPE:a=A,b=B` if one of `a` and `b` is set, told by TYPE
//! f replicas 1 *int32 o         a field: JSON name ("-" inlined), protobuf number (0 none), type, facts
//! ```
//!
//! Types are scalars, `[]T`, `{K}V`, `*T`, or names, of another package as `core/v1.Container`.
//! Facts: `o` omitempty, `z` omitzero, `r` required, `l=` list type, `k=` list keys, `m=` map type,
//! `p=` patch strategy, `q=` patch key, `d=` default.

use super::{Field, ListType, Named, Patch, Schema, Shape, TypeId, TypeInfo, Wire};
use std::collections::HashMap;

const TYPES: &str = include_str!("../generated/types.txt");

/// Reads the built-in table. The text is checked in and tested, so its faults are not errors
/// anyone could handle.
pub(super) fn builtin() -> Schema {
    let mut loader = Loader::default();
    loader.declare();
    loader.fill();
    loader.finish()
}

#[derive(Clone, Copy)]
enum Target {
    Struct(TypeId),
    Named(u16),
}

/// Fields before inlined structs are resolved.
type Declared = Vec<(u32, Field)>;

#[derive(Default)]
struct Loader {
    targets: HashMap<(&'static str, &'static str), Target>,
    roots: HashMap<(&'static str, &'static str, &'static str), TypeId>,
    types: Vec<TypeInfo>,
    declared: Vec<Declared>,
    named: Vec<Named>,
}

impl Loader {
    /// First pass: every name gets its place.
    fn declare(&mut self) {
        let mut package = ("", "");
        for line in TYPES.lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("p") => package = (next(&mut words), next(&mut words)),
                Some("t") => self.declare_struct(package, next(&mut words), words),
                Some("n") => {
                    let name = next(&mut words);
                    self.targets
                        .insert((package.0, name), Target::Named(self.named.len() as u16));
                    let (shape, values) = (Shape::String, Vec::new());
                    self.named.push(Named {
                        name,
                        package_name: package.1,
                        shape,
                        values,
                        wrapped: false,
                    });
                }
                _ => {}
            }
        }
    }

    fn declare_struct(
        &mut self,
        (package, package_name): (&'static str, &'static str),
        name: &'static str,
        facts: std::str::Split<'static, char>,
    ) {
        let facts: Vec<&'static str> = facts.collect();
        let atomic = facts.contains(&"atomic");
        let union = facts.iter().find_map(|fact| fact.strip_prefix("union="));
        self.targets
            .insert((package, name), Target::Struct(TypeId(self.types.len() as u32)));
        let (fields, wire, by_name) = (Vec::new(), Vec::new(), Vec::new());
        self.types.push(TypeInfo {
            name,
            package,
            package_name,
            atomic,
            union,
            fields,
            wire,
            by_name,
        });
        self.declared.push(Vec::new());
    }

    /// Second pass: what each name is.
    fn fill(&mut self) {
        let (mut package, mut group_version) = ("", ("", ""));
        let (mut at, mut named_at) = (0, 0);
        for line in TYPES.lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("p") => {
                    package = next(&mut words);
                    let group = words.nth(1).expect("a package has a group");
                    group_version = (if group == "-" { "" } else { group }, next(&mut words));
                }
                Some("t") => {
                    at = self.target(package, next(&mut words)).0 as usize;
                    self.root(group_version, self.types[at].name, TypeId(at as u32));
                }
                Some("a") => {
                    let name = next(&mut words);
                    let target = self.target(package, next(&mut words));
                    self.targets.insert((package, name), Target::Struct(target));
                    self.root(group_version, name, target);
                }
                Some("n") => {
                    self.fill_named(named_at, package, line);
                    named_at += 1;
                }
                Some("f") => {
                    let field = self.field(package, words);
                    self.declared[at].push(field);
                }
                _ => {}
            }
        }
    }

    fn target(&self, package: &str, reference: &str) -> TypeId {
        match self.shape(package, reference) {
            Shape::Struct(id) => id,
            other => panic!("{reference} is {other:?}, no struct"),
        }
    }

    fn root(&mut self, (group, version): (&'static str, &'static str), name: &'static str, id: TypeId) {
        self.roots.insert((group, version, name), id);
    }

    /// The values come last, as some have blanks in them.
    fn fill_named(&mut self, at: usize, package: &str, line: &'static str) {
        let (facts, values) = line.split_once(" enum=").unwrap_or((line, ""));
        let mut words = facts.split(' ');
        let shape = self.shape(package, words.nth(2).expect("a named type has a type"));
        let named = &mut self.named[at];
        named.shape = shape;
        named.wrapped = words.next() == Some("wrapped");
        if !values.is_empty() {
            named.values = values.split('|').map(|value| value.trim_matches('"')).collect();
        }
    }

    fn field(&self, package: &str, mut words: std::str::Split<'static, char>) -> (u32, Field) {
        let name = next(&mut words);
        let number = next(&mut words).parse().expect("a field number");
        let expression = next(&mut words);
        let value = expression.trim_start_matches('*');
        let mut field = Field {
            name,
            via: Vec::new(),
            shape: self.shape(package, value),
            pointer: value.len() < expression.len(),
            omit_empty: false,
            omit_zero: false,
            required: false,
            list_type: ListType::Atomic,
            list_declared: false,
            list_keys: Vec::new(),
            atomic: None,
            patch: Patch::default(),
            default: None,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("o", _) => field.omit_empty = true,
                ("z", _) => field.omit_zero = true,
                ("r", _) => field.required = true,
                ("l", kind) => {
                    field.list_declared = true;
                    field.list_type = match kind {
                        "set" => ListType::Set,
                        "map" => ListType::Map,
                        _ => ListType::Atomic,
                    };
                }
                ("k", keys) => field.list_keys = keys.split(',').collect(),
                ("m", kind) => field.atomic = Some(kind == "atomic"),
                ("p", strategy) => {
                    field.patch.merge = strategy.contains("merge");
                    field.patch.replace = strategy == "replace";
                    field.patch.retain_keys = strategy.contains("retainKeys");
                }
                ("q", key) => field.patch.key = Some(key),
                ("d", text) => field.default = Some(text),
                _ => {}
            }
        }
        (number, field)
    }

    fn shape(&self, package: &str, expression: &str) -> Shape {
        let expression = expression.trim_start_matches('*');
        if let Some(item) = expression.strip_prefix("[]") {
            return Shape::List(Box::new(self.shape(package, item)));
        }
        if let Some((key, value)) = expression.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            return Shape::Map(Box::new(self.shape(package, key)), Box::new(self.shape(package, value)));
        }
        if let Some(shape) = scalar(expression) {
            return shape;
        }
        let (package, name) = expression.split_once('.').unwrap_or((package, expression));
        match self.targets.get(&(package, name)) {
            Some(Target::Struct(id)) => Shape::Struct(*id),
            Some(Target::Named(index)) => Shape::Named(*index),
            None => panic!("type {package}.{name} is not in the table"),
        }
    }

    /// Third pass: inlined structs are resolved.
    fn finish(mut self) -> Schema {
        for at in 0..self.types.len() {
            let mut fields = Vec::new();
            let wire = self.flatten(at, &mut fields);
            self.types[at].fields = fields;
            self.types[at].wire = wire;
            self.types[at].index();
        }
        Schema {
            types: self.types,
            named: self.named,
            roots: self.roots,
            kinds: Vec::new(),
            by_kind: HashMap::new(),
            by_resource: HashMap::new(),
        }
        .with_kinds()
    }

    fn flatten(&self, at: usize, fields: &mut Vec<Field>) -> Vec<Wire> {
        let mut wire = Vec::new();
        for (number, field) in &self.declared[at] {
            match (&field.shape, field.name) {
                (Shape::Struct(inner), "-") => {
                    let first = fields.len();
                    self.flatten(inner.0 as usize, fields);
                    let name = self.types[inner.0 as usize].name;
                    fields[first..].iter_mut().for_each(|field| field.via.insert(0, name));
                    wire.push(Wire::Inline(*number, *inner));
                }
                _ => {
                    wire.push(Wire::Field(*number, fields.len() as u16));
                    fields.push(field.clone());
                }
            }
        }
        wire.retain(|w| w.number() != 0);
        wire.sort_by_key(|w| w.number());
        wire
    }
}

fn next(words: &mut std::str::Split<'static, char>) -> &'static str {
    words.next().expect("a line of the table is complete")
}

fn scalar(word: &str) -> Option<Shape> {
    Some(match word {
        "string" => Shape::String,
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" | "int" => Shape::Int64,
        "uint32" => Shape::Uint32,
        "uint64" => Shape::Uint64,
        "float64" => Shape::Float64,
        "bytes" => Shape::Bytes,
        "quantity" => Shape::Quantity,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "duration" => Shape::Duration,
        "intstr" => Shape::IntOrString,
        "raw" => Shape::Raw,
        "fields" => Shape::Fields,
        "json" => Shape::Json,
        "schemaorarray" => Shape::SchemaOrArray,
        "schemaorbool" => Shape::SchemaOrBool,
        "schemaorstrings" => Shape::SchemaOrStrings,
        _ => return None,
    })
}
