//! From a checked expression to steps that run: names resolved, constants folded, patterns compiled.

use crate::{
    Checked, EvalError, Value,
    actual::CostRule,
    ast::{Call, Expr, Fold, Kind, Literal, operator},
    env::TypeProvider,
    functions::{Overload, kubernetes::compile_regex, standard},
    limits::MAX_PATTERNS,
    program::Reference,
    value::{Key, List, Map, OwnedMap, Text},
};
use regex::Regex;
use std::{collections::HashSet, sync::Arc};

/// A part of a program.
pub(crate) enum Step {
    Constant(Value<'static>),
    Attribute(Attribute),
    /// `has(…)`: the attribute's last qualifier is a presence test.
    Test(Attribute),
    And(Box<[Step; 2]>),
    Or(Box<[Step; 2]>),
    Equal {
        sides: Box<[Step; 2]>,
        negate: bool,
    },
    NotStrictlyFalse(Box<Step>),
    Call(Box<CallStep>),
    /// `x in […]` of constants.
    InSet(Box<Step>, HashSet<Key>),
    OptionalOr(Box<[Step; 2]>),
    OptionalOrValue(Box<[Step; 2]>),
    List(Vec<(Step, bool)>),
    Map(Vec<(Step, Step, bool)>),
    Record(Box<RecordStep>),
    Fold(Box<FoldStep>),
    /// `@result + [element]`, in place.
    Append(Accumulator, Box<Step>),
    /// `cel.@mapInsert(@result, key, value)` or `(@result, map)`, in place.
    Insert(Accumulator, Vec<Step>),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}

/// A variable or value and what is selected from it.
pub(crate) struct Attribute {
    pub(crate) base: Base,
    pub(crate) qualifiers: Vec<Arc<Qualifier>>,
}

/// Where an attribute begins.
pub(crate) enum Base {
    Variable(Arc<str>),
    Local(usize),
    Accumulator(Accumulator),
    Computed(Box<Step>),
    Conditional {
        condition: Box<Step>,
        yes: Box<Attribute>,
        no: Box<Attribute>,
    },
}

/// The accumulator of a loop: computed when it is first asked for.
#[derive(Clone)]
pub(crate) struct Accumulator {
    pub(crate) slot: usize,
    pub(crate) init: Arc<Step>,
}

/// A field, key or index.
pub(crate) struct Qualifier {
    pub(crate) key: QualifierKey,
    pub(crate) optional: bool,
    /// Only whether it is there is asked.
    pub(crate) test: bool,
}

pub(crate) enum QualifierKey {
    Constant(Value<'static>),
    Computed(Attribute),
}

/// A call of a function.
pub(crate) struct CallStep {
    pub(crate) function: Arc<str>,
    /// One when the checker could tell; else the first that accepts the arguments.
    pub(crate) overloads: Vec<&'static Overload>,
    pub(crate) args: Vec<Step>,
    pub(crate) cost: CostRule,
    /// The pattern, when it is a constant.
    pub(crate) regex: Option<Regex>,
}

/// `Name{field: value}`.
pub(crate) struct RecordStep {
    pub(crate) type_name: Arc<str>,
    pub(crate) provider: Option<Arc<dyn TypeProvider>>,
    pub(crate) fields: Vec<(Arc<str>, Step, bool)>,
}

/// A loop.
pub(crate) struct FoldStep {
    pub(crate) range: Step,
    pub(crate) accumulator: Accumulator,
    pub(crate) variable: usize,
    pub(crate) second: Option<usize>,
    pub(crate) condition: Step,
    pub(crate) step: Step,
    pub(crate) result: Step,
}

/// Plans an expression; also says how many variables of loops it needs.
/// The steps, how many variables of loops there are at once, and the weight of all patterns.
pub(crate) fn plan(checked: &Checked) -> Result<(Step, usize, u64), EvalError> {
    let mut planner = Planner {
        checked,
        scopes: Vec::new(),
        used: 0,
        most: 0,
        patterns: 0,
    };
    let step = planner.plan(&checked.expr)?;
    Ok((step, planner.most, planner.patterns))
}

#[derive(Clone)]
enum Local {
    Variable(usize),
    Accumulator(Accumulator),
}

struct Planner<'c> {
    checked: &'c Checked,
    scopes: Vec<(Arc<str>, Local)>,
    used: usize,
    most: usize,
    patterns: u64,
}

type Planned = Result<Step, EvalError>;

impl Planner<'_> {
    fn plan(&mut self, expr: &Expr) -> Planned {
        match self.checked.reference(expr.id) {
            Some(Reference::Variable(name)) => return Ok(self.name(name)),
            Some(Reference::Type(ty)) if !matches!(expr.kind, Kind::Struct { .. }) => {
                return Ok(Step::Constant(Value::Type(ty.clone())));
            }
            _ => {}
        }
        match &expr.kind {
            Kind::Literal(literal) => Ok(Step::Constant(constant(literal))),
            Kind::Ident(name) => Ok(self.name(name)),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::Call(call) => self.call(expr, call),
            Kind::List { elements, optional } => {
                let elements = elements.iter().map(|element| self.plan(element));
                let elements = elements.zip(optional).map(|(step, optional)| Ok((step?, *optional)));
                Ok(fold_list(elements.collect::<Result<_, EvalError>>()?))
            }
            Kind::Map(entries) => {
                let mut steps = Vec::with_capacity(entries.len());
                for entry in entries {
                    steps.push((self.plan(&entry.key)?, self.plan(&entry.value)?, entry.optional));
                }
                Ok(fold_map(steps))
            }
            Kind::Struct { name, fields } => {
                let type_name: Arc<str> = name.strip_prefix('.').unwrap_or(name).into();
                let Some(provider) = self.checked.env.provider(&type_name).cloned() else {
                    return Err(EvalError::failed(format!("unknown type: {type_name}")));
                };
                let fields = fields
                    .iter()
                    .map(|f| Ok((f.name.clone(), self.plan(&f.value)?, f.optional)));
                let fields = fields.collect::<Result<_, EvalError>>()?;
                Ok(Step::Record(Box::new(RecordStep {
                    type_name,
                    provider: Some(provider),
                    fields,
                })))
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn name(&self, name: &Arc<str>) -> Step {
        let local = self.scopes.iter().rev().find(|(known, _)| known == name);
        let base = match local {
            Some((_, Local::Variable(slot))) => Base::Local(*slot),
            Some((_, Local::Accumulator(accumulator))) => Base::Accumulator(accumulator.clone()),
            None => Base::Variable(name.clone()),
        };
        Step::Attribute(Attribute {
            base,
            qualifiers: Vec::new(),
        })
    }

    fn select(&mut self, operand: &Expr, field: &Arc<str>, test: bool) -> Planned {
        let mut attribute = attribute_of(self.plan(operand)?);
        let key = QualifierKey::Constant(Value::String(Text::Shared(field.clone())));
        attribute.qualify(&Arc::new(Qualifier {
            key,
            optional: false,
            test,
        }));
        Ok(if test {
            Step::Test(attribute)
        } else {
            Step::Attribute(attribute)
        })
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Planned {
        let (function, qualified, overloads) = match self.checked.reference(expr.id) {
            Some(Reference::Overloads {
                function,
                qualified,
                overloads,
            }) => (function.clone(), *qualified, overloads.clone()),
            _ => (call.function.clone(), false, Vec::new()),
        };
        if let Some(step) = self.in_place(&function, &call.args)? {
            return Ok(step);
        }
        let target = call.target.as_ref().filter(|_| !qualified);
        let args = target.into_iter().chain(&call.args).map(|arg| self.plan(arg));
        let mut args = args.collect::<Result<Vec<_>, _>>()?;
        let two = |args: Vec<Step>| <[Step; 2]>::try_from(args).map(Box::new);
        let malformed = || EvalError::failed(format!("no such overload: {function}"));
        let pair = |args| two(args).map_err(|_| malformed());
        Ok(match &*function {
            operator::AND => Step::And(pair(args)?),
            operator::OR => Step::Or(pair(args)?),
            operator::EQUALS => Step::Equal {
                sides: pair(args)?,
                negate: false,
            },
            operator::NOT_EQUALS => Step::Equal {
                sides: pair(args)?,
                negate: true,
            },
            operator::NOT_STRICTLY_FALSE => Step::NotStrictlyFalse(Box::new(args.pop().ok_or_else(malformed)?)),
            operator::CONDITIONAL => {
                let (no, yes) = (args.pop().ok_or_else(malformed)?, args.pop().ok_or_else(malformed)?);
                let condition = Box::new(args.pop().ok_or_else(malformed)?);
                let (yes, no) = (Box::new(attribute_of(yes)), Box::new(attribute_of(no)));
                let base = Base::Conditional { condition, yes, no };
                Step::Attribute(Attribute {
                    base,
                    qualifiers: Vec::new(),
                })
            }
            operator::INDEX | operator::OPTIONAL_INDEX | operator::OPTIONAL_SELECT => {
                let [operand, index] = *pair(args)?;
                self::index(operand, index, &*function != operator::INDEX)
            }
            "or" if target.is_some() => Step::OptionalOr(pair(args)?),
            "orValue" if target.is_some() => Step::OptionalOrValue(pair(args)?),
            _ => return self.plain_call(function, overloads, args),
        })
    }

    /// `@result + […]` and the insertions of the macros change their accumulator in place: nothing
    /// else can name it.
    fn in_place(&mut self, function: &str, args: &[Expr]) -> Result<Option<Step>, EvalError> {
        let Some(Expr {
            kind: Kind::Ident(name),
            ..
        }) = args.first()
        else {
            return Ok(None);
        };
        if &**name != crate::ast::ACCUMULATOR {
            return Ok(None);
        }
        let found = self.scopes.iter().rev().find(|(known, _)| known == name);
        let Some((_, Local::Accumulator(accumulator))) = found.cloned() else {
            return Ok(None);
        };
        match (function, args) {
            (
                operator::ADD,
                [
                    _,
                    list @ Expr {
                        kind: Kind::List { .. },
                        ..
                    },
                ],
            ) => Ok(Some(Step::Append(accumulator, Box::new(self.plan(list)?)))),
            (operator::MAP_INSERT, [_, rest @ ..]) => {
                let rest = rest.iter().map(|arg| self.plan(arg)).collect::<Result<_, _>>()?;
                Ok(Some(Step::Insert(accumulator, rest)))
            }
            _ => Ok(None),
        }
    }

    fn plain_call(&mut self, function: Arc<str>, overloads: Vec<&'static Overload>, mut args: Vec<Step>) -> Planned {
        if let [Step::Constant(value)] = &args[..]
            && CONVERSIONS.contains(&&*function)
        {
            let value = standard::invoke(&function, &overloads, std::slice::from_ref(value))?;
            return Ok(Step::Constant(value));
        }
        let only = match &overloads[..] {
            [only] => Some(&*only.id),
            _ => None,
        };
        if only == Some("in_list")
            && let [_, Step::Constant(Value::List(list))] = &args[..]
            && let Some(set) = membership(list)
        {
            args.truncate(1);
            return Ok(match args.pop() {
                Some(value) if !set.is_empty() => Step::InSet(Box::new(value), set),
                _ => Step::Constant(Value::Bool(false)),
            });
        }
        let mut regex = None;
        if matches!(&*function, "matches" | "find" | "findAll")
            && let Some(Step::Constant(Value::String(pattern))) = args.get(1)
        {
            let compiled = compile_regex(pattern)?;
            self.patterns = self.patterns.saturating_add(compiled.weight);
            if self.patterns > MAX_PATTERNS {
                return Err(EvalError::failed("the regular expressions are too large together"));
            }
            regex = Some(compiled.regex);
        }
        let cost = CostRule::of(&function, only.unwrap_or_default());
        Ok(Step::Call(Box::new(CallStep {
            function,
            overloads,
            args,
            cost,
            regex,
        })))
    }

    fn slot(&mut self) -> usize {
        self.used += 1;
        self.most = self.most.max(self.used);
        self.used - 1
    }

    fn fold(&mut self, fold: &Fold) -> Planned {
        let init = Arc::new(self.plan(&fold.init)?);
        let range = self.plan(&fold.range)?;
        let (scopes, used) = (self.scopes.len(), self.used);
        let accumulator = Accumulator {
            slot: self.slot(),
            init,
        };
        self.scopes
            .push((fold.accumulator.clone(), Local::Accumulator(accumulator.clone())));
        let inner = self.scopes.len();
        let variable = self.slot();
        self.scopes.push((fold.variable.clone(), Local::Variable(variable)));
        let second = fold.second.as_ref().map(|name| {
            let slot = self.slot();
            self.scopes.push((name.clone(), Local::Variable(slot)));
            slot
        });
        let condition = self.plan(&fold.condition)?;
        let step = self.plan(&fold.step)?;
        self.scopes.truncate(inner);
        let result = self.plan(&fold.result)?;
        self.scopes.truncate(scopes);
        self.used = used;
        let fold = FoldStep {
            range,
            accumulator,
            variable,
            second,
            condition,
            step,
            result,
        };
        Ok(Step::Fold(Box::new(fold)))
    }
}

impl Attribute {
    fn qualify(&mut self, qualifier: &Arc<Qualifier>) {
        match &mut self.base {
            Base::Conditional { yes, no, .. } => {
                yes.qualify(qualifier);
                no.qualify(qualifier);
            }
            _ => self.qualifiers.push(qualifier.clone()),
        }
    }
}

fn attribute_of(step: Step) -> Attribute {
    match step {
        Step::Attribute(attribute) | Step::Test(attribute) => attribute,
        other => Attribute {
            base: Base::Computed(Box::new(other)),
            qualifiers: Vec::new(),
        },
    }
}

fn index(operand: Step, index: Step, optional: bool) -> Step {
    let mut attribute = attribute_of(operand);
    let key = match index {
        Step::Constant(value) => QualifierKey::Constant(value),
        other => QualifierKey::Computed(attribute_of(other)),
    };
    attribute.qualify(&Arc::new(Qualifier {
        key,
        optional,
        test: false,
    }));
    Step::Attribute(attribute)
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(truth) => Value::Bool(*truth),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

fn fold_list(elements: Vec<(Step, bool)>) -> Step {
    let all = elements.iter().map(|(step, optional)| match step {
        Step::Constant(value) if !optional => Some(value.clone()),
        _ => None,
    });
    match all.collect::<Option<Vec<_>>>() {
        Some(values) => Step::Constant(Value::list(values)),
        None => Step::List(elements),
    }
}

fn fold_map(entries: Vec<(Step, Step, bool)>) -> Step {
    let mut map = OwnedMap::default();
    for (key, value, optional) in &entries {
        match (key, value) {
            (Step::Constant(key), Step::Constant(value)) if !optional && map.insert(key.clone(), value.clone()) => {}
            _ => return Step::Map(entries),
        }
    }
    Step::Constant(Value::Map(Map::Owned(Arc::new(map))))
}

const CONVERSIONS: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// The elements, when all are scalars.
fn membership(list: &List<'static>) -> Option<HashSet<Key>> {
    let all = list.iter().map(|element| Key::of(&element.ok()?));
    all.collect()
}
