//! `strata reset`: ends whatever a stopped server has left running, and removes every trace.

use crate::{
    cgroups,
    cli::DataDir,
    failure::{During, Outcome, fail},
};
use std::{fs, io, path::Path};

/// Resets the node of a data directory.
pub fn run(args: &DataDir) -> Outcome {
    let data_dir = &args.data_dir;
    if !data_dir.exists() {
        return Ok(());
    }
    let data_dir = data_dir
        .canonicalize()
        .during(format!("opening {}", data_dir.display()))?;
    if matches!(
        strata_store::check(&data_dir.join("db")),
        Err(strata_store::Error::Held { .. })
    ) {
        return fail(format!("a server is running on {}; stop it first", data_dir.display()));
    }
    if crate::people::is_running(&data_dir) {
        return fail(format!("an engine is running on {}; stop it first", data_dir.display()));
    }
    // Containers whose cgroups the user chose lie outside of the instance's.
    for group in strata_docker::cgroups_elsewhere(&data_dir.join("docker")) {
        let group = group.trim_start_matches('/');
        cgroups::kill_all(group);
        cgroups::remove(group);
    }
    for name in instances(&data_dir) {
        let group = format!("strata-{name}");
        cgroups::kill_all(&group);
        strata_net::cleanup(&name).during("removing links and tables")?;
        cgroups::remove(&group);
        remove_mounted(&Path::new("/run/strata").join(&name))?;
    }
    remove_mounted(&data_dir)
}

/// The names by which a data directory's server, node or engine has marked what is its own.
fn instances(data_dir: &Path) -> Vec<String> {
    let server = fs::read(data_dir.join("instance.json")).ok().and_then(|bytes| {
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        value["name"].as_str().map(str::to_owned)
    });
    let node = fs::read_to_string(data_dir.join("node/instance")).ok();
    let engine = fs::read_to_string(data_dir.join("docker/instance")).ok();
    server.into_iter().chain(node).chain(engine).collect()
}

/// Removes a folder and whatever is mounted in it.
fn remove_mounted(path: &Path) -> Outcome {
    if !path.exists() {
        return Ok(());
    }
    strata_mount::unmount_below(path).during(format!("unmounting below {}", path.display()))?;
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).during(format!("removing {}", path.display())),
        _ => Ok(()),
    }
}
