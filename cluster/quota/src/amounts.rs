//! Named amounts and their arithmetic (k8s.io/apiserver/pkg/quota/v1/resources.go).

use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};
use strata_meta::Quantity;

/// Amounts by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads an object of quantities; what is no quantity is left out.
    pub fn read(value: Option<&Value>) -> Self {
        let members = value.and_then(Value::as_object).into_iter().flatten();
        let amount = |value: &Value| match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        };
        Self(
            members
                .filter_map(|(name, v)| Some((name.clone(), amount(v)?)))
                .collect(),
        )
    }

    /// As the API has them.
    pub fn to_value(&self) -> Value {
        let members = self
            .0
            .iter()
            .map(|(name, q)| (name.clone(), Value::from(q.to_string())));
        Value::Object(members.collect::<Map<_, _>>())
    }

    /// One amount.
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    /// Sets one amount.
    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Sets a count.
    pub fn count(&mut self, name: impl Into<String>, count: usize) {
        self.set(name, Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX)));
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and amounts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, q)| (name.as_str(), *q))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds others, name by name.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.get(name).map_or(*amount, |present| present.plus(*amount));
            self.0.insert(name.clone(), sum);
        }
    }

    /// Raises each amount to at least the other's.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|present| present < amount) {
                self.0.insert(name.clone(), *amount);
            }
        }
    }

    /// What is left when others are taken away; nothing falls below zero.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let left = |name: &String, amount: &Quantity| match other.0.get(name) {
            Some(taken) if taken >= amount => Quantity::from_units(0),
            Some(taken) => amount.minus(*taken),
            None => *amount,
        };
        Self(self.0.iter().map(|(n, a)| (n.clone(), left(n, a))).collect())
    }

    /// Only the named ones.
    #[must_use]
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let kept = names.into_iter().filter_map(|n| Some((n.to_owned(), self.get(n)?)));
        Self(kept.collect())
    }

    /// Without the amounts that are zero.
    #[must_use]
    pub fn without_zeros(&self) -> Self {
        let kept = self.0.iter().filter(|(_, q)| !q.is_zero());
        Self(kept.map(|(n, q)| (n.clone(), *q)).collect())
    }

    /// Names of amounts that are larger than a limit of the same name.
    pub fn exceeding(&self, limits: &Self) -> Vec<&str> {
        let beyond = |(name, amount): &(&String, &Quantity)| limits.0.get(*name).is_some_and(|limit| limit < amount);
        self.0.iter().filter(beyond).map(|(name, _)| name.as_str()).collect()
    }

    /// Names of amounts below zero.
    pub fn negative(&self) -> Vec<&str> {
        let below = self.0.iter().filter(|(_, q)| q.is_negative());
        below.map(|(name, _)| name.as_str()).collect()
    }
}

/// `cpu=1,pods=2`, as refusals list them.
impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, amount)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={amount}")?;
        }
        Ok(())
    }
}
