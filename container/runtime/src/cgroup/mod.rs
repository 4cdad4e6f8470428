//! Control groups, v1 (also hybrid) and v2: one leaf a container.
//!
//! On v1 a process enters by writing `0` to `tasks` itself: a single thread moving itself needs no
//! global lock, while `cgroup.procs` waits for an RCU grace period of about 10 ms. On v2 it is
//! born inside (`CLONE_INTO_CGROUP`). The `unified` hierarchy of a hybrid system is left alone.

mod device;
mod device_limits;
mod layout;
mod limits;

pub use layout::{Hierarchy, Layout};
pub use limits::weight;

use crate::error::{Context, Error, Result};
use crate::spec::Resources;
use alloc::{format, string::String, vec::Vec};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use strata_sys::{Errno, file, process};

/// How long an ended container's cgroup may stay busy.
const REMOVE_DEADLINE: u64 = 10_000_000_000;

/// Longest file of a cgroup that is read.
const FILE_LIMIT: usize = 1 << 20;

/// One cgroup: a directory in each hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    layout: Layout,
    path: String,
    /// Where processes enter instead, by mount of the hierarchy.
    below: Vec<(String, String)>,
}

/// What a process needs to enter a cgroup.
#[derive(Debug, Default)]
pub struct Entry {
    tasks: Vec<OwnedFd>,
    directory: Option<OwnedFd>,
}

impl Entry {
    /// v2: the directory to be born in.
    pub fn birth_place(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(OwnedFd::as_fd)
    }

    /// v1: the calling process, which has one thread, enters.
    pub fn enter(&self) -> Result<()> {
        for tasks in &self.tasks {
            file::write_all(tasks, b"0").context(|| "cannot enter the container's cgroup")?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// Makes the cgroup, with those above it, where it is missing. `path` is absolute in each hierarchy.
    pub fn create(layout: &Layout, path: &str) -> Result<Self> {
        let cgroup = Self::open(layout, path)?;
        for hierarchy in layout.hierarchies() {
            layout::make(hierarchy, &cgroup.path)?;
        }
        Ok(cgroup)
    }

    /// None: processes stay in the caller's, and nothing is limited.
    pub fn none() -> Self {
        Cgroup {
            layout: Layout::default(),
            path: String::new(),
            below: Vec::new(),
        }
    }

    /// Names a cgroup that is there, or was.
    pub fn open(layout: &Layout, path: &str) -> Result<Self> {
        let clean = layout::clean(path).ok_or_else(|| Error::Invalid(format!("bad cgroup path {path:?}")))?;
        Ok(Cgroup {
            layout: layout.clone(),
            path: clean,
            below: Vec::new(),
        })
    }

    /// The same, entered at `path` below it: in the hierarchies with these controllers, or all when there are none.
    /// Errors: it is not there.
    pub fn entered_below(mut self, controllers: &str, path: &str) -> Result<Self> {
        let bad = || Error::Invalid(format!("bad sub-cgroup path {path:?}"));
        let clean = match path.trim_matches('/') {
            "" => String::new(),
            _ => layout::clean(path).ok_or_else(bad)?,
        };
        for name in controllers.split(',').filter(|name| !name.is_empty()) {
            if self.layout.is_unified() || self.layout.hierarchy(name).is_none() {
                return Err(Error::Invalid(format!("unknown controller {name:?} in a sub-cgroup")));
            }
        }
        for hierarchy in self.layout.hierarchies() {
            let named = |name: &str| hierarchy.name == name || hierarchy.controllers.iter().any(|own| own == name);
            if controllers.is_empty() || controllers.split(',').any(named) {
                let whole = format!("{}{clean}", self.path);
                file::open_directory(&*hierarchy.directory(&whole))
                    .context(|| format!("sub-cgroup {path:?} of the container"))?;
                self.below.retain(|entry| entry.0 != hierarchy.mount);
                self.below.push((hierarchy.mount.clone(), whole));
            }
        }
        Ok(self)
    }

    /// Whether it is there in some hierarchy.
    pub fn exists(&self) -> bool {
        let mut hierarchies = self.layout.hierarchies().iter();
        hierarchies.any(|hierarchy| file::exists(&*hierarchy.directory(&self.path)))
    }

    /// Whether its processes are frozen.
    pub fn is_frozen(&self) -> bool {
        let Some(directory) = self.directory("freezer") else {
            return false;
        };
        let (name, frozen) = if self.layout.is_unified() {
            ("cgroup.freeze", "1")
        } else {
            ("freezer.state", "FROZEN")
        };
        file::read_text(&*format!("{directory}/{name}"), 4096).is_ok_and(|text| text.trim() == frozen)
    }

    /// Path in each hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The hierarchies it lies in.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The directory in the hierarchy of a controller, if that is there.
    pub fn directory(&self, controller: &str) -> Option<String> {
        self.layout
            .hierarchy(controller)
            .map(|hierarchy| hierarchy.directory(&self.path))
    }

    /// What a process needs to enter; to be called in the parent.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = Entry::default();
        for hierarchy in self.layout.hierarchies() {
            let below = self.below.iter().find(|entry| entry.0 == hierarchy.mount);
            let directory = hierarchy.directory(below.map_or(&self.path, |entry| &entry.1));
            if hierarchy.unified {
                entry.directory = Some(file::open_directory(&*directory).context(|| format!("open {directory}"))?);
            } else {
                let tasks = format!("{directory}/tasks");
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                entry
                    .tasks
                    .push(rustix::fs::open(&*tasks, flags, Mode::empty()).context(|| format!("open {tasks}"))?);
            }
        }
        Ok(entry)
    }

    /// Moves a process of one thread that is not the caller.
    pub fn adopt(&self, pid: i32) -> Result<()> {
        for hierarchy in self.layout.hierarchies() {
            let path = format!("{}/cgroup.procs", hierarchy.directory(&self.path));
            file::write(&*path, format!("{pid}").as_bytes()).context(|| format!("write to {path}"))?;
        }
        Ok(())
    }

    /// Sets limits; absent ones stay.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        limits::apply(self, resources)
    }

    /// Sets the device access rules.
    pub fn restrict_devices(&self, resources: &Resources) -> Result<()> {
        device::restrict(self, &resources.devices)
    }

    /// Ids of the processes in it and below it.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut processes = Vec::new();
        if let Some(hierarchy) = self.layout.for_processes() {
            collect(&hierarchy.directory(&self.path), &mut processes)?;
        }
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }

    /// Sends a signal to all its processes.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL
            && let Some(hierarchy) = self.layout.hierarchies().iter().find(|hierarchy| hierarchy.unified)
        {
            let path = format!("{}/cgroup.kill", hierarchy.directory(&self.path));
            match file::write(&*path, b"1") {
                Ok(()) => return Ok(()),
                // Before Linux 5.14.
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Error::System {
                        what: format!("write to {path}"),
                        errno,
                    });
                }
            }
        }
        // Processes may fork meanwhile: repeat for SIGKILL until a round finds nobody new.
        let mut seen: Vec<i32> = Vec::new();
        for _ in 0..64 {
            let processes = self.processes()?;
            let fresh: Vec<i32> = processes.into_iter().filter(|pid| !seen.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for &pid in &fresh {
                match process::kill(pid, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => {
                        return Err(Error::System {
                            what: format!("signal process {pid}"),
                            errno,
                        });
                    }
                }
            }
            seen.extend(fresh);
            if signal != libc::SIGKILL {
                break;
            }
        }
        Ok(())
    }

    /// Freezes or thaws all its processes, and waits until that is done.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let deadline = strata_sys::time::monotonic() + REMOVE_DEADLINE;
        let unified = self.layout.hierarchies().iter().any(|hierarchy| hierarchy.unified);
        let directory = self
            .directory("freezer")
            .ok_or_else(|| Error::Invalid("this machine has no freezer cgroup".into()))?;
        let (knob, wanted) = match (unified, frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        let knob = format!("{directory}/{knob}");
        loop {
            // v1: a process that forks meanwhile leaves the state at FREEZING until it is written again.
            file::write(&*knob, wanted.as_bytes()).context(|| format!("write to {knob}"))?;
            let done = if unified {
                let events = read(&format!("{directory}/cgroup.events"))?;
                value(&events, "frozen") == Some(frozen.into())
            } else {
                read(&knob)?.trim() == wanted
            };
            if done {
                return Ok(());
            }
            if strata_sys::time::monotonic() > deadline {
                return Err(Error::State("the container's processes did not freeze in 10 s".into()));
            }
            pause(Duration::from_millis(1));
        }
    }

    /// How often the kernel killed one of its processes for want of memory; 0 when it is gone.
    pub fn oom_kills(&self) -> u64 {
        let Some(directory) = self.directory("memory") else {
            return 0;
        };
        let unified = self.layout.hierarchies().iter().any(|hierarchy| hierarchy.unified);
        let name = if unified { "memory.events" } else { "memory.oom_control" };
        read(&format!("{directory}/{name}"))
            .ok()
            .and_then(|text| value(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// A descriptor that tells of out-of-memory kills: an eventfd to read (v1), or a file to poll for
    /// priority events (v2).
    pub fn watch_memory(&self) -> Result<Option<MemoryWatch>> {
        let Some(directory) = self.directory("memory") else {
            return Ok(None);
        };
        limits::watch_memory(
            &directory,
            self.layout.hierarchies().iter().any(|hierarchy| hierarchy.unified),
        )
    }

    /// Removes it with everything below. What is busy is waited for; the processes must have been killed.
    pub fn remove(&self) -> Result<()> {
        let deadline = strata_sys::time::monotonic() + REMOVE_DEADLINE;
        let mut wait = Duration::from_micros(200);
        loop {
            let mut busy = None;
            for hierarchy in self.layout.hierarchies() {
                let directory = hierarchy.directory(&self.path);
                match remove_tree(&directory) {
                    Ok(()) => {}
                    Err(Errno::BUSY) => busy = Some(directory),
                    Err(errno) => {
                        return Err(Error::System {
                            what: format!("remove {directory}"),
                            errno,
                        });
                    }
                }
            }
            let Some(directory) = busy else { return Ok(()) };
            if strata_sys::time::monotonic() > deadline {
                return Err(Error::System {
                    what: format!("remove {directory}"),
                    errno: Errno::BUSY,
                });
            }
            pause(wait);
            wait = (wait * 2).min(Duration::from_millis(20));
        }
    }
}

/// Where out-of-memory kills are told.
#[derive(Debug)]
pub struct MemoryWatch {
    /// Poll this.
    pub descriptor: OwnedFd,
    /// Wait for priority events instead of input.
    pub priority: bool,
}

fn collect(directory: &str, processes: &mut Vec<i32>) -> Result<()> {
    match file::read_text(&*format!("{directory}/cgroup.procs"), FILE_LIMIT) {
        Ok(text) => processes.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(errno) => {
            return Err(Error::System {
                what: format!("read {directory}/cgroup.procs"),
                errno,
            });
        }
    }
    for child in children(directory).context(|| format!("read {directory}"))? {
        collect(&child, processes)?;
    }
    Ok(())
}

fn children(directory: &str) -> strata_sys::Result<Vec<String>> {
    // A directory's link count is 2 plus its children: most leaves need no listing.
    match rustix::fs::statat(CWD, directory, AtFlags::empty()) {
        Ok(stat) if stat.st_nlink <= 2 => return Ok(Vec::new()),
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    }
    let listing = rustix::fs::open(
        directory,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = rustix::fs::RawDir::new(&listing, buffer.spare_capacity_mut());
    let mut children = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == rustix::fs::FileType::Directory
            && name != b"."
            && name != b".."
            && let Ok(name) = core::str::from_utf8(name)
        {
            children.push(format!("{directory}/{name}"));
        }
    }
    Ok(children)
}

fn remove_tree(directory: &str) -> strata_sys::Result<()> {
    match rustix::fs::rmdir(directory) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(errno) => return Err(errno),
    }
    for child in children(directory)? {
        remove_tree(&child)?;
    }
    match rustix::fs::rmdir(directory) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn read(path: &str) -> Result<String> {
    file::read_text(path, FILE_LIMIT).context(|| format!("read {path}"))
}

/// The number after a key in a flat keyed file.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn pause(time: Duration) {
    let time = rustix::fs::Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    let _ = rustix::thread::nanosleep(&time);
}
