//! Regular expressions, which take time linear in the text.

use super::super::{Row, row};
use crate::{EvalError, Value, env::Library::Kubernetes};
use regex::{Regex, RegexBuilder};

/// Most memory a compiled pattern may take.
const MAX_COMPILED: usize = 10 << 20;
/// Deepest nesting of a pattern.
const MAX_NESTING: u32 = 250;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            Kubernetes,
            "find",
            "string_find_string",
            "string.(string) -> string",
            |a| call("find", a),
        ),
        row(
            Kubernetes,
            "findAll",
            "string_find_all_string",
            "string.(string) -> list(string)",
            |a| call("findAll", a),
        ),
        row(
            Kubernetes,
            "findAll",
            "string_find_all_string_int",
            "string.(string, int) -> list(string)",
            |a| call("findAll", a),
        ),
    ]
}

/// A compiled pattern. `\d`, `\w`, `\s` and `\b` are ASCII, as RE2 has them.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    // RE2 knows no Perl classes beyond ASCII: they are written out for a matcher that does.
    let mut builder = RegexBuilder::new(&ascii_classes(pattern));
    builder.size_limit(MAX_COMPILED).nest_limit(MAX_NESTING);
    builder.build().map_err(|_| EvalError::failed(refusal(pattern)))
}

/// What is wrong with a pattern, in the words of Go's `regexp`.
fn refusal(pattern: &str) -> String {
    use regex_syntax::ast::ErrorKind;
    let parsed = regex_syntax::ast::parse::ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(pattern);
    let Err(e) = parsed else {
        return "error parsing regexp: expression too large".to_owned();
    };
    let span = e.span();
    let from = |at: usize| pattern.get(at..).unwrap_or_default();
    let within = pattern.get(span.start.offset..span.end.offset).unwrap_or_default();
    let (what, shown) = match e.kind() {
        ErrorKind::ClassUnclosed => ("missing closing ]", from(span.start.offset)),
        ErrorKind::GroupUnclosed => ("missing closing )", pattern),
        ErrorKind::GroupUnopened => ("unexpected )", pattern),
        ErrorKind::RepetitionMissing => ("missing argument to repetition operator", within),
        ErrorKind::EscapeUnexpectedEof => ("trailing backslash at end of expression", ""),
        ErrorKind::EscapeUnrecognized => ("invalid escape sequence", within),
        ErrorKind::ClassRangeInvalid => ("invalid character class range", within),
        ErrorKind::RepetitionCountInvalid | ErrorKind::RepetitionCountUnclosed => ("invalid repeat count", within),
        ErrorKind::UnsupportedLookAround | ErrorKind::FlagUnrecognized => {
            ("invalid or unsupported Perl syntax", within)
        }
        ErrorKind::UnsupportedBackreference => ("invalid escape sequence", within),
        ErrorKind::NestLimitExceeded(_) => ("expression nests too deeply", pattern),
        _ => ("invalid syntax", within),
    };
    format!("error parsing regexp: {what}: `{shown}`")
}

fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let (mut chars, mut class) = (pattern.chars(), 0_u32);
    while let Some(c) = chars.next() {
        match c {
            '[' => {
                class += 1;
                out.push(c);
            }
            ']' => {
                class = class.saturating_sub(1);
                out.push(c);
            }
            '\\' => match (chars.next(), class > 0) {
                (Some('d'), true) => out.push_str("0-9"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some('s'), true) => out.push_str("\\t\\n\\f\\r "),
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('s'), false) => out.push_str("[\\t\\n\\f\\r ]"),
                (Some('D'), false) => out.push_str("[^0-9]"),
                (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                (Some('S'), false) => out.push_str("[^\\t\\n\\f\\r ]"),
                (Some('b'), false) => out.push_str("(?-u:\\b)"),
                (Some('Q'), false) => quoted(&mut chars, &mut out),
                (Some('C'), false) => out.push('.'),
                (Some(other), _) => {
                    out.push('\\');
                    out.push(other);
                }
                (None, _) => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

/// `\Q…\E`, taken literally.
fn quoted(chars: &mut std::str::Chars<'_>, out: &mut String) {
    let rest = chars.as_str();
    let (literal, after) = rest.split_once("\\E").unwrap_or((rest, ""));
    out.push_str(&regex::escape(literal));
    *chars = after.chars();
}

/// A function with a pattern of its own.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    match args.get(1) {
        Some(Value::String(pattern)) => match compile(pattern) {
            Ok(regex) => with(function, &regex, args),
            Err(e) if function == "matches" => Err(e),
            Err(e) => Err(EvalError::failed(format!("Illegal regex: {e}"))),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A function with a pattern that is compiled already.
pub(crate) fn with<'a>(function: &str, regex: &Regex, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let Some(Value::String(text)) = args.first() else {
        return Err(EvalError::no_such_overload());
    };
    Ok(match function {
        "matches" => Value::Bool(regex.is_match(text)),
        "find" => Value::text(regex.find(text).map_or("", |found| found.as_str())),
        _ => {
            let most = match args.get(2) {
                Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let found = regex.find_iter(text).take(most);
            Value::list(found.map(|found| Value::text(found.as_str())).collect())
        }
    })
}
