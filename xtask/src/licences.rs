//! Licences of everything that is linked: permissive ones only, nothing of the GPL family.

use crate::Context;
use serde_json::Value;
use std::process::Command;

/// What may be linked; MPL-2.0 as long as it is unmodified, which packages from a registry are.
const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "0BSD",
    "MPL-2.0",
];

/// Names every package whose licence is not allowed.
pub fn run(context: &Context, _: &[String]) -> Result<(), String> {
    let arguments = ["metadata", "--format-version", "1", "--locked"];
    let run = Command::new("cargo")
        .args(arguments)
        .current_dir(&context.root)
        .output();
    let run = run.map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: Value = serde_json::from_slice(&run.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata without packages")?;
    let refused = packages.iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("none");
        (!permitted(licence)).then(|| format!("{} {}: {licence}", package["name"], package["version"]))
    });
    let refused: Vec<String> = refused.collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(format!("licences that may not be linked:\n  {}", refused.join("\n  ")))
}

/// Whether an SPDX expression can be met with allowed licences. `/` is the old way to write OR.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    if let Some(alternatives) = split(expression, " OR ") {
        return alternatives.iter().any(|part| permitted(part));
    }
    if let Some(parts) = split(expression, " AND ") {
        return parts.iter().all(|part| permitted(part));
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => permitted(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// The operands of an operator outside parentheses; `None` if it does not occur there.
fn split<'a>(expression: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0_i32, 0);
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && expression[at..].starts_with(operator) => {
                parts.push(expression[begin..at].trim());
                begin = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(expression[begin..].trim());
    (parts.len() > 1).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_weighed() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(permitted(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(LGPL-2.1 OR GPL-2.0)"] {
            assert!(!permitted(bad), "{bad}");
        }
    }
}
