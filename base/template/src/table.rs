//! Rows as docker's lists print them: tables, templates for each row, or JSON lines.

use crate::{Missing, Template, TemplateError, align};
use serde_json::{Map, Value};

/// A field of the rows and the header above it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in templates.
    pub field: &'static str,
    /// What stands above it.
    pub header: &'static str,
}

/// A kind of list: which fields its rows have and how it looks by default.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The fields with headers.
    pub columns: &'static [Column],
    /// The template of a row when `table` alone, or nothing, is asked for; cells end with `\t`.
    pub usual: &'static str,
}

impl Table {
    /// The text of a list.
    ///
    /// `format` is as `--format` takes it: empty or `table` for the usual table, `table
    /// TEMPLATE`, `json` for a line of JSON for each row, or a template for each row.
    pub fn render(&self, format: &str, rows: &[Value]) -> Result<String, TemplateError> {
        let format = format.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        let table = match format.strip_prefix("table") {
            _ if format.is_empty() => Some(self.usual),
            Some(rest) if rest.trim().is_empty() => Some(self.usual),
            Some(rest) if rest.starts_with([' ', '\t', '\n', '{']) => Some(rest.trim_start()),
            _ => None,
        };
        let text = match (table, format.as_str()) {
            (Some(text), _) => text,
            (None, "json") => "{{json .}}",
            (None, text) => text,
        };
        let template = Template::parse(text)?;
        let mut output = String::new();
        if table.is_some() {
            output.push_str(&template.render_headers(&self.headers())?);
            output.push('\n');
        }
        for row in rows {
            output.push_str(&template.render_with(row, Missing::Error)?);
            output.push('\n');
        }
        Ok(if table.is_some() { align(&output) } else { output })
    }

    fn headers(&self) -> Value {
        let pairs = self.columns.iter().map(|c| (c.field.to_owned(), c.header.into()));
        Value::Object(pairs.collect::<Map<String, Value>>())
    }
}
