//! Programs that log: `binary://PATH?ARGUMENT=VALUE`, fed by two pipes (containerd's logging plugins).

use super::io::Owner;
use alloc::{ffi::CString, format, string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::{Context, Error, Result};
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{Errno, signal};

/// How long such a program may take to say that it is ready.
const READY_LIMIT: i64 = 10;

/// Starts the program of the address after `binary://`: where the outputs are to be written.
pub(super) fn start(address: &str, owner: &Owner<'_>) -> Result<[Option<OwnedFd>; 2]> {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let path = decoded(path)?;
    let mut arguments = alloc::vec![path.clone()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        arguments.push(decoded(name)?);
        if !value.is_empty() {
            arguments.push(decoded(value)?);
        }
    }
    let environment = [
        c_string(format!("CONTAINER_ID={}", owner.id))?,
        c_string(format!("CONTAINER_NAMESPACE={}", owner.namespace))?,
    ];
    let arguments = arguments.into_iter().map(c_string).collect::<Result<Vec<_>>>()?;
    let what = || format!("start {path}");
    let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let (error_read, error_write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let (ready_read, ready_write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    // SAFETY: the shim has one thread.
    let child = match unsafe { process::fork(ForkOptions::default()) }.context(what)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            let placed = place([out_read, error_read, ready_write]);
            signal::reset_all();
            let _ = signal::set_blocked(0);
            if placed.is_ok() {
                process::execute(&arguments[0], &arguments, &environment);
            }
            process::exit(127)
        }
    };
    drop((out_read, error_read, ready_write));
    if let Err(error) = await_ready(&ready_read, &path) {
        let _ = process::signal(&child.pidfd, libc::SIGKILL);
        return Err(error);
    }
    for end in [&out_write, &error_write] {
        rustix::io::ioctl_fionbio(end, true).context(what)?;
    }
    Ok([Some(out_write), Some(error_write)])
}

/// Puts the descriptors at 3, 4 and 5, where the program looks for them.
fn place(descriptors: [OwnedFd; 3]) -> strata_sys::Result<()> {
    // Out of the way first: one may be where another belongs.
    let mut moved = Vec::new();
    for descriptor in &descriptors {
        moved.push(rustix::io::fcntl_dupfd_cloexec(descriptor, 16)?);
    }
    process::close_on_exec_from(3)?;
    for (number, descriptor) in (3..).zip(&moved) {
        // SAFETY: whatever had the number is replaced; this process becomes another program at once.
        let mut target = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::dup2(descriptor, &mut target)?;
        let _ = target.into_raw_fd();
    }
    core::mem::forget(descriptors);
    Ok(())
}

/// The program closes its end, or writes to it, when it is ready.
fn await_ready(pipe: &OwnedFd, path: &str) -> Result<()> {
    let limit = Timespec {
        tv_sec: READY_LIMIT,
        tv_nsec: 0,
    };
    loop {
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Err(Error::State(format!("{path} was not ready in {READY_LIMIT} s"))),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                let what = format!("wait for {path}");
                return Err(Error::System { what, errno });
            }
        }
    }
}

fn c_string(text: String) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Invalid("a logging program's argument holds a NUL byte".into()))
}

/// RFC 3986, section 2.1, and `+` for a space.
fn decoded(text: &str) -> Result<String> {
    let bad = || Error::Invalid(format!("bad address of a logging program: {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
                (high * 16 + low) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn addresses_are_decoded() {
        assert_eq!(decoded("/a%20b+c").unwrap(), "/a b c");
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert!(decoded(bad).is_err(), "{bad}");
        }
    }
}
