//! Processes: made with clone3, watched and signalled by pidfd; attributes of the calling one.

use crate::{Errno, Result, arch::syscall};
use alloc::{ffi::CString, format, vec::Vec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A new process as its parent sees it.
#[derive(Debug)]
pub struct Child {
    /// Its id in the parent's pid namespace.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// What [`fork`] returns, and where.
#[derive(Debug)]
pub enum Fork {
    /// In the parent.
    Parent(Child),
    /// In the child.
    Child,
}

/// How a child is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForkOptions<'a> {
    /// `CLONE_NEW…` and `CLONE_PARENT`.
    pub flags: u64,
    /// A cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP`.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks with clone3.
///
/// # Safety
/// The calling process has one thread, or the child calls nothing that takes a lock or allocates.
pub unsafe fn fork(options: ForkOptions<'_>) -> Result<Fork> {
    let mut pidfd: i32 = -1;
    let mut arguments = CloneArguments {
        flags: options.flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        ..CloneArguments::default()
    };
    // clone3(2): with CLONE_PARENT the signal is that of the caller's own.
    if options.flags & libc::CLONE_PARENT as u64 == 0 {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = options.cgroup {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM, so the child runs on a copy of this stack; `arguments` and `pidfd` outlive the call.
    let cloned = unsafe {
        syscall(
            libc::SYS_clone3,
            [&raw mut arguments as usize, size_of::<CloneArguments>(), 0, 0, 0, 0],
        )
    };
    let pid = match cloned {
        // Filters of containers refuse clone3 so, because they cannot look into its arguments; clone(2) they can.
        Err(Errno::NOSYS) if options.flags == 0 && options.cgroup.is_none() => {
            let flags = libc::CLONE_PIDFD as usize | libc::SIGCHLD as usize;
            // SAFETY: as above; with CLONE_PIDFD the third argument is where the descriptor goes.
            unsafe { syscall(libc::SYS_clone, [flags, 0, &raw mut pidfd as usize, 0, 0, 0])? }
        }
        other => other?,
    };
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel has just opened it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent(Child { pid: pid as i32, pidfd }))
}

/// How a process ended, as wait(2) encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(i32);

impl WaitStatus {
    /// The exit code, or 128 plus the signal, as shells have it.
    pub fn code(self) -> i32 {
        match self.signal() {
            0 => (self.0 >> 8) & 0xff,
            signal => 128 + signal,
        }
    }

    /// The signal that ended it, or 0.
    pub fn signal(self) -> i32 {
        self.0 & 0x7f
    }
}

/// Reaps one ended child: `None` when none has ended. Errors: `ECHILD` when there is no child.
pub fn reap_any() -> Result<Option<(i32, WaitStatus)>> {
    wait(-1, libc::WNOHANG)
}

/// Blocks until the child has ended and reaps it.
pub fn reap(pid: i32) -> Result<WaitStatus> {
    loop {
        match wait(pid, 0) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait(pid: i32, options: i32) -> Result<Option<(i32, WaitStatus)>> {
    let mut status: i32 = 0;
    // SAFETY: wait4(2) writes an int to `status`.
    let pid = unsafe {
        syscall(
            libc::SYS_wait4,
            [pid as usize, &raw mut status as usize, options as usize, 0, 0, 0],
        )?
    };
    Ok((pid != 0).then_some((pid as i32, WaitStatus(status))))
}

/// Opens a pidfd of a process.
pub fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes no pointers; the result is a new descriptor.
    unsafe {
        let descriptor = syscall(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0])?;
        Ok(OwnedFd::from_raw_fd(descriptor as i32))
    }
}

/// Sends a signal to the very process behind a pidfd.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let descriptor = pidfd.as_fd().as_raw_fd() as usize;
    // SAFETY: the null pointer means default siginfo.
    unsafe { syscall(libc::SYS_pidfd_send_signal, [descriptor, signal as usize, 0, 0, 0, 0])? };
    Ok(())
}

/// Sends a signal to a process by id; 0 only asks whether it is there.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes no pointers.
    unsafe { syscall(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0])? };
    Ok(())
}

/// Replaces the program. Returns only with an error.
pub fn execute(path: &core::ffi::CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    execute_at(rustix::fs::CWD, path, arguments, environment, 0)
}

/// [`execute`] of the file behind a descriptor.
pub fn execute_descriptor(file: impl AsFd, arguments: &[CString], environment: &[CString]) -> Errno {
    execute_at(file.as_fd(), c"", arguments, environment, libc::AT_EMPTY_PATH)
}

fn execute_at(
    directory: BorrowedFd<'_>,
    path: &core::ffi::CStr,
    arguments: &[CString],
    environment: &[CString],
    flags: i32,
) -> Errno {
    let pointers = |list: &[CString]| -> Vec<usize> {
        list.iter()
            .map(|text| text.as_ptr() as usize)
            .chain(core::iter::once(0))
            .collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists are null-terminated and outlive the call, which does not return on success.
    let result = unsafe {
        syscall(
            libc::SYS_execveat,
            [
                directory.as_raw_fd() as usize,
                path.as_ptr() as usize,
                arguments.as_ptr() as usize,
                environment.as_ptr() as usize,
                flags as usize,
                0,
            ],
        )
    };
    result.err().unwrap_or(Errno::INVAL)
}

/// Ends the process at once.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { syscall(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

/// When a process started, in clock ticks since boot. With the pid it names one process for good.
pub fn start_time(pid: i32) -> Result<u64> {
    Ok(stat(pid)?.1)
}

/// State letter (as in ps) and start time of a process.
pub fn stat(pid: i32) -> Result<(u8, u64)> {
    let stat = crate::file::read(&*format!("/proc/{pid}/stat"), 4096)?;
    // The name stands in parentheses and may hold anything, so count from the last one.
    let end = stat.iter().rposition(|&byte| byte == b')').ok_or(Errno::ILSEQ)?;
    let rest = core::str::from_utf8(&stat[end + 1..]).map_err(|_| Errno::ILSEQ)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields
        .next()
        .and_then(|field| field.bytes().next())
        .ok_or(Errno::ILSEQ)?;
    // proc_pid_stat(5): starttime is field 22, nineteen after the state.
    let start = fields
        .nth(18)
        .and_then(|field| field.parse().ok())
        .ok_or(Errno::ILSEQ)?;
    Ok((state, start))
}

/// prctl(2) without pointers.
pub fn control(option: i32, argument: usize) -> Result<usize> {
    debug_assert!(option != libc::PR_SET_MM);
    // SAFETY: used with options whose arguments are plain numbers.
    unsafe { syscall(libc::SYS_prctl, [option as usize, argument, 0, 0, 0, 0]) }
}

/// Orphans of descendants become children of this process instead of init's.
pub fn become_subreaper() -> Result<()> {
    control(libc::PR_SET_CHILD_SUBREAPER, 1).map(drop)
}

/// Whether others may look into this process (ptrace, /proc/PID/exe, /proc/PID/fd).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    control(libc::PR_SET_DUMPABLE, dumpable.into()).map(drop)
}

/// The signal this process gets when its parent ends; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    control(libc::PR_SET_PDEATHSIG, signal as usize).map(drop)
}

/// The name that ps shows, at most 15 bytes.
pub fn set_name(name: &core::ffi::CStr) -> Result<()> {
    rustix::thread::set_name(name)
}

/// Marks all descriptors from `first` on to be closed by exec.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes all descriptors from `first` on.
///
/// # Safety
/// Nothing in the process uses them any more.
pub unsafe fn close_from(first: u32) -> Result<()> {
    close_range(first, 0)
}

/// Closes all descriptors from `first` on except some.
///
/// # Safety
/// Nothing in the process uses the others any more.
pub unsafe fn close_except(first: u32, keep: &mut [u32]) -> Result<()> {
    keep.sort_unstable();
    let mut next = first;
    for &mut kept in keep {
        if kept > next {
            close_between(next, kept - 1, 0)?;
        }
        next = next.max(kept + 1);
    }
    close_range(next, 0)
}

fn close_range(first: u32, flags: u32) -> Result<()> {
    close_between(first, u32::MAX, flags)
}

fn close_between(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: takes no pointers; closing is the caller's decision.
    unsafe {
        syscall(
            libc::SYS_close_range,
            [first as usize, last as usize, flags as usize, 0, 0, 0],
        )?;
    }
    Ok(())
}

/// A new session keyring, so that keys of whoever started us are out of reach. Absent support is no error.
pub fn new_session_keyring(name: &core::ffi::CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: keyctl(2) reads the name.
    match unsafe {
        syscall(
            libc::SYS_keyctl,
            [JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0],
        )
    } {
        Ok(_) | Err(Errno::NOSYS | Errno::PERM | Errno::DQUOT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Resource limit by number, soft and hard.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: prlimit64(2) reads two u64.
    unsafe {
        syscall(
            libc::SYS_prlimit64,
            [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0],
        )?
    };
    Ok(())
}

/// Execution domain of the process.
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: takes no pointers.
    unsafe { syscall(libc::SYS_personality, [domain as usize, 0, 0, 0, 0, 0])? };
    Ok(())
}

/// User, group and supplementary groups of the process.
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    // SAFETY: setgroups(2) reads `groups.len()` numbers; the others take no pointers.
    unsafe {
        syscall(
            libc::SYS_setgroups,
            [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0],
        )?;
    }
    set_user(uid, gid)
}

/// User and group of the process; the supplementary groups stay.
pub fn set_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: take no pointers.
    unsafe {
        syscall(libc::SYS_setresgid, [gid as usize, gid as usize, gid as usize, 0, 0, 0])?;
        syscall(libc::SYS_setresuid, [uid as usize, uid as usize, uid as usize, 0, 0, 0])?;
    }
    Ok(())
}

/// I/O priority of the process: class (1 real time, 2 best effort, 3 idle) and level.
pub fn set_io_priority(class: i32, level: i32) -> Result<()> {
    const WHO_PROCESS: usize = 1;
    let value = (class << 13) | level;
    // SAFETY: takes no pointers.
    unsafe { syscall(libc::SYS_ioprio_set, [WHO_PROCESS, 0, value as usize, 0, 0, 0])? };
    Ok(())
}

/// Attributes of sched_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedulerAttributes {
    /// Size of this structure; filled in by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Scheduler policy of the process.
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> Result<()> {
    attributes.size = size_of::<SchedulerAttributes>() as u32;
    // SAFETY: sched_setattr(2) reads the structure.
    unsafe { syscall(libc::SYS_sched_setattr, [0, &raw const attributes as usize, 0, 0, 0, 0])? };
    Ok(())
}

/// CPUs that the process may run on, one bit each.
pub fn set_affinity(cpus: &[u64]) -> Result<()> {
    // SAFETY: sched_setaffinity(2) reads the bits.
    unsafe {
        syscall(
            libc::SYS_sched_setaffinity,
            [0, size_of_val(cpus), cpus.as_ptr() as usize, 0, 0, 0],
        )?
    };
    Ok(())
}

/// NUMA policy of the process's memory: `MPOL_…` with its flags, and nodes, one bit each.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel looks at one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    // SAFETY: set_mempolicy(2) reads the bits.
    unsafe {
        syscall(
            libc::SYS_set_mempolicy,
            [mode as usize, nodes.as_ptr() as usize, bits, 0, 0, 0],
        )?
    };
    Ok(())
}

/// The id of the process behind a pidfd. Errors: `ESRCH` when it has ended.
pub fn of_pidfd(pidfd: impl AsFd) -> Result<i32> {
    let path = alloc::format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = crate::file::read_text(&*path, 4096)?;
    let pid = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|&pid| pid > 0).ok_or(Errno::SRCH)
}
