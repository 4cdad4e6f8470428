//! The shim on a real kernel, through its protocol. Needs root and busybox-static.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rustix::fd::AsFd;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use strata_shim::protocol::*;
use strata_shim::spec::{ConsoleSize, Overlay, Process, Rootfs, Spec};
use strata_shim::{Connection, Error, Helper};
use support::Ground;

/// A helper, a shim with namespaces of its own, and a connection to it.
struct Pod {
    helper: Helper,
    shim: ShimRef,
    connection: Option<Connection>,
    ground: Ground,
}

impl Pod {
    fn new() -> Self {
        let spec = SandboxSpec {
            network: true,
            ipc: true,
            uts: true,
            hostname: "pod".into(),
            ..Default::default()
        };
        Self::on(Ground::new(), spec)
    }

    fn on(ground: Ground, spec: SandboxSpec) -> Self {
        let helper = Helper::spawn(&std::fs::read(support::PROGRAM).unwrap()).unwrap();
        let launch = LaunchSpec {
            sandbox_id: "s".into(),
            state_dir: ground.path("shim").to_str().unwrap().into(),
            cgroup: String::new(),
        };
        let (shim, mut connection) = helper.launch(&launch).unwrap();
        connection.create_sandbox(spec).unwrap();
        Pod {
            helper,
            shim,
            connection: Some(connection),
            ground,
        }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().unwrap()
    }

    fn spec(&self, args: &[&str]) -> ContainerSpec {
        let mut spec: Spec = serde_json::from_value(self.ground.config(args, |_| {})).unwrap();
        spec.hostname = String::new();
        let linux = spec.linux.as_mut().unwrap();
        // The sandbox's own.
        use strata_shim::spec::NamespaceKind::{Cgroup, Mount, Pid};
        linux
            .namespaces
            .retain(|entry| matches!(entry.kind, Cgroup | Mount | Pid));
        ContainerSpec {
            id: "c".into(),
            spec,
            rootfs: Some(Rootfs::Path(self.ground.root().to_str().unwrap().into())),
            bundle: self.ground.path("").to_str().unwrap().into(),
            log: Some(LogSpec {
                path: self.log_path(),
                max_bytes: 0,
                max_files: 1,
            }),
            ..ContainerSpec::default()
        }
    }

    fn log_path(&self) -> String {
        self.ground.path("c.log").to_str().unwrap().into()
    }

    /// The log as `STREAM TAG TEXT` lines.
    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log_path()).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_string())
            .collect()
    }

    fn run(&mut self, spec: ContainerSpec) -> ExitStatus {
        let id = spec.id.clone();
        self.connection().create(spec).unwrap();
        self.connection().start(&id).unwrap();
        self.connection().wait(&id, None).unwrap()
    }

    fn exec(&mut self, id: &str, args: &[&str]) -> (String, i32) {
        let (mut read, write) = pipe();
        let spec = ExecSpec {
            container: "c".into(),
            id: id.into(),
            process: Process {
                args: args.iter().map(|text| text.to_string()).collect(),
                ..Process::default()
            },
            inherit: true,
            stdout: true,
            ..ExecSpec::default()
        };
        self.connection().exec(spec, &[write.as_fd()]).unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        (text, self.connection().wait("c", Some(id)).unwrap().code)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.shutdown();
        }
    }
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(read), write)
}

/// Waits for something that has no event, with a deadline.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_container_runs_logs_and_leaves_nothing() {
    let mut pod = Pod::new();
    let status = pod.run(pod.spec(&["sh", "-c", "hostname; echo oops >&2; printf rest; exit 3"]));
    assert_eq!((status.code, status.signal, status.oom_killed), (3, 0, false));
    assert!(status.finished_at > 0);
    let mut log = pod.log();
    log.sort();
    assert_eq!(log, ["stderr F oops", "stdout F pod", "stdout P rest"]);
    let state = pod.connection().state().unwrap();
    assert_eq!(state.containers["c"].status, Status::Stopped);
    assert_eq!(state.containers["c"].exit, Some(status));
    pod.connection().delete("c", false).unwrap();
    assert!(pod.ground.cgroups().iter().all(|path| !path.join("c").exists()));
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let mut pod = Pod::new();
    for (args, expected) in [
        (&["nope"][..], "exec: \"nope\": executable file not found in $PATH"),
        (&["/nope"][..], "exec: \"/nope\": stat /nope: no such file or directory"),
        (&["/etc/passwd"][..], "exec: \"/etc/passwd\": permission denied"),
        (&["/etc"][..], "exec: \"/etc\": is a directory"),
    ] {
        let error = pod
            .connection
            .as_mut()
            .unwrap()
            .create(pod_spec(&pod.ground, args))
            .unwrap_err();
        assert!(error.is(FailureKind::Command), "{error}");
        assert_eq!(error.to_string(), expected);
    }
    let mut spec = pod.spec(&["true"]);
    spec.spec.process.as_mut().unwrap().cwd = "/etc/passwd".into();
    let error = pod.connection().create(spec).unwrap_err();
    assert!(error.is(FailureKind::Command), "{error}");
    let mut spec = pod.spec(&["true"]);
    spec.spec.process.as_mut().unwrap().user.username = "ghost".into();
    let error = pod.connection().create(spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to find user ghost: no matching entries in passwd file"
    );
    assert!(pod.connection().state().unwrap().containers.is_empty());
}

fn pod_spec(ground: &Ground, args: &[&str]) -> ContainerSpec {
    let mut spec: Spec = serde_json::from_value(ground.config(args, |_| {})).unwrap();
    spec.hostname = String::new();
    ContainerSpec {
        id: "c".into(),
        spec,
        rootfs: Some(Rootfs::Path(ground.root().to_str().unwrap().into())),
        ..ContainerSpec::default()
    }
}

#[test]
fn a_script_that_cannot_be_executed_fails_at_start() {
    let mut pod = Pod::new();
    let script = pod.ground.root().join("bin/bad");
    std::fs::write(&script, "\x7fELFnope").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let spec = pod.spec(&["/bin/bad"]);
    pod.connection().create(spec).unwrap();
    let error = pod.connection().start("c").unwrap_err();
    assert!(error.to_string().contains("exec format error"), "{error}");
    assert_eq!(pod.connection().wait("c", None).unwrap().code, 127);
    pod.connection().delete("c", false).unwrap();
}

#[test]
fn further_processes_run_inside() {
    let mut pod = Pod::new();
    let spec = pod.spec(&["sleep", "1000"]);
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let (text, code) = pod.exec("1", &["sh", "-c", "hostname; ps | grep -c '[s]leep 1000'; exit 7"]);
    assert_eq!((&*text, code), ("pod\n1\n", 7));
    let missing = ExecSpec {
        container: "c".into(),
        id: "2".into(),
        process: Process {
            args: vec!["nope".into()],
            ..Process::default()
        },
        inherit: true,
        ..ExecSpec::default()
    };
    let error = pod.connection().exec(missing, &[]).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"nope\": executable file not found in $PATH");
    // As the first process of its namespace it has no default action for SIGTERM.
    pod.connection().kill("c", None, 9, false).unwrap();
    let status = pod.connection().wait("c", None).unwrap();
    assert_eq!((status.code, status.signal), (137, 9));
}

#[test]
fn a_further_process_gets_a_terminal() {
    let mut pod = Pod::new();
    let spec = pod.spec(&["sleep", "1000"]);
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let process = Process {
        args: vec![
            "sh".into(),
            "-c".into(),
            "tty; stty size; read line; echo got $line".into(),
        ],
        terminal: true,
        console_size: Some(ConsoleSize { height: 33, width: 99 }),
        ..Process::default()
    };
    let spec = ExecSpec {
        container: "c".into(),
        id: "t".into(),
        process,
        inherit: true,
        ..ExecSpec::default()
    };
    let (_, master) = pod.connection().exec(spec, &[]).unwrap();
    let mut master = File::from(master.unwrap());
    master.write_all(b"hello\n").unwrap();
    let mut text = Vec::new();
    // The end of a terminal is an error.
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("/dev/pts/0") && text.contains("33 99") && text.contains("got hello"),
        "{text}"
    );
    assert_eq!(pod.connection().wait("c", Some("t")).unwrap().code, 0);
}

#[test]
fn attached_clients_share_input_and_output() {
    let mut pod = Pod::new();
    let mut spec = pod.spec(&["sh", "-c", "while read line; do echo got $line; done; echo end >&2"]);
    spec.stdin = true;
    spec.stdin_once = true;
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let mut first = pod
        .connection()
        .attach("c", true, true, true)
        .unwrap()
        .into_iter()
        .map(File::from);
    let (mut input, mut output, mut error) = (first.next().unwrap(), first.next().unwrap(), first.next().unwrap());
    let mut second = File::from(pod.connection().attach("c", false, true, false).unwrap().remove(0));
    input.write_all(b"one\ntwo\n").unwrap();
    drop(input);
    let read = |file: &mut File| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read(&mut output), "got one\ngot two\n");
    assert_eq!(read(&mut second), "got one\ngot two\n");
    assert_eq!(read(&mut error), "end\n");
    assert_eq!(pod.connection().wait("c", None).unwrap().code, 0);
    assert_eq!(pod.log().len(), 3);
}

#[test]
fn a_client_that_does_not_read_loses_nothing_and_blocks_nobody_else() {
    let mut pod = Pod::new();
    let mut spec = pod.spec(&["sh", "-c", "read go; seq 100000"]);
    spec.stdin = true;
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let mut ends = pod
        .connection()
        .attach("c", true, true, false)
        .unwrap()
        .into_iter()
        .map(File::from);
    let (mut input, mut output) = (ends.next().unwrap(), ends.next().unwrap());
    input.write_all(b"\n").unwrap();
    // The shim still answers while output is held up.
    assert_eq!(
        pod.connection().state().unwrap().containers["c"].status,
        Status::Running
    );
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 100_000);
    assert_eq!(pod.connection().wait("c", None).unwrap().code, 0);
    assert_eq!(pod.log().len(), 100_000);
}

#[test]
fn a_terminal_is_shown_resized_and_logged() {
    let mut pod = Pod::new();
    let mut spec = pod.spec(&["sh", "-c", "read go; stty size; test -c /dev/console && echo console"]);
    spec.spec.process.as_mut().unwrap().terminal = true;
    spec.stdin = true;
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    pod.connection()
        .resize("c", ConsoleSize { height: 40, width: 120 })
        .unwrap();
    let mut ends = pod
        .connection()
        .attach("c", true, true, false)
        .unwrap()
        .into_iter()
        .map(File::from);
    let (mut input, mut output) = (ends.next().unwrap(), ends.next().unwrap());
    input.write_all(b"\n").unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(text.contains("40 120") && text.contains("console"), "{text}");
    assert!(pod.connection().state().unwrap().containers["c"].terminal);
}

#[test]
fn memory_that_runs_out_is_told() {
    let mut pod = Pod::new();
    let mut spec = pod.spec(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]);
    let resources = spec.spec.linux.as_mut().unwrap().resources.as_mut().unwrap();
    resources.memory = Some(strata_shim::spec::Memory {
        limit: Some(20 << 20),
        ..Default::default()
    });
    let mut events = pod.shim.connect().unwrap().subscribe().unwrap();
    let status = pod.run(spec);
    assert_eq!(status.code, 137);
    assert!(status.oom_killed);
    let mut kinds = Vec::new();
    while kinds.len() < 2 && !kinds.contains(&"exited") {
        kinds.push(match events.next_event().unwrap() {
            Event::Exited { status: told, .. } => {
                assert_eq!(told, status);
                "exited"
            }
            Event::OutOfMemory { .. } => "memory",
            Event::ExecExited { .. } => "exec",
        });
    }
    assert!(kinds.contains(&"exited"), "{kinds:?}");
}

#[test]
fn a_frozen_container_stands_still() {
    let mut pod = Pod::new();
    let spec = pod.spec(&["sh", "-c", "while true; do echo tick; done"]);
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let path = pod.log_path();
    let size = || std::fs::metadata(&path).map_or(0, |meta| meta.len());
    eventually("output", || size() > 0);
    pod.connection().pause("c").unwrap();
    assert!(pod.connection().state().unwrap().containers["c"].paused);
    pod.connection().resume("c").unwrap();
    let before = size();
    eventually("more output", || size() > before);
    pod.connection().pause("c").unwrap();
    // A frozen one can be deleted all the same.
    pod.connection().delete("c", true).unwrap();
    assert!(pod.connection().state().unwrap().containers.is_empty());
}

#[test]
fn the_log_rotates_by_itself_and_on_request() {
    let mut pod = Pod::new();
    let mut spec = pod.spec(&["seq", "1", "2000"]);
    spec.log = Some(LogSpec {
        path: pod.log_path(),
        max_bytes: 20_000,
        max_files: 3,
    });
    assert_eq!(pod.run(spec).code, 0);
    let path = pod.log_path();
    assert!(std::fs::read_to_string(&path).unwrap().ends_with("2000\n"));
    assert!(std::path::Path::new(&format!("{path}.1")).exists());
    assert!(!std::path::Path::new(&format!("{path}.3")).exists());
    std::fs::rename(&path, format!("{path}.mine")).unwrap();
    pod.connection().reopen_logs("c").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn containers_survive_the_helper_and_its_owner_and_are_found_again() {
    let mut pod = Pod::new();
    let spec = pod.spec(&["sleep", "1000"]);
    pod.connection().create(spec).unwrap();
    pod.connection().start("c").unwrap();
    let ground = Ground::new();
    pod.helper = Helper::spawn(&std::fs::read(support::PROGRAM).unwrap()).unwrap();
    pod.connection = None;
    let found = ShimRef::load(&pod.ground.path("shim")).unwrap();
    assert_eq!(found, pod.shim);
    assert!(found.is_alive());
    let mut connection = found.connect().unwrap();
    assert_eq!(connection.hello().unwrap().2, "s");
    assert_eq!(connection.state().unwrap().containers["c"].status, Status::Running);
    pod.connection = Some(connection);
    drop(ground);
}

#[test]
fn a_killed_helper_is_replaced() {
    let pod = Pod::new();
    let first = pod.helper.pid();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(first as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let launch = LaunchSpec {
        sandbox_id: "t".into(),
        state_dir: pod.ground.path("other").to_str().unwrap().into(),
        cgroup: String::new(),
    };
    let (_, connection) = pod.helper.launch(&launch).unwrap();
    assert_ne!(pod.helper.pid(), first);
    connection.shutdown().unwrap();
    assert!(!pod.ground.path("other/shim.sock").exists());
}

#[test]
fn containers_can_share_a_pid_namespace() {
    let ground = Ground::new();
    let cgroup = format!("/{}/p", ground.name);
    let mut pod = Pod::on(
        ground,
        SandboxSpec {
            ipc: true,
            shared_pid: true,
            cgroup,
            ..SandboxSpec::default()
        },
    );
    let spec = pod.spec(&["sh", "-c", "echo $$"]);
    assert_eq!(pod.run(spec).code, 0);
    let pid: u32 = pod.log()[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert!(pid > 1, "{pid}");
}

#[test]
fn layers_are_joined_by_an_overlay_of_the_container_alone() {
    let mut pod = Pod::new();
    let mut lower = vec![pod.ground.root().to_str().unwrap().to_string()];
    // More than the 64 that fit into one option string of older kernels.
    for number in 0..100 {
        let layer = pod.ground.path(&format!("layers/{number}"));
        std::fs::create_dir_all(layer.join("home")).unwrap();
        std::fs::write(layer.join(format!("home/{number}")), "x").unwrap();
        lower.push(layer.to_str().unwrap().into());
    }
    let path = |name: &str| {
        let path = pod.ground.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (upper, work, target) = (path("upper"), path("work"), path("merged"));
    let mut spec = pod.spec(&["sh", "-c", "ls /home | wc -l; echo new > /home/new"]);
    let overlay = Overlay {
        lower,
        upper: Some(upper.clone()),
        work: Some(work),
        target: target.clone(),
        volatile: true,
    };
    spec.rootfs = Some(Rootfs::Overlay(overlay));
    assert_eq!(pod.run(spec).code, 0);
    assert_eq!(pod.log(), ["stdout F 100"]);
    assert_eq!(std::fs::read_to_string(format!("{upper}/home/new")).unwrap(), "new\n");
    assert_eq!(
        std::fs::read_dir(target).unwrap().count(),
        0,
        "nothing is mounted outside"
    );
}

#[test]
fn a_waiting_init_keeps_no_descriptor_of_the_shim() {
    let mut pod = Pod::new();
    let spec = pod.spec(&["sleep", "1000"]);
    let pid = pod.connection().create(spec).unwrap();
    let names: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| {
            std::fs::read_link(entry.unwrap().path())
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    // Three streams, the gate, and the channel to the shim.
    assert_eq!(names.len(), 5, "{names:?}");
    pod.connection().start("c").unwrap();
    let names = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(names, 3);
}

#[test]
fn requests_that_make_no_sense_are_refused_and_change_nothing() {
    let mut pod = Pod::new();
    let connection = pod.connection();
    for error in [
        connection.start("x").unwrap_err(),
        connection.wait("x", None).unwrap_err(),
        connection.kill("x", None, 9, false).unwrap_err(),
        connection.delete("x", true).unwrap_err(),
        connection.attach("x", true, true, true).unwrap_err(),
    ] {
        assert!(error.is(FailureKind::NotFound), "{error}");
    }
    assert!(matches!(
        connection.create(ContainerSpec::default()),
        Err(Error::Refused(_))
    ));
    assert!(matches!(
        connection.create_sandbox(SandboxSpec::default()),
        Err(Error::Refused(_))
    ));
    assert_eq!(connection.hello().unwrap().0, PROTOCOL_VERSION);
}
