//! Ending and removing the cgroups of an instance, in every hierarchy that is mounted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between looks; the kernel has no event for a v1 cgroup that has become empty.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The cgroups of that name.
fn groups(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_else(|_| String::new());
    let point = |line: &str| {
        let (fields, filesystem) = line.split_once(" - ")?;
        let point = fields.split(' ').nth(4)?;
        filesystem.starts_with("cgroup").then(|| Path::new(point).join(name))
    };
    let mut found: Vec<PathBuf> = mounts.lines().filter_map(point).filter(|path| path.exists()).collect();
    found.sort();
    found.dedup();
    found
}

/// Kills every process of the cgroup of that name and those below it.
pub fn kill_all(name: &str) {
    let began = Instant::now();
    loop {
        let mut pids = Vec::new();
        for group in groups(name) {
            processes(&group, &mut pids);
        }
        if pids.is_empty() || began.elapsed() > PATIENCE {
            return;
        }
        for pid in pids {
            // One that has ended meanwhile is what was wanted.
            let _ = strata_sys::process::kill(pid, rustix::process::Signal::KILL.as_raw());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn processes(group: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) {
        pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|pid| *pid > 1),
        );
    }
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            processes(&entry.path(), pids);
        }
    }
}

/// Removes the cgroup of that name, and all below it, within the patience for all of them together.
pub fn remove(name: &str) {
    let began = Instant::now();
    for group in groups(name) {
        // A killed process leaves its cgroup a moment after it is gone from the list.
        while let Err(error) = remove_tree(&group) {
            if error.kind() == io::ErrorKind::NotFound {
                break;
            }
            if began.elapsed() > PATIENCE {
                tracing::warn!(path = %group.display(), %error, "a cgroup could not be removed");
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
