//! `generate-schema`: the compact schema table from the public API description.
//!
//! Types come from the struct tags and markers of the Go API modules, resources from the
//! discovery documents beside them; both are found in the Go module cache, by name. Only facts
//! are taken: names, numbers, types, list keys, merge keys, defaults and enum values.

mod discovery;
mod emit;
mod go_source;
mod modules;
mod swagger;

use crate::Context;
use std::path::Path;

/// The Kubernetes release the table describes.
pub const KUBERNETES: &str = "v1.36.3";
/// The same release of the modules published from its staging folder.
pub const STAGING: &str = "v0.36.3";

/// Where the table lives in the repository.
const OUTPUT: &str = "cluster/schema/src/generated";

/// A file of the table and what belongs in it.
pub struct Generated {
    /// The file's name in the output folder.
    pub name: &'static str,
    /// Its whole text.
    pub text: String,
}

/// Writes the table, or with `--check` compares it with what is checked in.
pub fn run(context: &Context, arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: generate-schema [--check]".to_owned()),
    };
    let folder = context.root.join(OUTPUT);
    let files = generate()?;
    if check {
        return compare(&folder, &files);
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for file in &files {
        let path = folder.join(file.name);
        std::fs::write(&path, &file.text).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{} {} bytes", path.display(), file.text.len());
    }
    Ok(())
}

/// The table's files, made anew.
pub fn generate() -> Result<Vec<Generated>, String> {
    let modules = modules::locate()?;
    let packages = go_source::read_packages(&modules)?;
    swagger::cross_check(&modules, &packages)?;
    let resources = discovery::read(&modules.kubernetes)?;
    Ok(vec![
        Generated {
            name: "types.txt",
            text: emit::types(&packages)?,
        },
        Generated {
            name: "kinds.txt",
            text: emit::kinds(&resources),
        },
    ])
}

fn compare(folder: &Path, files: &[Generated]) -> Result<(), String> {
    for file in files {
        let path = folder.join(file.name);
        let present = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let different = present.lines().zip(file.text.lines()).position(|(a, b)| a != b);
        if let Some(line) = different {
            return Err(format!(
                "{}:{}: differs; run `cargo xtask generate-schema`",
                path.display(),
                line + 1
            ));
        }
        if present != file.text {
            return Err(format!(
                "{}: differs in length; run `cargo xtask generate-schema`",
                path.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_schema_table_is_what_the_generator_makes() {
        if !modules::go_is_installed() {
            eprintln!("skipped: no go command, so the public API description cannot be read");
            return;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("inside the repository");
        let context = Context { root: root.to_owned() };
        run(&context, &["--check".to_owned()]).expect("up to date");
    }
}
