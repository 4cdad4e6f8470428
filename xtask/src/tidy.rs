//! What the repository holds itself to: layers, headers, lengths, links, no built things.

use crate::Context;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Folders from the machine up. A crate may use crates of its own folder and of those above it.
const LAYERS: [&str; 8] = [
    "base",
    "machine",
    "container",
    "host",
    "engine",
    "node",
    "cluster",
    "strata",
];
/// Siblings that may not link each other although one stands above the other.
const APART: [(&str, &str); 2] = [("cluster", "node"), ("cluster", "engine")];
/// Edges inside a folder that are meant to be absent: (from, to).
const FORBIDDEN: [(&str, &str); 3] = [
    ("strata-scheduler", "strata-api"),
    ("strata-controllers", "strata-api"),
    ("strata-shim", "strata-image"),
];
/// Longest Rust file.
const MAX_LINES: usize = 600;
/// Largest file in the repository; generated tables are data.
const MAX_BYTES: u64 = 1 << 20;

/// Runs every check and names everything that is wrong.
pub fn run(context: &Context, _: &[String]) -> Result<(), String> {
    let files = tracked(&context.root)?;
    let mut problems = edges(&context.root)?;
    for file in &files {
        let path = context.root.join(file);
        problems.extend(look_at(&context.root, file, &path));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} problem(s):\n  {}", problems.len(), problems.join("\n  ")))
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let run = Command::new(program).args(arguments).current_dir(root).output();
    let run = run.map_err(|e| format!("{program}: {e}"))?;
    if run.status.success() {
        Ok(run.stdout)
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&run.stderr)))
    }
}

fn tracked(root: &Path) -> Result<Vec<String>, String> {
    let text = output(root, "git", &["ls-files", "-z"])?;
    let names = text.split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// The folder of each crate, and what it links.
fn edges(root: &Path) -> Result<Vec<String>, String> {
    let text = output(root, "cargo", &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata without packages")?;
    let folder = |package: &Value| -> Option<(String, String)> {
        let manifest = PathBuf::from(package["manifest_path"].as_str()?);
        let relative = manifest.strip_prefix(root).ok()?;
        let top = relative.iter().next()?.to_str()?;
        Some((package["name"].as_str()?.to_owned(), top.to_owned()))
    };
    let folders: BTreeMap<String, String> = packages.iter().filter_map(folder).collect();
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // What a test links is its own affair.
            if !dependency["kind"].is_null() {
                continue;
            }
            let to = dependency["name"].as_str().unwrap_or_default();
            let (Some(from_folder), Some(to_folder)) = (folders.get(name), folders.get(to)) else {
                continue;
            };
            if !allowed((name, from_folder), (to, to_folder)) {
                problems.push(format!("{name} ({from_folder}/) may not link {to} ({to_folder}/)"));
            }
        }
    }
    Ok(problems)
}

fn allowed(from: (&str, &str), to: (&str, &str)) -> bool {
    let layer = |folder: &str| LAYERS.iter().position(|l| *l == folder);
    let (Some(below), Some(above)) = (layer(to.1), layer(from.1)) else {
        return from.1 == "xtask" || from.1 == "tests" || from.1 == "bench";
    };
    below <= above && !APART.contains(&(from.1, to.1)) && !FORBIDDEN.contains(&(from.0, to.0))
}

fn look_at(root: &Path, file: &str, path: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let Ok(bytes) = fs::read(path) else { return problems };
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_BYTES {
        problems.push(format!(
            "{file}: {size} bytes; built things do not belong in the repository"
        ));
    }
    if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"!<arch>") {
        problems.push(format!("{file}: a built thing"));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return problems;
    };
    if file.ends_with(".rs") {
        problems.extend(look_at_rust(file, &text));
    }
    if file.ends_with(".md") {
        problems.extend(dead_links(root, file, &text));
    }
    problems
}

fn look_at_rust(file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES && !file.contains("/generated/") {
        problems.push(format!("{file}: {lines} lines, more than {MAX_LINES}"));
    }
    // A module of tests belongs to the file it tests, which has the header.
    let is_inner = file.ends_with("/tests.rs") && file.contains("/src/");
    if !text.starts_with("//!") && !file.contains("/generated/") && !is_inner {
        problems.push(format!("{file}: does not begin with a //! header"));
    }
    problems
}

/// Relative links of a page that lead nowhere.
fn dead_links(root: &Path, file: &str, text: &str) -> Vec<String> {
    let folder = root.join(file).parent().map(Path::to_owned).unwrap_or_default();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|t| !t.contains("://") && !t.starts_with('#') && !t.is_empty());
    let dead = local.filter(|t| !folder.join(t.split('#').next().unwrap_or(t)).exists());
    dead.map(|t| format!("{file}: the link to {t} leads nowhere")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_link_downwards_only() {
        assert!(allowed(("strata-api", "cluster"), ("strata-meta", "base")));
        assert!(allowed(("strata-agent", "node"), ("strata-engine", "engine")));
        assert!(!allowed(("strata-meta", "base"), ("strata-api", "cluster")));
        assert!(!allowed(("strata-api", "cluster"), ("strata-agent", "node")));
        assert!(!allowed(("strata-agent", "node"), ("strata-api", "cluster")));
    }

    #[test]
    fn headers_and_lengths_are_looked_at() {
        assert!(look_at_rust("a.rs", "//! A.\n").is_empty());
        assert_eq!(look_at_rust("a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(look_at_rust("a.rs", &format!("//! A.\n{}", "\n".repeat(700))).len(), 1);
    }
}
