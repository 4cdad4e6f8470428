//! Containers by the OCI command line: three commands of three programs on the same config.json.

use super::ratio;
use crate::{
    Options,
    failure::{Outcome, fail},
    figures::{Samples, short},
    table::Row,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Containers made by each program.
const CONTAINERS: usize = 100;
/// Processes executed by each program.
const EXECUTIONS: usize = 100;
/// Before the first that counts: files get cached, cgroup parents are made.
const WARM_UP: usize = 5;
/// Parent of the containers' cgroups.
/// Of crun's time.
const BAR: f64 = 0.7;
const CGROUP: &str = "strata-bench";
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Milliseconds of each program.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Times {
    create: Vec<f64>,
    start: Vec<f64>,
    delete: Vec<f64>,
    life: Vec<f64>,
    exec: Vec<f64>,
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    // crun refuses a hybrid layout's unified hierarchy, so all programs run where it is unmounted.
    let script = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec \"$@\"";
    let output = tokio::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe()?)
        .arg("--runtime")
        .arg(&options.runtime)
        .arg("--work")
        .arg(&options.work)
        .arg("containers")
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return fail(String::from_utf8_lossy(&output.stderr).trim());
    }
    let times: BTreeMap<String, Times> = serde_json::from_slice(&output.stdout)?;
    Ok(rows(&times))
}

fn rows(times: &BTreeMap<String, Times>) -> Vec<Row> {
    let of = |name: &str, part: fn(&Times) -> &Vec<f64>| {
        let values = times.get(name).map(part).cloned();
        Samples::from_numbers(values.unwrap_or_else(Vec::new))
    };
    let parts = |name: &str| {
        let part = |p: fn(&Times) -> &Vec<f64>| short(of(name, p).median());
        format!(
            "{} + {} + {}",
            part(|t| &t.create),
            part(|t| &t.start),
            part(|t| &t.delete)
        )
    };
    let row = |what: &str, part: fn(&Times) -> &Vec<f64>, extra: &dyn Fn(&str) -> String, how: String| {
        let [ours, crun, runc] = ["strata", "crun", "runc"].map(|name| of(name, part));
        let text = |name: &str, s: &Samples| {
            if s.len() == 0 {
                return format!("{name} absent");
            }
            format!(
                "{name} {} ms (min {}){}",
                short(s.median()),
                short(s.min()),
                extra(name)
            )
        };
        Row {
            what: what.into(),
            strata: text("strata", &ours).replacen("strata ", "", 1),
            peer: format!("{}; {}", text("crun", &crun), text("runc", &runc)),
            ratio: format!("{} of crun", ratio(ours.median(), crun.median())),
            bar: format!("{BAR}x crun"),
            met: (crun.len() > 0).then(|| ours.median() <= BAR * crun.median()),
            how,
        }
    };
    let life = format!(
        "Median of {CONTAINERS} containers of each program in turns: `create --bundle B --pid-file F ID`, `start ID`, `delete \
         --force ID` as three commands on one config.json (six namespaces, cgroup with memory, cpu and pids limits, seccomp \
         profile of the container engines, masked paths, no_new_privs; the process ends by itself before it is deleted)."
    );
    let exec = format!(
        "Median of {EXECUTIONS} `exec ID /bin/true` in turns, into a running container of the same config.json."
    );
    vec![
        row(
            "container create + start + delete, by command",
            |t| &t.life,
            &|n| format!(" = {}", parts(n)),
            life,
        ),
        row(
            "exec into a running container, by command",
            |t| &t.exec,
            &|_| String::new(),
            exec,
        ),
    ]
}

/// The part of the process inside the mount namespace.
pub fn inside(options: &Options) -> Outcome {
    let folder = tempfile::Builder::new()
        .prefix("containers-")
        .tempdir_in(&options.work)?;
    let folder = folder.path();
    let programs = programs(options, folder);
    let mut times: BTreeMap<String, Times> = BTreeMap::new();
    let short_lived = bundle(&folder.join("short"), &["/bin/true"], "short")?;
    for turn in 0..WARM_UP + CONTAINERS {
        for program in &programs {
            let life = program.life(&short_lived, turn)?;
            if turn >= WARM_UP {
                let times = times.entry(program.name.into()).or_default();
                let [create, start, delete] = life.map(|d| d.as_secs_f64() * 1e3);
                times.create.push(create);
                times.start.push(start);
                times.delete.push(delete);
                times.life.push(create + start + delete);
            }
        }
    }
    let measured = executions(&programs, folder, &mut times);
    for program in &programs {
        // Removed whatever happened; one that was never made is no error.
        let _ = program.run(&["delete", "--force", program.long()]);
    }
    remove_cgroups();
    measured?;
    println!("{}", serde_json::to_string(&times)?);
    Ok(())
}

/// Of what was made below [`CGROUP`] the programs remove their own; the parent stays to us.
fn remove_cgroups() {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let folders = hierarchies.map(|e| e.path()).chain(["/sys/fs/cgroup".into()]);
    for folder in folders {
        // Most hierarchies have none.
        let _ = fs::remove_dir(folder.join(CGROUP));
    }
}

fn executions(programs: &[Program], folder: &Path, times: &mut BTreeMap<String, Times>) -> Outcome {
    for program in programs {
        let bundle = bundle(&folder.join(program.name), &["/bin/sleep", "1000"], program.name)?;
        let bundle = bundle.display().to_string();
        program.run(&[
            "create",
            "--bundle",
            &bundle,
            "--pid-file",
            &program.pid_file(),
            program.long(),
        ])?;
        program.run(&["start", program.long()])?;
        filtered(program)?;
    }
    for turn in 0..WARM_UP + EXECUTIONS {
        for program in programs {
            let took = program.run(&["exec", program.long(), "/bin/true"])?;
            if turn >= WARM_UP {
                let times = times.entry(program.name.into()).or_default();
                times.exec.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(())
}

struct Program {
    name: &'static str,
    path: String,
    root: String,
    long: String,
}

fn programs(options: &Options, folder: &Path) -> Vec<Program> {
    let runtime = options.runtime.display().to_string();
    let all = [("strata", runtime.as_str()), ("crun", "crun"), ("runc", "runc")];
    let there = all.into_iter().filter(|(_, path)| {
        let version = Command::new(path).arg("--version").stdout(Stdio::null()).status();
        version.is_ok()
    });
    let program = |(name, path): (&'static str, &str)| Program {
        name,
        path: path.to_owned(),
        root: folder.join(format!("root-{name}")).display().to_string(),
        long: format!("bench-{name}-long-{}", std::process::id()),
    };
    there.map(program).collect()
}

impl Program {
    fn long(&self) -> &str {
        &self.long
    }

    fn pid_file(&self) -> String {
        format!("{}.pid", self.root)
    }

    /// Runs a command to its end; must succeed.
    fn run(&self, arguments: &[&str]) -> Outcome<Duration> {
        let mut command = Command::new(&self.path);
        command
            .args(["--root", &self.root])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let began = Instant::now();
        let status = command.status()?;
        let took = began.elapsed();
        if !status.success() {
            let again = command.stderr(Stdio::piped()).output()?;
            let why = String::from_utf8_lossy(&again.stderr).into_owned();
            return fail(format!(
                "{} {}: {status}; again: {}",
                self.path,
                arguments.join(" "),
                why.trim()
            ));
        }
        Ok(took)
    }

    fn life(&self, bundle: &Path, turn: usize) -> Outcome<[Duration; 3]> {
        let id = format!("bench-{}-{}-{turn}", self.name, std::process::id());
        let pid_file = self.pid_file();
        let bundle = bundle.display().to_string();
        let create = self.run(&["create", "--bundle", &bundle, "--pid-file", &pid_file, &id])?;
        let start = self.run(&["start", &id])?;
        // Outside the measured time.
        await_end(&fs::read_to_string(pid_file)?)?;
        let delete = self.run(&["delete", "--force", &id])?;
        Ok([create, start, delete])
    }
}

/// A container without the profile's filter, or without a limit, would be cheaper: it must have both.
fn filtered(program: &Program) -> Outcome {
    let pid = fs::read_to_string(program.pid_file())?;
    let number = |pid: &str, name: &str| -> Outcome<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.and_then(|l| l.trim().parse().ok()).unwrap_or(0))
    };
    let (ours, its) = (
        number("self", "Seccomp_filters:")?,
        number(pid.trim(), "Seccomp_filters:")?,
    );
    if its != ours + 1 || number(pid.trim(), "NoNewPrivs:")? != 1 {
        return fail(format!(
            "{}: {its} seccomp filters are loaded, {ours} before",
            program.name
        ));
    }
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()))?;
    let wanted = format!(":/{CGROUP}/{}", program.name);
    let limited = |controller: &str| {
        let held = |line: &str| {
            line.split(':')
                .nth(1)
                .is_some_and(|c| c.split(',').any(|c| c == controller))
        };
        cgroups.lines().any(|line| held(line) && line.ends_with(&wanted))
    };
    match ["memory", "cpu", "pids"].into_iter().find(|c| !limited(c)) {
        Some(missing) => fail(format!("{}: no {missing} cgroup of its own: {cgroups}", program.name)),
        None => Ok(()),
    }
}

/// Waits until a process has ended by itself.
fn await_end(pid: &str) -> Outcome {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        io::Errno,
        process::{Pid, PidfdFlags, pidfd_open},
    };
    let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) else {
        return fail(format!("{pid:?} in a pid file"));
    };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        other => other?,
    };
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))? {
        0 => fail(format!("process {} does not end", pid.as_raw_nonzero())),
        _ => Ok(()),
    }
}

/// The program that the containers run.
pub fn busybox() -> Outcome<&'static str> {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    found.map_or_else(|| fail("busybox is not there: install the package busybox-static"), Ok)
}

/// A bundle with busybox and a configuration as a container engine would write it.
fn bundle(folder: &Path, arguments: &[&str], cgroup: &str) -> Outcome<std::path::PathBuf> {
    let rootfs = folder.join("rootfs");
    for name in ["bin", "proc", "dev", "sys"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    let busybox = busybox()?;
    for name in ["true", "sleep"] {
        fs::copy(busybox, rootfs.join("bin").join(name))?;
    }
    fs::write(folder.join("config.json"), config(arguments, cgroup)?.to_string())?;
    Ok(folder.to_owned())
}

fn config(arguments: &[&str], cgroup: &str) -> Outcome<Value> {
    let capabilities = CAPABILITIES.map(str::to_owned);
    let seccomp = serde_json::to_value(strata_runtime::seccomp::default_profile(&capabilities))?;
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{CGROUP}/{cgroup}"),
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 134_217_728},
                "cpu": {"shares": 512},
                "pids": {"limit": 64},
            },
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": without_empty(seccomp),
        },
    }))
}

/// Other programs take an absent field for granted, but not an empty one.
fn without_empty(value: Value) -> Value {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, v)| !empty(v));
            Value::Object(kept.map(|(k, v)| (k, without_empty(v))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_left_out_at_any_depth() {
        let value = json!({"a": null, "b": [{"c": "", "d": 0}], "e": []});
        assert_eq!(without_empty(value), json!({"b": [{"d": 0}]}));
    }
}
