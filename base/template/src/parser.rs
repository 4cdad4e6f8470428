//! The tree of a template.

use crate::TemplateError;
use crate::lexer::{Part, Token, parts};
use serde_json::Value;

/// Blocks and parentheses inside each other.
const MAX_DEPTH: usize = 64;

/// One step of a template.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Text(String),
    /// Writes a value, unless it declares or assigns.
    Action(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// Commands of which each gets the result of the one before as its last argument.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipeline {
    /// Variables that get the result.
    pub variables: Vec<String>,
    /// Whether they exist already.
    pub assigns: bool,
    pub commands: Vec<Vec<Operand>>,
}

/// A function's name or an argument.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Function(String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Literal(Value),
    Nested(Box<Pipeline>, Vec<String>),
}

/// Reads a whole template.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        parts: parts(text)?.into_iter(),
        depth: 0,
        loops: 0,
        line: 1,
    };
    match parser.block()? {
        (nodes, End::Text) => Ok(nodes),
        (_, End::Done) => Err(parser.failed("unexpected {{end}}")),
        (_, End::Else(_)) => Err(parser.failed("unexpected {{else}}")),
    }
}

struct Parser {
    parts: std::vec::IntoIter<Part>,
    depth: usize,
    loops: usize,
    line: usize,
}

/// What a block ended with.
enum End {
    Text,
    Done,
    Else(Vec<Token>),
}

impl Parser {
    fn failed(&self, why: impl Into<String>) -> TemplateError {
        TemplateError::Parse {
            line: self.line,
            why: why.into(),
        }
    }

    fn block(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.failed("blocks are nested too deeply"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            let (tokens, line) = match self.parts.next() {
                None => break End::Text,
                Some(Part::Text(text)) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Some(Part::Action(tokens, line)) => (tokens, line),
            };
            self.line = line;
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            match keyword {
                "end" if tokens.len() == 1 => break End::Done,
                "else" => break End::Else(tokens[1..].to_vec()),
                "if" | "with" | "range" => {
                    let node = self.control(keyword, &tokens[1..])?;
                    nodes.push(node);
                }
                "break" | "continue" if tokens.len() == 1 => {
                    if self.loops == 0 {
                        return Err(self.failed(format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                    }
                    nodes.push(if keyword == "break" {
                        Node::Break
                    } else {
                        Node::Continue
                    });
                }
                "define" | "template" | "block" => {
                    return Err(self.failed(format!("{{{{{keyword}}}}} is not supported here")));
                }
                _ => nodes.push(Node::Action(self.pipeline(&tokens, "command")?)),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn control(&mut self, keyword: &str, condition: &[Token]) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline(condition, keyword)?;
        self.loops += usize::from(keyword == "range");
        let (body, end) = self.block()?;
        self.loops -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Text => return Err(self.failed("unexpected EOF")),
            End::Done => Vec::new(),
            End::Else(tokens) => self.otherwise(keyword, &tokens)?,
        };
        Ok(match keyword {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    /// What follows an `else`; `else if` shares the outer `end`.
    fn otherwise(&mut self, keyword: &str, tokens: &[Token]) -> Result<Vec<Node>, TemplateError> {
        if let Some(Token::Word(word)) = tokens.first()
            && word == keyword
            && keyword != "range"
        {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(self.failed("blocks are nested too deeply"));
            }
            let node = self.control(keyword, &tokens[1..])?;
            self.depth -= 1;
            return Ok(vec![node]);
        }
        if !tokens.is_empty() {
            return Err(self.failed("unexpected text in {{else}}"));
        }
        match self.block()? {
            (nodes, End::Done) => Ok(nodes),
            (_, End::Text) => Err(self.failed("unexpected EOF")),
            (_, End::Else(_)) => Err(self.failed("expected end; found {{else}}")),
        }
    }

    fn pipeline(&self, tokens: &[Token], context: &str) -> Result<Pipeline, TemplateError> {
        let mut rest = tokens;
        let (variables, assigns) = declaration(&mut rest);
        let mut pipeline = self.commands(&mut rest, context, 0)?;
        if !rest.is_empty() {
            return Err(self.failed("unexpected right paren"));
        }
        pipeline.variables = variables;
        pipeline.assigns = assigns;
        Ok(pipeline)
    }

    /// Commands up to a closing parenthesis, which is left, or the end.
    fn commands(&self, rest: &mut &[Token], context: &str, depth: usize) -> Result<Pipeline, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(self.failed("parentheses are nested too deeply"));
        }
        let mut pipeline = Pipeline::default();
        let mut command = Vec::new();
        loop {
            match rest.first() {
                None | Some(Token::Close) => break,
                Some(Token::Pipe) => {
                    *rest = &rest[1..];
                    if command.is_empty() {
                        return Err(self.failed(format!("missing value for {context}")));
                    }
                    pipeline.commands.push(std::mem::take(&mut command));
                    if rest.is_empty() {
                        return Err(self.failed(format!("missing value for {context}")));
                    }
                }
                Some(_) => command.push(self.operand(rest, context, depth)?),
            }
        }
        if command.is_empty() {
            return Err(self.failed(format!("missing value for {context}")));
        }
        pipeline.commands.push(command);
        for command in pipeline.commands.iter().skip(1) {
            if !matches!(command.first(), Some(Operand::Function(_))) {
                return Err(self.failed("non executable command in pipeline stage 2"));
            }
        }
        Ok(pipeline)
    }

    fn operand(&self, rest: &mut &[Token], context: &str, depth: usize) -> Result<Operand, TemplateError> {
        let Some((token, tail)) = rest.split_first() else {
            return Err(self.failed(format!("missing value for {context}")));
        };
        *rest = tail;
        Ok(match token {
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Null),
                name if crate::functions::exists(name) => Operand::Function(name.to_owned()),
                name => return Err(self.failed(format!("function {name:?} not defined"))),
            },
            Token::Field(fields) => Operand::Field(fields.clone()),
            Token::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
            Token::Text(text) => Operand::Literal(Value::String(text.clone())),
            Token::Integer(number) => Operand::Literal((*number).into()),
            Token::Float(number) => Operand::Literal((*number).into()),
            Token::Open => {
                let inner = self.commands(rest, context, depth + 1)?;
                match rest.split_first() {
                    Some((Token::Close, tail)) => *rest = tail,
                    _ => return Err(self.failed("unclosed left paren")),
                }
                let mut fields = Vec::new();
                if let Some((Token::Chain(chain), tail)) = rest.split_first() {
                    fields = chain.clone();
                    *rest = tail;
                }
                Operand::Nested(Box::new(inner), fields)
            }
            other => return Err(self.failed(format!("unexpected {other:?} in {context}"))),
        })
    }
}

/// `$a :=`, `$a, $b :=` or `$a =` before a pipeline.
fn declaration(rest: &mut &[Token]) -> (Vec<String>, bool) {
    let name = |token: Option<&Token>| match token {
        Some(Token::Variable(name, fields)) if fields.is_empty() => Some(name.clone()),
        _ => None,
    };
    let Some(first) = name(rest.first()) else {
        return (Vec::new(), false);
    };
    match rest.get(1) {
        Some(Token::Declare | Token::Assign) => {
            let assigns = rest[1] == Token::Assign;
            *rest = &rest[2..];
            (vec![first], assigns)
        }
        Some(Token::Comma) => match (name(rest.get(2)), rest.get(3)) {
            (Some(second), Some(Token::Declare | Token::Assign)) => {
                let assigns = rest[3] == Token::Assign;
                *rest = &rest[4..];
                (vec![first, second], assigns)
            }
            _ => (Vec::new(), false),
        },
        _ => (Vec::new(), false),
    }
}
