//! Lists.

use super::{Key, Value, equal};
use crate::{DeclType, EvalError, decl::ListSemantics, limits::MAX_LIST};
use std::{collections::HashMap, sync::Arc};

/// A list: elements made by the run, or JSON with the declaration of its elements.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// JSON, converted element by element as it is read.
    Json(&'a [serde_json::Value], &'a DeclType, &'a ListSemantics),
    /// Elements at hand; a sum of declared lists keeps their semantics.
    Owned(Arc<Vec<Value<'a>>>, &'a ListSemantics),
}

static ATOMIC: ListSemantics = ListSemantics::Atomic;

impl<'a> List<'a> {
    /// A plain list.
    pub fn owned(elements: Vec<Value<'a>>) -> Self {
        Self::Owned(Arc::new(elements), &ATOMIC)
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(elements, ..) => elements.len(),
            Self::Owned(elements, _) => elements.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at an index. Errors: the JSON is not what was declared.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json(elements, decl, _) => elements.get(index).map(|json| Value::declared(json, decl)),
            Self::Owned(elements, _) => elements.get(index).cloned().map(Ok),
        }
    }

    /// Every element in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Every element, owned.
    pub(crate) fn elements(&self) -> Result<Vec<Value<'a>>, EvalError> {
        match self {
            Self::Json(..) => self.iter().collect(),
            Self::Owned(elements, _) => Ok(elements.to_vec()),
        }
    }

    fn semantics(&self) -> &'a ListSemantics {
        match self {
            Self::Json(.., semantics) | Self::Owned(_, semantics) => semantics,
        }
    }

    /// Whether an element equals the value; an error counts only if none does.
    pub(crate) fn contains(&self, value: &Value<'_>) -> Result<bool, EvalError> {
        let mut error = None;
        for element in self.iter() {
            match element.and_then(|element| equal(&element, value)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(e) => error = error.or(Some(e)),
            }
        }
        error.map_or(Ok(false), Err)
    }

    /// The sum. A set takes what it lacks; a list by keys takes new keys and replaces old ones.
    pub(crate) fn add(&self, other: &List<'a>) -> Result<List<'a>, EvalError> {
        if self.len() + other.len() > MAX_LIST {
            return Err(EvalError::cost_limit());
        }
        let mut elements = self.elements()?;
        match self.semantics() {
            ListSemantics::Atomic => elements.append(&mut other.elements()?),
            ListSemantics::Set => {
                let mut index = Index::new(&elements, &[]);
                for element in other.iter() {
                    let element = element?;
                    if index.find(&elements, &element)?.is_none() {
                        index.add(&element, elements.len());
                        elements.push(element);
                    }
                }
            }
            ListSemantics::Map(keys) => {
                let mut index = Index::new(&elements, keys);
                for element in other.iter() {
                    let element = element?;
                    match index.find(&elements, &element)? {
                        Some(at) => elements[at] = element,
                        None => {
                            index.add(&element, elements.len());
                            elements.push(element);
                        }
                    }
                }
            }
        }
        Ok(List::Owned(Arc::new(elements), self.semantics()))
    }

    /// Equality, by the semantics of the left side.
    pub(crate) fn equals(&self, other: &List<'a>) -> Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        let (keys, by_key): (&[String], bool) = match self.semantics() {
            ListSemantics::Atomic => {
                for (left, right) in self.iter().zip(other.iter()) {
                    if !equal(&left?, &right?)? {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            ListSemantics::Set => (&[], false),
            ListSemantics::Map(keys) => (keys, true),
        };
        let elements = self.elements()?;
        let index = Index::new(&elements, keys);
        for element in other.iter() {
            let element = element?;
            match index.find(&elements, &element)? {
                None => return Ok(false),
                Some(at) if by_key && !equal(&elements[at], &element)? => return Ok(false),
                Some(_) => {}
            }
        }
        Ok(true)
    }
}

/// Where elements are, by value (no keys) or by the values of their key properties.
struct Index<'k> {
    keys: &'k [String],
    places: HashMap<Vec<Option<Key>>, usize>,
    /// Whether an element could not be hashed, so that a search must look at every one.
    partial: bool,
}

impl<'k> Index<'k> {
    fn new(elements: &[Value<'_>], keys: &'k [String]) -> Self {
        let mut index = Self {
            keys,
            places: HashMap::with_capacity(elements.len()),
            partial: false,
        };
        elements
            .iter()
            .enumerate()
            .for_each(|(at, element)| index.add(element, at));
        index
    }

    fn key(&self, element: &Value<'_>) -> Option<Vec<Option<Key>>> {
        if self.keys.is_empty() {
            return Some(vec![Some(Key::of(element)?)]);
        }
        let property = |name: &String| match element {
            Value::Map(map) => match map.find(&Value::borrowed(&crate::escape(name)?)) {
                Ok(Some(value)) => Key::of(&value),
                _ => None,
            },
            _ => None,
        };
        Some(self.keys.iter().map(property).collect())
    }

    fn add(&mut self, element: &Value<'_>, at: usize) {
        match self.key(element) {
            Some(key) => {
                self.places.insert(key, at);
            }
            None => self.partial = true,
        }
    }

    fn find(&self, elements: &[Value<'_>], element: &Value<'_>) -> Result<Option<usize>, EvalError> {
        if let Some(key) = self.key(element) {
            if let Some(at) = self.places.get(&key) {
                return Ok(Some(*at));
            }
            if !self.partial {
                return Ok(None);
            }
        }
        for (at, candidate) in elements.iter().enumerate() {
            if equal(candidate, element)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}
