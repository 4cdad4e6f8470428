//! Programs of the configuration run at points of a container's life.

use crate::error::{Context, Error, Result};
use crate::program::c_strings;
use crate::spec::{Hook, Spec};
use alloc::{ffi::CString, format, string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{Errno, file, signal};

/// Seconds a hook without a timeout gets: a hook that hangs must not hold a shim forever.
const DEFAULT_TIMEOUT: u32 = 120;

/// The state that hooks read and that `state` prints.
pub fn state_json(spec: &Spec, id: &str, status: &str, pid: i32, bundle: &str) -> String {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct State<'a> {
        oci_version: &'a str,
        id: &'a str,
        status: &'a str,
        pid: i32,
        bundle: &'a str,
        annotations: &'a alloc::collections::BTreeMap<String, String>,
    }
    let state = State {
        oci_version: &spec.oci_version,
        id,
        status,
        pid,
        bundle,
        annotations: &spec.annotations,
    };
    // Strings and numbers alone: cannot fail.
    serde_json::to_string(&state).unwrap_or_default()
}

/// Runs hooks in order, each with `state` on its standard input. Errors: the first that fails.
pub fn run(point: &str, hooks: &[Hook], state: &str) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|why| Error::State(format!("error running {point} hook #{index}: {why}")))?;
    }
    Ok(())
}

/// Runs all hooks, whether others fail or not: what went wrong.
pub fn run_all(point: &str, hooks: &[Hook], state: &str) -> Vec<Error> {
    let outcomes = hooks.iter().enumerate().map(|(index, hook)| {
        run_one(hook, state).map_err(|why| Error::State(format!("error running {point} hook #{index}: {why}")))
    });
    outcomes.filter_map(Result::err).collect()
}

/// Runs the hooks of a container that has begun: what went wrong and is only to be told. Errors: the container is to be
/// stopped, which is so since version 1.3 of the specification (runtime.md#lifecycle, step 9).
pub fn run_poststart(spec: &Spec, state: &str) -> Result<Vec<Error>> {
    let Some(hooks) = &spec.hooks else {
        return Ok(Vec::new());
    };
    let forgiving = ["1.0", "1.1", "1.2"].iter().any(|version| {
        spec.oci_version
            .strip_prefix(version)
            .is_some_and(|rest| rest.starts_with('.'))
    });
    if forgiving {
        return Ok(run_all("poststart", &hooks.poststart, state));
    }
    run("poststart", &hooks.poststart, state).map(|()| Vec::new())
}

fn run_one(hook: &Hook, state: &str) -> Result<()> {
    let path = CString::new(&*hook.path).map_err(|_| Error::Invalid("bad hook path".into()))?;
    let arguments = if hook.args.is_empty() {
        c_strings(core::slice::from_ref(&hook.path))?
    } else {
        c_strings(&hook.args)?
    };
    let environment = c_strings(&hook.env)?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
    // SAFETY: runtime processes have one thread.
    let child = match unsafe { process::fork(ForkOptions::default()) }.context(|| "fork")? {
        Fork::Parent(child) => child,
        Fork::Child => {
            signal::reset_all();
            let _ = signal::set_blocked(0);
            if rustix::stdio::dup2_stdin(&read).is_ok() && process::close_on_exec_from(3).is_ok() {
                let errno = process::execute(&path, &arguments, &environment);
                let text = format!("{}: {}\n", hook.path, strata_sys::describe(errno));
                let _ = rustix::io::write(strata_sys::stream::error(), text.as_bytes());
            }
            process::exit(127)
        }
    };
    drop(read);
    // The state is smaller than a pipe's buffer; a hook that does not read it is not an error.
    let _ = signal::ignore(libc::SIGPIPE);
    let _ = file::write_all(&write, state.as_bytes());
    drop(write);
    let seconds = hook.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let timeout = Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    let mut ended = [PollFd::new(&child.pidfd, PollFlags::IN)];
    let in_time = loop {
        match poll(&mut ended, Some(&timeout)) {
            Err(Errno::INTR) => {}
            result => break result.context(|| "wait for the hook")? > 0,
        }
    };
    if !in_time {
        let _ = process::signal(&child.pidfd, libc::SIGKILL);
    }
    let status = process::reap(child.pid).context(|| "wait for the hook")?;
    match (in_time, status.code()) {
        (true, 0) => Ok(()),
        (true, code) => Err(Error::State(format!("exit status {code}"))),
        (false, _) => Err(Error::State(format!("timed out after {seconds} s"))),
    }
}
