//! Whether types agree, and what the parameters of generic functions then are.

use crate::Type;
use std::{collections::HashMap, sync::Arc};

/// What is known of type parameters.
#[derive(Default)]
pub(crate) struct Mapping {
    known: HashMap<Arc<str>, Type>,
    /// What was known before each change, to take changes back.
    journal: Vec<(Arc<str>, Option<Type>)>,
}

impl Mapping {
    /// Says what a parameter is.
    pub(crate) fn bind(&mut self, name: Arc<str>, ty: Type) {
        let before = self.known.insert(name.clone(), ty);
        self.journal.push((name, before));
    }

    /// Whether `from` may stand where `to` is wanted; if so, what that says of parameters is kept.
    pub(crate) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    /// As `assign`, for lists of types of which all must agree.
    pub(crate) fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        self.journal.clear();
        let agreed = self.all_agree(from, to);
        while !agreed && let Some((name, before)) = self.journal.pop() {
            match before {
                Some(ty) => self.known.insert(name, ty),
                None => self.known.remove(&name),
            };
        }
        agreed
    }

    fn all_agree(&mut self, from: &[Type], to: &[Type]) -> bool {
        from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.agree(from, to))
    }

    fn agree(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Param(name) = to {
            match self.substitutes(from, name) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(name) = from {
            return self.substitutes(to, name).0;
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Type(_), _) => matches!(to, Type::Type(_)),
            (Type::List(_) | Type::Map(_) | Type::Opaque(..), _) => {
                from.same_kind(to) && from.name() == to.name() && self.all_agree(from.parameters(), to.parameters())
            }
            _ => from == to,
        }
    }

    /// Whether `ty` may be what the parameter is; and whether the parameter was known.
    fn substitutes(&mut self, ty: &Type, name: &Arc<str>) -> (bool, bool) {
        if matches!(ty, Type::Param(other) if other == name) {
            return (true, true);
        }
        let Some(known) = self.known.get(name).cloned() else {
            let free = !self.occurs(name, ty);
            if free {
                self.bind(name.clone(), ty.clone());
            }
            return (free, false);
        };
        if *ty == known {
            return (true, true);
        }
        if !self.agree(ty, &known) {
            return (false, true);
        }
        let general = most_general(ty, &known);
        if !self.occurs(name, general) {
            self.bind(name.clone(), general.clone());
        }
        (true, true)
    }

    /// Whether the parameter is somewhere in the type.
    fn occurs(&self, name: &Arc<str>, within: &Type) -> bool {
        match within {
            Type::Param(other) if other == name => true,
            Type::Param(other) => self.known.get(other).is_some_and(|known| self.occurs(name, known)),
            _ if !within.is_open() => false,
            _ => within.parameters().iter().any(|inner| self.occurs(name, inner)),
        }
    }

    /// The type with its parameters replaced by what is known of them; what is unknown becomes dyn
    /// if asked.
    pub(crate) fn substitute(&self, ty: &Type, to_dyn: bool) -> Type {
        match ty {
            Type::Param(name) => match self.known.get(name) {
                Some(known) => self.substitute(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => ty.clone(),
            },
            _ if !ty.is_open() => ty.clone(),
            _ => ty.with(
                ty.parameters()
                    .iter()
                    .map(|inner| self.substitute(inner, to_dyn))
                    .collect(),
            ),
        }
    }
}

fn nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Opaque(..) | Type::Struct(_) | Type::Any | Type::Duration | Type::Timestamp
    )
}

/// The less specific of two types that agree.
pub(crate) fn most_general<'t>(one: &'t Type, other: &'t Type) -> &'t Type {
    if less_specific(one, other) { one } else { other }
}

fn less_specific(one: &Type, other: &Type) -> bool {
    if one.is_dyn() || matches!(one, Type::Param(_)) {
        return true;
    }
    if other.is_dyn() || matches!(other, Type::Param(_)) || !one.same_kind(other) {
        return false;
    }
    match one {
        Type::Type(_) => true,
        Type::List(_) | Type::Map(_) | Type::Opaque(..) => {
            let (mine, theirs) = (one.parameters(), other.parameters());
            one.name() == other.name()
                && mine.len() == theirs.len()
                && mine
                    .iter()
                    .zip(theirs)
                    .all(|(mine, theirs)| less_specific(mine, theirs))
        }
        _ => one == other,
    }
}
