//! Cutting a template into text and actions, and actions into tokens.

use crate::TemplateError;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text to be written as it is.
    Text(String),
    /// The tokens of what stood between braces, and the line it began on.
    Action(Vec<Token>, usize),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A function or keyword.
    Word(String),
    /// `.`, or `.A.B`; empty is the dot alone.
    Field(Vec<String>),
    /// `.A.B` straight after a closing parenthesis.
    Chain(Vec<String>),
    /// `$name.A.B`; the empty name is the root.
    Variable(String, Vec<String>),
    /// A quoted text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// Cuts a template into its parts, with `{{-` and `-}}` having taken the space beside them.
pub(crate) fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut trim_start = false;
    let line_of = |rest: &str| 1 + text[..text.len() - rest.len()].matches('\n').count();
    loop {
        let Some(at) = rest.find("{{") else {
            push_text(&mut found, rest, trim_start, false);
            return Ok(found);
        };
        let line = line_of(&rest[at..]);
        let inside = &rest[at + 2..];
        let trims = inside.starts_with('-') && inside[1..].starts_with([' ', '\t', '\n', '\r']);
        push_text(&mut found, &rest[..at], trim_start, trims);
        let inside = if trims { &inside[1..] } else { inside };
        let failed = |why: &str| TemplateError::Parse {
            line,
            why: why.to_owned(),
        };
        let after_space = inside.trim_start();
        if after_space.starts_with("/*") {
            let end = after_space.find("*/").ok_or_else(|| failed("unclosed comment"))?;
            let tail = after_space[end + 2..].trim_start();
            trim_start = tail.starts_with("-}}");
            let tail = tail.strip_prefix('-').unwrap_or(tail);
            rest = tail
                .strip_prefix("}}")
                .ok_or_else(|| failed("comment ends before closing delimiter"))?;
            continue;
        }
        let (tokens, tail, trimmed) = tokens(inside).map_err(|why| failed(&why))?;
        found.push(Part::Action(tokens, line));
        trim_start = trimmed;
        rest = tail;
    }
}

fn push_text(found: &mut Vec<Part>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        found.push(Part::Text(text.to_owned()));
    }
}

type Tokens<'a> = (Vec<Token>, &'a str, bool);

/// The tokens up to the closing braces, what follows these, and whether they trim.
fn tokens(text: &str) -> Result<Tokens<'_>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let spaced = rest.trim_start();
        if spaced.len() < rest.len() && spaced.starts_with("-}}") {
            return Ok((found, &spaced[3..], true));
        }
        let after_close = spaced.len() == rest.len() && matches!(found.last(), Some(Token::Close));
        rest = spaced;
        if let Some(tail) = rest.strip_prefix("}}") {
            return Ok((found, tail, false));
        }
        let Some(first) = rest.chars().next() else {
            return Err("unclosed action".into());
        };
        let (token, tail) = token(rest, first, after_close)?;
        found.push(token);
        rest = tail;
    }
}

fn token(rest: &str, first: char, after_close: bool) -> Result<(Token, &str), String> {
    let simple = |token, length| Ok((token, &rest[length..]));
    match first {
        '(' => simple(Token::Open, 1),
        ')' => simple(Token::Close, 1),
        '|' => simple(Token::Pipe, 1),
        ',' => simple(Token::Comma, 1),
        '=' => simple(Token::Assign, 1),
        ':' if rest.starts_with(":=") => simple(Token::Declare, 2),
        '"' => quoted(rest),
        '`' => {
            let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
            Ok((Token::Text(rest[1..=end].to_owned()), &rest[end + 2..]))
        }
        '\'' => character(rest),
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (fields, tail) = fields(rest)?;
            let token = if after_close && !fields.is_empty() {
                Token::Chain(fields)
            } else {
                Token::Field(fields)
            };
            let tail = if rest.starts_with('.') && matches!(&token, Token::Field(f) if f.is_empty()) {
                &rest[1..]
            } else {
                tail
            };
            Ok((token, tail))
        }
        '$' => {
            let (name, tail) = word(&rest[1..]);
            let (fields, tail) = fields(tail)?;
            Ok((Token::Variable(name.to_owned(), fields), tail))
        }
        c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => number(rest),
        c if c == '_' || c.is_alphabetic() => {
            let (name, tail) = word(rest);
            Ok((Token::Word(name.to_owned()), tail))
        }
        other => Err(format!("unexpected {other:?} in command")),
    }
}

fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c == '_' || c.is_alphanumeric()))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `.A.B…`; nothing if the text does not go on so.
fn fields(text: &str) -> Result<(Vec<String>, &str), String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(tail) = rest.strip_prefix('.') {
        let (name, tail) = word(tail);
        if name.is_empty() {
            if found.is_empty() {
                break;
            }
            return Err("unexpected <.> in operand".into());
        }
        found.push(name.to_owned());
        rest = tail;
    }
    Ok((found, rest))
}

fn number(rest: &str) -> Result<(Token, &str), String> {
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_')))
        .unwrap_or(rest.len());
    let text = &rest[..end];
    let bad = || format!("bad number syntax: {text:?}");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = match digits.get(..2) {
        Some("0x" | "0X") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    let token = if radix != 10 {
        let value = i64::from_str_radix(&digits[2..], radix).map_err(|_| bad())?;
        Token::Integer(sign * value)
    } else if let Ok(value) = text.trim_start_matches('+').parse() {
        Token::Integer(value)
    } else {
        Token::Float(text.parse().map_err(|_| bad())?)
    };
    Ok((token, &rest[end..]))
}

fn quoted(rest: &str) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut characters = rest[1..].char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Token::Text(value), &rest[at + 2..])),
            '\n' => break,
            '\\' => value.push(escaped(&mut characters)?),
            other => value.push(other),
        }
    }
    Err("unterminated quoted string".into())
}

/// A character constant is its number.
fn character(rest: &str) -> Result<(Token, &str), String> {
    let mut characters = rest[1..].char_indices();
    let value = match characters.next() {
        Some((_, '\\')) => escaped(&mut characters)?,
        Some((_, other)) if other != '\'' => other,
        _ => return Err("malformed character constant".into()),
    };
    match characters.next() {
        Some((at, '\'')) => Ok((Token::Integer(i64::from(u32::from(value))), &rest[at + 2..])),
        _ => Err("malformed character constant".into()),
    }
}

/// What follows a backslash.
fn escaped(characters: &mut std::str::CharIndices<'_>) -> Result<char, String> {
    Ok(match characters.next().map(|(_, c)| c) {
        Some('n') => '\n',
        Some('t') => '\t',
        Some('r') => '\r',
        Some('a') => '\u{7}',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('v') => '\u{b}',
        Some('x') => code(characters, 2)?,
        Some('u') => code(characters, 4)?,
        Some('U') => code(characters, 8)?,
        Some(other @ ('\\' | '"' | '\'')) => other,
        _ => return Err("invalid syntax".into()),
    })
}

fn code(characters: &mut std::str::CharIndices<'_>, digits: usize) -> Result<char, String> {
    let text: String = characters.take(digits).map(|(_, c)| c).collect();
    let code = u32::from_str_radix(&text, 16).ok().and_then(char::from_u32);
    code.ok_or_else(|| "invalid syntax".to_owned())
}
