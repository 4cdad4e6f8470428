//! The standard streams.

use rustix::fd::BorrowedFd;

/// Standard input.
pub fn input() -> BorrowedFd<'static> {
    // SAFETY: nothing of ours closes the standard streams; they are only replaced.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Standard output.
pub fn output() -> BorrowedFd<'static> {
    // SAFETY: as above.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// Standard error.
pub fn error() -> BorrowedFd<'static> {
    // SAFETY: as above.
    unsafe { BorrowedFd::borrow_raw(2) }
}
