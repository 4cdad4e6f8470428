//! Paths into a schema, as rules and selectable fields name places.

use strata_schema::structural::Structural;

/// A place of a schema.
pub(in crate::extension) struct Place<'s> {
    /// Its path as messages and causes have it.
    pub(in crate::extension) path: String,
    /// Its schema; `None` where upstream loses sight of it.
    pub(in crate::extension) schema: Option<&'s Structural>,
    /// The first name of the path.
    pub(in crate::extension) root: String,
}

/// Follows a path such as `.spec.labels['a.b/c']`. Errors: what is wrong with it.
pub(in crate::extension) fn follow<'s>(
    schema: &'s Structural,
    path: &str,
    brackets: bool,
) -> Result<Place<'s>, String> {
    let mut place = Place {
        path: String::new(),
        schema: Some(schema),
        root: String::new(),
    };
    let mut tokens = Tokens(path);
    let end = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        match token {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or_else(end)?;
                let inner = quoted.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
                let inner = inner.filter(|_| quoted.len() > 1);
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                place.enter(&unescaped(inner)?)?;
                match tokens.next().ok_or_else(end)? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => place.enter(tokens.next().ok_or_else(end)?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(place)
}

impl Place<'_> {
    fn enter(&mut self, name: &str) -> Result<(), String> {
        let none = || "does not refer to a valid field".to_owned();
        let here = self.schema.ok_or_else(none)?;
        if self.root.is_empty() {
            name.clone_into(&mut self.root);
        }
        if !here.properties.is_empty() {
            self.schema = Some(here.property(name).ok_or_else(none)?);
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
        } else if here.has_additional() {
            self.schema = here.others();
            self.path.push_str(&format!("[{name}]"));
        } else {
            return Err(none());
        }
        Ok(())
    }
}

/// Delimiters, quoted texts, and what stands between.
struct Tokens<'p>(&'p str);

impl<'p> Tokens<'p> {
    fn next(&mut self) -> Option<&'p str> {
        let text = self.0;
        let first = text.chars().next()?;
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = text.as_bytes();
                let closing = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
                closing.map_or(text.len(), |at| at + 1)
            }
            _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some(c @ ('\'' | '\\')) => c,
            Some(other) => return Err(format!("invalid string literal: invalid escape char \\{other}")),
            None => '\\',
        });
    }
    Ok(out)
}
