//! What operators stand between: literals, names, calls, lists, maps and objects.

use super::{Parse, Parser, STARTS};
use crate::{
    ast::{Entry, Expr, Field, Kind, Literal},
    escape::RESERVED,
    lexer::{Lexeme, Token},
    literal::unquote,
};

impl<'s> Parser<'s> {
    pub(super) fn primary(&mut self) -> Parse<Expr> {
        let token = self.next();
        let place = Some(token.offset);
        match token.token {
            Token::Identifier => self.identifier(token, ""),
            Token::Symbol => match token.text {
                "(" => {
                    let inner = self.expression()?;
                    self.expect(")", "')'")?;
                    Ok(inner)
                }
                "[" => self.list(token),
                "{" => self.map(token),
                "true" | "false" => Ok(self.literal(place, Literal::Bool(token.text == "true"))),
                "null" => Ok(self.literal(place, Literal::Null)),
                "." if self.peek().token == Token::Identifier => {
                    let name = self.next();
                    self.identifier(name, ".")
                }
                "-" => self.number(token),
                _ => self.unexpected_or_skipped(token),
            },
            Token::Int | Token::Uint | Token::Float => {
                self.at -= 1;
                self.number(token)
            }
            Token::String | Token::Bytes => self.quoted(token),
            _ => self.unexpected_or_skipped(token),
        }
    }

    /// A token that begins no expression; if the next one does, only this one is told of.
    fn unexpected_or_skipped(&mut self, token: Lexeme<'s>) -> Parse<Expr> {
        if token.token == Token::End || !Self::starts(self.peek()) {
            return self.unexpected(token);
        }
        let message = format!("Syntax error: extraneous input '{}' expecting {STARTS}", token.shown());
        self.nodes.issues.report(Some(token.offset), message);
        self.unary()
    }

    fn unexpected<T>(&mut self, token: Lexeme<'s>) -> Parse<T> {
        let (shown, expecting) = (token.shown(), STARTS);
        self.syntax(token, &format!("mismatched input '{shown}' expecting {expecting}"))
    }

    fn literal(&mut self, place: Option<u32>, literal: Literal) -> Expr {
        Expr {
            id: self.nodes.id(place),
            kind: Kind::Literal(literal),
        }
    }

    /// A number, whose sign is `first` if that is one.
    fn number(&mut self, first: Lexeme<'s>) -> Parse<Expr> {
        let sign = if first.is("-") { "-" } else { "" };
        let token = self.next();
        let place = Some(first.offset);
        let (digits, radix) = match token.text.strip_prefix("0x") {
            Some(hex) => (hex, 16),
            None => (token.text, 10),
        };
        let literal = match token.token {
            Token::Float => {
                let value: Option<f64> = format!("{sign}{}", token.text).parse().ok();
                value.filter(|n| n.is_finite()).map(Literal::Double).ok_or("double")
            }
            Token::Uint if sign.is_empty() => {
                let digits = &digits[..digits.len() - 1];
                u64::from_str_radix(digits, radix)
                    .map(Literal::Uint)
                    .map_err(|_| "uint")
            }
            Token::Int => {
                let value = i64::from_str_radix(&format!("{sign}{digits}"), radix);
                value.map(Literal::Int).map_err(|_| "int")
            }
            _ => return self.unexpected(token),
        };
        match literal {
            Ok(literal) => Ok(self.literal(place, literal)),
            Err(kind) => self.fail(place, format!("invalid {kind} literal")),
        }
    }

    fn quoted(&mut self, token: Lexeme<'s>) -> Parse<Expr> {
        let bytes = token.token == Token::Bytes;
        let place = Some(token.offset);
        let text = if bytes { &token.text[1..] } else { token.text };
        match unquote(text, bytes) {
            Ok(value) if bytes => Ok(self.literal(place, Literal::Bytes(value.into()))),
            Ok(value) => match String::from_utf8(value) {
                Ok(text) => Ok(self.literal(place, Literal::String(text.into()))),
                Err(_) => self.fail(place, "unable to unescape string".to_owned()),
            },
            Err(message) => self.fail(place, message.to_owned()),
        }
    }

    fn identifier(&mut self, token: Lexeme<'s>, dot: &str) -> Parse<Expr> {
        let place = Some(token.offset);
        if let Some(expr) = self.object(token, dot)? {
            return Ok(expr);
        }
        if RESERVED.contains(&token.text) {
            let message = format!("reserved identifier: {}", token.text);
            self.nodes.issues.report(place, message);
            return Ok(self.literal(place, Literal::Null));
        }
        let name = format!("{dot}{}", token.text);
        if let Some(open) = self.take("(") {
            let id = self.nodes.id(Some(open.offset));
            let args = self.arguments()?;
            return self.call_or_macro(id, &name, None, args);
        }
        Ok(Expr {
            id: self.nodes.id(place),
            kind: Kind::Ident(name.into()),
        })
    }

    /// `a.b.C{…}`, if that is what follows.
    fn object(&mut self, first: Lexeme<'s>, dot: &str) -> Parse<Option<Expr>> {
        let mut end = self.at;
        let token = |at: usize| self.tokens.get(at).copied();
        while token(end).is_some_and(|t| t.is(".")) && token(end + 1).is_some_and(|t| t.token == Token::Identifier) {
            end += 2;
        }
        if !token(end).is_some_and(|t| t.is("{")) {
            return Ok(None);
        }
        let parts = self.tokens[self.at..end].iter().map(|t| t.text);
        let name: String = [dot, first.text].into_iter().chain(parts).collect();
        self.at = end;
        let open = self.next();
        let id = self.nodes.id(Some(open.offset));
        let mut fields = Vec::new();
        while self.take("}").is_none() {
            let optional = self.optional_sign(self.peek(), "?")?;
            let name = self.next();
            if name.token != Token::Identifier {
                let shown = name.shown();
                return self.syntax(
                    name,
                    &format!("mismatched input '{shown}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}"),
                );
            }
            let colon = self.expect(":", "':'")?;
            let field = self.nodes.id(Some(colon.offset));
            let value = self.expression()?;
            fields.push(Field {
                id: field,
                name: name.text.into(),
                value,
                optional,
            });
            if self.take(",").is_none() {
                self.expect("}", "{'}', ','}")?;
                break;
            }
        }
        Ok(Some(Expr {
            id,
            kind: Kind::Struct {
                name: name.into(),
                fields,
            },
        }))
    }

    fn list(&mut self, open: Lexeme<'s>) -> Parse<Expr> {
        let id = self.nodes.id(Some(open.offset));
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        while self.take("]").is_none() {
            if elements.is_empty() && self.peek().is(",") {
                self.next();
                self.expect("]", "']'")?;
                break;
            }
            optional.push(self.optional_sign(self.peek(), "?")?);
            elements.push(self.expression()?);
            if self.take(",").is_none() {
                self.expect("]", "{']', ','}")?;
                break;
            }
            if !Self::starts(self.peek()) && !self.peek().is("?") {
                self.expect("]", "']'")?;
                break;
            }
        }
        Ok(Expr {
            id,
            kind: Kind::List { elements, optional },
        })
    }

    fn map(&mut self, open: Lexeme<'s>) -> Parse<Expr> {
        let id = self.nodes.id(Some(open.offset));
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            if entries.is_empty() && self.peek().is(",") {
                self.next();
                self.expect("}", "'}'")?;
                break;
            }
            let optional = self.optional_sign(self.peek(), "?")?;
            let key = self.expression()?;
            let colon = self.expect(":", "':'")?;
            self.nodes.id(Some(colon.offset));
            let value = self.expression()?;
            entries.push(Entry { key, value, optional });
            if self.take(",").is_none() {
                self.expect("}", "{'}', ','}")?;
                break;
            }
            if !Self::starts(self.peek()) && !self.peek().is("?") {
                self.expect("}", "'}'")?;
                break;
            }
        }
        Ok(Expr {
            id,
            kind: Kind::Map(entries),
        })
    }
}
