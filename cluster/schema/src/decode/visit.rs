//! The decoding pass itself: serde visitors guided by shapes.

use super::zero::{fill, is_empty, zero_item};
use crate::{Schema, Shape, TypeId, TypeInfo};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;
use strata_meta::{MicroTime, Quantity, Time};

/// More strict findings than this are not collected, as upstream.
const STRICT_LIMIT: usize = 100;

/// What is known while the pass is somewhere in the document.
pub(super) struct Context<'s> {
    schema: &'s Schema,
    /// The struct the current field is of.
    holder: Option<TypeId>,
    /// Field names from the root, without list indices and map keys.
    names: Vec<&'static str>,
    path: Vec<Part>,
    /// The first wrong type; decoding goes on after it.
    pub(super) type_error: Option<String>,
    /// Malformed content, at which decoding stops.
    pub(super) fatal: Option<String>,
    pub(super) strict: Vec<String>,
    /// Whether numbers are taken over as Go's conversion between types does, not as its decoder of JSON.
    pub(super) converts: bool,
    /// Where the first number of a wrong type stands, how the error spells it, and whether it is a floating one.
    pub(super) misplaced: Option<(Vec<Part>, String, bool)>,
}

/// One step of the way to a value.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Name(&'static str),
    Key(String),
    Index(usize),
}

impl<'s> Context<'s> {
    pub(super) fn new(schema: &'s Schema) -> Self {
        Self {
            schema,
            holder: None,
            names: Vec::with_capacity(16),
            path: Vec::with_capacity(16),
            type_error: None,
            fatal: None,
            strict: Vec::new(),
            converts: false,
            misplaced: None,
        }
    }

    fn wrong_type(&mut self, found: &str, wanted: &str) {
        if self.type_error.is_some() {
            return;
        }
        self.type_error = Some(match self.holder {
            Some(id) => format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
                self.schema.type_info(id).name,
                self.names.join(".")
            ),
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        });
    }

    fn fail<E: serde::de::Error>(&mut self, message: String) -> E {
        self.fatal = Some(message);
        E::custom("malformed value")
    }

    fn strict(&mut self, what: &str, name: &str) {
        if self.strict.len() >= STRICT_LIMIT {
            return;
        }
        let mut path = String::new();
        for part in &self.path {
            match part {
                Part::Index(at) => path.push_str(&format!("[{at}]")),
                Part::Name(_) | Part::Key(_) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(if let Part::Key(key) = part { key } else { part.name() });
                }
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        let finding = format!("{what} field {path:?}");
        if !self.strict.contains(&finding) {
            self.strict.push(finding);
        }
    }
}

impl Part {
    fn name(&self) -> &'static str {
        match self {
            Self::Name(name) => name,
            Self::Key(_) | Self::Index(_) => "",
        }
    }
}

/// What messages call a JSON value.
pub fn kind_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Decodes a value of a shape; `None` if it sets nothing.
pub(super) struct ShapeSeed<'c, 's> {
    pub(super) context: &'c mut Context<'s>,
    pub(super) shape: &'c Shape,
}

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_, '_> {
    type Value = Option<Value>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.resolved() {
            Shape::Raw
            | Shape::Fields
            | Shape::Json
            | Shape::SchemaOrArray
            | Shape::SchemaOrBool
            | Shape::SchemaOrStrings => {
                let mut value: Value = serde::Deserialize::deserialize(deserializer)?;
                if matches!(self.resolved(), Shape::Json) {
                    // Upstream reads it and writes it again.
                    super::number::whole_numbers(&mut value);
                }
                Ok((!value.is_null()).then_some(value))
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl ShapeSeed<'_, '_> {
    fn resolved(&self) -> &Shape {
        self.context.schema.resolve(self.shape)
    }

    fn mismatch<T>(self, found: &str) -> Option<T> {
        let wanted = match self.resolved() {
            Shape::Time | Shape::MicroTime | Shape::Duration => "string".to_owned(),
            Shape::IntOrString => "int32".to_owned(),
            _ => self.context.schema.go_name(self.shape),
        };
        let why = match self.context.converts {
            true => unconvertible(self.resolved(), &wanted),
            false => None,
        };
        match why {
            Some(why) => drop(self.context.type_error.get_or_insert(why)),
            None => self.context.wrong_type(found, &wanted),
        }
        None
    }

    fn number<E: serde::de::Error>(self, integer: Option<i128>, text: String) -> Result<Option<Value>, E> {
        let within = |low: i128, high: i128| integer.filter(|n| (low..=high).contains(n));
        let found = match self.resolved() {
            Shape::Int32 | Shape::IntOrString => within(i32::MIN.into(), i32::MAX.into()),
            Shape::Int64 => within(i64::MIN.into(), i64::MAX.into()),
            Shape::Uint32 => within(0, u32::MAX.into()),
            Shape::Uint64 => within(0, u64::MAX.into()),
            Shape::Float64 => return Ok(text.parse::<f64>().ok().and_then(float)),
            Shape::Quantity => return self.quantity(&text),
            _ => return Ok(self.mismatch("number")),
        };
        let whole = |n: i128| {
            let signed = i64::try_from(n).map(Value::from);
            signed.or_else(|_| u64::try_from(n).map(Value::from)).ok()
        };
        Ok(match found {
            Some(n) => whole(n),
            None if self.context.converts => self.converted(integer, &text).and_then(whole),
            None => {
                if self.context.type_error.is_none() {
                    self.context.misplaced = Some((self.context.path.clone(), text.clone(), integer.is_none()));
                }
                self.mismatch(&format!("number {text}"))
            }
        })
    }

    /// A number that is none of its type, as Go's conversions have it: cut off to the width of the type, but not to what
    /// is left of a point.
    fn converted(self, integer: Option<i128>, text: &str) -> Option<i128> {
        let float = text.parse::<f64>().unwrap_or(f64::NAN);
        let found = match integer.and_then(|n| i64::try_from(n).ok()) {
            Some(n) => n,
            // What is too large for 64 bits is the least of them, on the machines that upstream runs on.
            None if float.fract() == 0.0 && (-9.3e18..9.2e18).contains(&float) => float as i64,
            None if float.fract() == 0.0 => i64::MIN,
            None => return self.unconverted(text),
        };
        Some(match self.resolved() {
            Shape::Int32 => i128::from(found as i32),
            Shape::Int64 => found.into(),
            Shape::Uint32 => i128::from(found as u32),
            Shape::Uint64 => i128::from(found as u64),
            // It reads itself, from what a whole number looks like in JSON.
            _ => match i32::try_from(found) {
                Ok(n) => n.into(),
                Err(_) => return self.unconverted(text),
            },
        })
    }

    fn unconverted(self, text: &str) -> Option<i128> {
        match self.resolved() {
            Shape::IntOrString => self.mismatch(&format!("number {text}")),
            _ => {
                let why = format!("cannot convert float64 to {}", self.context.schema.go_name(self.shape));
                self.context.type_error.get_or_insert(why);
                None
            }
        }
    }

    fn quantity<E: serde::de::Error>(self, text: &str) -> Result<Option<Value>, E> {
        match text.trim().parse::<Quantity>() {
            Ok(quantity) => Ok(Some(Value::String(quantity.to_string()))),
            Err(error) => Err(self.context.fail(error.to_string())),
        }
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<Option<Value>, E> {
        let malformed =
            |layout: &str| format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"");
        match self.resolved() {
            Shape::String | Shape::IntOrString | Shape::Duration => Ok(Some(Value::String(text.to_owned()))),
            Shape::Quantity => self.quantity(text),
            Shape::Time => match Time::parse(text) {
                Some(time) => Ok(Some(Value::String(time.to_string()))),
                None => Err(self.context.fail(malformed("2006-01-02T15:04:05Z07:00"))),
            },
            Shape::MicroTime => match MicroTime::parse(text) {
                Some(time) => Ok(Some(Value::String(time.to_string()))),
                None => Err(self.context.fail(malformed("2006-01-02T15:04:05.000000Z07:00"))),
            },
            // Bits that no byte needs may be anything; they are not kept.
            Shape::Bytes => match base64_bytes(text) {
                Ok(bytes) => Ok(Some(Value::String(STANDARD.encode(bytes)))),
                Err(at) => {
                    let message = format!("illegal base64 data at input byte {at}");
                    self.context.type_error.get_or_insert(message);
                    Ok(None)
                }
            },
            _ => Ok(self.mismatch("string")),
        }
    }

    fn list<'de, A: SeqAccess<'de>>(self, item: &Shape, mut sequence: A) -> Result<Option<Value>, A::Error> {
        let context = self.context;
        let mut items = Vec::new();
        context.path.push(Part::Index(0));
        while let Some(value) = sequence.next_element_seed(ShapeSeed {
            context: &mut *context,
            shape: item,
        })? {
            items.push(value.unwrap_or_else(|| zero_item(context.schema, item)));
            if let Some(Part::Index(at)) = context.path.last_mut() {
                *at = items.len();
            }
        }
        context.path.pop();
        Ok(Some(Value::Array(items)))
    }

    fn map<'de, A: MapAccess<'de>>(self, item: &Shape, mut access: A) -> Result<Option<Value>, A::Error> {
        let context = self.context;
        let deep = matches!(
            context.schema.resolve(item),
            Shape::Struct(_) | Shape::List(_) | Shape::Map(..)
        );
        let mut members = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if members.contains_key(&key) {
                context.strict("duplicate", &key);
            }
            if deep {
                context.path.push(Part::Key(key.clone()));
            }
            let value = access.next_value_seed(ShapeSeed {
                context: &mut *context,
                shape: item,
            })?;
            if deep {
                context.path.pop();
            }
            members.insert(key, value.unwrap_or_else(|| zero_item(context.schema, item)));
        }
        Ok(Some(Value::Object(members)))
    }

    fn object<'de, A: MapAccess<'de>>(self, id: TypeId, mut access: A) -> Result<Option<Value>, A::Error> {
        let context = self.context;
        let schema = context.schema;
        let info = schema.type_info(id);
        let outer = context.holder;
        let depth = context.names.len();
        let mut members = Map::new();
        let (mut seen, mut set) = (0u128, 0u128);
        while let Some(found) = access.next_key_seed(NameSeed(info))? {
            let at = match found {
                Ok(at) => at,
                Err(name) => {
                    context.strict("unknown", &name);
                    access.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let (field, bit) = (&info.fields[at], 1u128 << at);
            if seen & bit != 0 {
                context.strict("duplicate", field.name);
                members.remove(field.name);
            }
            seen |= bit;
            context.holder = Some(id);
            context.names.extend_from_slice(&field.via);
            context.names.push(field.name);
            context.path.push(Part::Name(field.name));
            let value = access.next_value_seed(ShapeSeed {
                context: &mut *context,
                shape: &field.shape,
            })?;
            context.path.pop();
            context.names.truncate(depth);
            context.holder = outer;
            set &= !bit;
            if let Some(value) = value
                && (field.pointer || !is_empty(schema, &field.shape, &value))
            {
                members.insert(field.name.to_owned(), value);
                set |= bit;
            }
        }
        for (at, field) in info.fields.iter().enumerate() {
            if set & (1u128 << at) == 0 {
                fill(schema, field, &mut members);
            }
        }
        Ok(Some(Value::Object(members)))
    }
}

/// What upstream's conversion says of a value that does not fit its type; `None` where the type reads itself.
fn unconvertible(shape: &Shape, wanted: &str) -> Option<String> {
    Some(match shape {
        Shape::String | Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float64 => {
            format!("unrecognized type: {wanted}")
        }
        _ => return None,
    })
}

/// Whole floats are shown as integers, as Go prints them.
fn float(n: f64) -> Option<Value> {
    if n.fract() == 0.0 && n.abs() < 1e15 {
        return Some(Value::from(n as i64));
    }
    serde_json::Number::from_f64(n).map(Value::Number)
}

/// As Go reads base64.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The bytes of base64 text, in which line ends are allowed. Errors: where it is malformed.
fn base64_bytes(text: &str) -> Result<Vec<u8>, usize> {
    let clean: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    LENIENT.decode(&clean).map_err(|error| match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
        _ => clean.len() / 4 * 4,
    })
}

impl<'de> Visitor<'de> for ShapeSeed<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(match self.resolved() {
            Shape::Bool => Some(Value::Bool(value)),
            _ => self.mismatch("bool"),
        })
    }

    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Self::Value, E> {
        self.number(Some(n.into()), n.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Self::Value, E> {
        self.number(Some(n.into()), n.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Self::Value, E> {
        self.number(None, n.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.text(text)
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Self::Value, E> {
        match self.resolved() {
            Shape::String => Ok(Some(Value::String(text))),
            _ => self.text(&text),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        if let Shape::List(item) = self.context.schema.resolve(self.shape) {
            return self.list(item, sequence);
        }
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        if matches!(self.resolved(), Shape::Quantity) {
            return Err(self.context.fail(strata_meta::QuantityError::Format.to_string()));
        }
        Ok(self.mismatch("array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        match self.context.schema.resolve(self.shape) {
            Shape::Struct(id) => return self.object(*id, access),
            Shape::Map(_, item) => return self.map(item, access),
            _ => {}
        }
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        if matches!(self.resolved(), Shape::Quantity) {
            return Err(self.context.fail(strata_meta::QuantityError::Format.to_string()));
        }
        Ok(self.mismatch("object"))
    }
}

/// A member's name as the place of its field, or the name itself if there is none.
struct NameSeed<'s>(&'s TypeInfo);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Result<usize, String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.position(name).ok_or_else(|| name.to_owned()))
    }
}

/// Decodes JSON without a shape; reports duplicate keys.
pub(super) struct UntypedSeed<'c, 's>(pub(super) &'c mut Context<'s>);

impl<'de> DeserializeSeed<'de> for UntypedSeed<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UntypedSeed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(n)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        self.0.path.push(Part::Index(0));
        while let Some(value) = sequence.next_element_seed(UntypedSeed(&mut *self.0))? {
            items.push(value);
            if let Some(Part::Index(at)) = self.0.path.last_mut() {
                *at = items.len();
            }
        }
        self.0.path.pop();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let mut twice: HashSet<String> = HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if members.contains_key(&key) && twice.insert(key.clone()) {
                self.0.strict("duplicate", &key);
            }
            self.0.path.push(Part::Key(key.clone()));
            let value = access.next_value_seed(UntypedSeed(&mut *self.0))?;
            self.0.path.pop();
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}
