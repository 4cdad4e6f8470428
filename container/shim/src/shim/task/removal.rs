//! Taking a container away that no shim looks after any more.

use super::record::Record;
use super::{record, rootfs};
use crate::cli::systemd;
use alloc::{format, string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::spec::Spec;
use strata_runtime::{Context, Error, Result, hooks};
use strata_sys::{Errno, file, process};

/// How long a killed init may take to end: its processes may be inside the kernel.
const KILL_LIMIT: i64 = 10;

/// Ends and removes the container; what could not be done.
pub(super) fn after_death(record: &Record, id: &str, bundle: &str) -> Vec<Error> {
    let steps = [
        kill(record),
        remove_cgroup(record),
        stop_unit(record),
        rootfs::unmount(bundle),
        run_hooks(id, bundle),
    ];
    record::forget(bundle);
    steps.into_iter().filter_map(Result::err).collect()
}

fn kill(record: &Record) -> Result<()> {
    if record.pid == 0 {
        return Ok(());
    }
    let Ok(pidfd) = process::open(record.pid) else {
        return Ok(());
    };
    // The number may have been given to another process.
    if process::start_time(record.pid) != Ok(record.pid_start) {
        return Ok(());
    }
    if let Some(cgroup) = cgroup(record)?
        && cgroup.is_frozen()
    {
        cgroup.freeze(false)?;
    }
    let _ = process::signal(&pidfd, libc::SIGKILL);
    let limit = Timespec {
        tv_sec: KILL_LIMIT,
        tv_nsec: 0,
    };
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(0) => {
                let text = format!("the container's init did not end in {KILL_LIMIT} s after SIGKILL");
                return Err(Error::State(text));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                let what = String::from("wait for the container");
                return Err(Error::System { what, errno });
            }
        }
    }
}

fn cgroup(record: &Record) -> Result<Option<Cgroup>> {
    if record.cgroup.is_empty() {
        return Ok(None);
    }
    Cgroup::open(&Layout::detect()?, &record.cgroup).map(Some)
}

fn remove_cgroup(record: &Record) -> Result<()> {
    let Some(cgroup) = cgroup(record)? else { return Ok(()) };
    cgroup.signal_all(libc::SIGKILL)?;
    cgroup.remove()
}

fn stop_unit(record: &Record) -> Result<()> {
    if record.unit.is_empty() {
        return Ok(());
    }
    systemd::stop(&record.unit)
}

fn run_hooks(id: &str, bundle: &str) -> Result<()> {
    let path = format!("{bundle}/config.json");
    let text = match file::read_at(CWD, &*path, 16 << 20) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.context(|| format!("read {path}"))?,
    };
    let spec: Spec = serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("{path}: {error}")))?;
    let Some(list) = &spec.hooks else { return Ok(()) };
    let state = hooks::state_json(&spec, id, "stopped", 0, bundle);
    match hooks::run_all("poststop", &list.poststop, &state).into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
