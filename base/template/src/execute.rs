//! Walking a template's tree.

use crate::parser::{Node, Operand, Pipeline};
use crate::printing::{print, truth};
use crate::{Missing, TemplateError, functions};
use serde_json::Value;

/// What one template may write.
const MAX_OUTPUT: usize = 64 << 20;
/// Parts that one template may carry out, loops counted in full.
const MAX_STEPS: u64 = 10_000_000;
/// A loop over a number.
const MAX_COUNT: i64 = 1 << 20;

/// The text that a tree makes of a value.
pub(crate) fn run(nodes: &[Node], value: &Value, missing: Missing, headers: bool) -> Result<String, TemplateError> {
    let mut run = Run {
        root: value.clone(),
        output: String::new(),
        variables: Vec::new(),
        missing,
        headers,
        steps: 0,
    };
    run.nodes(nodes, value).map_err(TemplateError::Execute)?;
    Ok(run.output)
}

struct Run {
    root: Value,
    output: String,
    variables: Vec<(String, Value)>,
    missing: Missing,
    headers: bool,
    steps: u64,
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.output.len() + text.len() > MAX_OUTPUT {
            return Err(format!("more than {MAX_OUTPUT} bytes of output"));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} steps"));
        }
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.write(&print(&value))?;
                } else {
                    self.bind(pipeline, value)?;
                }
            }
            Node::If(pipeline, body, otherwise) => {
                return self.scoped(|run| {
                    let value = run.bound(pipeline, dot)?;
                    run.nodes(if truth(&value) { body } else { otherwise }, dot)
                });
            }
            Node::With(pipeline, body, otherwise) => {
                return self.scoped(|run| {
                    let value = run.bound(pipeline, dot)?;
                    if truth(&value) {
                        run.nodes(body, &value)
                    } else {
                        run.nodes(otherwise, dot)
                    }
                });
            }
            Node::Range(pipeline, body, otherwise) => {
                return self.scoped(|run| run.range(pipeline, body, otherwise, dot));
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn scoped(&mut self, work: impl FnOnce(&mut Self) -> Result<Flow, String>) -> Result<Flow, String> {
        let depth = self.variables.len();
        let flow = work(self);
        self.variables.truncate(depth);
        flow
    }

    fn bound(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.pipeline(pipeline, dot)?;
        self.bind(pipeline, value.clone())?;
        Ok(value)
    }

    fn bind(&mut self, pipeline: &Pipeline, value: Value) -> Result<(), String> {
        if let Some(name) = pipeline.variables.first() {
            self.set(name, value, pipeline.assigns)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) -> Result<(), String> {
        if !assigns {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let place = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        place
            .map(|(_, old)| *old = value)
            .ok_or_else(|| format!("undefined variable \"${name}\""))
    }

    fn range(&mut self, pipeline: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, String> {
        let value = self.pipeline(pipeline, dot)?;
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => items.into_iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
            Value::Object(map) => {
                let mut items: Vec<(String, Value)> = map.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(k, v)| (k.into(), v)).collect()
            }
            Value::Null => Vec::new(),
            Value::Number(number) => match number.as_i64() {
                Some(count) if count <= MAX_COUNT => (0..count).map(|i| (i.into(), i.into())).collect(),
                _ => return Err(format!("range can't iterate over {number}")),
            },
            other => return Err(format!("range can't iterate over {}", print(&other))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let flow = self.scoped(|run| {
                match pipeline.variables.as_slice() {
                    [] => {}
                    [only] => run.set(only, item.clone(), pipeline.assigns)?,
                    [first, second, ..] => {
                        run.set(first, key, pipeline.assigns)?;
                        run.set(second, item.clone(), pipeline.assigns)?;
                    }
                }
                run.nodes(body, &item)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        last.ok_or_else(|| "empty command".to_owned())
    }

    fn command(&self, command: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let Some((first, rest)) = command.split_first() else {
            return Err("empty command".into());
        };
        let Operand::Function(name) = first else {
            if !rest.is_empty() {
                return Err("can't give argument to non-function".into());
            }
            return self.operand(first, dot);
        };
        // These two stop at the first argument that decides.
        if name == "and" || name == "or" {
            let mut value = Value::Null;
            for operand in rest {
                value = self.operand(operand, dot)?;
                if truth(&value) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        functions::call(name, arguments, self.headers).map_err(|why| format!("error calling {name}: {why}"))
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(fields) => self.walk(dot, fields),
            Operand::Variable(name, fields) if name.is_empty() => self.walk(&self.root, fields),
            Operand::Variable(name, fields) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| format!("undefined variable \"${name}\""))?;
                self.walk(value, fields)
            }
            Operand::Nested(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                self.walk(&value, fields)
            }
            Operand::Function(name) => {
                functions::call(name, Vec::new(), self.headers).map_err(|why| format!("error calling {name}: {why}"))
            }
        }
    }

    fn walk(&self, value: &Value, fields: &[String]) -> Result<Value, String> {
        let mut found = value;
        for (depth, field) in fields.iter().enumerate() {
            let shown = || format!("<.{}>", fields[..=depth].join("."));
            found = match found {
                Value::Object(map) => match (map.get(field), self.missing) {
                    (Some(inner), _) => inner,
                    (None, Missing::NoValue) => return Ok(Value::Null),
                    (None, Missing::Error) => {
                        return Err(format!("at {}: map has no entry for key {field:?}", shown()));
                    }
                },
                Value::Null if self.missing == Missing::NoValue => return Ok(Value::Null),
                Value::Null => return Err(format!("at {}: nil pointer evaluating interface {{}}.{field}", shown())),
                other => {
                    let kind = crate::printing::kind(other);
                    return Err(format!("at {}: can't evaluate field {field} in type {kind}", shown()));
                }
            };
        }
        Ok(found.clone())
    }
}
