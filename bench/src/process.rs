//! Processes: those this program starts and ends, and what any of them uses.

use crate::failure::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process of ours; ended and waited for when dropped.
pub struct Owned(Child);

impl Owned {
    /// Starts it with its output in a file.
    pub fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // One that has ended already is waited for just the same.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.0.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process and everything below it that shares its pid namespace: what belongs to the system itself, not to
/// its containers.
pub fn family(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in numbers() {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let own = pid_namespace(root);
    let (mut found, mut queue) = (Vec::new(), vec![root]);
    while let Some(pid) = queue.pop() {
        if pid_namespace(pid) == own {
            found.push(pid);
        }
        queue.extend(children.remove(&pid).unwrap_or_default());
    }
    found
}

/// All processes.
pub fn numbers() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn pid_namespace(pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// The fields of /proc/PID/stat after the name, the first being the state (proc_pid_stat(5)'s field 3).
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// When it started, since the machine did. The kernel tells hundredths of a second.
pub fn started(pid: u32) -> Option<Duration> {
    let ticks: u64 = stat(pid)?.get(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * 1000 / ticks_per_second()))
}

/// CPU time that processes have used so far, counted twice.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    /// In ticks, ended threads included.
    ticks: Duration,
    /// To the nanosecond, of the threads that live.
    precise: Duration,
}

impl CpuTime {
    /// Of them all, in user and kernel mode.
    pub fn of(pids: &[u32]) -> Self {
        let ticks = |pid: &u32| -> Option<u64> {
            let fields = stat(*pid)?;
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        };
        let threads = |pid: &u32| {
            fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
        };
        let nanoseconds = |thread: fs::DirEntry| -> Option<u64> {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        let ticks: u64 = pids.iter().filter_map(ticks).sum();
        Self {
            ticks: Duration::from_millis(ticks * 1000 / ticks_per_second()),
            precise: Duration::from_nanos(pids.iter().flat_map(threads).filter_map(nanoseconds).sum()),
        }
    }

    /// Used since an earlier look: the greater of both counts, for each can miss something.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        ticks.max(self.precise.saturating_sub(earlier.precise))
    }
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Memory of some processes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Proportional set size.
    pub pss: u64,
    /// Resident set size.
    pub rss: u64,
    /// Files in memory that they hold open, each once.
    pub memfd: u64,
}

/// Measures some processes.
pub fn memory(pids: &[u32]) -> Memory {
    let mut sum = Memory::default();
    let mut seen = BTreeSet::new();
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_else(|_| String::new());
        let kib = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|l| l.strip_prefix(name));
            let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0)
        };
        sum.pss += kib("Pss:") << 10;
        sum.rss += kib("Rss:") << 10;
        sum.memfd += memfds(*pid, &mut seen);
    }
    sum
}

fn memfds(pid: u32, seen: &mut BTreeSet<u64>) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let paths = open.map(|e| e.path()).chain([format!("/proc/{pid}/exe").into()]);
    for path in paths {
        let is_memfd = fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:"));
        if let (true, Ok(meta)) = (is_memfd, fs::metadata(&path))
            && seen.insert(meta.ino())
        {
            bytes += meta.blocks() * 512;
        }
    }
    bytes
}

/// Bytes in the tmpfs mounts at or below a folder, as a process sees them.
pub fn tmpfs_below(folder: &Path) -> u64 {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_else(|_| String::new());
    let below = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        (right.starts_with("tmpfs ") && Path::new(point).starts_with(folder)).then_some(point)
    });
    let used = |point: &str| {
        let s = rustix::fs::statvfs(point).ok()?;
        Some((s.f_blocks - s.f_bfree) * s.f_frsize)
    };
    below.filter_map(used).sum()
}

/// Bytes of the files in a folder if it is on a tmpfs; on a disk they cost no memory.
pub fn folder_in_memory(folder: &Path) -> u64 {
    // Of linux/magic.h.
    const TMPFS: i64 = 0x0102_1994;
    match rustix::fs::statfs(folder) {
        Ok(s) if s.f_type == TMPFS => bytes_below(folder, 0),
        _ => 0,
    }
}

fn bytes_below(folder: &Path, depth: usize) -> u64 {
    use std::os::unix::fs::MetadataExt;
    if depth > 16 {
        return 0;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&e.path(), depth + 1),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}
