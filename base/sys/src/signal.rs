//! Signals of the calling process: masks, dispositions, and reading them from a descriptor.

use crate::{Errno, Result, arch::syscall};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Highest signal number.
pub const LAST: i32 = 64;

/// A set of signals, bit `number - 1` each.
pub type Set = u64;

/// The bit of a signal.
pub const fn bit(signal: i32) -> Set {
    1 << (signal - 1)
}

/// Replaces the mask of blocked signals.
pub fn set_blocked(set: Set) -> Result<()> {
    // SAFETY: rt_sigprocmask(2) reads eight bytes.
    unsafe {
        let how = libc::SIG_SETMASK as usize;
        syscall(
            libc::SYS_rt_sigprocmask,
            [how, &raw const set as usize, 0, size_of::<Set>(), 0, 0],
        )?;
    }
    Ok(())
}

/// Gives every signal its default disposition.
pub fn reset_all() {
    for signal in 1..=LAST {
        // SIGKILL and SIGSTOP refuse; nothing else can fail.
        let _ = set_action(signal, libc::SIG_DFL);
    }
}

/// Ignores a signal.
pub fn ignore(signal: i32) -> Result<()> {
    set_action(signal, libc::SIG_IGN)
}

/// Gives a signal its default disposition.
pub fn reset(signal: i32) -> Result<()> {
    set_action(signal, libc::SIG_DFL)
}

fn set_action(signal: i32, handler: usize) -> Result<()> {
    // struct sigaction of the kernel: handler, flags, restorer, mask.
    let action: [usize; 4] = [handler, 0, 0, 0];
    // SAFETY: rt_sigaction(2) reads the structure; the handler is one of the kernel's own.
    unsafe {
        syscall(
            libc::SYS_rt_sigaction,
            [signal as usize, action.as_ptr() as usize, 0, size_of::<Set>(), 0, 0],
        )?;
    }
    Ok(())
}

/// A non-blocking descriptor from which the signals of `set` are read; they must be blocked.
pub fn descriptor(set: Set) -> Result<OwnedFd> {
    let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as usize;
    // SAFETY: signalfd4(2) reads eight bytes; the result is a new descriptor.
    unsafe {
        let new = usize::MAX;
        let descriptor = syscall(
            libc::SYS_signalfd4,
            [new, &raw const set as usize, size_of::<Set>(), flags, 0, 0],
        )?;
        Ok(OwnedFd::from_raw_fd(descriptor as i32))
    }
}

/// Reads one signal from such a descriptor: `None` when there is none.
pub fn read(descriptor: &OwnedFd) -> Result<Option<i32>> {
    let mut record = [0u32; 32];
    // SAFETY: a signalfd_siginfo is 128 bytes, its first member the number.
    let result = unsafe {
        let buffer = record.as_mut_ptr() as usize;
        syscall(
            libc::SYS_read,
            [descriptor.as_raw_fd() as usize, buffer, size_of_val(&record), 0, 0, 0],
        )
    };
    match result {
        Ok(_) => Ok(Some(record[0] as i32)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names by number, `SIG` left out; real-time signals are named `RTMIN+n`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of a signal given as `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-1`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The C library keeps 32 and 33 for itself, so applications count from 34.
    const FIRST_REAL_TIME: i32 = 34;
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('+')?.parse().ok()?
        };
        return (0..=30).contains(&offset).then_some(FIRST_REAL_TIME + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('-')?.parse().ok()?
        };
        return (0..=30).contains(&offset).then_some(LAST - offset);
    }
    let name = match name {
        "POLL" => "IO",
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        name => name,
    };
    NAMES
        .iter()
        .position(|known| *known == name)
        .map(|index| index as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_are_known_by_name_and_number() {
        let table = [
            ("TERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-14", 50),
        ];
        for (text, number) in table {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["SIGNOPE", "65", "-1", "RTMIN+31", ""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
