//! Installing a system call filter.

use crate::{Result, arch::syscall};
use rustix::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when true.
    pub yes: u8,
    /// Instructions skipped when false.
    pub no: u8,
    /// Operand.
    pub k: u32,
}

/// Longest filter the kernel takes.
pub const LENGTH_LIMIT: usize = 4096;

/// Installs a filter on the calling thread, for good. With the flag for a listener, the listener is returned.
///
/// Errors: `EACCES` without no_new_privs and without CAP_SYS_ADMIN, `EINVAL` for a bad filter.
pub fn install(filter: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const Instruction,
    }
    const SET_MODE_FILTER: usize = 1;
    let program = Program {
        length: filter.len() as u16,
        filter: filter.as_ptr(),
    };
    // SAFETY: seccomp(2) reads the program and its instructions, which outlive the call.
    let result = unsafe {
        syscall(
            libc::SYS_seccomp,
            [SET_MODE_FILTER, flags as usize, &raw const program as usize, 0, 0, 0],
        )?
    };
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }))
}
