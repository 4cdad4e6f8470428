//! Names of properties that are no identifiers of the language.

/// Words the lexer keeps to itself.
pub(crate) const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The identifier that stands for a property: `foo-bar` is `foo__dash__bar`. `None` when the
/// property cannot be named in an expression.
pub fn escape(property: &str) -> Option<String> {
    if property.is_empty() || property.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let mut escaped = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        let (piece, length) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            c if c.is_ascii_alphanumeric() || c == '_' => (&rest[..1], 1),
            _ => return None,
        };
        escaped.push_str(piece);
        rest = &rest[length..];
    }
    Some(escaped)
}

/// The property an identifier stands for, or `None` when its escapes are not ours.
pub fn unescape(identifier: &str) -> Option<std::borrow::Cow<'_, str>> {
    if !identifier.contains("__") {
        return Some(identifier.into());
    }
    let mut property = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(start) = rest.find("__") {
        let inner = &rest[start + 2..];
        let length = inner.find('_').unwrap_or(inner.len());
        // An escape is `__`, something without underscores, `__`.
        if length == 0 || !inner[length..].starts_with("__") {
            property.push_str(&rest[..=start]);
            rest = &rest[start + 1..];
            continue;
        }
        property.push_str(&rest[..start]);
        let name = &inner[..length];
        let whole = name.len() + 4 == identifier.len();
        match name {
            "underscores" => property.push_str("__"),
            "dot" => property.push('.'),
            "dash" => property.push('-'),
            "slash" => property.push('/'),
            word if whole && RESERVED.contains(&word) => property.push_str(word),
            _ => return None,
        }
        rest = &inner[length + 2..];
    }
    property.push_str(rest);
    Some(property.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_become_identifiers_and_back() {
        for (property, identifier) in [
            ("a", "a"),
            ("a_b", "a_b"),
            ("a__b", "a__underscores__b"),
            ("a___b", "a__underscores___b"),
            ("foo-bar", "foo__dash__bar"),
            ("foo.bar/baz", "foo__dot__bar__slash__baz"),
            ("namespace", "__namespace__"),
            ("int", "int"),
            ("_", "_"),
        ] {
            assert_eq!(escape(property).as_deref(), Some(identifier));
            assert_eq!(unescape(identifier).as_deref(), Some(property), "{identifier}");
        }
        for bad in ["", "0a", "a$b", "é", "a b"] {
            assert_eq!(escape(bad), None, "{bad}");
        }
        assert_eq!(unescape("__foo__"), None);
        assert_eq!(unescape("a__if__"), None);
    }
}
