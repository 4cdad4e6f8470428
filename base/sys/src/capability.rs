//! Capability sets of the calling thread.

use crate::{Errno, Result, arch::syscall};

/// Names without `CAP_`, by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit each by number.
pub type Set = u64;

/// The bit of a capability, such as `CAP_NET_ADMIN`; `None` for an unknown name.
pub fn parse(name: &str) -> Option<Set> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == name).map(|number| 1 << number)
}

/// All names, with `CAP_` left out, by number.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// The bounding set of the calling thread.
pub fn bounding() -> Result<Set> {
    let mut set = 0;
    for number in 0..NAMES.len() {
        match crate::process::control(libc::PR_CAPBSET_READ, number) {
            Ok(0) | Err(Errno::INVAL) => {}
            Ok(_) => set |= 1 << number,
            Err(error) => return Err(error),
        }
    }
    Ok(set)
}

/// Takes everything outside `keep` out of the bounding set.
pub fn limit_bounding(keep: Set) -> Result<()> {
    for number in 0..64 {
        if keep & (1 << number) != 0 {
            continue;
        }
        match crate::process::control(libc::PR_CAPBSET_DROP, number) {
            Ok(_) => {}
            // The first number that the kernel does not know ends the list.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Effective, permitted and inheritable sets.
pub fn set(effective: Set, permitted: Set, inheritable: Set) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let low = |set: Set| set as u32;
    let high = |set: Set| (set >> 32) as u32;
    let data = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    // SAFETY: capset(2) version 3 reads two u32 and six u32.
    unsafe {
        syscall(
            libc::SYS_capset,
            [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0],
        )?
    };
    Ok(())
}

/// Effective, permitted and inheritable sets of the calling thread.
pub fn get() -> Result<(Set, Set, Set)> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut data = [0u32; 6];
    // SAFETY: capget(2) version 3 reads two u32 and writes six u32.
    unsafe {
        syscall(
            libc::SYS_capget,
            [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0],
        )?
    };
    let join = |index: usize| u64::from(data[index]) | u64::from(data[index + 3]) << 32;
    Ok((join(0), join(1), join(2)))
}

/// Replaces the ambient set.
pub fn set_ambient(set: Set) -> Result<()> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for number in (0..64).filter(|number| set & (1 << number) != 0) {
        ambient(libc::PR_CAP_AMBIENT_RAISE, number)?;
    }
    Ok(())
}

fn ambient(operation: i32, number: usize) -> Result<()> {
    // SAFETY: takes no pointers.
    unsafe {
        syscall(
            libc::SYS_prctl,
            [libc::PR_CAP_AMBIENT as usize, operation as usize, number, 0, 0, 0],
        )?
    };
    Ok(())
}
