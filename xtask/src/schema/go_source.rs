//! Reads struct declarations, their tags and their markers out of Go API packages.
//!
//! Not a Go parser: it relies on gofmt's layout, one field a line, which every API package has.

use super::modules::Modules;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One Go package of API types.
#[derive(Default)]
pub struct Package {
    /// Import path, such as `k8s.io/api/apps/v1`.
    pub path: String,
    /// The name in its package clause.
    pub name: String,
    /// API group and version, if it is a registered one.
    pub group_version: Option<(String, String)>,
    /// Structs by name.
    pub structs: BTreeMap<String, Struct>,
    /// Other named types by name.
    pub named: BTreeMap<String, Named>,
    /// String constants by name: declared type (may be empty) and value.
    pub constants: Vec<(String, String, String)>,
}

/// A struct declaration.
#[derive(Default)]
pub struct Struct {
    /// Its fields in order.
    pub fields: Vec<Field>,
    /// Whether server-side apply treats it as one value.
    pub atomic: bool,
    /// If one of its fields is set at most: the JSON name of the field that tells which, if there is one, and the
    /// JSON and Go names of those fields.
    pub union: Option<(String, Vec<(String, String)>)>,
}

/// A named type that is no struct.
pub struct Named {
    /// What it is declared as.
    pub underlying: String,
    /// Whether it is `type A = B`.
    pub alias: bool,
    /// Whether its string constants are all its values.
    pub enumeration: bool,
    /// Whether protobuf wraps it into a message with one repeated field.
    pub wrapped: bool,
}

/// A field of a struct.
#[derive(Clone)]
pub struct Field {
    /// Empty for an inlined struct.
    pub json: String,
    /// Written as declared, with import aliases resolved to paths: `[]*path.Name`.
    pub go_type: String,
    /// Protobuf field number, if it has one.
    pub number: Option<u32>,
    /// Flags of the JSON tag.
    pub omit_empty: bool,
    /// The later flag for zero structs.
    pub omit_zero: bool,
    /// Whether the API description lists it as required.
    pub required: bool,
    /// `atomic`, `set` or `map`.
    pub list_type: String,
    /// Keys of a map list.
    pub list_keys: Vec<String>,
    /// `atomic` or `granular`.
    pub map_type: String,
    /// Strategic merge patch strategy.
    pub patch_strategy: String,
    /// Strategic merge patch key.
    pub patch_key: String,
    /// The default as JSON text.
    pub default: String,
    /// Its name in Go.
    pub go_name: String,
    /// Markers that make it part of a union.
    pub in_union: InUnion,
}

/// What a field is in a union.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum InUnion {
    /// No marker says so.
    #[default]
    Unmarked,
    /// It tells which field is set.
    Discriminator,
    /// It is one of the fields, whatever else the struct has.
    Member,
}

/// All packages of the public API, in a stable order.
pub fn read_packages(modules: &Modules) -> Result<Vec<Package>, String> {
    let mut sources: Vec<(String, PathBuf, Vec<&str>)> = Vec::new();
    for group in sorted_folders(&modules.api)? {
        for version in sorted_folders(&modules.api.join(&group))? {
            let folder = modules.api.join(&group).join(&version);
            if folder.join("types.go").is_file() {
                sources.push((format!("k8s.io/api/{group}/{version}"), folder, vec!["types.go"]));
            }
        }
    }
    let mut add = |module: &Path, name: &str, below: &str, files: Vec<&'static str>| {
        sources.push((format!("{name}/{below}"), module.join(below), files));
    };
    let machinery = &modules.apimachinery;
    add(
        &modules.apiextensions,
        "k8s.io/apiextensions-apiserver",
        "pkg/apis/apiextensions/v1",
        vec!["types.go", "types_jsonschema.go"],
    );
    add(
        &modules.aggregator,
        "k8s.io/kube-aggregator",
        "pkg/apis/apiregistration/v1",
        vec!["types.go"],
    );
    add(
        &modules.metrics,
        "k8s.io/metrics",
        "pkg/apis/metrics/v1beta1",
        vec!["types.go"],
    );
    add(
        machinery,
        "k8s.io/apimachinery",
        "pkg/apis/meta/v1",
        vec!["types.go", "group_version.go", "watch.go"],
    );
    add(
        machinery,
        "k8s.io/apimachinery",
        "pkg/apis/meta/v1beta1",
        vec!["types.go"],
    );
    add(
        machinery,
        "k8s.io/apimachinery",
        "pkg/types",
        vec!["uid.go", "nodename.go", "patch.go"],
    );
    sources
        .iter()
        .map(|(path, folder, files)| read_package(path, folder, files))
        .collect()
}

fn sorted_folders(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn read_package(path: &str, folder: &Path, files: &[&str]) -> Result<Package, String> {
    let mut package = Package {
        path: path.to_owned(),
        ..Package::default()
    };
    for file in files {
        let at = folder.join(file);
        read_file(&mut package, &read(&at)?).map_err(|e| format!("{}: {e}", at.display()))?;
    }
    if path != "k8s.io/apimachinery/pkg/types" {
        let register = read(&folder.join("register.go"))?;
        let group = quoted_after(&register, "GroupName = ").or_else(|| sibling_group(folder));
        let version = path.rsplit('/').next().unwrap_or_default();
        package.group_version = group.map(|group| (group, version.to_owned()));
    }
    Ok(package)
}

/// Some packages take the group's name from the unversioned package above them.
fn sibling_group(folder: &Path) -> Option<String> {
    let above = std::fs::read_to_string(folder.parent()?.join("register.go")).ok()?;
    quoted_after(&above, "GroupName = ")
}

fn quoted_after(text: &str, marker: &str) -> Option<String> {
    let rest = &text[text.find(marker)? + marker.len()..];
    let rest = rest.strip_prefix('"')?;
    Some(rest[..rest.find('"')?].to_owned())
}

fn read_file(package: &mut Package, text: &str) -> Result<(), String> {
    let imports = imports(text);
    let mut markers: Vec<&str> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        if let Some(comment) = line.strip_prefix("//") {
            markers.push(comment.trim());
            continue;
        }
        if let Some(name) = line.strip_prefix("package ") {
            package.name = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("type ") {
            let (name, rest) = rest.split_once(' ').ok_or_else(|| format!("type line {line:?}"))?;
            if rest == "struct {" {
                let declared = read_struct(&mut lines, &imports, &markers)?;
                package.structs.insert(name.to_owned(), declared);
            } else if rest == "struct{}" {
                package.structs.insert(name.to_owned(), Struct::default());
            } else if !rest.ends_with('{') {
                package.named.insert(name.to_owned(), named(rest, &imports, &markers));
            }
        } else {
            package.constants.extend(constant(line));
        }
        markers.clear();
    }
    Ok(())
}

fn named(rest: &str, imports: &BTreeMap<String, String>, markers: &[&str]) -> Named {
    let alias = rest.starts_with("= ");
    let underlying = rest
        .trim_start_matches("= ")
        .split(" //")
        .next()
        .unwrap_or_default()
        .trim();
    Named {
        underlying: resolve(underlying, imports),
        alias,
        enumeration: markers.contains(&"+enum"),
        wrapped: markers.contains(&"+protobuf.nullable=true"),
    }
}

/// `Name Type = "value"`, `Name = Type("value")` and `const Name = "value"` lines; a value that is another
/// package's constant is its name behind an equals sign.
fn constant(line: &str) -> Option<(String, String, String)> {
    let (left, right) = line.trim().split_once('=')?;
    let mut words = left.trim_start_matches("const ").split_whitespace();
    let name = words.next()?;
    let declared = words.next().unwrap_or_default();
    let right = right.trim();
    let converted = right
        .split_once('(')
        .and_then(|(of, rest)| Some((of, rest.strip_suffix(')')?)));
    let (declared, right) = match converted {
        Some((of, value)) if declared.is_empty() => (of, value),
        _ => (declared, right),
    };
    let value = match right.strip_prefix('"') {
        Some(value) => value[..value.find('"')?].to_owned(),
        None => format!("={}", right.split_once('.').filter(|_| converted.is_some())?.1),
    };
    let exported = name.starts_with(|c: char| c.is_ascii_uppercase()) && words.next().is_none();
    exported.then(|| (name.to_owned(), declared.to_owned(), value))
}

fn imports(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some(start) = text.find("import (") else {
        for line in text.lines().filter_map(|line| line.strip_prefix("import ")) {
            add_import(&mut found, line);
        }
        return found;
    };
    for line in text[start..].lines().skip(1).take_while(|line| *line != ")") {
        add_import(&mut found, line.trim());
    }
    found
}

fn add_import(found: &mut BTreeMap<String, String>, line: &str) {
    if let Some((alias, path)) = line.split_once('"') {
        let path = path.trim_end_matches('"');
        let last = path.rsplit('/').next().unwrap_or(path);
        let alias = if alias.trim().is_empty() { last } else { alias.trim() };
        found.insert(alias.to_owned(), path.to_owned());
    }
}

/// Replaces import aliases in a type expression by import paths in angle brackets.
fn resolve(expression: &str, imports: &BTreeMap<String, String>) -> String {
    if let Some(rest) = expression.strip_prefix('*') {
        return format!("*{}", resolve(rest, imports));
    }
    if let Some(rest) = expression.strip_prefix("[]") {
        return format!("[]{}", resolve(rest, imports));
    }
    if let Some((key, value)) = expression.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return format!("map[{}]{}", resolve(key, imports), resolve(value, imports));
    }
    match expression.split_once('.') {
        Some((alias, name)) => match imports.get(alias) {
            Some(path) => format!("<{path}>{name}"),
            None => expression.to_owned(),
        },
        None => expression.to_owned(),
    }
}

fn read_struct<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    imports: &BTreeMap<String, String>,
    of_type: &[&str],
) -> Result<Struct, String> {
    let mut fields = Vec::new();
    let mut markers: Vec<&str> = Vec::new();
    for line in lines {
        if line == "}" {
            return Ok(Struct {
                atomic: has(of_type, "structType", "atomic"),
                union: union(&fields, of_type.contains(&"+union")),
                fields,
            });
        }
        let line = line.trim();
        match line.strip_prefix("//") {
            Some(comment) => markers.push(comment.trim()),
            None => {
                fields.extend(field(line, imports, &markers));
                markers.clear();
            }
        }
    }
    Err("struct without an end".to_owned())
}

/// Of a struct that is one, every field but the discriminator is a member; of others those that are marked.
fn union(fields: &[Field], whole: bool) -> Option<(String, Vec<(String, String)>)> {
    let discriminator = fields.iter().find(|field| field.in_union == InUnion::Discriminator);
    let member = |field: &&Field| match whole {
        true => !field.json.is_empty() && field.in_union != InUnion::Discriminator,
        false => field.in_union == InUnion::Member,
    };
    let members: Vec<_> = fields
        .iter()
        .filter(member)
        .map(|field| (field.json.clone(), field.go_name.clone()))
        .collect();
    let name = discriminator.map_or(String::new(), |field| field.json.clone());
    (!members.is_empty()).then_some((name, members))
}

fn field(line: &str, imports: &BTreeMap<String, String>, markers: &[&str]) -> Option<Field> {
    let (declaration, rest) = line.split_once('`')?;
    let tags = rest.split('`').next().unwrap_or_default();
    let untagged = declaration.split_whitespace().next().unwrap_or_default();
    let json_tag = tag(tags, "json").unwrap_or(untagged);
    let mut json_parts = json_tag.split(',');
    let json = json_parts.next().unwrap_or_default();
    let flags: Vec<&str> = json_parts.collect();
    if json == "-" {
        return None;
    }
    let go_type = declaration.split_whitespace().last().unwrap_or_default();
    let number = tag(tags, "protobuf").and_then(|text| text.split(',').nth(1)?.parse().ok());
    let optional = markers.contains(&"+optional") || json_tag.contains("omitempty");
    let value = |name: &str| marker(markers, name).unwrap_or_default().to_owned();
    Some(Field {
        json: json.to_owned(),
        go_type: resolve(go_type, imports),
        number,
        omit_empty: flags.contains(&"omitempty"),
        omit_zero: flags.contains(&"omitzero"),
        required: markers.contains(&"+required") || !optional,
        list_type: value("listType"),
        list_keys: markers
            .iter()
            .filter_map(|m| m.strip_prefix("+listMapKey="))
            .map(unquoted)
            .collect(),
        map_type: marker(markers, "structType").map_or_else(|| value("mapType"), str::to_owned),
        patch_strategy: tag(tags, "patchStrategy")
            .or_else(|| marker(markers, "patchStrategy"))
            .unwrap_or_default()
            .to_owned(),
        patch_key: tag(tags, "patchMergeKey")
            .or_else(|| marker(markers, "patchMergeKey"))
            .unwrap_or_default()
            .to_owned(),
        default: value("default"),
        go_name: untagged.to_owned(),
        in_union: match (
            markers.contains(&"+unionDiscriminator"),
            markers.contains(&"+unionDeprecated"),
        ) {
            (true, _) => InUnion::Discriminator,
            (_, true) => InUnion::Member,
            _ => InUnion::Unmarked,
        },
    })
}

fn unquoted(text: &str) -> String {
    text.trim_matches('"').to_owned()
}

fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{name}:\""))? + name.len() + 2;
    let rest = &tags[start..];
    Some(&rest[..rest.find('"')?])
}

fn marker<'a>(markers: &[&'a str], name: &str) -> Option<&'a str> {
    markers
        .iter()
        .find_map(|m| m.strip_prefix('+')?.strip_prefix(name)?.strip_prefix('='))
}

fn has(markers: &[&str], name: &str, value: &str) -> bool {
    marker(markers, name) == Some(value)
}
