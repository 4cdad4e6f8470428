//! A new daemon with shims and records of the first version.

#[path = "support/earlier.rs"]
mod earlier;
mod support;

use serde_json::Value;
use std::path::Path;
use strata_engine::{AttachOptions, ContainerState, ExecOptions, Mount, Resources, SandboxState};
use strata_shim::protocol::{ContainerSpec, ExecSpec, Reply, Request, SandboxSpec};
use support::{Bench, DEADLINE, exited, process_exists, words};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Names the program of a real earlier version, to try that instead of what is known of it.
const PROGRAM: &str = "STRATA_EARLIER_RUNTIME";

/// The engine's records as they were written then.
fn age_records(root: &Path) {
    let change = |path: &Path, change: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&std::fs::read(path).expect("record")).expect("JSON");
        change(&mut file);
        std::fs::write(path, file.to_string()).expect("record");
    };
    let known = earlier::known();
    for item in std::fs::read_dir(root.join("sandboxes")).expect("folder").flatten() {
        change(&item.path().join("sandbox.json"), &|file| {
            earlier::keep(file, &known["sandbox_record"]);
        });
    }
    for item in std::fs::read_dir(root.join("containers")).expect("folder").flatten() {
        change(&item.path().join("container.json"), &|file| {
            earlier::keep(&mut file["record"], &known["container_record"]);
            earlier::keep(&mut file["life"], &known["life"]);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_takes_over_a_shim_of_the_first_version() {
    let real = std::env::var_os(PROGRAM);
    let mut bench = match &real {
        Some(path) => Bench::with_program(&std::fs::read(path).expect("the earlier program")).await,
        None => Bench::new().await,
    };
    let data = bench.folder.path().join("data");
    std::fs::create_dir(&data).expect("folder");
    support::pipe(&data.join("lines"));
    let sandbox = bench.sandbox().await;
    let mut config = bench.shell("exec 3<>/data/lines; while read line <&3; do echo $line; done");
    config.mounts = vec![Mount {
        host_path: data.clone(),
        container_path: "/data".into(),
        ..Mount::default()
    }];
    let listens = bench.start(&sandbox, config).await;
    let mut config = bench.shell("cat; exit 4");
    (config.stdin, config.stdin_once, config.log_path) = (true, true, "cat/0.log".into());
    let cat = bench.start(&sandbox, config).await;
    let pid = bench.engine().container(&listens).expect("status").pid;

    bench.engine = None;
    if real.is_none() {
        age_records(&bench.folder.path().join("engine"));
        earlier::stand_in(&bench.folder.path().join("run").join(sandbox.id.as_str()));
    } else {
        // From here on, with the program of today.
        bench.renew_helper();
    }
    support::tell(&data.join("lines"), "meanwhile").await;
    bench.open().await;

    let engine = bench.engine().clone();
    assert_eq!(engine.sandbox(&sandbox.id).expect("status").state, SandboxState::Ready);
    let status = engine.container(&listens).expect("status");
    assert_eq!((status.state, status.pid), (ContainerState::Running, pid));
    support::tell(&data.join("lines"), "afterwards").await;
    support::logged(&status.log_path, &["stdout F meanwhile", "stdout F afterwards"]).await;

    let result = engine.exec_sync(&listens, words("echo inside"), DEADLINE).await;
    assert_eq!(result.expect("exec").stdout, b"inside\n");
    let failed = engine.exec_sync(&listens, words("no-such-program"), DEADLINE).await;
    assert!(
        failed
            .expect_err("missing")
            .to_string()
            .contains("executable file not found")
    );
    let options = ExecOptions {
        command: words("sh -c stty\u{20}size"),
        tty: true,
        stdout: true,
        ..ExecOptions::default()
    };
    let mut session = engine.exec(&listens, options).await.expect("exec");
    let mut text = String::new();
    let mut stdout = session.stdout.take().expect("stdout");
    stdout.read_to_string(&mut text).await.expect("read");
    assert_eq!(session.wait().await.expect("end"), 0, "{text}");

    engine.pause(&listens).await.expect("pause");
    engine.resume(&listens).await.expect("resume");
    let limits = Resources {
        memory_limit: Some(64 << 20),
        ..Resources::default()
    };
    engine.update_resources(&listens, limits).await.expect("update");
    engine.stats(&listens).await.expect("stats");
    engine.reopen_log(&listens).await.expect("log");

    let mut events = engine.events();
    let options = AttachOptions {
        stdin: true,
        stdout: true,
        ..AttachOptions::default()
    };
    let mut session = engine.attach(&cat, options).await.expect("attach");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"through an old shim").await.expect("write");
    drop(stdin);
    let mut text = String::new();
    let mut stdout = session.stdout.take().expect("stdout");
    stdout.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "through an old shim");
    assert_eq!(exited(&mut events, &cat).await, 4);

    // Another container in the old sandbox, and then none.
    let mut config = bench.shell("echo new; exit 3");
    config.log_path = "new/0.log".into();
    assert_eq!(bench.run(&sandbox, config).await.exit_code, Some(3));
    engine
        .stop_container(&listens, std::time::Duration::ZERO)
        .await
        .expect("stop");
    assert_eq!(engine.container(&listens).expect("status").exit_code, Some(137));
    let shim = engine.sandbox(&sandbox.id).expect("status").pid;
    engine.remove_sandbox(&sandbox.id).await.expect("remove");
    assert!(!process_exists(shim));
    assert!(engine.list_containers().is_empty() && engine.list_sandboxes().is_empty());
    for part in ["engine/sandboxes", "engine/containers", "run"] {
        let left = support::names(&bench.folder.path().join(part));
        assert!(left.is_empty(), "{part}: {left:?}");
    }
}

/// A member that is renamed, or no longer sent, is one that earlier shims miss.
#[test]
fn what_the_first_version_knew_is_still_said() {
    let known = earlier::known();
    let said = |request: Request| serde_json::to_value(request).expect("JSON");
    let requests = [
        said(Request::CreateSandbox(SandboxSpec::default())),
        said(Request::Create(ContainerSpec::default().into())),
        said(Request::Exec(ExecSpec::default().into())),
        said(Request::Kill {
            container: String::new(),
            exec: None,
            signal: 9,
            all: false,
        }),
        said(Request::Wait {
            container: String::new(),
            exec: None,
        }),
    ];
    for request in requests {
        let (name, members) = request.as_object().expect("object").iter().next().expect("name");
        for member in known["requests"][name].as_array().expect("list") {
            let member = member.as_str().expect("name");
            assert!(members.get(member).is_some(), "{name} lacks {member}");
        }
    }
}

/// A later version says more: what is not known is passed over, also by a daemon that was put back to an earlier one.
#[test]
fn what_a_later_version_says_is_passed_over() {
    let reply =
        r#"{"state":{"version":2,"sandbox":"s","later":{"a":1},"containers":{"c":{"status":"running","later":[]}}}}"#;
    let Reply::State(state) = serde_json::from_str(reply).expect("understood") else {
        panic!("not a state")
    };
    assert_eq!((state.version, state.containers.len()), (2, 1));
    let request = r#"{"start":{"container":"c","later":true}}"#;
    assert!(matches!(serde_json::from_str(request), Ok(Request::Start { container }) if container == "c"));
}

/// A later daemon may ask for what this shim has never heard of.
#[tokio::test(flavor = "multi_thread")]
async fn a_shim_answers_what_it_does_not_know() {
    let bench = Bench::new().await;
    let sandbox = bench.sandbox().await;
    let run = bench.folder.path().join("run").join(sandbox.id.as_str());
    let socket = strata_sys::message::connect(run.join("shim.sock").to_str().expect("text")).expect("socket");
    let ask = |text: &str| -> Reply {
        strata_sys::message::send(&socket, text.as_bytes(), &[]).expect("send");
        let mut buffer = vec![0; 64 << 10];
        let (length, _) = strata_sys::message::receive(&socket, &mut buffer).expect("answer");
        serde_json::from_slice(&buffer[..length]).expect("JSON")
    };
    for strange in [r#"{"someday":{"container":"c"}}"#, r#""later""#, "{}", "no JSON"] {
        let Reply::Error(failure) = ask(strange) else {
            panic!("{strange} was carried out")
        };
        assert!(failure.message.starts_with("unknown request"), "{}", failure.message);
    }
    assert!(matches!(
        ask(r#"{"hello":{"version":99,"later":1}}"#),
        Reply::Hello { .. }
    ));
}
