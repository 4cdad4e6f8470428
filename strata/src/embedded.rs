//! The small program that is carried inside this one.

use crate::failure::{During, Outcome};
use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::PathBuf,
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

/// Names under which this program is the small one.
const NAMES: [&str; 2] = ["containerd-shim-strata-v2", "strata-runtime"];

/// Becomes the small program when it was called by one of its names, such as a link for containerd.
pub fn by_name() -> Option<Outcome<ExitCode>> {
    let mut arguments = std::env::args_os();
    let called = PathBuf::from(arguments.next()?);
    let name = called.file_name()?.to_str()?;
    if !NAMES.contains(&name) {
        return None;
    }
    Some(memory_file().and_then(|path| {
        let error = Command::new(path).arg0(name).args(arguments).exec();
        Err(error).during("running the OCI runtime")
    }))
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
