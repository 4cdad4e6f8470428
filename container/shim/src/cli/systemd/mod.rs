//! The systemd cgroup driver: a container's cgroup is a scope that systemd makes and knows (`--systemd-cgroup`).

mod bus;

use alloc::{format, string::String, vec::Vec};
use bus::{Bus, Reader, Writer};
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::cgroup::Layout;
use strata_runtime::spec::{Resources, Spec};
use strata_runtime::{Context, Error, Result};
use strata_sys::file;
use strata_sys::process::{self, Child, Fork, ForkOptions};

/// A scope that is held until the container's init lives in it.
pub(crate) struct Scope {
    /// The unit's name.
    pub(crate) unit: String,
    /// Its path in each hierarchy.
    pub(crate) path: String,
    _hold: Hold,
}

/// A process that does nothing: a scope is made of processes that exist, and ends with the last.
struct Hold {
    child: Child,
    pipe: Option<OwnedFd>,
}

impl Hold {
    fn new() -> Result<Self> {
        let what = || "make a process for the scope";
        let (wait, pipe) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        // SAFETY: runtime processes have one thread.
        match unsafe { process::fork(ForkOptions::default()) }.context(what)? {
            Fork::Parent(child) => Ok(Hold {
                child,
                pipe: Some(pipe),
            }),
            Fork::Child => {
                drop(pipe);
                let _ = rustix::io::read(&wait, &mut [0; 1]);
                process::exit(0)
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = process::reap(self.child.pid);
    }
}

/// Asks systemd for the scope of a container. Errors: there is one of that name, or no systemd.
pub(crate) fn start(spec: &Spec, id: &str, layout: &Layout) -> Result<Scope> {
    let linux = spec.linux.as_ref();
    let path = linux.map_or("", |linux| &*linux.cgroups_path);
    let (slice, unit) = names(path, id)?;
    let hold = Hold::new()?;
    let mut bus = Bus::connect()?;
    let mut body = Writer::default();
    body.string(&unit);
    body.string("replace");
    body.array(8, |list| {
        text(list, "Description", &format!("strata container {id}"));
        if unit.ends_with(".slice") {
            text(list, "Wants", &slice);
        } else {
            text(list, "Slice", &slice);
            switch(list, "Delegate", true);
            // A failed scope is forgotten as one that ended well.
            text(list, "CollectMode", "inactive-or-failed");
            property(list, "PIDs", "au", |value| {
                value.array(4, |pids| pids.number(hold.child.pid as u32));
            });
        }
        switch(list, "DefaultDependencies", false);
        for name in ["MemoryAccounting", "CPUAccounting", "TasksAccounting"] {
            switch(list, name, true);
        }
        if let Some(resources) = linux.and_then(|linux| linux.resources.as_ref()) {
            limits(list, resources, layout.is_unified());
        }
    });
    body.array(8, |_| {});
    run_job(&mut bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, &[])?;
    let path = path_of(hold.child.pid)?;
    if !path.ends_with(&*unit) {
        return Err(Error::State(format!("systemd: the process for {unit} is in {path}")));
    }
    Ok(Scope {
        unit,
        path,
        _hold: hold,
    })
}

/// Ends a unit; one that has ended already is no error.
pub(crate) fn stop(unit: &str) -> Result<()> {
    let mut bus = Bus::connect()?;
    let mut body = Writer::default();
    body.string(unit);
    body.string("replace");
    // It ends by itself with its last process, and then is unknown or the job dropped.
    match run_job(&mut bus, "StopUnit", "ss", body, &["canceled", "collected"]) {
        Err(Error::NotFound(_)) => {}
        other => other?,
    }
    let mut body = Writer::default();
    body.string(unit);
    // Nothing to reset is what is hoped for.
    let _ = bus.call("ResetFailedUnit", "s", body.bytes);
    Ok(())
}

/// Tells systemd of new limits, which it would otherwise undo when it is reloaded.
pub(crate) fn update(unit: &str, resources: &Resources, layout: &Layout) -> Result<()> {
    let mut body = Writer::default();
    body.string(unit);
    // Until the next start of the machine.
    body.number(1);
    body.array(8, |list| limits(list, resources, layout.is_unified()));
    Bus::connect()?
        .call("SetUnitProperties", "sba(sv)", body.bytes)
        .map(drop)
}

/// Calls what queues a job, and waits until that is done. Errors: it has another result, that is not `fine` either.
fn run_job(bus: &mut Bus, member: &str, signature: &str, body: Writer, fine: &[&str]) -> Result<()> {
    let answer = bus.call(member, signature, body.bytes)?;
    let job = Reader::new(&answer).string()?;
    loop {
        let signal = bus.signal("JobRemoved")?;
        let mut reader = Reader::new(&signal.body);
        let _id = reader.number()?;
        let (removed, unit, result) = (reader.string()?, reader.string()?, reader.string()?);
        if removed != job {
            continue;
        }
        return match &*result {
            "done" | "skipped" => Ok(()),
            other if fine.contains(&other) => Ok(()),
            other => Err(Error::State(format!("systemd: {member} of {unit}: {other}"))),
        };
    }
}

/// The slice and the unit that a path `slice:prefix:name` means.
fn names(path: &str, id: &str) -> Result<(String, String)> {
    if path.is_empty() {
        return Ok(("system.slice".into(), format!("strata-{id}.scope")));
    }
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(Error::Invalid(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        )));
    };
    let fits = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    if !slice.ends_with(".slice") || slice.contains("..") || !fits(slice) || !fits(prefix) || !fits(name) {
        return Err(Error::Invalid(format!("invalid systemd unit in cgroupsPath {path:?}")));
    }
    let unit = match (prefix, name) {
        (_, name) if name.ends_with(".slice") => name.into(),
        ("", name) => format!("{name}.scope"),
        (prefix, name) => format!("{prefix}-{name}.scope"),
    };
    Ok((slice.into(), unit))
}

/// proc_pid_cgroup(5): where systemd has put a process.
fn path_of(pid: i32) -> Result<String> {
    let text = file::read_text(&*format!("/proc/{pid}/cgroup"), 64 << 10).context(|| "read the scope's cgroup")?;
    let named = text.lines().find_map(|line| line.split_once(":name=systemd:"));
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = named.map(|(_, path)| path).or(unified);
    Ok(path
        .ok_or_else(|| Error::State("systemd has no cgroup hierarchy here".into()))?
        .into())
}

fn property(list: &mut Writer, name: &str, signature: &str, value: impl FnOnce(&mut Writer)) {
    list.align(8);
    list.string(name);
    list.signature(signature);
    value(list);
}

fn text(list: &mut Writer, name: &str, value: &str) {
    property(list, name, "s", |list| list.string(value));
}

fn switch(list: &mut Writer, name: &str, value: bool) {
    property(list, name, "b", |list| list.number(value.into()));
}

fn long(list: &mut Writer, name: &str, value: u64) {
    property(list, name, "t", |list| list.long(value));
}

/// The limits that systemd knows; all are set in the cgroup too.
fn limits(list: &mut Writer, resources: &Resources, unified: bool) {
    let unlimited = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    if let Some(limit) = resources
        .memory
        .as_ref()
        .and_then(|memory| memory.limit)
        .filter(|&limit| limit != 0)
    {
        long(
            list,
            if unified { "MemoryMax" } else { "MemoryLimit" },
            unlimited(limit),
        );
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        long(list, "TasksMax", if limit > 0 { unlimited(limit) } else { u64::MAX });
    }
    let Some(cpu) = &resources.cpu else { return };
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        if unified {
            long(list, "CPUWeight", strata_runtime::cgroup::weight(shares));
        } else {
            long(list, "CPUShares", shares);
        }
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        let period = cpu.period.filter(|&period| period > 0).unwrap_or(100_000);
        // systemd counts in hundredths of a CPU.
        let share = u64::try_from(quota).map_or(u64::MAX, |quota| {
            (quota.saturating_mul(1_000_000) / period).next_multiple_of(10_000)
        });
        long(list, "CPUQuotaPerSecUSec", share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_path_names_a_slice_and_a_unit() {
        let table = [
            ("", "system.slice", "strata-id.scope"),
            ("user.slice:app:x", "user.slice", "app-x.scope"),
            (":app:x", "system.slice", "app-x.scope"),
            ("a.slice::x", "a.slice", "x.scope"),
            ("a.slice:p:b.slice", "a.slice", "b.slice"),
        ];
        for (path, slice, unit) in table {
            let expected = (slice.to_string(), unit.to_string());
            assert_eq!(names(path, "id").unwrap(), expected, "{path}");
        }
        for bad in ["/a/b", "a:b", "a:b:c:d", "nope:a:b", "../x.slice:a:b", "a.slice:x/y:z"] {
            assert!(names(bad, "id").is_err(), "{bad}");
        }
    }
}
