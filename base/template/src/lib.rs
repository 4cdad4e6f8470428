//! Go's text templates over JSON values, as `--format` of docker's commands takes them, and docker's words for sizes and times.
//!
//! For: `{{.Field}}`, `{{json .}}`, conditions, loops, variables, docker's functions, and
//! tables of rows with headers and aligned columns.
//! Not for: templates that define or call others, methods of values. Output, depth and steps
//! are bounded.
//!
//! Start at [`Template`] for one value and at [`Table`] for rows. `lexer.rs` cuts the text,
//! `parser.rs` makes the tree, `execute.rs` walks it, `functions.rs` and `printing.rs` know
//! what Go's functions give.

mod execute;
mod functions;
mod lexer;
mod parser;
mod printing;
mod table;
mod tabs;
mod words;

pub use table::{Column, Table};
pub use tabs::align;
pub use words::{binary_size, elapsed, ellipsis, size, tagged};

use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<parser::Node>,
}

/// Why a template could not be read or carried out, in Go's words.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("template parsing error: template: :{line}: {why}")]
    Parse {
        /// Where in the text.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The value does not have what the template asks for.
    #[error("template: :1: executing \"\": {0}")]
    Execute(String),
}

/// What a field that is not there gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// An error, as for `inspect`.
    #[default]
    Error,
    /// `<no value>`, as Go does by itself.
    NoValue,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parser::parse(text)?;
        Ok(Self { nodes })
    }

    /// Carries it out on a value; a field that is not there is an error.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        self.render_with(value, Missing::Error)
    }

    /// Carries it out on a value.
    pub fn render_with(&self, value: &Value, missing: Missing) -> Result<String, TemplateError> {
        execute::run(&self.nodes, value, missing, false)
    }

    /// Carries it out on column headers: docker's functions leave them as they are.
    pub(crate) fn render_headers(&self, headers: &Value) -> Result<String, TemplateError> {
        execute::run(&self.nodes, headers, Missing::NoValue, true)
    }
}

#[cfg(test)]
mod tests;
