//! How much there is of what a node may run short of. Blocks on small files of the kernel.

use super::threshold::{Observations, Observed, Signal};
use crate::usage;
use std::{fs, io, path::Path};

/// A file system's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that can still be had.
    pub available: u64,
    /// Bytes in use.
    pub used: u64,
    /// Inodes in all; 0 if the file system makes them as it goes.
    pub inodes: u64,
    /// Inodes that can still be had.
    pub inodes_free: u64,
}

impl Disk {
    /// The file system that holds a path.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            capacity: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            used: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }
}

/// Whether two paths are on different file systems. What cannot be read counts as one.
pub fn apart(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    matches!((device(one), device(other)), (Ok(one), Ok(other)) if one != other)
}

/// Processes, threads included, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// At this moment.
    pub running: i64,
    /// At most.
    pub most: i64,
}

impl Processes {
    /// Of the machine.
    pub fn read() -> io::Result<Self> {
        let number = |path: &str| -> io::Result<i64> {
            let text = fs::read_to_string(path)?;
            text.trim()
                .parse()
                .map_err(|_| io::Error::other(format!("{path} is no number")))
        };
        let load = fs::read_to_string("/proc/loadavg")?;
        let running = running(&load).ok_or_else(|| io::Error::other("/proc/loadavg is not as proc(5) says"))?;
        let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
        Ok(Self { running, most })
    }
}

/// proc(5): the fourth field is runnable/all.
fn running(load: &str) -> Option<i64> {
    load.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Memory that all pods together use, and have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodsMemory {
    /// Working set.
    pub used: u64,
    /// What is allocatable.
    pub limit: i64,
}

/// Everything that can be read; what cannot is left out and logged.
pub fn observe(pods_dir: &Path, image_dir: &Path, pods: Option<PodsMemory>) -> Observations {
    let mut all = Observations::new();
    match usage::memory() {
        Ok(memory) => {
            let observed = Observed {
                available: signed(memory.total.saturating_sub(memory.working_set)),
                capacity: signed(memory.total),
            };
            all.insert(Signal::MemoryAvailable, observed);
        }
        Err(error) => tracing::warn!(%error, "the machine's memory cannot be read"),
    }
    if let Some(pods) = pods {
        let observed = Observed {
            available: pods.limit.saturating_sub(signed(pods.used)),
            capacity: pods.limit,
        };
        all.insert(Signal::AllocatableMemoryAvailable, observed);
    }
    let disks = [
        (pods_dir, Signal::NodeFsAvailable, Signal::NodeFsInodesFree),
        (image_dir, Signal::ImageFsAvailable, Signal::ImageFsInodesFree),
    ];
    for (path, bytes, inodes) in disks {
        match Disk::of(path) {
            Ok(disk) => add_disk(&mut all, disk, bytes, inodes),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a disk cannot be looked at"),
        }
    }
    match Processes::read() {
        Ok(processes) => {
            let observed = Observed {
                available: processes.most - processes.running,
                capacity: processes.most,
            };
            all.insert(Signal::PidAvailable, observed);
        }
        Err(error) => tracing::warn!(%error, "the machine's processes cannot be counted"),
    }
    all
}

fn add_disk(all: &mut Observations, disk: Disk, bytes: Signal, inodes: Signal) {
    let observed = |available: u64, capacity: u64| Observed {
        available: signed(available),
        capacity: signed(capacity),
    };
    all.insert(bytes, observed(disk.available, disk.capacity));
    // A file system without a fixed number of inodes cannot run short of them.
    if disk.inodes > 0 {
        all.insert(inodes, observed(disk.inodes_free, disk.inodes));
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_can_be_observed() {
        assert_eq!(running("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        let pods = PodsMemory { used: 30, limit: 100 };
        let all = observe(Path::new("/"), Path::new("/proc"), Some(pods));
        assert_eq!(all[&Signal::AllocatableMemoryAvailable].available, 70);
        assert!(all[&Signal::MemoryAvailable].available > 0);
        assert!(all[&Signal::PidAvailable].available > 0);
        assert!(
            !all.contains_key(&Signal::ImageFsInodesFree),
            "proc has no number of inodes"
        );
        assert!(apart(Path::new("/"), Path::new("/proc")) && !apart(Path::new("/"), Path::new("/")));
    }
}
