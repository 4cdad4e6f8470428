//! What an expression may cost, told before it runs: cel-go's estimate with Kubernetes' costs on top.
//!
//! Every number is protocol: the estimate decides which rules a CustomResourceDefinition may have.

mod calls;

use crate::{
    Checked, DeclType, Type,
    ast::{Call, Entry, Expr, Fold, Id, Kind, Literal, operator},
    decl::DeclKind,
};
use std::{collections::HashMap, sync::Arc};

/// From the least to the most something may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub min: u64,
    /// The most; `u64::MAX` when nothing bounds it.
    pub max: u64,
}

/// What an expression may cost.
pub type CostRange = Range;

/// How large a value may be.
pub type SizeRange = Range;

impl Range {
    pub(crate) const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    pub(crate) const fn fixed(value: u64) -> Self {
        Self { min: value, max: value }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(crate) fn multiply(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    pub(crate) fn scale(self, factor: f64) -> Self {
        Self {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

fn scale(value: u64, factor: f64) -> u64 {
    const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
    let scaled = (value as f64 * factor).ceil();
    if value > 0 && factor > 0.0 && scaled >= TWO_TO_64 {
        u64::MAX
    } else {
        scaled as u64
    }
}

/// How large variables and what is in them may be.
pub trait Sizes: Sync {
    /// The size of what a path leads to: a variable, then fields, `@items`, `@keys`, `@values`.
    fn size(&self, path: &[Arc<str>]) -> Option<SizeRange>;
}

/// Nothing is known of sizes.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnknownSizes;

impl Sizes for UnknownSizes {
    fn size(&self, _: &[Arc<str>]) -> Option<SizeRange> {
        None
    }
}

/// Sizes by the declaration of the one variable there is, whatever its name.
impl Sizes for DeclType {
    fn size(&self, path: &[Arc<str>]) -> Option<SizeRange> {
        let mut node = self;
        for name in path.get(1..)? {
            node = match (&**name, &node.kind) {
                ("@items" | "@values", DeclKind::List { element, .. } | DeclKind::Map { element }) => element,
                // Keys are strings of which nothing bounds the length but zero.
                ("@keys", DeclKind::Map { .. }) => return Some(Range::fixed(0)),
                ("@items" | "@values" | "@keys", _) => return None,
                (field, DeclKind::Object(object)) => &object.fields().get(field)?.decl,
                _ => return None,
            };
        }
        Some(Range {
            min: 0,
            max: node.max_elements,
        })
    }
}

/// Sizes of a list's or map's elements.
#[derive(Clone, Copy)]
struct EntrySize {
    list: bool,
    key: SizeRange,
    value: SizeRange,
}

impl EntrySize {
    fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (one, other) = (one?, other?);
        Some(Self {
            key: one.key.union(other.key),
            value: one.value.union(other.value),
            ..one
        })
    }
}

type Path = Option<Arc<[Arc<str>]>>;

struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<SizeRange>,
    entries: Option<EntrySize>,
}

struct Coster<'c> {
    checked: &'c Checked,
    sizes: &'c dyn Sizes,
    paths: HashMap<Id, Path>,
    locals: Vec<Local>,
    known: HashMap<Id, SizeRange>,
    known_entries: HashMap<Id, EntrySize>,
}

/// An argument as the cost of a call sees it.
struct Node<'e> {
    path: Path,
    ty: Type,
    expr: &'e Expr,
    size: Option<SizeRange>,
}

/// Estimates the cost of an expression.
pub(crate) fn estimate(checked: &Checked, sizes: &dyn Sizes) -> CostRange {
    let mut coster = Coster {
        checked,
        sizes,
        paths: HashMap::new(),
        locals: Vec::new(),
        known: HashMap::new(),
        known_entries: HashMap::new(),
    };
    coster.cost(&checked.expr)
}

impl Coster<'_> {
    fn cost(&mut self, expr: &Expr) -> CostRange {
        // A name with dots that is one variable.
        if let Some(crate::program::Reference::Variable(name)) = self.checked.reference(expr.id) {
            return self.identifier(expr.id, &name.clone());
        }
        match &expr.kind {
            Kind::Literal(_) => Range::fixed(0),
            Kind::Ident(name) => self.identifier(expr.id, name),
            Kind::Select { operand, field, test } => {
                let cost = self.cost(operand);
                if *test {
                    return cost;
                }
                let own = match self.checked.type_of(operand.id) {
                    Type::Map(_) | Type::Struct(_) | Type::Param(_) => 1,
                    _ => 0,
                };
                let path = self.path(operand);
                self.paths.insert(expr.id, join(&path, field));
                cost.add(Range::fixed(own))
            }
            Kind::Call(call) => self.call(expr, call),
            Kind::List { elements, .. } => self.list(expr.id, elements),
            Kind::Map(entries) => self.map(expr.id, entries),
            Kind::Struct { fields, .. } => {
                let fields = fields.iter().map(|field| self.cost(&field.value));
                fields.fold(Range::fixed(40), Range::add)
            }
            Kind::Fold(fold) if is_binding(fold) => self.binding(expr.id, fold),
            Kind::Fold(fold) => self.fold(expr.id, fold),
        }
    }

    fn identifier(&mut self, id: Id, name: &Arc<str>) -> CostRange {
        let path = match self.local(name) {
            Some(local) => local.path.clone(),
            None => Some([name.clone()].into()),
        };
        self.paths.insert(id, path);
        Range::fixed(1)
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().flatten()
    }

    fn node<'e>(&mut self, expr: &'e Expr) -> Node<'e> {
        let path = self.path(expr).filter(|path| !path.is_empty());
        let ty = self.checked.type_of(expr.id).clone();
        Node {
            path,
            ty,
            expr,
            size: self.size(expr),
        }
    }

    fn list(&mut self, id: Id, elements: &[Expr]) -> CostRange {
        let mut sum = Range::fixed(10);
        let mut item = Range {
            min: if elements.is_empty() { 0 } else { u64::MAX },
            max: 0,
        };
        for element in elements {
            sum = sum.add(self.cost(element));
            item = item.union(self.size_or_unknown(element));
        }
        self.known_entries.insert(
            id,
            EntrySize {
                list: true,
                key: Range::fixed(1),
                value: item,
            },
        );
        sum
    }

    fn map(&mut self, id: Id, entries: &[Entry]) -> CostRange {
        let mut sum = Range::fixed(30);
        let none = Range {
            min: if entries.is_empty() { 0 } else { u64::MAX },
            max: 0,
        };
        let (mut keys, mut values) = (none, none);
        for entry in entries {
            sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
            keys = keys.union(self.size_or_unknown(&entry.key));
            values = values.union(self.size_or_unknown(&entry.value));
        }
        self.known_entries.insert(
            id,
            EntrySize {
                list: false,
                key: keys,
                value: values,
            },
        );
        sum
    }

    fn binding(&mut self, id: Id, fold: &Fold) -> CostRange {
        let sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_value(&fold.accumulator, &fold.init);
        let sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(id, &fold.result);
        sum
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> CostRange {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_value(&fold.accumulator, &fold.init);
        let outer = self.locals.len();
        self.push_variables(fold);
        let looped = self.cost(&fold.condition).add(self.cost(&fold.step));
        // What the step looks up by name is looked up before its variables go.
        self.locals.truncate(outer);
        sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        let range = self.size_or_unknown(&fold.range);
        sum = sum.add(range.multiply(looped));
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.known.insert(id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.known.insert(id, range);
                if let Some(entries) = self.entries(&fold.step) {
                    self.known_entries.insert(id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn push_value(&mut self, name: &Arc<str>, value: &Expr) {
        let local = Local {
            name: name.clone(),
            path: self.path(value),
            entries: self.entries(value),
            size: self.size(value),
        };
        self.locals.push(local);
    }

    fn push_variables(&mut self, fold: &Fold) {
        let entries = self.entries(&fold.range);
        let list = match entries {
            Some(entries) => entries.list,
            None => matches!(self.checked.type_of(fold.range.id), Type::List(_)),
        };
        let path = self.path(&fold.range);
        let keys = (if list { "@indices" } else { "@keys" }, entries.map(|e| e.key));
        let values = (if list { "@items" } else { "@values" }, entries.map(|e| e.value));
        let first = match (&fold.second, list) {
            (None, true) => values,
            _ => keys,
        };
        let second = fold.second.as_ref().map(|name| (name, values));
        for (name, (part, size)) in [(&fold.variable, first)].into_iter().chain(second) {
            let path = join(&path, part);
            self.locals.push(Local {
                name: name.clone(),
                path,
                size,
                entries: None,
            });
        }
    }

    fn copy_sizes(&mut self, to: Id, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.known.insert(to, size);
        }
        if let Some(entries) = self.entries(from) {
            self.known_entries.insert(to, entries);
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> SizeRange {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<SizeRange> {
        if let Some(size) = self.known.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = written_size(expr) {
            return Some(Range::fixed(size));
        }
        let path = self.path(expr);
        if let Some(size) = path
            .filter(|path| !path.is_empty())
            .and_then(|path| self.sizes.size(&path))
        {
            self.known.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.checked.type_of(expr.id)) {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn entries(&self, expr: &Expr) -> Option<EntrySize> {
        match (self.known_entries.get(&expr.id), &expr.kind) {
            (Some(entries), _) => Some(*entries),
            (None, Kind::Ident(name)) => self.local(name)?.entries,
            _ => None,
        }
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> CostRange {
        if &*call.function == "dyn"
            && let [arg] = &call.args[..]
        {
            let cost = self.cost(arg);
            self.copy_sizes(expr.id, arg);
            return cost.add(Range::fixed(1));
        }
        let costs: Vec<CostRange> = call.args.iter().map(|arg| self.cost(arg)).collect();
        let args: Vec<Node<'_>> = call.args.iter().map(|arg| self.node(arg)).collect();
        let (function, qualified) = match self.checked.reference(expr.id) {
            Some(crate::program::Reference::Overloads {
                function, qualified, ..
            }) => (function.clone(), *qualified),
            _ => return Range::fixed(0),
        };
        let target = call.target.as_ref().filter(|_| !qualified);
        let mut sum = Range::fixed(0);
        let target = target.map(|target| {
            sum = sum.add(self.cost(target));
            self.node(target)
        });
        let mut own = Range { min: u64::MAX, max: 0 };
        let mut result: Option<SizeRange> = None;
        let overloads: Vec<_> = self
            .checked
            .overloads(expr.id)
            .iter()
            .map(|overload| &*overload.id)
            .collect();
        for overload in overloads {
            let (cost, size) = self.function(expr.id, (&function, overload), target.as_ref(), &args, &costs);
            own = own.union(cost);
            if let Some(size) = size {
                result = Some(result.map_or(size, |known| known.union(size)));
            }
            let part = match overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(part), Some(container)) = (part, call.args.first()) {
                result = self.entries(container).map(|entries| entries.value);
                let path = self.path(container);
                self.paths.insert(expr.id, join(&path, part));
            }
            if result.is_none() {
                result = self.size(expr);
            }
        }
        if let Some(size) = result {
            self.known.insert(expr.id, size);
        }
        sum.add(own)
    }
}

fn join(path: &Path, part: &str) -> Path {
    let start = path.iter().flat_map(|path| path.iter().cloned());
    Some(start.chain([part.into()]).collect())
}

/// Whether a loop only names a value.
fn is_binding(fold: &Fold) -> bool {
    let empty = matches!(&fold.range.kind, Kind::List { elements, .. } if elements.is_empty());
    empty && matches!(fold.condition.kind, Kind::Literal(Literal::Bool(false)))
}

fn written_size(expr: &Expr) -> Option<u64> {
    let size = match &expr.kind {
        Kind::Literal(Literal::String(text)) => crate::value::characters(text),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(size as u64)
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        _ => ty.optional_of().is_some_and(is_scalar),
    }
}

/// Operators whose cost is that of their parts.
fn is_logic(function: &str) -> bool {
    matches!(function, operator::AND | operator::OR)
}
