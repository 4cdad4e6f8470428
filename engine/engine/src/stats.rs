//! What containers use, read from their cgroups and folders.

use crate::engine::Inner;
use crate::link::blocking;
use crate::record::ContainerRecord;
use crate::{ContainerId, Engine, Error, Stats};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use strata_mount::FolderUsage;
use strata_runtime::cgroup::Cgroup;

impl Engine {
    /// What a container uses at this moment; zeros for what the machine does not count.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, Error> {
        let container = self.inner.known.container(id)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.read_stats(&container.record)).await
    }

    /// The same without what lies on disk, which has to be walked: a few small files of the kernel.
    pub async fn usage(&self, id: &ContainerId) -> Result<Stats, Error> {
        let container = self.inner.known.container(id)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.read_usage(&container.record)).await
    }
}

impl Inner {
    fn read_stats(&self, record: &ContainerRecord) -> Result<Stats, Error> {
        let mut stats = self.read_usage(record)?;
        let upper = self.folders.container(&record.id).join("upper");
        // A folder that has gone is one of a container that has gone.
        let used = strata_mount::folder_usage(&upper).unwrap_or_else(|_| FolderUsage::default());
        (stats.rootfs_used, stats.rootfs_inodes) = (used.bytes, used.inodes);
        stats.logs_used = log_usage(&record.log_path);
        Ok(stats)
    }

    fn read_usage(&self, record: &ContainerRecord) -> Result<Stats, Error> {
        self.read_cgroup(&record.cgroup)
    }

    pub(crate) fn read_cgroup(&self, path: &str) -> Result<Stats, Error> {
        let cgroup = self.cgroup(path)?;
        let mut stats = if self.cgroups.is_unified() {
            unified(&cgroup)
        } else {
            legacy(&cgroup)
        };
        stats.pids = number(&cgroup, "pids", "pids.current");
        Ok(stats)
    }
}

fn legacy(cgroup: &Cgroup) -> Stats {
    let memory = text(cgroup, "memory", "memory.stat");
    let usage = number(cgroup, "memory", "memory.usage_in_bytes");
    Stats {
        cpu_usage_nanos: number(cgroup, "cpuacct", "cpuacct.usage"),
        memory_working_set: usage.saturating_sub(value(&memory, "total_inactive_file")),
        memory_rss: value(&memory, "total_rss"),
        memory_usage: usage,
        page_faults: value(&memory, "total_pgfault"),
        major_page_faults: value(&memory, "total_pgmajfault"),
        ..Stats::default()
    }
}

fn unified(cgroup: &Cgroup) -> Stats {
    let memory = text(cgroup, "memory", "memory.stat");
    let usage = number(cgroup, "memory", "memory.current");
    Stats {
        cpu_usage_nanos: value(&text(cgroup, "cpu", "cpu.stat"), "usage_usec").saturating_mul(1000),
        memory_working_set: usage.saturating_sub(value(&memory, "inactive_file")),
        memory_rss: value(&memory, "anon"),
        memory_usage: usage,
        page_faults: value(&memory, "pgfault"),
        major_page_faults: value(&memory, "pgmajfault"),
        ..Stats::default()
    }
}

/// A file of the cgroup; empty once the cgroup is gone.
fn text(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    let path = cgroup
        .directory(controller)
        .map(|directory| format!("{directory}/{file}"));
    path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

fn number(cgroup: &Cgroup, controller: &str, file: &str) -> u64 {
    text(cgroup, controller, file).trim().parse().unwrap_or(0)
}

fn value(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or(0)
}

/// The log file and its rotated ones.
fn log_usage(path: &Path) -> u64 {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let Ok(items) = fs::read_dir(folder) else { return 0 };
    let own = items
        .flatten()
        .filter(|item| item.file_name().to_str().is_some_and(|other| other.starts_with(name)));
    own.filter_map(|item| item.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_files_are_read_by_whole_keys() {
        let file = "rss 1\ntotal_rss_huge 5\ntotal_rss 7\n";
        assert_eq!(
            (value(file, "rss"), value(file, "total_rss"), value(file, "absent")),
            (1, 7, 0)
        );
    }

    #[test]
    fn a_log_is_counted_with_its_rotated_files() {
        let dir = tempfile::tempdir().expect("folder");
        fs::create_dir(dir.path().join("sub")).expect("folder");
        fs::write(dir.path().join("sub/0.log"), vec![1; 5000]).expect("file");
        fs::write(dir.path().join("sub/0.log.1"), b"old").expect("file");
        fs::write(dir.path().join("sub/1.log"), b"another").expect("file");
        assert_eq!(log_usage(&dir.path().join("sub/0.log")), 5003);
    }
}
