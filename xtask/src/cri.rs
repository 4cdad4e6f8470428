//! `generate-cri`: the messages of the container runtime interface as structs.
//!
//! Read from the description in the Go module cache. Only facts are taken: names, types, numbers.
//! What is about Windows is left out; a decoder skips what it does not know.

use crate::{Context, schema::STAGING};
use std::{fmt::Write, fs, path::Path, process::Command};

/// Where the structs live in the repository.
const OUTPUT: &str = "engine/cri/src/generated/v1.rs";
/// The description, inside the module.
const SOURCE: &str = "pkg/apis/runtime/v1/api.proto";

/// A message or an enumeration.
pub(crate) struct Type {
    pub(crate) name: String,
    is_enum: bool,
    /// A field's declaration, or an enumeration's value, without its number.
    members: Vec<(String, u32)>,
    /// Some field holds a secret.
    secret: bool,
}

impl Type {
    /// A message that is described elsewhere.
    pub(crate) fn foreign(name: &str) -> Self {
        Type {
            name: name.to_owned(),
            is_enum: false,
            members: Vec::new(),
            secret: false,
        }
    }
}

/// Writes the structs, or with `--check` compares them with what is checked in.
pub fn run(context: &Context, arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: generate-cri [--check]".to_owned()),
    };
    let source = module(&format!("k8s.io/cri-api@{STAGING}"))?.join(SOURCE);
    let text = fs::read_to_string(&source).map_err(|e| format!("{}: {e}", source.display()))?;
    let types = read(&text)?;
    let path = context.root.join(OUTPUT);
    write(&path, &formatted(&emit(&types)?)?, check)
}

/// Writes a generated file, or compares it with what is there.
pub(crate) fn write(path: &Path, text: &str, check: bool) -> Result<(), String> {
    let name = path.display();
    if check {
        let old = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        return if old == text {
            Ok(())
        } else {
            Err(format!("{name} is out of date: run cargo xtask generate-…"))
        };
    }
    fs::write(path, text).map_err(|e| format!("{name}: {e}"))?;
    println!("{name} {} bytes", text.len());
    Ok(())
}

/// The folder of a Go module, `name@version`.
pub(crate) fn module(name: &str) -> Result<std::path::PathBuf, String> {
    let run = Command::new("go").args(["env", "GOMODCACHE"]).output();
    let run = run.map_err(|e| format!("go: {e}"))?;
    let cache = String::from_utf8_lossy(&run.stdout).trim().to_owned();
    let module = Path::new(&cache).join(name);
    if module.is_dir() {
        return Ok(module);
    }
    Err(format!("{} is missing: go mod download {name}", module.display()))
}

/// The types in their order; one inside another is put beside it.
pub(crate) fn read(text: &str) -> Result<Vec<Type>, String> {
    let plain: String = text.lines().fold(String::new(), |mut all, line| {
        all.push_str(line.split("//").next().unwrap_or(line));
        all.push('\n');
        all
    });
    let mut done = Vec::new();
    let mut open: Vec<Type> = Vec::new();
    let mut skipped = 0_usize;
    let mut statement = String::new();
    for character in plain.chars() {
        match character {
            '{' => {
                let words: Vec<&str> = statement.split_whitespace().collect();
                match words.as_slice() {
                    [kind @ ("message" | "enum"), name] if skipped == 0 => open.push(Type {
                        name: (*name).to_owned(),
                        is_enum: *kind == "enum",
                        members: Vec::new(),
                        secret: false,
                    }),
                    _ => skipped += 1,
                }
                statement.clear();
            }
            '}' => {
                statement.clear();
                match skipped.checked_sub(1) {
                    Some(left) => skipped = left,
                    None => done.push(open.pop().ok_or("a brace too many")?),
                }
            }
            ';' => {
                if skipped == 0
                    && let Some(inside) = open.last_mut()
                {
                    member(inside, &statement)?;
                }
                statement.clear();
            }
            other => statement.push(other),
        }
    }
    if open.is_empty() {
        Ok(done)
    } else {
        Err("a brace is missing".to_owned())
    }
}

fn member(inside: &mut Type, statement: &str) -> Result<(), String> {
    let bad = || format!("cannot read {:?} in {}", statement.trim(), inside.name);
    if matches!(statement.split_whitespace().next(), Some("reserved" | "option")) {
        return Ok(());
    }
    inside.secret |= statement.contains("debug_redact");
    let plain = statement.split('[').next().unwrap_or(statement);
    let (declaration, number) = plain.rsplit_once('=').ok_or_else(bad)?;
    let number = number.trim().parse().map_err(|_| bad())?;
    let words: Vec<&str> = declaration.split_whitespace().collect();
    inside.members.push((words.join(" "), number));
    Ok(())
}

fn emit(types: &[Type]) -> Result<String, String> {
    let mut out = String::from("// Made by `cargo xtask generate-cri`; do not edit.\n\n");
    out.push_str("use std::collections::BTreeMap;\n");
    for kind in types.iter().filter(|kind| !kind.name.starts_with("Windows")) {
        one(&mut out, kind, types)?;
    }
    Ok(out)
}

/// Appends one type.
pub(crate) fn one(out: &mut String, kind: &Type, types: &[Type]) -> Result<(), String> {
    let written = if kind.is_enum {
        enumeration(out, kind)
    } else {
        message(out, kind, types)?
    };
    written.map_err(|e| e.to_string())
}

fn enumeration(out: &mut String, kind: &Type) -> std::fmt::Result {
    writeln!(
        out,
        "\n#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]\n#[repr(i32)]\npub enum {} {{",
        kind.name
    )?;
    for (name, number) in &kind.members {
        writeln!(out, "    {} = {number},", camel(name))?;
    }
    writeln!(out, "}}")
}

fn message(out: &mut String, kind: &Type, types: &[Type]) -> Result<std::fmt::Result, String> {
    // Who logs a message must not log a password.
    let debug = if kind.secret { "#[prost(skip_debug)]\n" } else { "" };
    let mut fields = String::new();
    for (declaration, number) in &kind.members {
        let declaration = declaration.replace(", ", ",");
        let (of, name) = declaration.rsplit_once(' ').ok_or("a field without a type")?;
        let (repeated, of) = match of.strip_prefix("repeated ") {
            Some(of) => (true, of),
            None => (false, of),
        };
        if of.starts_with("Windows") {
            continue;
        }
        let (attribute, plain) = shape(of, repeated, types)?;
        let written = writeln!(
            fields,
            "    #[prost({attribute}, tag = \"{number}\")]\n    pub {}: {plain},",
            snake(name)
        );
        written.map_err(|e| e.to_string())?;
    }
    Ok(writeln!(
        out,
        "\n#[derive(Clone, PartialEq, ::prost::Message)]\n{debug}pub struct {} {{\n{fields}}}",
        kind.name
    ))
}

/// prost's attribute and the field's type.
fn shape(of: &str, repeated: bool, types: &[Type]) -> Result<(String, String), String> {
    if of.starts_with("map<") {
        let text = of.trim_start_matches("map<").trim_end_matches('>');
        return match text {
            "string,string" => Ok((
                "btree_map = \"string, string\"".into(),
                "BTreeMap<String, String>".into(),
            )),
            other => Err(format!("no rule for a map of {other}")),
        };
    }
    let scalar = match of {
        "string" => Some(("string", "String")),
        "bytes" => Some(("bytes = \"vec\"", "Vec<u8>")),
        "bool" => Some(("bool", "bool")),
        "double" => Some(("double", "f64")),
        "int32" => Some(("int32", "i32")),
        "int64" => Some(("int64", "i64")),
        "uint32" => Some(("uint32", "u32")),
        "uint64" => Some(("uint64", "u64")),
        _ => None,
    };
    if let Some((attribute, plain)) = scalar {
        return Ok(match repeated {
            true => (format!("{attribute}, repeated"), format!("Vec<{plain}>")),
            false => (attribute.to_owned(), plain.to_owned()),
        });
    }
    // A type of another package is known by its last name.
    let of = of.rsplit('.').next().unwrap_or(of);
    let known = types.iter().find(|kind| kind.name == of);
    let known = known.ok_or_else(|| format!("no type {of}"))?;
    Ok(match (known.is_enum, repeated) {
        (true, true) => (format!("enumeration = \"{of}\", repeated"), "Vec<i32>".to_owned()),
        (true, false) => (format!("enumeration = \"{of}\""), "i32".to_owned()),
        (false, true) => ("message, repeated".to_owned(), format!("Vec<{of}>")),
        (false, false) => ("message, optional".to_owned(), format!("Option<{of}>")),
    })
}

/// `SANDBOX_READY` is `SandboxReady`; what has lower case letters stays.
fn camel(name: &str) -> String {
    if name.contains(|c: char| c.is_ascii_lowercase()) {
        return name.to_owned();
    }
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    });
    words.collect()
}

/// `uidMappings` is `uid_mappings`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut was_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && was_lower {
            out.push('_');
        }
        was_lower = character.is_ascii_lowercase();
        out.push(character.to_ascii_lowercase());
    }
    if out == "type" { "r#type".to_owned() } else { out }
}

pub(crate) fn formatted(text: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("v1.rs");
    fs::write(&path, text).map_err(|e| e.to_string())?;
    let run = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=120"])
        .arg(&path)
        .output();
    let run = run.map_err(|e| format!("rustfmt: {e}"))?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into_owned());
    }
    fs::read_to_string(&path).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_structs() {
        let text = "message A { // words\n map<string, string> labels = 2; repeated B more = 3; WindowsB w = 4; \
                    enum Kind { X_Y = 0; } Kind kind = 5; string secret = 6 [debug_redact = true]; }\nmessage B {}\n\
                    service S { rpc Do(A) returns (B) {} }";
        let out = emit(&read(text).expect("readable")).expect("complete");
        for part in [
            "pub labels: BTreeMap<String, String>",
            "pub more: Vec<B>",
            "enumeration = \"Kind\", tag = \"5\"",
            "XY = 0",
            "skip_debug",
        ] {
            assert!(out.contains(part), "{part} in {out}");
        }
        assert!(!out.contains("Windows") && !out.contains("pub struct S "));
        assert_eq!(
            (snake("uidMappings"), snake("CDI_devices")),
            ("uid_mappings".into(), "cdi_devices".into())
        );
    }
}
