//! From text to a syntax tree, with cel-go's limits and its sentences.

use crate::{
    ast::{Call, Entry, Expr, Field, Id, Kind, Literal, operator},
    escape::RESERVED,
    issue::Issues,
    lexer::{Lexeme, Token, tokens},
    limits::{MAX_CODE_POINTS, MAX_DEPTH, MAX_NODES},
    literal::unquote,
    macros::{self, MacroSet},
};
use std::sync::Arc;

/// A parsed expression and where its nodes stand.
pub(crate) struct Parsed {
    pub(crate) expr: Expr,
    /// Offset in code points by node.
    pub(crate) places: Vec<Option<u32>>,
}

/// Parses; or says everything that is wrong.
pub(crate) fn parse(source: &str, macros: MacroSet) -> Result<Parsed, Issues> {
    let mut issues = Issues::new(source);
    let size = source.chars().count();
    if size > MAX_CODE_POINTS {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_CODE_POINTS}");
        issues.report(None, message);
        return Err(issues);
    }
    let tokens = tokens(source, &mut issues);
    let mut parser = Parser {
        tokens,
        at: 0,
        nodes: Nodes {
            places: Vec::new(),
            issues,
        },
        macros,
        depth: Depth::default(),
    };
    match parser.whole() {
        Ok(expr) if parser.nodes.issues.is_empty() => Ok(Parsed {
            expr,
            places: parser.nodes.places,
        }),
        _ => Err(parser.nodes.issues),
    }
}

/// Makes nodes and collects complaints; what macros need of the parser.
pub(crate) struct Nodes {
    pub(crate) places: Vec<Option<u32>>,
    pub(crate) issues: Issues,
}

impl Nodes {
    /// A new node at a place.
    pub(crate) fn id(&mut self, place: Option<u32>) -> Id {
        self.places.push(place);
        (self.places.len() - 1) as Id
    }

    pub(crate) fn place(&self, id: Id) -> Option<u32> {
        self.places.get(id as usize).copied().flatten()
    }
}

/// The complaint is recorded; parsing goes no further.
struct Stop;

type Parse<T> = Result<T, Stop>;

/// How deep each kind of rule is nested; chains of operators count as nesting, as they do upstream.
#[derive(Default)]
struct Depth {
    expression: u32,
    relation: u32,
    calculation: u32,
    member: u32,
}

struct Parser<'s> {
    tokens: Vec<Lexeme<'s>>,
    at: usize,
    nodes: Nodes,
    macros: MacroSet,
    depth: Depth,
}

/// What may begin an expression.
const STARTS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

impl<'s> Parser<'s> {
    fn peek(&self) -> Lexeme<'s> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Lexeme<'s> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn take(&mut self, symbol: &str) -> Option<Lexeme<'s>> {
        self.peek().is(symbol).then(|| self.next())
    }

    fn fail<T>(&mut self, place: Option<u32>, message: String) -> Parse<T> {
        self.nodes.issues.report(place, message);
        Err(Stop)
    }

    fn syntax<T>(&mut self, token: Lexeme<'s>, message: &str) -> Parse<T> {
        self.fail(Some(token.offset), format!("Syntax error: {message}"))
    }

    fn expect(&mut self, symbol: &str, expected: &str) -> Parse<Lexeme<'s>> {
        if let Some(found) = self.take(symbol) {
            return Ok(found);
        }
        let token = self.peek();
        // One token too many before what was wanted is told as such.
        let follows = self.tokens.get(self.at + 1).is_some_and(|next| next.is(symbol));
        let kind = if follows { "extraneous" } else { "mismatched" };
        self.syntax(token, &format!("{kind} input '{}' expecting {expected}", token.shown()))
    }

    fn whole(&mut self) -> Parse<Expr> {
        let expr = self.expression()?;
        let token = self.peek();
        if token.token == Token::End {
            return Ok(expr);
        }
        let last = self
            .tokens
            .get(self.at + 1)
            .is_some_and(|next| next.token == Token::End);
        let kind = if last { "extraneous" } else { "mismatched" };
        self.syntax(token, &format!("{kind} input '{}' expecting <EOF>", token.shown()))
    }

    fn deeper(&mut self, pick: fn(&mut Depth) -> &mut u32) -> Parse<()> {
        let depth = pick(&mut self.depth);
        *depth += 1;
        if *depth > MAX_DEPTH {
            return self.fail(None, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
        }
        if self.nodes.places.len() > MAX_NODES {
            return self.fail(None, "expression is too large after expansion of its macros".to_owned());
        }
        Ok(())
    }

    fn expression(&mut self) -> Parse<Expr> {
        self.deeper(|depth| &mut depth.expression)?;
        let condition = self.logic(true)?;
        let expr = match self.take("?") {
            None => condition,
            Some(token) => {
                let id = self.nodes.id(Some(token.offset));
                let yes = self.logic(true)?;
                self.expect(":", "':'")?;
                let no = self.expression()?;
                call(id, operator::CONDITIONAL, vec![condition, yes, no])
            }
        };
        self.depth.expression -= 1;
        Ok(expr)
    }

    /// A chain of `||` (of chains of `&&`), balanced as a tree so that long chains are not deep.
    fn logic(&mut self, or: bool) -> Parse<Expr> {
        let (symbol, function) = if or {
            ("||", operator::OR)
        } else {
            ("&&", operator::AND)
        };
        let mut terms = vec![self.logic_term(or)?];
        let mut ids = Vec::new();
        while let Some(token) = self.take(symbol) {
            terms.push(self.logic_term(or)?);
            ids.push(self.nodes.id(Some(token.offset)));
        }
        let mut terms: Vec<Option<Expr>> = terms.into_iter().map(Some).collect();
        let last = ids.len();
        match last {
            0 => terms.swap_remove(0).ok_or(Stop),
            _ => balance(function, &mut terms, &ids, (0, last - 1)).ok_or(Stop),
        }
    }

    fn logic_term(&mut self, or: bool) -> Parse<Expr> {
        if or { self.logic(false) } else { self.relation() }
    }

    fn relation(&mut self) -> Parse<Expr> {
        let before = self.depth.relation;
        self.deeper(|depth| &mut depth.relation)?;
        let mut left = self.calculation(0)?;
        loop {
            let token = self.peek();
            let known = ["<", "<=", ">", ">=", "==", "!=", "in"];
            let Some(symbol) = known.into_iter().find(|symbol| token.is(symbol)) else {
                break;
            };
            self.next();
            self.deeper(|depth| &mut depth.relation)?;
            let id = self.nodes.id(Some(token.offset));
            let right = self.calculation(0)?;
            left = call(id, relation_name(symbol), vec![left, right]);
        }
        self.depth.relation = before;
        Ok(left)
    }

    /// Sums (`level` 0) of products (`level` 1).
    fn calculation(&mut self, level: u8) -> Parse<Expr> {
        let before = self.depth.calculation;
        if level == 0 {
            self.deeper(|depth| &mut depth.calculation)?;
        }
        let mut left = if level == 0 {
            self.calculation(1)?
        } else {
            self.unary()?
        };
        loop {
            let token = self.peek();
            let known: &[(&str, &str)] = match level {
                0 => &[("+", operator::ADD), ("-", "_-_")],
                _ => &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
            };
            let Some((_, function)) = known.iter().find(|(symbol, _)| token.is(symbol)) else {
                break;
            };
            self.next();
            self.deeper(|depth| &mut depth.calculation)?;
            let id = self.nodes.id(Some(token.offset));
            let right = if level == 0 {
                self.calculation(1)?
            } else {
                self.unary()?
            };
            left = call(id, function, vec![left, right]);
        }
        self.depth.calculation = before;
        Ok(left)
    }

    fn unary(&mut self) -> Parse<Expr> {
        let first = self.peek();
        let (symbol, function) = match first.text {
            "!" if first.is("!") => ("!", operator::NOT),
            "-" if first.is("-") => ("-", operator::NEGATE),
            _ => return self.member(),
        };
        let mut count = 0;
        while self.peek().is(symbol) {
            let number = matches!(
                self.tokens.get(self.at + 1).map(|t| t.token),
                Some(Token::Int | Token::Float)
            );
            if symbol == "-" && number && count == 0 {
                // The sign belongs to the literal.
                return self.member();
            }
            self.next();
            count += 1;
        }
        let id = self.nodes.id(Some(first.offset));
        let operand = self.member()?;
        Ok(if count % 2 == 0 {
            operand
        } else {
            call(id, function, vec![operand])
        })
    }

    fn member(&mut self) -> Parse<Expr> {
        let before = self.depth.member;
        self.deeper(|depth| &mut depth.member)?;
        let mut expr = self.primary()?;
        loop {
            if let Some(dot) = self.take(".") {
                self.deeper(|depth| &mut depth.member)?;
                expr = self.select(expr, dot)?;
            } else if let Some(bracket) = self.take("[") {
                self.deeper(|depth| &mut depth.member)?;
                let optional = self.optional_sign(bracket, "[?")?;
                let id = self.nodes.id(Some(bracket.offset));
                let index = self.expression()?;
                self.expect("]", "']'")?;
                let function = if optional {
                    operator::OPTIONAL_INDEX
                } else {
                    operator::INDEX
                };
                expr = call(id, function, vec![expr, index]);
            } else {
                break;
            }
        }
        self.depth.member = before;
        Ok(expr)
    }

    fn optional_sign(&mut self, place: Lexeme<'s>, syntax: &str) -> Parse<bool> {
        if self.take("?").is_none() {
            return Ok(false);
        }
        if !self.macros.optional {
            return self.fail(Some(place.offset), format!("unsupported syntax '{syntax}'"));
        }
        Ok(true)
    }

    fn select(&mut self, operand: Expr, dot: Lexeme<'s>) -> Parse<Expr> {
        let optional = self.optional_sign(dot, ".?")?;
        let name = self.peek();
        match name.token {
            Token::Identifier => self.next(),
            Token::Escaped => return self.fail(Some(name.offset), "unsupported syntax: '`'".to_owned()),
            Token::Symbol if matches!(name.text, "true" | "false" | "null") && !optional => {
                return self.syntax(name, &format!("mismatched input '{}' expecting IDENTIFIER", name.text));
            }
            _ => {
                let shown = format!(".{}{}", if optional { "?" } else { "" }, name.shown());
                return self.syntax(name, &format!("no viable alternative at input '{shown}'"));
            }
        };
        let field: Arc<str> = name.text.into();
        if optional {
            let id = self.nodes.id(Some(dot.offset));
            let kind = Kind::Literal(Literal::String(field));
            let place = Some(name.offset);
            let field = Expr {
                id: self.nodes.id(place),
                kind,
            };
            return Ok(call(id, operator::OPTIONAL_SELECT, vec![operand, field]));
        }
        if let Some(open) = self.take("(") {
            let id = self.nodes.id(Some(open.offset));
            let args = self.arguments()?;
            return self.call_or_macro(id, name.text, Some(operand), args);
        }
        let id = self.nodes.id(Some(dot.offset));
        let operand = Box::new(operand);
        Ok(Expr {
            id,
            kind: Kind::Select {
                operand,
                field,
                test: false,
            },
        })
    }

    fn arguments(&mut self) -> Parse<Vec<Expr>> {
        let mut args = Vec::new();
        if self.take(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.take(",").is_none() {
                self.expect(")", "{',', ')'}")?;
                return Ok(args);
            }
        }
    }

    fn call_or_macro(&mut self, id: Id, name: &str, target: Option<Expr>, args: Vec<Expr>) -> Parse<Expr> {
        let place = self.nodes.place(id);
        match macros::expand(&mut self.nodes, self.macros, (name, place), target, args) {
            Ok(Ok(expanded)) => Ok(expanded),
            Ok(Err((target, args))) => {
                let function = name.into();
                Ok(Expr {
                    id,
                    kind: Kind::Call(Box::new(Call { function, target, args })),
                })
            }
            Err((place, message)) => self.fail(place, message),
        }
    }

    fn primary(&mut self) -> Parse<Expr> {
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
                _ => self.unexpected(token),
            },
            Token::Int | Token::Uint | Token::Float => {
                self.at -= 1;
                self.number(token)
            }
            Token::String | Token::Bytes => self.quoted(token),
            _ => self.unexpected(token),
        }
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
            return self.fail(place, format!("reserved identifier: {}", token.text));
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
        }
        Ok(Expr {
            id,
            kind: Kind::Map(entries),
        })
    }
}

pub(crate) fn call(id: Id, function: &str, args: Vec<Expr>) -> Expr {
    let function = function.into();
    Expr {
        id,
        kind: Kind::Call(Box::new(Call {
            function,
            target: None,
            args,
        })),
    }
}

fn relation_name(symbol: &str) -> &'static str {
    match symbol {
        "<" => "_<_",
        "<=" => "_<=_",
        ">" => "_>_",
        ">=" => "_>=_",
        "==" => operator::EQUALS,
        "!=" => operator::NOT_EQUALS,
        _ => operator::IN,
    }
}

fn balance(function: &str, terms: &mut [Option<Expr>], ids: &[Id], (low, high): (usize, usize)) -> Option<Expr> {
    let middle = (low + high).div_ceil(2);
    let left = match middle == low {
        true => terms[middle].take()?,
        false => balance(function, terms, ids, (low, middle - 1))?,
    };
    let right = match middle == high {
        true => terms[middle + 1].take()?,
        false => balance(function, terms, ids, (middle + 1, high))?,
    };
    Some(call(ids[middle], function, vec![left, right]))
}
