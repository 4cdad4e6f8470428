//! What a checked expression may still not have: literals that can never be what they are used as,
//! lists and maps of mixed types, format strings that do not fit their arguments.

use crate::{
    Checked, Issues, Type,
    ast::{Call, Expr, Id, Kind, Literal},
    functions::{
        format,
        kubernetes::{compile_regex, pattern_weight},
    },
    limits::MAX_PATTERNS,
    value::{Duration, Timestamp},
};

/// Validates a checked expression.
pub(crate) fn validate(source: &str, checked: &Checked) -> Result<(), Issues> {
    let mut validator = Validator {
        checked,
        issues: Issues::new(source),
        patterns: 0,
    };
    validator.visit(&checked.expr, false);
    if validator.issues.is_empty() {
        Ok(())
    } else {
        Err(validator.issues)
    }
}

struct Validator<'c> {
    checked: &'c Checked,
    issues: Issues,
    /// How large the regular expressions are so far.
    patterns: u64,
}

impl Validator<'_> {
    fn report(&mut self, id: Id, message: String) {
        let place = self.checked.places.get(id as usize).copied().flatten();
        self.issues.report(place, message);
    }

    fn visit(&mut self, expr: &Expr, mut exempt: bool) {
        match &expr.kind {
            Kind::Call(call) => {
                self.literals(call);
                self.format(expr.id, call);
                exempt |= &*call.function == "format";
            }
            Kind::List { elements, optional } if !exempt => self.same_types(elements, optional),
            Kind::Map(entries) if !exempt => {
                let mut types: Option<(Type, Type)> = None;
                for entry in entries {
                    let key = self.checked.type_of(entry.key.id).clone();
                    let value = self.value_type(&entry.value, entry.optional);
                    match &types {
                        None => types = Some((key, value)),
                        Some((keys, values)) => {
                            let (keys, values) = (keys.clone(), values.clone());
                            self.same(entry.key.id, &keys, &key);
                            self.same(entry.value.id, &values, &value);
                        }
                    }
                }
            }
            _ => {}
        }
        expr.children(&mut |inner| self.visit(inner, exempt));
    }

    fn value_type(&self, expr: &Expr, optional: bool) -> Type {
        let ty = self.checked.type_of(expr.id);
        let inner = ty.optional_of().filter(|_| optional);
        inner.unwrap_or(ty).clone()
    }

    fn same(&mut self, id: Id, expected: &Type, found: &Type) -> bool {
        let same = expected == found;
        if !same {
            self.report(id, format!("expected type '{expected}' but found '{found}'"));
        }
        same
    }

    fn same_types(&mut self, elements: &[Expr], optional: &[bool]) {
        let mut expected: Option<Type> = None;
        for (element, optional) in elements.iter().zip(optional) {
            let found = self.value_type(element, *optional);
            match &expected {
                None => expected = Some(found),
                Some(ty) => {
                    let ty = ty.clone();
                    if !self.same(element.id, &ty, &found) {
                        return;
                    }
                }
            }
        }
    }

    fn literals(&mut self, call: &Call) {
        let Some(Expr {
            id,
            kind: Kind::Literal(literal),
        }) = call.args.first()
        else {
            return;
        };
        if let ("matches" | "find" | "findAll", Literal::String(pattern)) = (&*call.function, literal) {
            let known = self.patterns;
            self.patterns = known.saturating_add(pattern_weight(pattern));
            if self.patterns > MAX_PATTERNS {
                // It is said once, and nothing of that size is compiled.
                if known <= MAX_PATTERNS {
                    self.report(*id, "the regular expressions are too large together".to_owned());
                }
                return;
            }
        }
        let good = match (&*call.function, literal) {
            ("duration", Literal::String(text)) => Duration::parse(text).is_some(),
            ("timestamp", Literal::String(text)) => Timestamp::parse(text).is_some(),
            ("timestamp", Literal::Int(seconds)) => Timestamp::new(*seconds, 0).is_some(),
            ("matches", Literal::String(pattern)) => compile_regex(pattern).is_ok(),
            _ => true,
        };
        if !good {
            self.report(*id, format!("invalid {} argument", call.function));
        }
    }

    /// A format string against the types of its arguments, when both are written out.
    fn format(&mut self, id: Id, call: &Call) {
        let ("format", Some(target), [arguments]) = (&*call.function, &call.target, &call.args[..]) else {
            return;
        };
        let (Kind::Literal(Literal::String(text)), Kind::List { elements, .. }) = (&target.kind, &arguments.kind)
        else {
            return;
        };
        let types = |at: usize| elements.get(at).map(|element| self.shape(element));
        match format::check(text, elements.len(), &types) {
            Err((at, message)) => {
                let place = at.and_then(|at| elements.get(at)).map_or(id, |element| element.id);
                self.report(place, message);
            }
            Ok(used) if elements.len() > used => {
                let message = format!(
                    "too many arguments supplied to string.format (expected {used}, got {})",
                    elements.len()
                );
                self.report(id, message);
            }
            Ok(_) => {}
        }
    }

    fn shape(&self, element: &Expr) -> Type {
        self.checked.type_of(element.id).clone()
    }
}
