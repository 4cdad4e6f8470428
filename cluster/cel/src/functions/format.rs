//! `string.format`.

use crate::{EvalError, Type, Value, functions::convert::double_to_string, limits::MAX_TEXT, value::List};
use std::fmt::Write as _;

/// A clause of a format string: `%.3f` is the verb `f` with a precision of three.
#[derive(Clone, Copy)]
struct Clause {
    verb: char,
    precision: Option<usize>,
}

/// Digits after the point, unless told.
const PRECISION: usize = 6;
/// More digits than a double has are zeros; nobody needs so many.
const MAX_PRECISION: usize = 1000;

pub(super) fn call<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::String(text), Value::List(list)] = args else {
        return Err(EvalError::no_such_overload());
    };
    let mut out = String::new();
    let mut used = 0;
    walk(text, &mut |piece| {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Argument => {
                if list.get(used).is_none() {
                    return Err(format!("index {used} out of range"));
                }
                used += 1;
            }
            Piece::Clause(clause) => {
                let arg = match list.get(used - 1) {
                    Some(arg) => arg.map_err(|e| e.to_string())?,
                    None => return Err(format!("index {} out of range", used - 1)),
                };
                let text = write(clause, &arg).map_err(|e| format!("error during formatting: {e}"))?;
                if out.len() + text.len() > MAX_TEXT {
                    return Err("the text is too long".to_owned());
                }
                out.push_str(&text);
            }
        }
        Ok(())
    })
    .map_err(EvalError::failed)?;
    Ok(Value::text(out))
}

/// Checks a format string against the types of its arguments; says how many it uses. Errors: which
/// argument does not fit, if it is one.
pub(crate) fn check(
    text: &str,
    count: usize,
    types: &dyn Fn(usize) -> Option<Type>,
) -> Result<usize, (Option<usize>, String)> {
    let (mut used, mut wrong) = (0, None);
    let walked = walk(text, &mut |piece| {
        match piece {
            Piece::Text(_) => {}
            Piece::Argument if used >= count => return Err(format!("index {used} out of range")),
            Piece::Argument => used += 1,
            Piece::Clause(clause) => {
                let ty = types(used - 1).unwrap_or(Type::Dyn);
                if !ty.is_dyn_or_error() && !fits(clause.verb, &ty) {
                    wrong = Some(used - 1);
                    let message = refusal(clause.verb, ty.name());
                    return Err(format!("error during formatting: {message}"));
                }
            }
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(used),
        Err(message) => Err((wrong, message)),
    }
}

enum Piece<'t> {
    Text(&'t str),
    /// An argument is wanted, whatever for.
    Argument,
    Clause(Clause),
}

fn walk(text: &str, visit: &mut dyn FnMut(Piece<'_>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        visit(Piece::Text(&rest[..at]))?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            visit(Piece::Text("%"))?;
            rest = after;
            continue;
        }
        visit(Piece::Argument)?;
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned());
        }
        let (clause, after) = clause(rest).map_err(|e| format!("could not parse formatting clause: {e}"))?;
        visit(Piece::Clause(clause))?;
        rest = after;
    }
    visit(Piece::Text(rest))
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let (mut rest, mut precision) = (text, None);
    if let Some(after) = rest.strip_prefix('.') {
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == after.len() {
            return Err("error while parsing precision: could not find end of precision specifier".to_owned());
        }
        let digits = &after[..length];
        let parsed: Option<usize> = digits.parse().ok().filter(|n| *n <= MAX_PRECISION);
        let Some(parsed) = parsed else {
            return Err(format!(
                "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing \"{digits}\": invalid syntax"
            ));
        };
        precision = Some(parsed);
        rest = &after[length..];
    }
    let verb = rest.chars().next().unwrap_or(' ');
    if !"sdfebxXo".contains(verb) {
        return Err(format!("unrecognized formatting clause \"{verb}\""));
    }
    Ok((Clause { verb, precision }, &rest[1..]))
}

fn fits(verb: char, ty: &Type) -> bool {
    match verb {
        's' => !matches!(ty, Type::Struct(_) | Type::Opaque(..)),
        'd' | 'o' => matches!(ty, Type::Int | Type::Uint),
        'f' | 'e' => matches!(ty, Type::Double | Type::String),
        'b' => matches!(ty, Type::Int | Type::Uint | Type::Bool),
        _ => matches!(ty, Type::Int | Type::Uint | Type::String | Type::Bytes),
    }
}

fn refusal(verb: char, ty: &str) -> String {
    let rule = match verb {
        's' => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        'd' => "decimal clause can only be used on integers",
        'o' => "octal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        _ => "only integers, byte buffers, and strings can be formatted as hex",
    };
    format!("{rule}, was given {ty}")
}

fn write(clause: Clause, value: &Value<'_>) -> Result<String, String> {
    let refused = || Err(refusal(clause.verb, value.type_of().name()));
    let digits = clause.precision.unwrap_or(PRECISION);
    Ok(match (clause.verb, value) {
        ('s', _) => return plain(value).map_or_else(refused, Ok),
        ('d', Value::Int(n)) => n.to_string(),
        ('d', Value::Uint(n)) => n.to_string(),
        ('f' | 'e', _) => {
            let Some(n) = double(value) else { return refused() };
            if !n.is_finite() {
                return Ok(if n.is_nan() {
                    "NaN"
                } else if n > 0.0 {
                    "∞"
                } else {
                    "-∞"
                }
                .to_owned());
            }
            if clause.verb == 'f' {
                grouped(n, digits)
            } else {
                scientific(n, digits)
            }
        }
        ('b', Value::Int(n)) => signed(*n, |n| format!("{n:b}")),
        ('b', Value::Uint(n)) => format!("{n:b}"),
        ('b', Value::Bool(truth)) => u8::from(*truth).to_string(),
        ('o', Value::Int(n)) => signed(*n, |n| format!("{n:o}")),
        ('o', Value::Uint(n)) => format!("{n:o}"),
        ('x' | 'X', _) => {
            let hex = match value {
                Value::Int(n) => signed(*n, |n| format!("{n:x}")),
                Value::Uint(n) => format!("{n:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return refused(),
            };
            if clause.verb == 'X' {
                hex.to_ascii_uppercase()
            } else {
                hex
            }
        }
        _ => return refused(),
    })
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(n) => Some(*n),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn signed(n: i64, write: fn(u64) -> String) -> String {
    format!("{}{}", if n < 0 { "-" } else { "" }, write(n.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// With commas between thousands, as the English locale has them.
fn grouped(n: f64, digits: usize) -> String {
    let plain = format!("{n:.digits$}");
    let (whole, fraction) = plain.split_once('.').map_or((&*plain, None), |(w, f)| (w, Some(f)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{text}.{fraction}"),
        None => text,
    }
}

/// As the English locale writes powers of ten. What upstream takes for the precision is the width.
fn scientific(n: f64, width: usize) -> String {
    let text = format!("{n:.PRECISION$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let text = format!("{mantissa}×10{}", superscript(sign, exponent.unsigned_abs()));
    format!("{text:>width$}")
}

fn superscript(sign: char, exponent: u32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let mut text = String::new();
    if sign == '-' {
        text.push('⁻');
    }
    let digits = format!("{exponent:02}");
    text.extend(digits.bytes().filter_map(|b| DIGITS.get(usize::from(b - b'0'))));
    text
}

/// As `%s` writes a value; `None` for what cannot be written.
fn plain(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok()?,
        Value::List(list) => list_text(list)?,
        Value::Map(map) => {
            let mut entries = Vec::new();
            for key in map.keys() {
                let value = map.find(&key).ok()??;
                entries.push((nested(&key)?, nested(&value)?));
            }
            entries.sort();
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{key}:{value}"))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => value.to_string(),
        _ => return None,
    })
}

fn list_text(list: &List<'_>) -> Option<String> {
    let elements: Option<Vec<String>> = list.iter().map(|element| nested(&element.ok()?)).collect();
    Some(format!("[{}]", elements?.join(", ")))
}

/// As a value is written inside of a list or map.
fn nested(value: &Value<'_>) -> Option<String> {
    crate::value::look().ok()?;
    Some(match value {
        Value::String(text) => format!("{:?}", &**text),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8(bytes.to_vec()).ok()?),
        Value::Double(n) if n.is_finite() => format!("{n:.PRECISION$}"),
        Value::Double(n) => format!("{:?}", double_to_string(*n)),
        Value::Timestamp(time) => format!("timestamp(\"{time}\")"),
        Value::Duration(span) => format!("duration(\"{span}\")"),
        other => plain(other)?,
    })
}
