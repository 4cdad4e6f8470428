//! The system call instruction.

use crate::{Errno, Result};

/// The six arguments of a system call.
pub type Arguments = [usize; 6];

/// Performs a system call.
///
/// # Safety
/// As that system call demands of its arguments.
#[inline]
pub unsafe fn syscall(number: libc::c_long, arguments: Arguments) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction clobbers rcx and r11 only; the rest is the caller's duty.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction clobbers x0 only; the rest is the caller's duty.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack)
        );
    }
    if (-4095..0).contains(&result) {
        return Err(Errno::from_raw_os_error(-result as i32));
    }
    Ok(result as usize)
}
