//! Tokens.

use crate::issue::Issues;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    End,
    Identifier,
    /// In back quotes.
    Escaped,
    Int,
    Uint,
    Float,
    String,
    Bytes,
    /// Punctuation, an operator, or one of `in`, `true`, `false`, `null`.
    Symbol,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexeme<'s> {
    pub(crate) token: Token,
    pub(crate) text: &'s str,
    /// In code points.
    pub(crate) offset: u32,
}

impl Lexeme<'_> {
    pub(crate) fn is(&self, symbol: &str) -> bool {
        self.token == Token::Symbol && self.text == symbol
    }

    /// As a sentence shows it.
    pub(crate) fn shown(&self) -> String {
        match self.token {
            Token::End => "<EOF>".to_owned(),
            _ => self.text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"),
        }
    }
}

const SYMBOLS: [&str; 26] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%", "=", "&",
];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];

/// Every token, the last of which is `End`. What is none is reported and left out.
pub(crate) fn tokens<'s>(source: &'s str, issues: &mut Issues) -> Vec<Lexeme<'s>> {
    let mut found = Vec::new();
    let (mut rest, mut offset) = (source, 0);
    loop {
        let (skipped, after) = skip_blank(rest);
        (rest, offset) = (after, offset + skipped);
        if rest.is_empty() {
            break;
        }
        let length = match read(rest) {
            Some((token, length)) => {
                let text = &rest[..length];
                found.push(Lexeme { token, text, offset });
                length
            }
            None => {
                let length = unreadable(rest);
                let message = format!("Syntax error: token recognition error at: '{}'", shown(&rest[..length]));
                issues.report(Some(offset), message);
                length
            }
        };
        offset += rest[..length].chars().count() as u32;
        rest = &rest[length..];
    }
    found.push(Lexeme {
        token: Token::End,
        text: "",
        offset,
    });
    found
}

fn shown(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// How much of the text the recogniser gives up on: up to and with the character it cannot read.
fn unreadable(rest: &str) -> usize {
    let upto = |at: usize| at + rest[at..].chars().next().map_or(0, char::len_utf8);
    let quoted = rest.trim_start_matches(['r', 'R', 'b', 'B']);
    let Some(quote) = quoted.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        // These would begin an operator of two characters.
        let pair = rest.starts_with(['=', '&', '|']);
        return if pair { upto(1) } else { upto(0) };
    };
    let raw = rest[..rest.len() - quoted.len()].contains(['r', 'R']);
    let mut at = rest.len() - quoted.len() + 1;
    let mut after_quote = false;
    while let Some(c) = rest[at..].chars().next() {
        match c {
            '\n' | '\r' => return upto(at),
            '\\' if !raw => match escape_length(&rest.as_bytes()[at + 1..]) {
                Some(length) => at += length,
                None => return upto((at + 1 + readable_escape(&rest.as_bytes()[at + 1..])).min(rest.len())),
            },
            _ if after_quote => return at,
            _ => after_quote = c == quote,
        }
        at = upto(at);
    }
    rest.len()
}

fn skip_blank(text: &str) -> (u32, &str) {
    let (mut rest, mut count) = (text, 0);
    loop {
        let trimmed = rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']);
        count += (rest.len() - trimmed.len()) as u32;
        if !trimmed.starts_with("//") {
            return (count, trimmed);
        }
        let end = trimmed.find('\n').unwrap_or(trimmed.len());
        count += trimmed[..end].chars().count() as u32;
        rest = &trimmed[end..];
    }
}

fn read(text: &str) -> Option<(Token, usize)> {
    let first = *text.as_bytes().first()?;
    if let Some(found) = read_quoted(text) {
        return Some(found);
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        let end = text
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        let word = WORDS.contains(&&text[..end]);
        return Some((if word { Token::Symbol } else { Token::Identifier }, end));
    }
    let digit_follows = text.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if first.is_ascii_digit() || (first == b'.' && digit_follows) {
        return Some(read_number(text));
    }
    if first == b'`' {
        let inner = &text[1..];
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ');
        let end = inner.find(|c| !allowed(c))?;
        return (end > 0 && inner[end..].starts_with('`')).then_some((Token::Escaped, end + 2));
    }
    let symbol = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol))?;
    // A single `=` or `&` is no token of the language.
    (!matches!(*symbol, "=" | "&")).then_some((Token::Symbol, symbol.len()))
}

fn read_number(text: &str) -> (Token, usize) {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let unsigned = |at: usize| matches!(bytes.get(at), Some(b'u' | b'U'));
    if text.starts_with("0x") {
        let hex = bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if hex > 0 {
            let end = 2 + hex;
            return if unsigned(end) {
                (Token::Uint, end + 1)
            } else {
                (Token::Int, end)
            };
        }
    }
    let mut end = digits(0);
    let mut float = false;
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        float = true;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let count = bytes.get(end + 1 + signed).map_or(0, |_| digits(end + 1 + signed));
        if count > 0 {
            end += 1 + signed + count;
            float = true;
        }
    }
    match (float, unsigned(end)) {
        (true, _) => (Token::Float, end),
        (false, true) => (Token::Uint, end + 1),
        (false, false) => (Token::Int, end),
    }
}

fn read_quoted(text: &str) -> Option<(Token, usize)> {
    let bytes = text.as_bytes();
    let (mut at, mut token) = (0, Token::String);
    if matches!(bytes.first(), Some(b'b' | b'B')) {
        (at, token) = (1, Token::Bytes);
    }
    let raw = matches!(bytes.get(at), Some(b'r' | b'R'));
    at += usize::from(raw);
    let quote = *bytes.get(at).filter(|b| matches!(b, b'"' | b'\''))?;
    let long = bytes
        .get(at..at + 3)
        .is_some_and(|three| three.iter().all(|b| *b == quote));
    let long = long.then(|| end_of_quoted(text, at + 3, (quote, 3, raw))).flatten();
    let end = long.or_else(|| end_of_quoted(text, at + 1, (quote, 1, raw)))?;
    Some((token, end))
}

fn end_of_quoted(text: &str, start: usize, (quote, count, raw): (u8, usize, bool)) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start;
    loop {
        let byte = *bytes.get(at)?;
        let closes = bytes.get(at..at + count).is_some_and(|q| q.iter().all(|b| *b == quote));
        match byte {
            _ if closes => return Some(at + count),
            b'\n' | b'\r' if count == 1 => return None,
            b'\\' if !raw => at += escape_length(&bytes[at + 1..])? + 1,
            _ => at += 1,
        }
    }
}

/// How many bytes after a backslash could still have become an escape.
fn readable_escape(after: &[u8]) -> usize {
    let digits = |most: usize, good: fn(&u8) -> bool| 1 + after[1..].iter().take(most).take_while(|b| good(b)).count();
    match after.first() {
        Some(b'x' | b'X') => digits(1, u8::is_ascii_hexdigit),
        Some(b'u') => digits(3, u8::is_ascii_hexdigit),
        Some(b'U') => digits(7, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => digits(1, |b| (b'0'..=b'7').contains(b)),
        _ => 0,
    }
}

/// Bytes of an escape after its backslash.
fn escape_length(after: &[u8]) -> Option<usize> {
    let hex = |count: usize| {
        let digits = after.get(1..=count)?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(1 + count)
    };
    match after.first()? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`' => Some(1),
        b'x' | b'X' => hex(2),
        b'u' => hex(4),
        b'U' => hex(8),
        b'0'..=b'3' => {
            let digits = after.get(1..3)?;
            digits.iter().all(|b| (b'0'..=b'7').contains(b)).then_some(3)
        }
        _ => None,
    }
}
