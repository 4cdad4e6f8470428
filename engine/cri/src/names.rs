//! Names of sandboxes and containers: one at a time may have each.

use crate::error::Answer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use strata_http::GrpcStatus;

/// Who has which name.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, String>>>);

/// A name that is given back unless it is kept.
pub(crate) struct Reserved {
    names: Names,
    name: Option<String>,
}

impl Names {
    /// Takes a name. Errors: `ALREADY_EXISTS` with who has it.
    pub fn reserve(&self, name: String) -> Answer<Reserved> {
        let mut names = self.lock();
        if let Some(owner) = names.get(&name) {
            let owner = if owner.is_empty() {
                "one that is being made"
            } else {
                owner
            };
            let why = format!("name {name:?} is reserved for {owner:?}");
            return Err(GrpcStatus::new(GrpcStatus::ALREADY_EXISTS, why));
        }
        names.insert(name.clone(), String::new());
        Ok(Reserved {
            names: self.clone(),
            name: Some(name),
        })
    }

    /// Enters what is there already.
    pub fn enter(&self, name: String, owner: &str) {
        self.lock().insert(name, owner.to_owned());
    }

    /// Whether somebody has a name.
    pub fn has(&self, name: &str, owner: &str) -> bool {
        self.lock().get(name).is_some_and(|other| other == owner)
    }

    /// Gives the name of a removed thing back.
    pub fn release(&self, owner: &str) {
        self.lock().retain(|_, other| other != owner);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// Keeps the name for as long as its owner lives.
    pub fn keep(mut self, owner: &str) {
        if let Some(name) = self.name.take() {
            self.names.enter(name, owner);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.names.lock().remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_had_once_until_its_owner_goes() {
        let names = Names::default();
        let first = names.reserve("a".into()).expect("free");
        assert!(names.reserve("a".into()).is_err());
        drop(first);
        names.reserve("a".into()).expect("given back").keep("1");
        let refused = names.reserve("a".into()).err().expect("taken");
        assert_eq!(refused.code, GrpcStatus::ALREADY_EXISTS);
        assert!(refused.message.contains("\"1\""), "{refused}");
        names.release("1");
        assert!(names.reserve("a".into()).is_ok());
    }
}
