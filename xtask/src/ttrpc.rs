//! `generate-ttrpc`: the messages between containerd and a shim as structs.
//!
//! Read from the descriptions in the Go module cache, as [`crate::cri`] does. Only facts are taken.

use crate::{
    Context,
    cri::{Type, formatted, module, one, read, write},
};
use std::fs;

/// Where the structs live in the repository.
const OUTPUT: &str = "container/ttrpc/src/generated";

const API: &str = "github.com/containerd/containerd/api@v1.10.0";
const CGROUPS: &str = "github.com/containerd/cgroups/v3@v3.0.5";

/// A file to write: its name, and what is in it.
struct File {
    name: &'static str,
    module: &'static str,
    /// Descriptions inside the module, and the types wanted of each; none is all.
    sources: &'static [(&'static str, &'static [&'static str])],
}

const FILES: &[File] = &[
    File {
        name: "task.rs",
        module: API,
        sources: &[
            ("types/mount.proto", &["Mount"]),
            ("types/task/task.proto", &["Status", "ProcessInfo"]),
            ("runtime/task/v2/shim.proto", &[]),
            ("events/task.proto", &[]),
            ("types/event.proto", &[]),
            ("services/ttrpc/events/v1/events.proto", &[]),
            ("types/introspection.proto", &["RuntimeVersion", "RuntimeInfo"]),
            ("types/runc/options/oci.proto", &["Options", "ProcessDetails"]),
        ],
    },
    File {
        name: "metrics_v1.rs",
        module: CGROUPS,
        sources: &[("cgroup1/stats/metrics.proto", &[])],
    },
    File {
        name: "metrics_v2.rs",
        module: CGROUPS,
        sources: &[("cgroup2/stats/metrics.proto", &[])],
    },
];

/// Messages that every package knows; written by hand.
const WELL_KNOWN: [&str; 2] = ["Any", "Timestamp"];

/// Writes the structs, or with `--check` compares them with what is checked in.
pub fn run(context: &Context, arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: generate-ttrpc [--check]".to_owned()),
    };
    for file in FILES {
        let text = formatted(&emit(file)?)?;
        write(&context.root.join(OUTPUT).join(file.name), &text, check)?;
    }
    Ok(())
}

fn emit(file: &File) -> Result<String, String> {
    let folder = module(file.module)?;
    let mut types: Vec<Type> = WELL_KNOWN.map(Type::foreign).into();
    for (source, wanted) in file.sources {
        let path = folder.join(source);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let found = read(&text)?;
        types.extend(
            found
                .into_iter()
                .filter(|kind| wanted.is_empty() || wanted.contains(&&*kind.name)),
        );
    }
    let mut body = String::new();
    for kind in types.iter().skip(WELL_KNOWN.len()) {
        one(&mut body, kind, &types)?;
    }
    let mut out = String::from("// Made by `cargo xtask generate-ttrpc`; do not edit.\n\n");
    for (word, import) in [
        ("<Any>", "crate::envelope::Any"),
        ("<Timestamp>", "crate::envelope::Timestamp"),
        ("BTreeMap<", "alloc::collections::BTreeMap"),
        ("String", "alloc::string::String"),
        ("Vec<", "alloc::vec::Vec"),
    ] {
        if body.contains(word) {
            out.push_str(&format!("use {import};\n"));
        }
    }
    Ok(out + &body)
}
