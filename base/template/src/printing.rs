//! Values as Go's fmt package writes them.

use serde_json::Value;

/// As `%v`; what is not there is `<no value>`, as templates write it.
pub(crate) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        other => plain(other),
    }
}

/// As `%v` inside of something.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(value) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.is_f64(), number.as_f64()) {
            (true, Some(float)) => general(float),
            _ => number.to_string(),
        },
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<(&String, &Value)> = map.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            let items: Vec<String> = items.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// `%g` with the shortest exact digits: an exponent from 1e21 on and below 1e-4.
fn general(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{float:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, number) = match exponent.strip_prefix('-') {
                    Some(number) => ('-', number),
                    None => ('+', exponent),
                };
                format!("{digits}e{sign}{number:0>2}")
            }
            None => text,
        };
    }
    float.to_string()
}

/// Go's name of a kind of JSON value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Whether a condition with this value holds.
pub(crate) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Go's Sprintf for the verbs that templates are written with.
pub(crate) fn format(pattern: &str, arguments: &[Value]) -> String {
    let mut output = String::new();
    let mut arguments = arguments.iter();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            output.push(character);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = rest.next_if(|c| matches!(c, '-' | '+' | '#' | ' ' | '0')) {
            flags.push(flag);
        }
        let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut found: Option<usize> = None;
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                let digit = digit.to_digit(10).unwrap_or(0) as usize;
                // A width that no terminal has is cut.
                found = Some((found.unwrap_or(0) * 10 + digit).min(10_000));
            }
            found
        };
        let width = number(&mut rest);
        let precision = rest.next_if_eq(&'.').map(|_| number(&mut rest).unwrap_or(0));
        let text = match rest.next() {
            None => "%!(NOVERB)".to_owned(),
            Some('%') => "%".to_owned(),
            Some(verb) => match arguments.next() {
                None => format!("%!{verb}(MISSING)"),
                Some(argument) => one(verb, argument, precision, &flags),
            },
        };
        let missing = width.unwrap_or(0).saturating_sub(text.chars().count());
        if flags.contains('-') {
            output.push_str(&text);
            output.extend(std::iter::repeat_n(' ', missing));
        } else if flags.contains('0') {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            output.push_str(sign);
            output.extend(std::iter::repeat_n('0', missing));
            output.push_str(digits);
        } else {
            output.extend(std::iter::repeat_n(' ', missing));
            output.push_str(&text);
        }
    }
    let extra: Vec<String> = arguments.map(|a| format!("{}={}", kind(a), plain(a))).collect();
    if !extra.is_empty() {
        output.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    output
}

fn one(verb: char, argument: &Value, precision: Option<usize>, flags: &str) -> String {
    let cut = |text: String| match precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    };
    let signed = |text: String| match flags.contains('+') && !text.starts_with('-') {
        true => format!("+{text}"),
        false => text,
    };
    match (verb, argument) {
        ('v', _) => plain(argument),
        ('s', Value::String(text)) => cut(text.clone()),
        ('s', Value::Array(_) | Value::Object(_)) => cut(plain(argument)),
        ('q', Value::String(text)) => format!("{text:?}"),
        ('d', Value::Number(number)) if !number.is_f64() => signed(number.to_string()),
        ('x', Value::Number(number)) if number.is_i64() || number.is_u64() => {
            format!("{:x}", number.as_i64().unwrap_or_default())
        }
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('f' | 'g', Value::Number(number)) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            signed(match (verb, precision) {
                ('g', None) => general(float),
                (_, precision) => format!("{float:.*}", precision.unwrap_or(6)),
            })
        }
        ('T', _) => kind(argument).to_owned(),
        _ => format!("%!{verb}({}={})", kind(argument), plain(argument)),
    }
}
