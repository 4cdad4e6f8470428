//! Which hierarchies this machine has, and making directories in them.

use crate::error::{Context, Error, Result};
use alloc::{format, string::String, vec::Vec};
use rustix::fs::Mode;
use strata_sys::{Errno, file};

/// Longest mount table that is read.
const MOUNT_TABLE_LIMIT: usize = 16 << 20;

/// All cgroup hierarchies of this machine that containers are put into.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: String,
    /// Its controllers (v1), or none for the named one.
    pub controllers: Vec<String>,
    /// Name of a v1 hierarchy without controllers (`systemd`).
    pub name: String,
    /// Whether it is v2.
    pub unified: bool,
    /// The part of the hierarchy that the mount shows; `/` outside of containers.
    root: String,
}

impl Hierarchy {
    /// The directory of a cgroup.
    pub fn directory(&self, path: &str) -> String {
        let inside = match path.strip_prefix(&*self.root) {
            Some(rest) if self.root != "/" && (rest.is_empty() || rest.starts_with('/')) => rest,
            _ => path,
        };
        format!("{}{}", self.mount, inside.trim_end_matches('/'))
    }

    /// Name of its directory under /sys/fs/cgroup.
    pub fn label(&self) -> &str {
        self.mount.rsplit('/').next().unwrap_or("")
    }
}

impl Layout {
    /// Reads this machine's layout from the mount table.
    pub fn detect() -> Result<Self> {
        let text = file::read("/proc/self/mountinfo", MOUNT_TABLE_LIMIT).context(|| "read /proc/self/mountinfo")?;
        let layout = Self::parse(&String::from_utf8_lossy(&text));
        if layout.hierarchies.is_empty() {
            return Err(Error::Invalid("no cgroup hierarchy is mounted on this machine".into()));
        }
        Ok(layout)
    }

    /// proc_pid_mountinfo(5): `id parent dev root mount options [fields…] - type source super-options`.
    fn parse(table: &str) -> Self {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2 = None;
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(mount)) = (left.next(), left.next()) else {
                continue;
            };
            if !mount.starts_with("/sys/fs/cgroup") {
                continue;
            }
            let mut hierarchy = Hierarchy {
                mount: mount.into(),
                controllers: Vec::new(),
                name: String::new(),
                unified: kind == "cgroup2",
                root: root.into(),
            };
            match kind {
                "cgroup2" => v2 = Some(hierarchy),
                "cgroup" => {
                    for option in options.split(',') {
                        match option.strip_prefix("name=") {
                            Some(name) => hierarchy.name = name.into(),
                            None if CONTROLLERS.contains(&option) => hierarchy.controllers.push(option.into()),
                            None => {}
                        }
                    }
                    v1.retain(|other| other.mount != hierarchy.mount);
                    v1.push(hierarchy);
                }
                _ => {}
            }
        }
        // Hybrid: the controllers are where v1 is.
        let hierarchies = if v1.is_empty() { v2.into_iter().collect() } else { v1 };
        Layout { hierarchies }
    }

    /// All of them.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The one with this controller.
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.unified || hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// The one to list processes by.
    pub fn for_processes(&self) -> Option<&Hierarchy> {
        self.hierarchy("pids")
            .or_else(|| self.hierarchy("devices"))
            .or(self.hierarchies.first())
    }

    /// Whether this is cgroup v2.
    pub fn is_unified(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.unified)
    }
}

const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "rdma",
    "misc",
];

/// An absolute path without `.`, `..` and empty components.
pub(super) fn clean(path: &str) -> Option<String> {
    let mut clean = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return None;
        }
        clean.push('/');
        clean.push_str(part);
    }
    (!clean.is_empty()).then_some(clean)
}

/// Makes the directory of `path` in one hierarchy.
pub(super) fn make(hierarchy: &Hierarchy, path: &str) -> Result<()> {
    let directory = hierarchy.directory(path);
    make_below(hierarchy, &directory).context(|| format!("make cgroup {directory}"))
}

fn make_below(hierarchy: &Hierarchy, directory: &str) -> strata_sys::Result<()> {
    match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
        Ok(()) => populate(hierarchy, directory),
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            let (parent, _) = directory.rsplit_once('/').ok_or(Errno::NOENT)?;
            if !parent.starts_with(&*hierarchy.mount) {
                return Err(Errno::NOENT);
            }
            make_below(hierarchy, parent)?;
            if hierarchy.unified {
                delegate(parent)?;
            } else if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                file::write(&*format!("{parent}/cgroup.clone_children"), b"1")?;
            }
            match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
                Ok(()) => populate(hierarchy, directory),
                Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// Makes a new directory usable: v1 cpusets begin empty and take no process so, v2 controllers must be
/// switched on from above.
fn populate(hierarchy: &Hierarchy, directory: &str) -> strata_sys::Result<()> {
    let (parent, _) = directory.rsplit_once('/').ok_or(Errno::NOENT)?;
    // Whatever the umask of this process is, programs of every user may read what limits them.
    rustix::fs::chmod(directory, Mode::from_raw_mode(0o755))?;
    if hierarchy.unified {
        return delegate(parent);
    }
    if !hierarchy.controllers.iter().any(|name| name == "cpuset") {
        return Ok(());
    }
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let path = format!("{directory}/{name}");
        if file::read(&*path, 65536)?.trim_ascii().is_empty() {
            let above = file::read(&*format!("{parent}/{name}"), 65536)?;
            file::write(&*path, above.trim_ascii())?;
        }
    }
    Ok(())
}

/// v2: switches every controller on for the children of a cgroup.
fn delegate(directory: &str) -> strata_sys::Result<()> {
    let available = file::read_text(&*format!("{directory}/cgroup.controllers"), 4096)?;
    let enabled = file::read_text(&*format!("{directory}/cgroup.subtree_control"), 4096)?;
    for controller in available.split_ascii_whitespace() {
        if ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc"].contains(&controller)
            && !enabled.split_ascii_whitespace().any(|name| name == controller)
        {
            match file::write(
                &*format!("{directory}/cgroup.subtree_control"),
                format!("+{controller}").as_bytes(),
            ) {
                Ok(()) => {}
                // Real-time processes outside of the root keep `cpu` off; go on without it.
                Err(Errno::INVAL) if controller == "cpu" => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_machine_is_version_one_without_the_unified_mount() {
        let layout = Layout::parse(HYBRID);
        assert!(!layout.is_unified());
        assert_eq!(layout.hierarchies().len(), 3);
        assert_eq!(
            layout.hierarchy("cpuacct").unwrap().directory("/a/b"),
            "/sys/fs/cgroup/cpu,cpuacct/a/b"
        );
        assert!(layout.hierarchy("pids").is_none());
    }

    #[test]
    fn a_unified_machine_has_one_hierarchy() {
        let layout = Layout::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert!(layout.is_unified());
        assert_eq!(layout.hierarchy("memory").unwrap().directory("/x"), "/sys/fs/cgroup/x");
    }

    #[test]
    fn paths_that_climb_are_refused() {
        assert_eq!(clean("/a//b/./c/").as_deref(), Some("/a/b/c"));
        assert_eq!(clean("a/../b"), None);
        assert_eq!(clean("/"), None);
    }
}
