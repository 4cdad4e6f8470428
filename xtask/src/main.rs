//! Code generation and repository checks: `cargo xtask SUBCOMMAND`.
//!
//! Each subcommand is a row of [`SUBCOMMANDS`]; a new check adds a row and a module.

mod cri;
mod golden;
mod licences;
mod schema;
mod tidy;
mod ttrpc;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One thing `cargo xtask` can do.
struct Subcommand {
    name: &'static str,
    summary: &'static str,
    run: fn(&Context, &[String]) -> Result<(), String>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "generate-schema",
        summary: "write cluster/schema/src/generated from the public API description (--check: compare only)",
        run: schema::run,
    },
    Subcommand {
        name: "generate-cri",
        summary: "write engine/cri/src/generated from the description of the container runtime interface (--check: compare only)",
        run: cri::run,
    },
    Subcommand {
        name: "generate-ttrpc",
        summary: "write container/ttrpc/src/generated from the descriptions of containerd's shims (--check: compare only)",
        run: ttrpc::run,
    },
    Subcommand {
        name: "generate-golden",
        summary: "write tests/golden/golden from the answers of the upstream Go libraries",
        run: golden::run,
    },
    Subcommand {
        name: "licences",
        summary: "check that everything linked has a permissive licence",
        run: licences::run,
    },
    Subcommand {
        name: "tidy",
        summary: "check layers, headers, lengths, links and that nothing built is in the repository",
        run: tidy::run,
    },
];

/// What every subcommand is given.
struct Context {
    /// The repository's root folder.
    root: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = arguments
        .first()
        .and_then(|name| SUBCOMMANDS.iter().find(|row| row.name == name));
    let Some(chosen) = chosen else {
        eprintln!("usage: cargo xtask SUBCOMMAND");
        for row in SUBCOMMANDS {
            eprintln!("  {:18} {}", row.name, row.summary);
        }
        return ExitCode::from(2);
    };
    match (chosen.run)(&context(), &arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {}: {message}", chosen.name);
            ExitCode::FAILURE
        }
    }
}

fn context() -> Context {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().expect("xtask lies inside the repository");
    Context { root: root.to_owned() }
}
