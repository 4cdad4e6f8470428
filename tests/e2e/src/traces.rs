//! What a server or a cluster must not leave on the machine.
//!
//! Other servers may run at the same time, so only what bears this one's name is looked for.

use crate::eventually;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What belongs to a folder of a test: its servers' names and links. Taken while they run.
#[derive(Debug)]
pub struct Traces {
    folder: PathBuf,
    instances: BTreeSet<String>,
    links: BTreeSet<String>,
}

impl Traces {
    /// The servers, nodes and clusters whose data is below that folder.
    pub fn below(folder: &Path) -> Self {
        let mut traces = Self {
            folder: folder.to_owned(),
            instances: BTreeSet::new(),
            links: BTreeSet::new(),
        };
        traces.find(folder, 0);
        traces
    }

    /// Adds what was found at another time.
    pub fn join(&mut self, other: Self) {
        self.instances.extend(other.instances);
        self.links.extend(other.links);
    }

    /// Whether a server or a node was found.
    pub fn knows_instances(&self) -> bool {
        !self.instances.is_empty()
    }

    fn find(&mut self, folder: &Path, depth: u8) {
        let json = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).ok()?).ok();
        if let Some(instance) = json(&folder.join("instance.json")) {
            self.instances.extend(instance["name"].as_str().map(str::to_owned));
            let pods = format!("{:02X}", 128 + instance["pair"].as_u64().unwrap_or(0));
            self.links.extend(links_to(&pods));
        }
        if let Ok(name) = fs::read_to_string(folder.join("node/instance")) {
            self.instances.insert(name);
        }
        if let Some(cluster) = json(&folder.join("cluster.json")) {
            let subnet = &cluster["subnet"];
            self.links.insert(format!("strata-br{subnet}"));
            self.links.insert(format!("strata{subnet}-"));
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if depth < 3 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.find(&entry.path(), depth + 1);
            }
        }
    }

    /// Everything of them that is on the machine.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let folder = self.folder.to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the machine's mounts");
        for line in mounts.lines() {
            let point = line.split(' ').nth(4).unwrap_or_default();
            if point.starts_with(&*folder)
                || self
                    .instances
                    .iter()
                    .any(|name| point.contains(&format!("/strata/{name}")))
            {
                left.push(format!("mount {point}"));
            }
            if line.contains(" - cgroup") {
                let groups = self
                    .instances
                    .iter()
                    .map(|name| Path::new(point).join(format!("strata-{name}")));
                left.extend(
                    groups
                        .filter(|path| path.exists())
                        .map(|path| format!("cgroup {}", path.display())),
                );
            }
        }
        for name in &self.instances {
            let run = Path::new("/run/strata").join(name);
            if run.exists() {
                left.push(format!("folder {}", run.display()));
            }
        }
        for link in names("/sys/class/net") {
            if self.links.iter().any(|prefix| link.starts_with(prefix)) {
                left.push(format!("link {link}"));
            }
        }
        for table in tables() {
            let ours = |name: &String| table.contains(&format!("strata-{name}"));
            // A cluster's table bears the name of its bridge.
            if self.instances.iter().any(ours) || self.links.iter().any(ours) {
                left.push(table);
            }
        }
        left.extend(self.processes(&folder));
        left
    }

    fn processes(&self, folder: &str) -> Vec<String> {
        let ours = |pid: &String| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_else(|_| Vec::new());
            let (command, groups) = (read("cmdline"), read("cgroup"));
            let (command, groups) = (String::from_utf8_lossy(&command), String::from_utf8_lossy(&groups));
            // A process that has ended and waits for the machine's own process 1 has no command line.
            let named = command.contains("strata") && command.contains(folder);
            let inside = self
                .instances
                .iter()
                .any(|name| groups.contains(&format!("/strata-{name}/")));
            (named || (inside && !command.is_empty())).then(|| format!("process {pid} {}", command.replace('\0', " ")))
        };
        let pids = names("/proc")
            .into_iter()
            .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        pids.filter_map(|pid| ours(&pid)).collect()
    }

    /// Panics if anything is left; what the kernel takes down a moment later is waited for.
    pub fn assert_gone(&self) {
        eventually("nothing is left behind", || {
            let left = self.left();
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
    }
}

/// Children of a process that have ended and were not waited for.
pub fn zombies(parent: u32) -> Vec<String> {
    let stat = |pid: &String| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let stats = names("/proc").into_iter().filter_map(|pid| stat(&pid));
    let dead = |stat: &String| {
        let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after.starts_with(&format!("Z {parent} "))
    };
    stats.filter(dead).collect()
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder of the kernel's").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Beginnings of the links that lead to pods of the range whose second byte is that.
fn links_to(range: &str) -> BTreeSet<String> {
    let routes = fs::read_to_string("/proc/net/route").expect("the machine's routes");
    let to = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (link, destination) = (fields.next()?, fields.next()?);
        // Addresses are written last byte first.
        let ours = destination.len() == 8 && &destination[4..6] == range && &destination[6..] == "0A";
        let (prefix, _) = link.split_once('-').filter(|_| ours)?;
        Some(format!("{prefix}-"))
    };
    routes.lines().filter_map(to).collect()
}

/// The nftables tables; none if this machine's nft cannot list them.
fn tables() -> Vec<String> {
    let listed = Command::new("nft").args(["list", "tables"]).output();
    let text = listed.ok().filter(|o| o.status.success()).map(|o| o.stdout);
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    text.lines().map(str::to_owned).collect()
}
