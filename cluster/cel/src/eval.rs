//! Running a plan.

use crate::{
    EvalError, Value,
    actual::{self, STRING_FACTOR},
    functions::{kubernetes, standard},
    limits::CHECK_FREQUENCY,
    plan::{Accumulator, Attribute, Base, CallStep, FoldStep, Qualifier, QualifierKey, RecordStep, Step},
    value::{Key, List, Map, OwnedMap, equal},
};
use std::{collections::HashSet, sync::Arc};

/// Where variables come from.
pub trait Activation<'a>: Sync {
    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<Value<'a>>;

    /// A field of a variable whose value is `Value::Deferred`: computed now, if there is one.
    fn field(&self, variable: &str, field: &str) -> Option<Result<Value<'a>, EvalError>> {
        let _ = (variable, field);
        None
    }
}

/// Variables at hand.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Bindings<'a> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.0.push((name, value));
        self
    }
}

impl<'a> Activation<'a> for Bindings<'a> {
    fn variable(&self, name: &str) -> Option<Value<'a>> {
        let found = self.0.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    }
}

type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// A run: the variables of loops, and what it has cost so far.
pub(crate) struct Machine<'a, 'r> {
    activation: &'r dyn Activation<'a>,
    /// Values of loop variables; an error is a value until something uses it.
    locals: Vec<Option<Evaluated<'a>>>,
    cost: u64,
    limit: u64,
    interrupt: Option<&'r (dyn Fn() -> bool + Sync)>,
    iterations: u32,
}

impl<'a, 'r> Machine<'a, 'r> {
    pub(crate) fn new(
        activation: &'r dyn Activation<'a>,
        locals: usize,
        limit: u64,
        interrupt: Option<&'r (dyn Fn() -> bool + Sync)>,
    ) -> Self {
        Self {
            activation,
            locals: vec![None; locals],
            cost: 0,
            limit,
            interrupt,
            iterations: 0,
        }
    }

    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            Err(EvalError::cost_limit())
        } else {
            Ok(())
        }
    }

    pub(crate) fn eval(&mut self, step: &'a Step) -> Evaluated<'a> {
        match step {
            Step::Constant(value) => Ok(value.clone()),
            Step::Attribute(attribute) => {
                let value = self.resolve(attribute);
                if !matches!(attribute.base, Base::Conditional { .. }) {
                    self.charge(1)?;
                }
                value
            }
            Step::Test(attribute) => Ok(match self.resolve(attribute)? {
                Value::Optional(inner) => Value::Bool(inner.is_some()),
                other => other,
            }),
            Step::And(sides) => self.logic(sides, false),
            Step::Or(sides) => self.logic(sides, true),
            Step::Equal { sides, negate } => self.equality(sides, *negate),
            Step::NotStrictlyFalse(inner) => {
                let value = self.eval(inner);
                self.charge(1)?;
                match value {
                    Ok(Value::Bool(truth)) => Ok(Value::Bool(truth)),
                    Err(e) if e.is_final() => Err(e),
                    _ => Ok(Value::Bool(true)),
                }
            }
            Step::Call(call) => self.call(call),
            Step::InSet(value, set) => self.in_set(value, set),
            Step::OptionalOr(sides) => match self.eval(&sides[0])? {
                Value::Optional(None) => self.eval(&sides[1]),
                other => Ok(other),
            },
            Step::OptionalOrValue(sides) => match self.eval(&sides[0])? {
                Value::Optional(None) => self.eval(&sides[1]),
                Value::Optional(Some(inner)) => Ok((*inner).clone()),
                other => Ok(other),
            },
            Step::List(elements) => {
                let list = self.list(elements);
                self.charge(10)?;
                list
            }
            Step::Map(entries) => {
                let map = self.map(entries);
                self.charge(30)?;
                map
            }
            Step::Record(record) => {
                let value = self.record(record);
                self.charge(40)?;
                value
            }
            Step::Fold(fold) => self.fold(fold),
            Step::Append(accumulator, list) => self.append(accumulator, list),
            Step::Insert(accumulator, args) => self.insert(accumulator, args),
        }
    }

    /// `&&` and `||`: one side may decide whatever the other is, even an error.
    fn logic(&mut self, sides: &'a [Step; 2], decides: bool) -> Evaluated<'a> {
        let mut error = None;
        for side in sides {
            match self.eval(side) {
                Ok(Value::Bool(truth)) if truth == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Err(e) if e.is_final() => return Err(e),
                Err(e) => error = error.or(Some(e)),
                Ok(_) => error = error.or_else(|| Some(EvalError::no_such_overload())),
            }
        }
        error.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn equality(&mut self, sides: &'a [Step; 2], negate: bool) -> Evaluated<'a> {
        let (left, right) = (self.eval(&sides[0]), self.eval(&sides[1]));
        if let Some(e) = [&left, &right]
            .into_iter()
            .filter_map(|side| side.as_ref().err())
            .find(|e| e.is_final())
        {
            return Err(e.clone());
        }
        let size = |side: &Evaluated<'a>| side.as_ref().map_or(1, Value::size);
        let unit = !negate && matches!(left, Ok(Value::Opaque(_)));
        let cost = match unit {
            true => 1,
            false => actual::scaled(size(&left).min(size(&right)), STRING_FACTOR),
        };
        self.charge(cost)?;
        let (left, right) = (left?, right?);
        match equal(&left, &right) {
            Ok(truth) => Ok(Value::Bool(truth != negate)),
            // Not equal, if only because they cannot be.
            Err(e) if negate && !e.is_final() => Ok(Value::Bool(true)),
            Err(e) => Err(e),
        }
    }

    fn in_set(&mut self, value: &'a Step, set: &HashSet<Key>) -> Evaluated<'a> {
        let value = self.eval(value)?;
        Ok(Value::Bool(Key::of(&value).is_some_and(|key| set.contains(&key))))
    }

    fn call(&mut self, call: &'a CallStep) -> Evaluated<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut error = None;
        let last = call.args.len().saturating_sub(1);
        for (at, arg) in call.args.iter().enumerate() {
            match self.eval(arg) {
                Ok(value) => args.push(value),
                Err(e) if e.is_final() => return Err(e),
                Err(e) => {
                    // Functions of more than two arguments stop at the first error and cost nothing.
                    if call.args.len() > 2 && at != last {
                        return Err(error.unwrap_or(e));
                    }
                    error = error.or(Some(e));
                }
            }
        }
        if let Some(e) = error {
            self.charge(1)?;
            return Err(e);
        }
        let invoke = || match &call.regex {
            Some(regex) => kubernetes::with_regex(&call.function, regex, &args),
            None => standard::invoke(&call.function, &call.overloads, &args),
        };
        if call.cost.follows_result() {
            let result = invoke();
            self.charge(call.cost.of_call(&args, result.as_ref().ok()))?;
            return result;
        }
        // Paid before it is done, lest it be done in vain.
        self.charge(call.cost.of_call(&args, None))?;
        invoke()
    }

    fn list(&mut self, elements: &'a [(Step, bool)]) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            let value = self.eval(element)?;
            match (optional, value) {
                (false, value) => values.push(value),
                (true, Value::Optional(None)) => {}
                (true, Value::Optional(Some(inner))) => values.push((*inner).clone()),
                (true, other) => {
                    let message = format!("cannot initialize optional list element from non-optional value {other}");
                    return Err(EvalError::failed(message));
                }
            }
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'a [(Step, Step, bool)]) -> Evaluated<'a> {
        let mut map = OwnedMap::default();
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            let mut value = self.eval(value)?;
            if *optional {
                match value {
                    Value::Optional(None) => {
                        map.remove(&key);
                        continue;
                    }
                    Value::Optional(Some(inner)) => value = (*inner).clone(),
                    other => return Err(not_optional(&key.to_string(), &other)),
                }
            }
            if !map.insert(key.clone(), value) {
                return Err(EvalError::failed(format!(
                    "unsupported key type: {}",
                    key.type_of().name()
                )));
            }
        }
        Ok(Value::Map(Map::Owned(Arc::new(map))))
    }

    fn record(&mut self, record: &'a RecordStep) -> Evaluated<'a> {
        let mut fields: Vec<(Arc<str>, Value<'a>)> = Vec::with_capacity(record.fields.len());
        for (name, step, optional) in &record.fields {
            let mut value = self.eval(step)?;
            if *optional {
                match value {
                    Value::Optional(None) => {
                        fields.retain(|(known, _)| known != name);
                        continue;
                    }
                    Value::Optional(Some(inner)) => value = (*inner).clone(),
                    other => return Err(not_optional(name, &other)),
                }
            }
            fields.retain(|(known, _)| known != name);
            fields.push((name.clone(), value));
        }
        match &record.provider {
            Some(provider) => provider.construct(&record.type_name, fields),
            None => Err(EvalError::failed(format!("unknown type '{}'", record.type_name))),
        }
    }

    /// The value of an attribute, without the cost of the attribute itself.
    fn resolve(&mut self, attribute: &'a Attribute) -> Evaluated<'a> {
        let value = match &attribute.base {
            Base::Variable(name) => match self.activation.variable(name) {
                Some(value) => value,
                None => return Err(EvalError::failed(format!("no such attribute(s): {name}"))),
            },
            Base::Local(slot) => match self.locals.get(*slot) {
                Some(Some(value)) => value.clone()?,
                _ => return Err(EvalError::failed("no such attribute(s)")),
            },
            Base::Accumulator(accumulator) => self.accumulated(accumulator)?,
            Base::Computed(step) => self.eval(step)?,
            Base::Conditional { condition, yes, no } => match self.eval(condition)? {
                Value::Bool(true) => return self.resolve(yes),
                Value::Bool(false) => return self.resolve(no),
                _ => return Err(EvalError::no_such_overload()),
            },
        };
        match attribute.qualifiers.is_empty() {
            true => Ok(value),
            false => self.qualify_all(value, &attribute.qualifiers),
        }
    }

    fn qualify_all(&mut self, value: Value<'a>, qualifiers: &'a [Arc<Qualifier>]) -> Evaluated<'a> {
        let (mut value, mut optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        for qualifier in qualifiers {
            optional |= qualifier.optional;
            let found = self.qualify(&value, qualifier, optional || qualifier.test);
            let present = !matches!(found, Ok(None));
            if present || qualifier.test {
                self.charge(1)?;
            }
            value = match found? {
                Some(found) if !qualifier.test => found,
                // Behind an optional selection the test has no value of its own.
                Some(_) if optional => Value::Null,
                None if optional => return Ok(Value::Optional(None)),
                found => Value::Bool(found.is_some()),
            };
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    /// What the qualifier selects; `None` only when absence is no error.
    fn qualify(
        &mut self,
        value: &Value<'a>,
        qualifier: &'a Qualifier,
        tolerant: bool,
    ) -> Result<Option<Value<'a>>, EvalError> {
        let computed;
        let key: &Value<'a> = match &qualifier.key {
            QualifierKey::Constant(key) => key,
            QualifierKey::Computed(attribute) => {
                computed = self.resolve(attribute)?;
                &computed
            }
        };
        if !matches!(
            key,
            Value::String(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_)
        ) {
            return Err(EvalError::failed(format!(
                "invalid qualifier type: {}",
                key.type_of().name()
            )));
        }
        let missing = || match tolerant {
            true => Ok(None),
            false => Err(EvalError::failed(format!("no such key: {key}"))),
        };
        match value {
            Value::Map(map) => match map.find(key)? {
                Some(found) => Ok(Some(found)),
                None => missing(),
            },
            Value::List(list) => match list.get(list_index(key)?) {
                Some(found) => found.map(Some),
                None if tolerant => Ok(None),
                None => Err(EvalError::failed(format!("index out of bounds: {key}"))),
            },
            Value::Record(record) => match key.as_str().and_then(|name| record.field(name)) {
                Some(found) => Ok(Some(found.clone())),
                None => missing(),
            },
            Value::Deferred(variable, _) => match key.as_str().and_then(|name| self.activation.field(variable, name)) {
                Some(found) => found.map(Some),
                None => missing(),
            },
            _ => missing(),
        }
    }

    fn accumulated(&mut self, accumulator: &'a Accumulator) -> Evaluated<'a> {
        if self.locals[accumulator.slot].is_none() {
            let init = self.eval(&accumulator.init);
            self.locals[accumulator.slot] = Some(init);
        }
        match &self.locals[accumulator.slot] {
            Some(value) => value.clone(),
            None => Err(EvalError::failed("no such attribute(s)")),
        }
    }

    /// The accumulator's value, out of its place: what replaces it comes right after.
    fn take_accumulated(&mut self, accumulator: &'a Accumulator) -> Evaluated<'a> {
        let value = match self.locals[accumulator.slot].take() {
            Some(value) => value,
            None => self.eval(&accumulator.init),
        };
        self.charge(1)?;
        value
    }

    fn append(&mut self, accumulator: &'a Accumulator, list: &'a Step) -> Evaluated<'a> {
        let accumulated = self.take_accumulated(accumulator);
        let added = self.eval(list);
        self.charge(1)?;
        let (Value::List(List::Owned(mut elements, semantics)), Value::List(added)) = (accumulated?, added?) else {
            return Err(EvalError::no_such_overload());
        };
        Arc::make_mut(&mut elements).append(&mut added.elements()?);
        Ok(Value::List(List::Owned(elements, semantics)))
    }

    fn insert(&mut self, accumulator: &'a Accumulator, args: &'a [Step]) -> Evaluated<'a> {
        let Value::Map(Map::Owned(mut map)) = self.take_accumulated(accumulator)? else {
            return Err(EvalError::no_such_overload());
        };
        let entries = match args {
            [key, value] => vec![(self.eval(key)?, self.eval(value)?)],
            [other] => match self.eval(other)? {
                Value::Map(other) => {
                    let find = |key: Value<'a>| Ok(other.find(&key)?.map(|value| (key, value)));
                    let found = other
                        .keys()
                        .into_iter()
                        .map(find)
                        .collect::<Result<Vec<_>, EvalError>>()?;
                    found.into_iter().flatten().collect()
                }
                _ => return Err(EvalError::no_such_overload()),
            },
            _ => return Err(EvalError::no_such_overload()),
        };
        self.charge(1)?;
        for (key, value) in entries {
            if map.get(&key).is_some() {
                return Err(EvalError::failed(format!("insert failed: key {key} already exists")));
            }
            Arc::make_mut(&mut map).insert(key, value);
        }
        Ok(Value::Map(Map::Owned(map)))
    }

    fn fold(&mut self, fold: &'a FoldStep) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        self.locals[fold.accumulator.slot] = None;
        match &range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let element = list.get(index).unwrap_or_else(|| Err(EvalError::no_such_overload()));
                    let more = match fold.second {
                        Some(_) => self.iterate(fold, Ok(Value::Int(index as i64)), Some(element))?,
                        None => self.iterate(fold, element, None)?,
                    };
                    if !more {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = fold
                        .second
                        .map(|_| map.find(&key).map(|value| value.unwrap_or(Value::Null)));
                    if !self.iterate(fold, Ok(key), value)? {
                        break;
                    }
                }
            }
            other => {
                let message = format!("got '{}', expected iterable type", go_name(other));
                return Err(EvalError::failed(message));
            }
        }
        let result = self.eval(&fold.result);
        self.locals[fold.accumulator.slot] = None;
        result
    }

    /// One round of a loop; false when the loop is over.
    fn iterate(
        &mut self,
        fold: &'a FoldStep,
        first: Evaluated<'a>,
        second: Option<Evaluated<'a>>,
    ) -> Result<bool, EvalError> {
        self.iterations = self.iterations.wrapping_add(1);
        if self.iterations.is_multiple_of(CHECK_FREQUENCY) && self.interrupt.is_some_and(|stop| stop()) {
            return Err(EvalError::interrupted());
        }
        self.locals[fold.variable] = Some(first);
        if let Some(slot) = fold.second {
            self.locals[slot] = second;
        }
        match self.eval(&fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(e) if e.is_final() => return Err(e),
            _ => {}
        }
        let step = self.eval(&fold.step);
        if let Err(e) = &step
            && e.is_final()
        {
            return Err(e.clone());
        }
        self.locals[fold.accumulator.slot] = Some(step);
        Ok(true)
    }
}

fn not_optional(entry: &str, value: &Value<'_>) -> EvalError {
    EvalError::failed(format!(
        "cannot initialize optional entry '{entry}' from non-optional value {value}"
    ))
}

/// The place in a list a value means; a place no list has when it is negative.
fn list_index(key: &Value<'_>) -> Result<usize, EvalError> {
    let whole = match key {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        Value::Double(n) if n.fract() == 0.0 => Some(*n as i128),
        Value::Double(n) => return Err(EvalError::failed(format!("unsupported index value {n} in list"))),
        _ => None,
    };
    let Some(whole) = whole else {
        let name = key.type_of();
        return Err(EvalError::failed(format!(
            "unsupported index type '{}' in list",
            name.name()
        )));
    };
    Ok(usize::try_from(whole).unwrap_or(usize::MAX))
}

/// As upstream's own types are called in its sentences.
fn go_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "types.Null",
        Value::Bool(_) => "types.Bool",
        Value::Int(_) => "types.Int",
        Value::Uint(_) => "types.Uint",
        Value::Double(_) => "types.Double",
        Value::String(_) => "types.String",
        Value::Bytes(_) => "types.Bytes",
        Value::Timestamp(_) => "types.Timestamp",
        Value::Duration(_) => "types.Duration",
        Value::Optional(_) => "*types.Optional",
        Value::Type(_) => "*types.Type",
        _ => "types.Object",
    }
}
