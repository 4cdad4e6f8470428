//! The engine with the real runtime program and real containers of busybox.

mod support;

use std::time::Duration;
use strata_engine::{AttachOptions, ContainerState, EngineEvent, ExecOptions, Mount, Network, SandboxState, UserRange};
use support::{Bench, DEADLINE, exited, process_exists, words};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_writes_its_log_and_ends() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let status = bench
        .run(
            &sandbox,
            bench.shell("echo out; echo err >&2; hostname; echo $FROM; exit 3"),
        )
        .await;
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(3)));
    assert_eq!((status.reason.as_str(), status.pid), ("Error", None));
    assert!(status.started_at >= Some(status.created_at) && status.finished_at >= status.started_at);
    assert_eq!(status.image, "strata.local/busybox:latest");
    let log = bench.log(&status);
    for text in [
        " stdout F out",
        " stderr F err",
        " stdout F pod-host",
        " stdout F image",
    ] {
        assert!(log.lines().any(|line| line.ends_with(text)), "{text}: {log}");
    }

    let engine = bench.engine();
    let folder = bench.folder.path().join("engine/containers").join(status.id.as_str());
    assert!(folder.exists());
    engine.remove_container(&status.id).await.expect("remove");
    engine.remove_container(&status.id).await.expect("remove again");
    assert!(!folder.exists() && engine.list_containers().is_empty());
    let pid = engine.sandbox(&sandbox.id).expect("status").pid;
    assert!(process_exists(pid));
    engine.remove_sandbox(&sandbox.id).await.expect("remove");
    assert!(!process_exists(pid) && engine.list_sandboxes().is_empty());
    assert!(engine.images().lease_owners().expect("leases").is_empty());
    let left = |name: &str| {
        std::fs::read_dir(bench.folder.path().join(name))
            .expect("folder")
            .count()
    };
    assert_eq!(
        (left("engine/sandboxes"), left("engine/containers"), left("run")),
        (0, 0, 0)
    );
    let mounts = strata_mount::mount_points().expect("mounts");
    assert!(!mounts.iter().any(|mount| mount.starts_with(bench.folder.path())));
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_gives_output_exit_code_and_input() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let id = bench.start(&sandbox, bench.shell("sleep 1000")).await;
    let engine = bench.engine();
    let command = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let result = engine
        .exec_sync(&id, command("echo o; echo e >&2; exit 7"), DEADLINE)
        .await
        .expect("exec");
    assert_eq!(
        (result.exit_code, result.stdout.as_slice(), result.stderr.as_slice()),
        (7, &b"o\n"[..], &b"e\n"[..])
    );

    let big = engine
        .exec_sync(&id, command("yes | head -c 20000000"), DEADLINE)
        .await
        .expect("exec");
    assert_eq!(big.stdout.len(), strata_engine::ExecResult::MAX_OUTPUT);

    let error = engine
        .exec_sync(&id, words("no-such-program"), DEADLINE)
        .await
        .expect_err("missing")
        .to_string();
    assert!(
        error.contains("exec: \"no-such-program\": executable file not found in $PATH"),
        "{error}"
    );

    let slow = engine
        .exec_sync(&id, words("sleep 1000"), Duration::from_millis(200))
        .await
        .expect_err("timeout");
    assert!(matches!(slow, strata_engine::Error::Timeout { .. }), "{slow}");

    let options = ExecOptions {
        command: words("cat"),
        stdin: true,
        stdout: true,
        ..ExecOptions::default()
    };
    let mut session = engine.exec(&id, options).await.expect("exec");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"through and back").await.expect("write");
    drop(stdin);
    let mut back = String::new();
    session
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut back)
        .await
        .expect("read");
    assert_eq!(back, "through and back");
    assert_eq!(session.wait().await.expect("end"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_with_a_terminal_has_a_size_and_one_stream() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let id = bench.start(&sandbox, bench.shell("sleep 1000")).await;
    let options = ExecOptions {
        command: words("sh"),
        tty: true,
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecOptions::default()
    };
    let mut session = bench.engine().exec(&id, options).await.expect("exec");
    assert!(session.stderr.is_none());
    session.resize(111, 44).await.expect("resize");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"stty size; exit 5\n").await.expect("write");
    let mut screen = String::new();
    session
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut screen)
        .await
        .expect("read");
    assert!(screen.contains("44 111"), "{screen}");
    assert_eq!(session.wait().await.expect("end"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_kills_after_the_grace() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let engine = bench.engine();
    let polite = bench.shell("trap 'exit 9' TERM; touch /tmp/ready; while :; do sleep 0.02; done");
    let id = bench.start(&sandbox, polite).await;
    let ready = vec![
        "sh".into(),
        "-c".into(),
        "while ! [ -e /tmp/ready ]; do sleep 0.01; done".into(),
    ];
    engine.exec_sync(&id, ready, DEADLINE).await.expect("ready");
    engine.stop_container(&id, DEADLINE).await.expect("stop");
    assert_eq!(engine.container(&id).expect("status").exit_code, Some(9));

    // Init of its pid namespace: without a handler SIGTERM does nothing.
    let id = bench.start(&sandbox, bench.shell("sleep 1000; true")).await;
    engine
        .stop_container(&id, Duration::from_millis(100))
        .await
        .expect("stop");
    let status = engine.container(&id).expect("status");
    assert_eq!((status.exit_code, status.signal), (Some(137), Some(9)));
    engine.stop_container(&id, DEADLINE).await.expect("stop again");
    assert!(engine.kill(&id, 15).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_said_in_a_sentence_and_leaves_nothing() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let mut config = bench.shell("");
    config.command = Some(words("no-such-program"));
    let engine = bench.engine();
    let failed = match engine.create_container(&sandbox.id, config).await {
        Err(error) => error.to_string(),
        Ok(id) => {
            let error = engine.start_container(&id).await.expect_err("start").to_string();
            assert_eq!(engine.container(&id).expect("status").reason, "ContainerCannotRun");
            engine.remove_container(&id).await.expect("remove");
            error
        }
    };
    assert!(
        failed.contains("exec: \"no-such-program\": executable file not found in $PATH"),
        "{failed}"
    );

    let mut config = bench.shell("true");
    config.mounts = vec![Mount {
        host_path: "/no/such/path".into(),
        container_path: "/x".into(),
        ..Mount::default()
    }];
    let error = engine
        .create_container(&sandbox.id, config)
        .await
        .expect_err("mount")
        .to_string();
    assert!(error.contains("/no/such/path"), "{error}");

    let mut config = bench.shell("true");
    config.security.run_as_user_name = Some("nobody-knows".into());
    let error = engine
        .create_container(&sandbox.id, config)
        .await
        .expect_err("user")
        .to_string();
    assert!(error.contains("nobody-knows"), "{error}");
    assert!(engine.list_containers().is_empty());
    let folder = bench.folder.path().join("engine/containers");
    assert_eq!(std::fs::read_dir(folder).expect("folder").count(), 0);
    assert!(engine.images().lease_owners().expect("leases").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_engine_finds_everything_again() {
    let mut bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let running = bench.start(&sandbox, bench.shell("sleep 1000")).await;
    let pid = bench.engine().container(&running).expect("status").pid;
    let ends = bench.start(&sandbox, bench.shell("cat /tmp/go; exit 6")).await;
    // Held at a pipe until the engine is gone.
    let mut config = bench.shell("read line < /data/pipe; exit 6");
    let fifo = bench.folder.path().join("data");
    std::fs::create_dir(&fifo).expect("folder");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .expect("pipe");
    config.mounts = vec![Mount {
        host_path: fifo.clone(),
        container_path: "/data".into(),
        ..Mount::default()
    }];
    let waiting = bench.start(&sandbox, config).await;
    let ended_pid = bench.engine().container(&waiting).expect("status").pid.expect("pid");
    let before = bench.engine().container(&running).expect("status");

    bench.engine = None;
    let pipe = fifo.join("pipe");
    let writer = tokio::task::spawn_blocking(move || std::fs::write(pipe, "go\n"));
    tokio::time::timeout(DEADLINE, writer)
        .await
        .expect("reader")
        .expect("thread")
        .expect("write");
    let gone = async {
        while process_exists(ended_pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the container ends");

    bench.open().await;
    let engine = bench.engine();
    assert_eq!(engine.sandbox(&sandbox.id).expect("status").state, SandboxState::Ready);
    let after = engine.container(&running).expect("status");
    assert_eq!(
        (after.state, after.pid, after.started_at),
        (ContainerState::Running, pid, before.started_at)
    );
    let status = engine.container(&waiting).expect("status");
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(6)));
    assert_eq!(engine.container(&ends).expect("status").state, ContainerState::Exited);
    let result = engine
        .exec_sync(&running, words("echo still here"), DEADLINE)
        .await
        .expect("exec");
    assert_eq!(result.stdout, b"still here\n");
    let mut events = engine.events();
    engine.stop_container(&running, Duration::ZERO).await.expect("stop");
    assert_eq!(exited(&mut events, &running).await, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_dies_takes_its_containers_along() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let engine = bench.engine();
    let id = bench.start(&sandbox, bench.shell("sleep 1000")).await;
    let pid = engine.container(&id).expect("status").pid.expect("pid");
    let mut events = engine.events();
    let shim = rustix::process::Pid::from_raw(engine.sandbox(&sandbox.id).expect("status").pid).expect("pid");
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("kill");
    assert_eq!(exited(&mut events, &id).await, 137);
    let lost = async {
        loop {
            if let EngineEvent::SandboxExited { sandbox_id } = events.recv().await.expect("events") {
                return sandbox_id;
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, lost).await.expect("event"), sandbox.id);
    assert!(!process_exists(pid));
    assert_eq!(
        engine.sandbox(&sandbox.id).expect("status").state,
        SandboxState::NotReady
    );
    assert!(engine.create_container(&sandbox.id, bench.shell("true")).await.is_err());
    engine.remove_sandbox(&sandbox.id).await.expect("remove");
    assert!(engine.list_containers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_limits_are_those_asked_for() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let script = "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x";
    let mut config = bench.shell(script);
    config.command = Some(vec![
        "busybox".into(),
        "sh".into(),
        "-c".into(),
        script.replace("grep", "busybox grep"),
    ]);
    config.security.run_as_user = Some(1000);
    config.security.fs_group = Some(5000);
    config.security.allow_privilege_escalation = false;
    config.security.read_only_root_filesystem = true;
    let status = bench.run(&sandbox, config).await;
    let log = bench.log(&status);
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    assert_eq!(lines[..2], ["1000", "1001"], "{log}");
    assert!(lines[2].contains("77") && lines[2].contains("5000"), "{log}");
    assert!(
        log.contains("CapEff:\t0000000000000000") && log.contains("NoNewPrivs:\t1"),
        "{log}"
    );
    assert!(
        log.contains("Seccomp:\t2") && log.contains("Read-only file system"),
        "{log}"
    );

    let mut config = bench.shell("sleep 1000");
    config.resources.memory_limit = Some(64 << 20);
    config.resources.pids_limit = Some(50);
    let id = bench.start(&sandbox, config).await;
    let stats = bench.engine().stats(&id).await.expect("stats");
    assert!(
        stats.memory_usage > 0 && stats.pids >= 1 && stats.cpu_usage_nanos > 0,
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_reached_inside_the_sandbox() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let script = "echo hello | nc -l -p 80 & until busybox grep -q :0050 /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done; \
                  touch /tmp/up; wait; sleep 1000";
    let id = bench.start(&sandbox, bench.shell(script)).await;
    let ready = vec![
        "sh".into(),
        "-c".into(),
        "while ! [ -e /tmp/up ]; do sleep 0.01; done".into(),
    ];
    bench.engine().exec_sync(&id, ready, DEADLINE).await.expect("ready");
    let mut stream = bench.engine().dial_port(&sandbox.id, 80).await.expect("dial");
    let mut text = String::new();
    stream.shutdown().await.expect("shutdown");
    stream.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "hello\n");
    let error = bench
        .engine()
        .dial_port(&sandbox.id, 81)
        .await
        .expect_err("closed")
        .to_string();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_follows_the_containers_own_streams() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let mut config = bench.shell("while read line; do echo \"got $line\"; done; exit 4");
    (config.stdin, config.stdin_once) = (true, true);
    let id = bench.start(&sandbox, config).await;
    let options = AttachOptions {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let mut session = bench.engine().attach(&id, options).await.expect("attach");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"one\ntwo\n").await.expect("write");
    drop(stdin);
    let mut text = String::new();
    session
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut text)
        .await
        .expect("read");
    assert_eq!(text, "got one\ngot two\n");
    assert_eq!(session.wait().await.expect("end"), 4);
    assert!(
        bench
            .log(&bench.engine().container(&id).expect("status"))
            .contains("stdout F got two")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_sandbox_share_what_pods_share() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox_with(|config| config.share_process_namespace = true).await;
    let first = bench
        .start(&sandbox, bench.shell("echo shared > /dev/shm/file; sleep 1000"))
        .await;
    let mut second = bench.shell("while ! cat /dev/shm/file; do sleep 0.01; done; busybox ps; cat /etc/hostname");
    second.name = "second".into();
    second.log_path = "second/0.log".into();
    let status = bench.run(&sandbox, second).await;
    let log = bench.log(&status);
    assert!(
        log.contains("stdout F shared") && log.contains("stdout F pod-host"),
        "{log}"
    );
    // The other container's process, by its own listing.
    assert!(log.contains("sleep 1000"), "{log}");
    bench.engine().stop_sandbox(&sandbox.id).await.expect("stop");
    assert_eq!(bench.engine().container(&first).expect("status").exit_code, Some(137));
    bench.engine().stop_sandbox(&sandbox.id).await.expect("stop again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_takes_too_much_memory_is_killed_and_says_so() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let mut events = bench.engine().events();
    let mut config = bench.shell("exec busybox tail /dev/zero");
    config.resources.memory_limit = Some(32 << 20);
    let status = bench.run(&sandbox, config).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (Some(137), "OOMKilled"));
    let told = async {
        loop {
            if let EngineEvent::ContainerExited { oom_killed, .. } = events.recv().await.expect("events") {
                return oom_killed;
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, told).await.expect("event"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_user_can_open_its_own_output_and_gets_its_directory() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let mut config = bench.shell("echo opened > /dev/stdout; pwd > /dev/stderr");
    config.security.run_as_user = Some(1000);
    config.working_dir = Some("/made/for/it".into());
    let status = bench.run(&sandbox, config).await;
    let log = bench.log(&status);
    assert!(
        log.contains("stdout F opened") && log.contains("stderr F /made/for/it"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_may_what_others_may_not() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let script = "busybox mkdir /m; busybox mount -t tmpfs none /m && echo mounted; [ -c /dev/kmsg ] && echo device";
    let plain = bench.run(&sandbox, bench.shell(script)).await;
    let log = bench.log(&plain);
    assert!(
        !log.contains("stdout F mounted") && !log.contains("stdout F device"),
        "{log}"
    );
    let mut config = bench.shell(script);
    config.security.privileged = true;
    config.log_path = "c/1.log".into();
    let status = bench.run(&sandbox, config).await;
    let log = bench.log(&status);
    assert!(log.contains("stdout F mounted"), "{log}");
    assert_eq!(
        std::path::Path::new("/dev/kmsg").exists(),
        log.contains("stdout F device"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_namespaces_are_shared_when_asked_for() {
    let bench = Bench::new().await;
    let sandbox = bench
        .sandbox_with(|config| {
            config.network = Network::Host;
            (config.host_pid, config.host_ipc) = (true, true);
        })
        .await;
    assert_eq!(sandbox.ip, None);
    let script = "for n in net uts pid ipc mnt; do busybox readlink /proc/self/ns/$n; done; hostname";
    let status = bench.run(&sandbox, bench.shell(script)).await;
    let log = bench.log(&status);
    for (name, shared) in [
        ("net", true),
        ("uts", true),
        ("pid", true),
        ("ipc", true),
        ("mnt", false),
    ] {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace");
        assert_eq!(log.contains(own.to_str().expect("text")), shared, "{name}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_has_users_of_its_own_that_own_the_images_files() {
    let bench = Bench::new().await;
    let users = UserRange {
        uid: 200_000,
        uids: 65_536,
        gid: 300_000,
        gids: 65_536,
    };
    let sandbox = bench
        .sandbox_with(|config| (config.users, config.share_process_namespace) = (Some(users), true))
        .await;
    let volume = bench.folder.path().join("volume");
    std::fs::create_dir(&volume).expect("folder");
    std::fs::write(volume.join("file"), "x").expect("file");
    let script = "cat /proc/self/uid_map /proc/self/gid_map; stat -c '%n %u:%g' /bin/busybox /volume/file; \
                  touch /new /volume/new && stat -c '%n %u:%g' /new; mkdir /m && mount -t tmpfs none /m && echo mounted; hostname";
    let mut config = bench.shell(script);
    config.security.add_capabilities = vec!["SYS_ADMIN".into()];
    config.security.seccomp = strata_engine::Seccomp::Unconfined;
    config.mounts.push(Mount {
        host_path: volume.clone(),
        container_path: "/volume".into(),
        mapped: true,
        ..Mount::default()
    });
    let status = bench.run(&sandbox, config).await;
    let log = bench.log(&status);
    let words: Vec<String> = log
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>()[3..].join(" "))
        .collect();
    assert_eq!(
        words,
        [
            "0 200000 65536",
            "0 300000 65536",
            "/bin/busybox 0:0",
            "/volume/file 0:0",
            "/new 0:0",
            "mounted",
            "pod-host"
        ],
        "{log}"
    );
    // What was written through the mapped volume is root's outside, what was written in the root file system is not.
    let owner = |path: &std::path::Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).expect("file"));
    assert_eq!(owner(&volume.join("new")), 0);
    let folder = bench.folder.path().join("engine/containers").join(status.id.as_str());
    assert_eq!(owner(&folder.join("upper/new")), 200_000);
    bench.engine().remove_sandbox(&sandbox.id).await.expect("remove");
    assert!(!folder.exists());
}
