//! The small program that is carried inside this one.

use crate::failure::{During, Outcome};
use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, ExitCode},
};

/// `strata-runtime`: helper, shim and OCI command line.
pub const RUNTIME: &[u8] = include_bytes!(env!("STRATA_RUNTIME_BINARY"));

/// Becomes the OCI command line.
pub fn exec(arguments: &[OsString]) -> Outcome<ExitCode> {
    let path = memory_file()?;
    let error = Command::new(path).arg0("strata-runtime").args(arguments).exec();
    Err(error).during("running the OCI runtime")
}

/// A path under which the program can be executed while this process lives.
pub fn memory_file() -> Outcome<String> {
    use rustix::fs::{MemfdFlags, memfd_create};
    // Without close-on-exec: the kernel resolves the path at exec.
    let fd = memfd_create("strata-runtime", MemfdFlags::empty()).during("making the OCI runtime")?;
    let mut file = File::from(fd);
    file.write_all(RUNTIME).during("making the OCI runtime")?;
    let number = file.as_raw_fd();
    std::mem::forget(file);
    Ok(format!("/proc/self/fd/{number}"))
}
