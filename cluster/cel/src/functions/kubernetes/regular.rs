//! Regular expressions, which take time linear in the text.

use super::super::{Row, row};
use crate::{ErrorKind, EvalError, Value, env::Library::Kubernetes, limits::MAX_PATTERNS, value::look_at};
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, ClassSetItem, Flag, FlagsItemKind, RepetitionKind, RepetitionRange, Visitor};

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

/// A pattern with how large it is once its repetitions are written out, in characters of the pattern: what compiling
/// it takes in time and room.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    pub(crate) weight: u64,
}

/// A pattern as expressions read it: RE2's syntax and meaning, bounded in size and depth. `\d`, `\w`, `\s` and `\b` are
/// ASCII, as RE2 has them. Errors: what is wrong with it, in the words of Go's `regexp`.
pub fn pattern(text: &str) -> Result<Regex, String> {
    compile(text)
        .map(|pattern| pattern.regex)
        .map_err(|error| error.message.into_owned())
}

/// How large a pattern is once its repetitions are written out, in characters; of what is no pattern, its length.
pub fn pattern_weight(text: &str) -> u64 {
    weigh(text).unwrap_or(text.len() as u64)
}

#[expect(clippy::result_large_err, reason = "made once for a pattern that is refused")]
fn parsed(pattern: &str) -> Result<Ast, ast::Error> {
    ast::parse::ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(pattern)
}

/// Errors: what our matcher would take and RE2 does not.
fn weigh(pattern: &str) -> Result<u64, EvalError> {
    // What cannot be parsed as it is may still be a pattern once it is written for our matcher.
    match parsed(pattern) {
        Ok(parsed) => ast::visit(&parsed, Strict::new(pattern)).map_err(EvalError::failed),
        Err(_) => Ok(pattern.len() as u64),
    }
}

pub(crate) fn compile(pattern: &str) -> Result<Pattern, EvalError> {
    let weight = weigh(pattern)?;
    if weight > MAX_PATTERNS {
        return Err(EvalError::failed("error parsing regexp: expression too large"));
    }
    let mut builder = RegexBuilder::new(&ascii_classes(pattern));
    builder.size_limit(MAX_COMPILED).nest_limit(MAX_NESTING);
    let regex = builder.build().map_err(|_| EvalError::failed(refusal(pattern)))?;
    Ok(Pattern { regex, weight })
}

/// What is wrong with a pattern, in the words of Go's `regexp`.
fn refusal(pattern: &str) -> String {
    use regex_syntax::ast::ErrorKind;
    let Err(e) = parsed(pattern) else {
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
/// thousand, also of one count within another, flags of its own. Weighs the pattern by the way.
struct Strict<'p> {
    pattern: &'p str,
    /// What is repeated, from the outermost in.
    scopes: Vec<Scope>,
}

/// A part that is repeated as a whole.
#[derive(Clone, Copy)]
struct Scope {
    /// The largest product of counts within.
    repeats: u64,
    weight: u64,
}

/// Most repetitions that may be counted.
const MAX_REPEAT: u64 = 1000;
/// A class of Unicode: hundreds of ranges, each of several bytes.
const UNICODE_CLASS: u64 = 1000;
/// A class of a few ranges.
const CLASS: u64 = 10;

impl<'p> Strict<'p> {
    fn new(pattern: &'p str) -> Self {
        let outermost = Scope { repeats: 1, weight: 1 };
        Self {
            pattern,
            scopes: vec![outermost],
        }
    }

    fn refuse(&self, what: &str, from: usize, to: usize) -> Result<(), String> {
        let shown = self.pattern.get(from..to).unwrap_or_default();
        Err(format!("error parsing regexp: {what}: `{shown}`"))
    }

    fn add(&mut self, weight: u64) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.weight = scope.weight.saturating_add(weight);
        }
    }
}

/// How often a part is repeated at most, where that is counted.
fn counted(kind: &RepetitionKind) -> Option<u64> {
    match kind {
        RepetitionKind::Range(
            RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n) | RepetitionRange::Bounded(_, n),
        ) => Some(u64::from(*n)),
        _ => None,
    }
}

impl Visitor for Strict<'_> {
    type Output = u64;
    type Err = String;

    fn finish(self) -> Result<u64, String> {
        Ok(self.scopes.first().map_or(1, |scope| scope.weight))
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), String> {
        let flags = match node {
            Ast::Repetition(outer) => {
                let span = outer.op.span;
                if let Ast::Repetition(inner) = &*outer.ast {
                    let from = inner.op.span.start.offset;
                    return self.refuse("invalid nested repetition operator", from, span.end.offset);
                }
                if counted(&outer.op.kind).is_some_and(|count| count > MAX_REPEAT) {
                    return self.refuse("invalid repeat count", span.start.offset, span.end.offset);
                }
                self.scopes.push(Scope { repeats: 1, weight: 1 });
                None
            }
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => {
                self.add(1);
                group.flags()
            }
            Ast::ClassUnicode(_) => {
                self.add(UNICODE_CLASS);
                None
            }
            Ast::Dot(_) | Ast::ClassPerl(_) => {
                self.add(CLASS);
                None
            }
            _ => {
                self.add(1);
                None
            }
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
            Some(flags) => self.refuse("invalid or unsupported Perl syntax", 0, flags.span.end.offset),
            None => Ok(()),
        }
    }

    fn visit_post(&mut self, node: &Ast) -> Result<(), String> {
        let Ast::Repetition(repetition) = node else {
            return Ok(());
        };
        let Some(inner) = self.scopes.pop() else { return Ok(()) };
        let times = counted(&repetition.op.kind);
        let repeats = times.map_or(inner.repeats, |times| times * inner.repeats);
        if repeats > MAX_REPEAT {
            let span = repetition.op.span;
            return self.refuse("invalid repeat count", span.start.offset, span.end.offset);
        }
        self.add(inner.weight.saturating_mul(times.unwrap_or(1).max(1)));
        if let Some(outer) = self.scopes.last_mut() {
            outer.repeats = outer.repeats.max(repeats);
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        self.add(match item {
            ClassSetItem::Unicode(_) => UNICODE_CLASS,
            ClassSetItem::Perl(_) | ClassSetItem::Range(_) | ClassSetItem::Ascii(_) => CLASS,
            _ => 1,
        });
        Ok(())
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
        Some(Value::String(pattern)) => match compile_within_bounds(pattern) {
            Ok(regex) => with(function, &regex, args),
            Err(e) if e.kind == ErrorKind::CostLimit => Err(e),
            Err(e) if function == "matches" => Err(e),
            Err(e) => Err(EvalError::failed(format!("Illegal regex: {e}"))),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A pattern that is only known when it is run is compiled every time, which costs count for nothing: it counts among
/// what a run may look at. Errors: that was one too many, or it is no pattern.
fn compile_within_bounds(pattern: &str) -> Result<Regex, EvalError> {
    const LEAST: u64 = 100;
    const EACH: u64 = 4;
    look_at(LEAST.saturating_add(EACH.saturating_mul(weigh(pattern)?)))?;
    Ok(compile(pattern)?.regex)
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
