//! Macros: calls that are rewritten before they are checked.

use crate::{
    ast::{ACCUMULATOR, Call, Expr, Fold, Id, Kind, Literal, OLD_ACCUMULATOR, UNUSED, operator},
    limits::MAX_NODES,
    parser::{Nodes, call},
};
use std::sync::Arc;

/// Which macros beyond the standard ones there are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MacroSet {
    /// `optMap`, `optFlatMap`, and the syntax `.?`, `[?…]`, `{?…}`.
    pub(crate) optional: bool,
    /// The forms with two variables, `transformList`, `transformMap`, `transformMapEntry`.
    pub(crate) two_variables: bool,
    /// `sortBy`.
    pub(crate) lists: bool,
    /// `cel.bind`.
    pub(crate) bindings: bool,
}

type Place = Option<u32>;
type Refusal = (Place, String);
type Untouched = (Option<Expr>, Vec<Expr>);

/// What is inside of a macro's expansion.
struct Expansion<'n> {
    nodes: &'n mut Nodes,
    place: Place,
}

/// Rewrites a call that is a macro; gives it back when it is none. Errors: it is one, used wrongly.
pub(crate) fn expand(
    nodes: &mut Nodes,
    set: MacroSet,
    (name, place): (&str, Place),
    target: Option<Expr>,
    args: Vec<Expr>,
) -> Result<Result<Expr, Untouched>, Refusal> {
    let mut e = Expansion { nodes, place };
    let two = set.two_variables;
    let Some(target) = target else {
        return match (name, args.len()) {
            ("has", 1) => e.has(args).map(Ok),
            _ => Ok(Err((None, args))),
        };
    };
    let expanded = match (name, args.len()) {
        ("all" | "exists" | "exists_one", 2) => e.quantifier(name, target, args, 1),
        ("all" | "exists" | "exists_one" | "existsOne", 3) if two => e.quantifier(name, target, args, 2),
        ("map", 2 | 3) => e.map(target, args),
        ("filter", 2) => e.filter(target, args),
        ("transformList", 3 | 4) if two => e.transform_list(target, args),
        ("transformMap" | "transformMapEntry", 3 | 4) if two => e.transform_map(name == "transformMap", target, args),
        ("optMap", 2) if set.optional => e.optional(target, args, true),
        ("optFlatMap", 2) if set.optional => e.optional(target, args, false),
        ("sortBy", 2) if set.lists => e.sort_by(target, args),
        ("bind", 3) if set.bindings && matches!(&target.kind, Kind::Ident(name) if &**name == "cel") => e.bind(args),
        _ => return Ok(Err((Some(target), args))),
    };
    expanded.map(Ok)
}

impl Expansion<'_> {
    fn id(&mut self) -> Id {
        self.nodes.id(self.place)
    }

    fn ident(&mut self, name: &str) -> Expr {
        Expr {
            id: self.id(),
            kind: Kind::Ident(name.into()),
        }
    }

    fn accumulated(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        Expr {
            id: self.id(),
            kind: Kind::Literal(literal),
        }
    }

    fn list(&mut self, elements: Vec<Expr>) -> Expr {
        let optional = vec![false; elements.len()];
        Expr {
            id: self.id(),
            kind: Kind::List { elements, optional },
        }
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        call(self.id(), function, args)
    }

    fn member(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let (function, target) = (function.into(), Some(target));
        Expr {
            id: self.id(),
            kind: Kind::Call(Box::new(Call { function, target, args })),
        }
    }

    /// The same expression again, with nodes of its own.
    fn copy(&mut self, expr: &Expr) -> Result<Expr, Refusal> {
        let mut copied = expr.clone();
        self.renumber(&mut copied)?;
        Ok(copied)
    }

    fn renumber(&mut self, expr: &mut Expr) -> Result<(), Refusal> {
        if self.nodes.places.len() > MAX_NODES {
            return Err((
                self.place,
                "expression is too large after expansion of its macros".to_owned(),
            ));
        }
        let place = self.nodes.place(expr.id);
        expr.id = self.nodes.id(place);
        match &mut expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => Ok(()),
            Kind::Select { operand, .. } => self.renumber(operand),
            Kind::Call(call) => {
                let mut all = call.target.iter_mut().chain(&mut call.args);
                all.try_for_each(|inner| self.renumber(inner))
            }
            Kind::List { elements, .. } => elements.iter_mut().try_for_each(|inner| self.renumber(inner)),
            Kind::Map(entries) => entries.iter_mut().try_for_each(|entry| {
                self.renumber(&mut entry.key)?;
                self.renumber(&mut entry.value)
            }),
            Kind::Struct { fields, .. } => fields.iter_mut().try_for_each(|field| {
                field.id = self.nodes.id(self.nodes.place(field.id));
                self.renumber(&mut field.value)
            }),
            Kind::Fold(fold) => {
                let Fold {
                    range,
                    init,
                    condition,
                    step,
                    result,
                    ..
                } = &mut **fold;
                let mut all = [range, init, condition, step, result].into_iter();
                all.try_for_each(|inner| self.renumber(inner))
            }
        }
    }

    fn refuse<T>(&self, expr: &Expr, message: &str) -> Result<T, Refusal> {
        Err((self.nodes.place(expr.id), message.to_owned()))
    }

    fn variable(&self, expr: &Expr, message: &str) -> Result<Arc<str>, Refusal> {
        match &expr.kind {
            Kind::Ident(name) if matches!(&**name, ACCUMULATOR | OLD_ACCUMULATOR) => {
                self.refuse(expr, "iteration variable overwrites accumulator variable")
            }
            Kind::Ident(name) => Ok(name.clone()),
            _ => self.refuse(expr, message),
        }
    }

    fn two_variables(&self, args: &[Expr]) -> Result<(Arc<str>, Option<Arc<str>>), Refusal> {
        let first = self.variable(&args[0], "argument must be a simple name")?;
        let second = self.variable(&args[1], "argument must be a simple name")?;
        if first == second {
            return self.refuse(&args[1], &format!("duplicate variable name: {first}"));
        }
        Ok((first, Some(second)))
    }

    /// The loop of a macro, whose result is its accumulator unless told otherwise.
    fn fold(
        &mut self,
        range: Expr,
        (variable, second): (Arc<str>, Option<Arc<str>>),
        [init, condition, step]: [Expr; 3],
        result: Option<Expr>,
    ) -> Expr {
        let result = result.unwrap_or_else(|| self.accumulated());
        let accumulator = ACCUMULATOR.into();
        let fold = Fold {
            range,
            variable,
            second,
            accumulator,
            init,
            condition,
            step,
            result,
        };
        Expr {
            id: self.id(),
            kind: Kind::Fold(Box::new(fold)),
        }
    }

    fn has(&mut self, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let arg = args.swap_remove(0);
        match arg.kind {
            Kind::Select {
                operand,
                field,
                test: false,
            } => {
                let kind = Kind::Select {
                    operand,
                    field,
                    test: true,
                };
                Ok(Expr { id: self.id(), kind })
            }
            _ => self.refuse(&arg, "invalid argument to has() macro"),
        }
    }

    fn quantifier(&mut self, name: &str, target: Expr, mut args: Vec<Expr>, count: usize) -> Result<Expr, Refusal> {
        let variables = match count {
            1 => (self.variable(&args[0], "argument must be a simple name")?, None),
            _ => self.two_variables(&args)?,
        };
        let predicate = args.swap_remove(count);
        let accumulated = self.accumulated();
        let (parts, result) = match name {
            "all" => {
                let init = self.literal(Literal::Bool(true));
                let condition = self.call(operator::NOT_STRICTLY_FALSE, vec![accumulated]);
                let accumulated = self.accumulated();
                (
                    [init, condition, self.call(operator::AND, vec![accumulated, predicate])],
                    None,
                )
            }
            "exists" => {
                let init = self.literal(Literal::Bool(false));
                let negated = self.call(operator::NOT, vec![accumulated]);
                let condition = self.call(operator::NOT_STRICTLY_FALSE, vec![negated]);
                let accumulated = self.accumulated();
                (
                    [init, condition, self.call(operator::OR, vec![accumulated, predicate])],
                    None,
                )
            }
            _ => {
                let init = self.literal(Literal::Int(0));
                let condition = self.literal(Literal::Bool(true));
                let one = self.literal(Literal::Int(1));
                let more = self.call(operator::ADD, vec![accumulated, one]);
                let same = self.accumulated();
                let step = self.call(operator::CONDITIONAL, vec![predicate, more, same]);
                let (total, one) = (self.accumulated(), self.literal(Literal::Int(1)));
                let result = self.call(operator::EQUALS, vec![total, one]);
                ([init, condition, step], Some(result))
            }
        };
        Ok(self.fold(target, variables, parts, result))
    }

    /// A loop that makes a list of what `element` is, of those that pass the filter.
    fn collect(
        &mut self,
        target: Expr,
        variables: (Arc<str>, Option<Arc<str>>),
        filter: Option<Expr>,
        element: Expr,
    ) -> Expr {
        let init = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(true));
        let (accumulated, element) = (self.accumulated(), self.list(vec![element]));
        let step = self.call(operator::ADD, vec![accumulated, element]);
        let step = self.filtered(filter, step);
        self.fold(target, variables, [init, condition, step], None)
    }

    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        match filter {
            None => step,
            Some(filter) => {
                let same = self.accumulated();
                self.call(operator::CONDITIONAL, vec![filter, step, same])
            }
        }
    }

    fn map(&mut self, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let variable = self.variable(&args[0], "argument is not an identifier")?;
        let element = args.pop();
        let filter = (args.len() == 2).then(|| args.pop()).flatten();
        match element {
            Some(element) => Ok(self.collect(target, (variable, None), filter, element)),
            None => self.refuse(&target, "argument is not an identifier"),
        }
    }

    fn filter(&mut self, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let variable = self.variable(&args[0], "argument is not an identifier")?;
        let filter = args.pop();
        let element = args.swap_remove(0);
        Ok(self.collect(target, (variable, None), filter, element))
    }

    fn transform_list(&mut self, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let variables = self.two_variables(&args)?;
        let element = args.swap_remove(args.len() - 1);
        let filter = (args.len() == 3).then(|| args.pop()).flatten();
        Ok(self.collect(target, variables, filter, element))
    }

    fn transform_map(&mut self, by_key: bool, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let variables = self.two_variables(&args)?;
        let value = args.swap_remove(args.len() - 1);
        let filter = (args.len() == 3).then(|| args.pop()).flatten();
        let init = Expr {
            id: self.id(),
            kind: Kind::Map(Vec::new()),
        };
        let condition = self.literal(Literal::Bool(true));
        let mut inserted = vec![self.accumulated()];
        if by_key {
            let key = self.ident(&variables.0);
            inserted.push(key);
        }
        inserted.push(value);
        let step = self.call(operator::MAP_INSERT, inserted);
        let step = self.filtered(filter, step);
        Ok(self.fold(target, variables, [init, condition, step], None))
    }

    /// A name for a value inside of an expression: a loop that never runs and whose result uses it.
    fn binding(&mut self, variable: Arc<str>, value: Expr, body: Expr) -> Expr {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(&variable);
        let fold = Fold {
            range,
            variable: UNUSED.into(),
            second: None,
            accumulator: variable,
            init: value,
            condition,
            step,
            result: body,
        };
        Expr {
            id: self.id(),
            kind: Kind::Fold(Box::new(fold)),
        }
    }

    fn optional(&mut self, target: Expr, mut args: Vec<Expr>, wrap: bool) -> Result<Expr, Refusal> {
        let Kind::Ident(variable) = &args[0].kind else {
            let name = if wrap { "optMap" } else { "optFlatMap" };
            return self.refuse(&args[0], &format!("{name}() variable name must be a simple identifier"));
        };
        let variable = variable.clone();
        let body = args.swap_remove(1);
        let again = self.copy(&target)?;
        let present = self.member("hasValue", target, Vec::new());
        let value = self.member("value", again, Vec::new());
        let mut mapped = self.binding(variable, value, body);
        if wrap {
            mapped = self.call("optional.of", vec![mapped]);
        }
        let none = self.call("optional.none", Vec::new());
        Ok(self.call(operator::CONDITIONAL, vec![present, mapped, none]))
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr, Refusal> {
        const INPUT: &str = "@__sortBy_input__";
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return self.refuse(&target, message);
        }
        let range = self.ident(INPUT);
        let keys = self.map(range, args)?;
        let list = self.ident(INPUT);
        let sorted = self.member("@sortByAssociatedKeys", list, vec![keys]);
        Ok(self.binding(INPUT.into(), target, sorted))
    }

    fn bind(&mut self, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let Kind::Ident(variable) = &args[0].kind else {
            return self.refuse(&args[0], "cel.bind() variable names must be simple identifiers");
        };
        let variable = variable.clone();
        let body = args.swap_remove(2);
        let value = args.swap_remove(1);
        Ok(self.binding(variable, value, body))
    }
}
