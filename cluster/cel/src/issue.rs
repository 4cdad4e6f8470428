//! What is wrong with an expression, and where, in the words and the layout of cel-go.

use crate::limits::MAX_ISSUES;
use std::fmt;

/// A complaint about an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Line, from one; -1 when it is nowhere in particular.
    pub line: i32,
    /// Column in code points, from zero; -1 when it is nowhere in particular.
    pub column: i32,
    /// The sentence.
    pub message: String,
}

/// Everything wrong with an expression. `Display` shows each with its line and a caret under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    lines: Vec<String>,
    found: Vec<Issue>,
    truncated: usize,
}

impl std::error::Error for Issues {}

impl Issues {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            lines: source.split('\n').map(str::to_owned).collect(),
            found: Vec::new(),
            truncated: 0,
        }
    }

    /// Adds a complaint about the code point at `offset`; no offset means the whole expression.
    pub(crate) fn report(&mut self, offset: Option<u32>, message: String) {
        if self.found.len() >= MAX_ISSUES {
            self.truncated += 1;
            return;
        }
        let (line, column) = offset.map_or((-1, -1), |offset| self.place(offset));
        self.found.push(Issue { line, column, message });
    }

    fn place(&self, offset: u32) -> (i32, i32) {
        if matches!(&self.lines[..], [only] if only.is_empty()) {
            return (1, -1);
        }
        let mut rest = offset as usize;
        for (index, line) in self.lines.iter().enumerate() {
            let length = line.chars().count();
            if rest <= length {
                return (index as i32 + 1, rest as i32);
            }
            rest -= length + 1;
        }
        (self.lines.len() as i32, rest as i32)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The complaints in the order they were found.
    pub fn found(&self) -> &[Issue] {
        &self.found
    }
}

/// Lines longer than this are not shown.
const MAX_SNIPPET: usize = 16_384;

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Issue> = self.found.iter().collect();
        sorted.sort_by_key(|issue| (issue.line, issue.column));
        for (index, issue) in sorted.into_iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let (line, column) = (issue.line, issue.column);
            write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            let text = usize::try_from(line - 1).ok().and_then(|line| self.lines.get(line));
            let Some(text) = text.filter(|_| column >= 0) else {
                continue;
            };
            if text.len() > MAX_SNIPPET {
                continue;
            }
            write!(f, "\n | {}\n | ", text.replace('\t', " "))?;
            let mut characters = text.chars();
            for c in characters.by_ref().take(column as usize) {
                f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
            }
            let wide = characters.next().is_some_and(|c| c.len_utf8() > 1);
            f.write_str(if wide { "\u{ff3e}" } else { "^" })?;
        }
        if self.truncated > 0 {
            write!(f, "\n{} more errors were truncated", self.truncated)?;
        }
        Ok(())
    }
}
