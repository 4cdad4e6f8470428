//! From text to a syntax tree, with cel-go's limits and its sentences.

mod primary;

use crate::{
    ast::{Call, Expr, Id, Kind, Literal, operator},
    deep::USUAL_DEPTH,
    issue::Issues,
    lexer::{Lexeme, Token, tokens},
    limits::{MAX_CODE_POINTS, MAX_DEPTH, MAX_NODES},
    macros::{self, MacroSet},
};
use std::sync::Arc;

/// A parsed expression and where its nodes stand.
pub(crate) struct Parsed {
    pub(crate) expr: Expr,
    /// Offset in code points by node.
    pub(crate) places: Vec<Option<u32>>,
    /// Whether it nests deeper than a usual stack has room for.
    pub(crate) deep: bool,
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
            deep: parser.depth.most > USUAL_DEPTH,
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
    /// Operators, selections and calls on receivers.
    operators: u32,
    /// The deepest it has been, all kinds together.
    most: u32,
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
        // One token too many before what was wanted, or one too few before what may follow it, is
        // told as such.
        if self.tokens.get(self.at + 1).is_some_and(|next| next.is(symbol)) {
            return self.syntax(
                token,
                &format!("extraneous input '{}' expecting {expected}", token.shown()),
            );
        }
        let alone = !expected.starts_with('{') && matches!(symbol, ")" | "]" | "}");
        if alone && (token.token == Token::End || token.is(")") || token.is("]") || token.is("}")) {
            return self.syntax(token, &format!("missing {expected} at '{}'", token.shown()));
        }
        self.syntax(
            token,
            &format!("mismatched input '{}' expecting {expected}", token.shown()),
        )
    }

    /// Whether a token may begin an expression.
    fn starts(token: Lexeme<'_>) -> bool {
        match token.token {
            Token::End | Token::Escaped => false,
            Token::Symbol => {
                matches!(
                    token.text,
                    "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null"
                )
            }
            _ => true,
        }
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

    fn note_depth(&mut self) -> Parse<()> {
        self.depth.most = self.depth.most.max(self.depth.expression + self.depth.operators);
        if self.nodes.places.len() > MAX_NODES {
            return self.fail(None, "expression is too large after expansion of its macros".to_owned());
        }
        Ok(())
    }

    /// One more operator between here and the outermost.
    fn operator(&mut self) -> Parse<()> {
        self.depth.operators += 1;
        if self.depth.operators > MAX_DEPTH {
            return self.fail(None, "max recursion depth exceeded".to_owned());
        }
        self.note_depth()
    }

    fn expression(&mut self) -> Parse<Expr> {
        self.depth.expression += 1;
        if self.depth.expression > MAX_DEPTH {
            let message = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            return self.fail(None, message);
        }
        self.note_depth()?;
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
        let before = self.depth.operators;
        let mut left = self.calculation(0)?;
        loop {
            let token = self.peek();
            let known = ["<", "<=", ">", ">=", "==", "!=", "in"];
            let Some(symbol) = known.into_iter().find(|symbol| token.is(symbol)) else {
                break;
            };
            self.next();
            self.operator()?;
            let id = self.nodes.id(Some(token.offset));
            let right = self.calculation(0)?;
            left = call(id, relation_name(symbol), vec![left, right]);
        }
        self.depth.operators = before;
        Ok(left)
    }

    /// Sums (`level` 0) of products (`level` 1).
    fn calculation(&mut self, level: u8) -> Parse<Expr> {
        let before = self.depth.operators;
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
            self.operator()?;
            let id = self.nodes.id(Some(token.offset));
            let right = if level == 0 {
                self.calculation(1)?
            } else {
                self.unary()?
            };
            left = call(id, function, vec![left, right]);
        }
        self.depth.operators = before;
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
        let before = self.depth.operators;
        let mut expr = self.primary()?;
        loop {
            if let Some(dot) = self.take(".") {
                self.operator()?;
                expr = self.select(expr, dot)?;
            } else if let Some(bracket) = self.take("[") {
                self.operator()?;
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
        self.depth.operators = before;
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
                let sign = if optional { "?" } else { "" };
                let shown = format!(".{sign}{}", name.text);
                let message = format!("Syntax error: no viable alternative at input '{shown}'");
                self.nodes.issues.report(Some(name.offset), message);
                // `in` goes on as the operator it is.
                return if name.is("in") { Ok(operand) } else { Err(Stop) };
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
        let first = self.peek();
        if first.token == Token::End {
            let expecting = STARTS.replacen("'(', ", "'(', ')', ", 1);
            return self.syntax(first, &format!("mismatched input '<EOF>' expecting {expecting}"));
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
