//! Regular expressions, which take time linear in the text.

use super::super::{Row, row};
use crate::{EvalError, Value, env::Library::Kubernetes};
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, Flag, FlagsItemKind, RepetitionKind, RepetitionRange, Visitor};

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
/// A pattern as expressions read it: RE2's syntax and meaning, bounded in size and depth. Errors: what is wrong with
/// it, in the words of Go's `regexp`.
pub fn pattern(text: &str) -> Result<Regex, String> {
    compile(text).map_err(|error| error.message.into_owned())
}

pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    // What cannot be parsed as it is may still be a pattern once it is written for our matcher.
    if let Ok(parsed) = ast::parse::ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(pattern)
    {
        ast::visit(&parsed, Strict(pattern)).map_err(EvalError::failed)?;
    }
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
        ErrorKind::RepetitionMissing => {
            let operator = from(span.start.offset);
            let end = operator.chars().next().map_or(0, char::len_utf8);
            ("missing argument to repetition operator", &operator[..end])
        }
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

/// The pattern as our matcher must read it to mean what RE2 means: classes of ASCII, and no sets of
/// classes inside of brackets.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    // Inside of brackets: how many characters have been read there.
    let mut class: Option<usize> = None;
    while let Some(c) = chars.next() {
        match (c, class) {
            ('\\', _) => escape(&mut chars, class.is_some(), &mut out),
            ('[', None) => {
                out.push('[');
                class = Some(0);
                if chars.as_str().starts_with('^') {
                    chars.next();
                    out.push('^');
                }
                continue;
            }
            (']', Some(read)) if read > 0 => {
                out.push(']');
                class = None;
            }
            ('[', Some(_)) if chars.as_str().starts_with(':') => {
                let name = chars.as_str().find(":]").map_or(0, |end| end + 2);
                out.push('[');
                out.push_str(&chars.as_str()[..name]);
                chars = chars.as_str()[name..].chars();
            }
            ('[' | '&' | '~' | ']', Some(_)) => out.extend(['\\', c]),
            ('-', Some(_)) if out.ends_with('-') => out.push_str("\\-"),
            (c, _) => out.push(c),
        }
        class = class.map(|read| read + 1);
    }
    out
}

fn escape(chars: &mut std::str::Chars<'_>, class: bool, out: &mut String) {
    match (chars.next(), class) {
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
        (Some('Q'), false) => quoted(chars, out),
        (Some('C'), false) => out.push('.'),
        (Some(other), _) => out.extend(['\\', other]),
        (None, _) => out.push('\\'),
    }
}

/// Refuses what our matcher would take and RE2 does not: repetitions of repetitions, counts beyond a
/// thousand, flags of its own.
struct Strict<'p>(&'p str);

/// Most repetitions that may be counted.
const MAX_REPEAT: u32 = 1000;

impl Visitor for Strict<'_> {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), String> {
        let refuse = |what: &str, from: usize, to: usize| {
            let shown = self.0.get(from..to).unwrap_or_default();
            Err(format!("error parsing regexp: {what}: `{shown}`"))
        };
        let flags = match node {
            Ast::Repetition(outer) => {
                let span = outer.op.span;
                if let Ast::Repetition(inner) = &*outer.ast {
                    let from = inner.op.span.start.offset;
                    return refuse("invalid nested repetition operator", from, span.end.offset);
                }
                let most = match &outer.op.kind {
                    RepetitionKind::Range(
                        RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n) | RepetitionRange::Bounded(_, n),
                    ) => *n,
                    _ => 0,
                };
                if most > MAX_REPEAT {
                    return refuse("invalid repeat count", span.start.offset, span.end.offset);
                }
                None
            }
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        let foreign = flags.filter(|flags| {
            let own = |item: &FlagsItemKind| {
                matches!(
                    item,
                    FlagsItemKind::Negation
                        | FlagsItemKind::Flag(
                            Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed
                        )
                )
            };
            !flags.items.iter().all(|item| own(&item.kind))
        });
        match foreign {
            Some(flags) => refuse("invalid or unsupported Perl syntax", 0, flags.span.end.offset),
            None => Ok(()),
        }
    }
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
