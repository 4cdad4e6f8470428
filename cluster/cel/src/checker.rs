//! The type checker: every node gets a type, every call its overloads, as cel-go does.

use crate::{
    Env, Issues, Type,
    ast::{Call, Entry, Expr, Field, Fold, Id, Kind, Literal, operator},
    functions::Overload,
    limits::MAX_TYPE_WEIGHT,
    parser::Parsed,
    program::{Checked, Reference},
    unify::Mapping,
};
use std::sync::Arc;

/// Checks a parsed expression.
pub(crate) fn check(env: Env, source: &str, parsed: Parsed) -> Result<Checked, Issues> {
    let nodes = parsed.places.len();
    let mut checker = Checker {
        env: &env,
        places: &parsed.places,
        issues: Issues::new(source),
        types: vec![Type::Error; nodes],
        references: (0..nodes).map(|_| None).collect(),
        mapping: Mapping::default(),
        scopes: Vec::new(),
        fresh: 0,
    };
    checker.check(&parsed.expr);
    let Checker {
        issues,
        mut types,
        references,
        mapping,
        ..
    } = checker;
    if !issues.is_empty() {
        return Err(issues);
    }
    for ty in &mut types {
        *ty = mapping.substitute(ty, true);
    }
    Ok(Checked {
        deep: parsed.deep,
        env,
        expr: parsed.expr,
        places: parsed.places,
        types,
        references,
    })
}

struct Checker<'c> {
    env: &'c Env,
    places: &'c [Option<u32>],
    issues: Issues,
    types: Vec<Type>,
    references: Vec<Option<Reference>>,
    mapping: Mapping,
    /// Variables of loops, innermost last.
    scopes: Vec<(Arc<str>, Type)>,
    fresh: u32,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        let place = self.places.get(id as usize).copied().flatten();
        self.issues.report(place, message);
    }

    fn set(&mut self, id: Id, mut ty: Type) {
        if ty.weight() > MAX_TYPE_WEIGHT {
            self.report(id, "the expression's type is too large".to_owned());
            ty = Type::Error;
        }
        self.types[id as usize] = ty;
    }

    fn get(&self, id: Id) -> Type {
        self.types[id as usize].clone()
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        self.references[id as usize] = Some(reference);
    }

    fn new_variable(&mut self) -> Type {
        self.fresh += 1;
        Type::param(&format!("_var{}", self.fresh - 1))
    }

    fn check(&mut self, expr: &Expr) {
        match &expr.kind {
            Kind::Literal(literal) => self.set(expr.id, literal_type(literal)),
            Kind::Ident(name) => {
                if !self.check_name(expr.id, name) {
                    self.undeclared(expr.id, name);
                }
            }
            Kind::Select { operand, field, test } => self.check_select(expr, operand, field, *test),
            Kind::Call(call) => self.check_call(expr.id, call),
            Kind::List { elements, optional } => self.check_list(expr.id, elements, optional),
            Kind::Map(entries) => self.check_map(expr.id, entries),
            Kind::Struct { name, fields } => self.check_struct(expr.id, name, fields),
            Kind::Fold(fold) => self.check_fold(expr.id, fold),
        }
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.set(id, Type::Error);
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn check_name(&mut self, id: Id, name: &str) -> bool {
        let name = name.strip_prefix('.').unwrap_or(name);
        let local = self.scopes.iter().rev().find(|(variable, _)| &**variable == name);
        let found = match local {
            Some((_, ty)) => Some(ty.clone()),
            None => self.env.variable(name).cloned(),
        };
        if let Some(ty) = found {
            self.set(id, ty);
            self.refer(id, Reference::Variable(name.into()));
            return true;
        }
        let Some(named) = self.env.named_type(name) else {
            return false;
        };
        self.set(id, Type::type_of(named.clone()));
        self.refer(id, Reference::Type(named));
        true
    }

    fn check_select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) {
        if let Some(name) = expr.qualified_name()
            && self.check_name(expr.id, &name)
        {
            return;
        }
        let ty = self.field_of(expr.id, operand, field, false);
        let ty = if test { Type::Bool } else { ty };
        let ty = self.mapping.substitute(&ty, false);
        self.set(expr.id, ty);
    }

    /// The type of a field of an operand, an optional type for an optional operand or selection.
    fn field_of(&mut self, id: Id, operand: &Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand = self.mapping.substitute(&self.types[operand.id as usize], false);
        let (target, is_optional) = match operand.optional_of() {
            Some(inner) => (inner.clone(), true),
            None => (operand, optional),
        };
        let found = match &target {
            Type::Map(_) => target.parameters()[1].clone(),
            Type::Struct(name) => self.struct_field(id, name, field),
            Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            _ => {
                if !target.is_dyn_or_error() {
                    self.report(id, format!("type '{target}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if is_optional { Type::optional(found) } else { found }
    }

    fn struct_field(&mut self, id: Id, type_name: &str, field: &str) -> Type {
        if !self.env.has_object(type_name) {
            self.report(id, format!("unexpected failed resolution of '{type_name}'"));
            return Type::Error;
        }
        match self.env.field(type_name, field) {
            Some(ty) => ty,
            None => {
                self.report(id, format!("undefined field '{field}'"));
                Type::Error
            }
        }
    }

    fn check_call(&mut self, id: Id, call: &Call) {
        let Call { function, target, args } = call;
        if &**function == operator::OPTIONAL_SELECT
            && let [
                operand,
                Expr {
                    kind: Kind::Literal(Literal::String(field)),
                    ..
                },
            ] = &args[..]
        {
            let ty = self.field_of(id, operand, field, true);
            let ty = self.mapping.substitute(&ty, false);
            self.set(id, ty);
            let selected = self.env.overloads(function).collect();
            self.refer(
                id,
                Reference::Overloads {
                    function: function.clone(),
                    qualified: false,
                    overloads: selected,
                },
            );
            return;
        }
        args.iter().for_each(|arg| self.check(arg));
        let Some(target) = target else {
            let name = function.strip_prefix('.').unwrap_or(function);
            return self.resolve_or_report(id, (name, function), None, args);
        };
        if let Some(prefix) = target.qualified_name() {
            let name = format!("{}.{function}", prefix.strip_prefix('.').unwrap_or(&prefix));
            if self.env.has_function(&name) {
                return self.resolve_or_report(id, (&name, &name), None, args);
            }
        }
        self.check(target);
        self.resolve_or_report(id, (function, function), Some(target), args);
    }

    fn resolve_or_report(&mut self, id: Id, (name, written): (&str, &str), target: Option<&Expr>, args: &[Expr]) {
        if !self.env.has_function(name) {
            return self.undeclared(id, written);
        }
        match self.resolve(id, name, target, args) {
            None => self.set(id, Type::Error),
            Some((overloads, ty)) => {
                let qualified = target.is_none();
                self.refer(
                    id,
                    Reference::Overloads {
                        function: name.into(),
                        qualified,
                        overloads,
                    },
                );
                self.set(id, ty);
            }
        }
    }

    fn resolve(
        &mut self,
        id: Id,
        name: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Option<(Vec<&'static Overload>, Type)> {
        let all: Vec<&Expr> = target.into_iter().chain(args).collect();
        let types: Vec<Type> = all.iter().map(|arg| self.get(arg.id)).collect();
        let mut matching: Vec<&'static Overload> = Vec::new();
        let mut result: Option<Type> = None;
        let env = self.env;
        for overload in env
            .overloads(name)
            .filter(|overload| overload.member == target.is_some())
        {
            if matches!(name, operator::AND | operator::OR) {
                return self.resolve_logic(overload, &all, &types);
            }
            let (declared, of) = self.instantiate(overload);
            if !self.mapping.assign_all(&types, &declared) {
                continue;
            }
            matching.push(overload);
            let of = self.mapping.substitute(&of, false);
            result = Some(match result {
                None => of,
                Some(previous) if previous.is_dyn() || previous == of => previous,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(result) = result {
            return Some((matching, result));
        }
        let shown: Vec<String> = types
            .iter()
            .map(|ty| self.mapping.substitute(ty, true).to_string())
            .collect();
        let signature = match (target, &shown[..]) {
            (Some(_), [receiver, rest @ ..]) => format!("{receiver}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.report(
            id,
            format!("found no matching overload for '{name}' applied to '{signature}'"),
        );
        None
    }

    fn resolve_logic(
        &mut self,
        overload: &'static Overload,
        args: &[&Expr],
        types: &[Type],
    ) -> Option<(Vec<&'static Overload>, Type)> {
        let mut good = true;
        for (arg, ty) in args.iter().zip(types) {
            if !self.mapping.assign(ty, &Type::Bool) {
                self.mismatch(arg.id, &Type::Bool, ty);
                good = false;
            }
        }
        good.then(|| (vec![overload], Type::Bool))
    }

    /// The overload's types with parameters of its own.
    fn instantiate(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        if overload.params.is_empty() {
            return (overload.args.clone(), overload.result.clone());
        }
        let mut fresh = Mapping::default();
        for name in &overload.params {
            let variable = self.new_variable();
            fresh.bind(name.clone(), variable);
        }
        let args = overload.args.iter().map(|arg| fresh.substitute(arg, false)).collect();
        (args, fresh.substitute(&overload.result, false))
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn check_list(&mut self, id: Id, elements: &[Expr], optional: &[bool]) {
        let mut joined = None;
        for (element, optional) in elements.iter().zip(optional) {
            self.check(element);
            let ty = self.value_type(element.id, *optional);
            joined = Some(self.join(joined, ty));
        }
        let element = match joined {
            Some(ty) => ty,
            None => self.new_variable(),
        };
        self.set(id, Type::list(element));
    }

    /// The type a value adds to a list, map or object: what an optional value is of.
    fn value_type(&mut self, id: Id, optional: bool) -> Type {
        let ty = self.get(id);
        if !optional {
            return ty;
        }
        match ty.optional_of() {
            Some(inner) => inner.clone(),
            None => {
                if !ty.is_dyn() {
                    self.mismatch(id, &Type::optional(ty.clone()), &ty);
                }
                ty
            }
        }
    }

    fn check_map(&mut self, id: Id, entries: &[Entry]) {
        let mut joined: Option<(Type, Type)> = None;
        for Entry { key, value, optional } in entries {
            let (keys, values) = joined.map_or((None, None), |(k, v)| (Some(k), Some(v)));
            self.check(key);
            let key_type = self.get(key.id);
            let keys = self.join(keys, key_type);
            self.check(value);
            let value_type = self.value_type(value.id, *optional);
            let values = self.join(values, value_type);
            joined = Some((keys, values));
        }
        let (key, value) = match joined {
            Some(both) => both,
            None => (self.new_variable(), self.new_variable()),
        };
        self.set(id, Type::map(key, value));
    }

    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.mapping.assign(&previous, &current) {
            return crate::unify::most_general(&previous, &current).clone();
        }
        // That elements are of one type is validated later, but for the arguments of `format`.
        Type::Dyn
    }

    fn check_struct(&mut self, id: Id, name: &str, fields: &[Field]) {
        let name = name.strip_prefix('.').unwrap_or(name);
        let Some(named) = self.env.named_type(name) else {
            if self.env.variable(name).is_some() {
                self.report(id, format!("'{name}' is not a type"));
                return self.set(id, Type::Error);
            }
            return self.undeclared(id, name);
        };
        if !matches!(named, Type::Struct(_)) {
            self.report(id, format!("'{named}' is not a message type"));
            self.set(id, Type::Error);
            for field in fields {
                self.check(&field.value);
                self.report(field.id, format!("unexpected failed resolution of '{name}'"));
            }
            return;
        }
        self.refer(id, Reference::Type(named.clone()));
        self.set(id, named);
        for field in fields {
            self.check(&field.value);
            let declared = self.struct_field(field.id, name, &field.name);
            let given = self.value_type(field.value.id, field.optional);
            if !self.mapping.assign(&declared, &given) {
                let message = format!(
                    "expected type of field '{}' is '{declared}' but provided type is '{given}'",
                    field.name
                );
                self.report(field.id, message);
            }
        }
    }

    fn check_fold(&mut self, id: Id, fold: &Fold) {
        self.check(&fold.range);
        self.check(&fold.init);
        let range = self.mapping.substitute(&self.types[fold.range.id as usize], false);
        let accumulated = self.get(fold.init.id);
        let two = fold.second.is_some();
        let (first, second) = match &range {
            Type::List(_) if two => (Type::Int, range.parameters()[0].clone()),
            Type::List(_) => (range.parameters()[0].clone(), Type::Error),
            Type::Map(_) => (range.parameters()[0].clone(), range.parameters()[1].clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            _ => {
                let message = format!(
                    "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.accumulator.clone(), accumulated.clone()));
        let depth = self.scopes.len();
        self.scopes.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(&fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&fold.step);
        self.assert(&fold.step, &accumulated);
        self.scopes.truncate(depth);
        self.check(&fold.result);
        self.scopes.truncate(depth - 1);
        let ty = self.mapping.substitute(&self.types[fold.result.id as usize], false);
        self.set(id, ty);
    }

    fn assert(&mut self, expr: &Expr, expected: &Type) {
        let found = self.get(expr.id);
        if !self.mapping.assign(expected, &found) {
            self.mismatch(expr.id, expected, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
