//! The daemon with real containers, asked as docker's client asks. Needs root.

mod support;

use http::StatusCode;
use serde_json::{Value, json};
use support::{Bench, DEADLINE, frames};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_ends_and_starts_again_with_its_files() {
    let bench = Bench::new().await;
    let id = bench
        .create(
            "again",
            "echo run >> /tmp/runs; cat /tmp/runs; echo err >&2; exit 3",
            json!({}),
        )
        .await;
    for runs in 1..=2 {
        bench.start("again").await;
        assert_eq!(bench.wait("again").await, 3);
        let written = bench.logs(&id[..12]).await;
        let out = written.iter().filter(|(stream, _)| *stream == 1).count();
        assert_eq!(
            (out, written.iter().filter(|(stream, _)| *stream == 2).count()),
            (runs * (runs + 1) / 2, runs)
        );
    }
    let state = bench.state("again").await;
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(3)));
    let changes = bench.get("/containers/again/changes").await;
    assert!(
        changes
            .as_array()
            .expect("a list")
            .contains(&json!({"Path": "/tmp/runs", "Kind": 1})),
        "{changes}"
    );
    assert_eq!(
        bench.ask("DELETE", "/containers/again", None).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        (
            bench.ask("GET", "/containers/again/json", None).await.0,
            bench.container_folders()
        ),
        (StatusCode::NOT_FOUND, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_before_the_start_misses_nothing_and_passes_the_end_of_input_on() {
    let bench = Bench::new().await;
    let streams = json!({"OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
    bench.create("io", "cat; echo done >&2", streams).await;
    let path = "/containers/io/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let connection = bench.hijack(path, None).await;
    bench.start("io").await;
    let (mut reader, mut writer) = tokio::io::split(connection);
    writer.write_all(b"through").await.expect("write");
    writer.shutdown().await.expect("half closed");
    let mut all = Vec::new();
    tokio::time::timeout(DEADLINE, reader.read_to_end(&mut all))
        .await
        .expect("in time")
        .expect("read");
    assert_eq!(frames(&all), [(1, "through".to_owned()), (2, "done\n".to_owned())]);
    assert_eq!(bench.wait("io").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_daemon_finds_what_runs_and_what_ended() {
    let mut bench = Bench::new().await;
    bench.create("stays", "sleep 1000", json!({})).await;
    bench.create("ends", "cat /tmp/fifo; exit 7", json!({})).await;
    bench.start("stays").await;
    let pid = bench.state("stays").await["Pid"].clone();
    bench.start("ends").await;
    bench.reopen().await;
    assert_eq!(
        (bench.state("stays").await["Pid"].clone(), bench.wait("ends").await),
        (pid, 7)
    );
    let made = bench
        .post(
            "/containers/stays/exec",
            Some(json!({"Cmd": ["echo", "alive"], "AttachStdout": true})),
        )
        .await;
    let exec = made["Id"].as_str().expect("an identity");
    let mut connection = bench.hijack(&format!("/exec/{exec}/start"), Some(json!({}))).await;
    let mut all = Vec::new();
    connection.read_to_end(&mut all).await.expect("read");
    assert_eq!(frames(&all), [(1, "alive\n".to_owned())]);
    assert_eq!(bench.get(&format!("/exec/{exec}/json")).await["ExitCode"], json!(0));
    bench.post("/containers/stays/stop?t=0", None).await;
    assert_eq!(bench.state("stays").await["ExitCode"], json!(137));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_with_the_status_and_words_that_clients_know() {
    let bench = Bench::new().await;
    bench.create("taken", "sleep 1000", json!({})).await;
    let create = |name: &str| format!("/containers/create?name={name}");
    let body = |image: &str| Some(json!({"Image": image, "Cmd": ["nosuch"], "HostConfig": {"NetworkMode": "none"}}));
    for (path, body, status, words) in [
        (
            create("new"),
            body("absent"),
            StatusCode::NOT_FOUND,
            "No such image: absent:latest",
        ),
        (
            create("taken"),
            body("busybox"),
            StatusCode::CONFLICT,
            "is already in use by container",
        ),
        (
            create("-"),
            body("busybox"),
            StatusCode::BAD_REQUEST,
            "Invalid container name (-)",
        ),
        (
            "/containers/absent/start".into(),
            None,
            StatusCode::NOT_FOUND,
            "No such container: absent",
        ),
        (
            "/containers/taken/kill".into(),
            None,
            StatusCode::CONFLICT,
            "is not running",
        ),
    ] {
        let (found, value) = bench.ask("POST", &path, body).await;
        assert!(
            found == status && value["message"].as_str().is_some_and(|m| m.contains(words)),
            "{path}: {found} {value}"
        );
    }
    bench.post(&create("broken"), body("busybox")).await;
    let (status, value) = bench.ask("POST", "/containers/broken/start", None).await;
    let message = value["message"].as_str().expect("a message");
    assert!(
        status == StatusCode::BAD_REQUEST && message.contains("executable file not found in $PATH"),
        "{message}"
    );
    let state = bench.state("broken").await;
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(127)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_policy_starts_it_as_often_as_it_says() {
    let bench = Bench::new().await;
    let policy = json!({"NetworkMode": "none", "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}});
    bench.create("fails", "exit 1", json!({"HostConfig": policy})).await;
    bench.start("fails").await;
    let over = async {
        // Each end is told; the third is the last.
        loop {
            let details = bench.get("/containers/fails/json").await;
            if details["State"]["Status"] == json!("exited") && details["RestartCount"] == json!(2) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, over).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_keep_what_was_written_and_begin_with_the_images_files() {
    let bench = Bench::new().await;
    let host = json!({"HostConfig": {"NetworkMode": "none", "Binds": ["store:/data"]}});
    bench
        .create("first", "cat /data/from-image; echo more > /data/more", host.clone())
        .await;
    bench.create("second", "cat /data/more", host).await;
    for (name, expected) in [("first", "image\n"), ("second", "more\n")] {
        bench.start(name).await;
        assert_eq!(bench.wait(name).await, 0);
        assert_eq!(bench.logs(name).await, [(1, expected.to_owned())]);
    }
    let (status, value) = bench.ask("DELETE", "/volumes/store", None).await;
    assert_eq!(status, StatusCode::CONFLICT, "{value}");
    for name in ["first", "second"] {
        bench.ask("DELETE", &format!("/containers/{name}"), None).await;
    }
    assert_eq!(
        bench.ask("DELETE", "/volumes/store", None).await.0,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_network_find_each_other_by_name_and_others_do_not() {
    let bench = Bench::new().await;
    bench.post("/networks/create", Some(json!({"Name": "own"}))).await;
    let on = |network: &str| json!({"HostConfig": {"NetworkMode": network}});
    bench.create("server", "sleep 1000", on("own")).await;
    bench.start("server").await;
    let details = bench.get("/containers/server/json").await;
    let ip = details["NetworkSettings"]["Networks"]["own"]["IPAddress"]
        .as_str()
        .expect("an address")
        .to_owned();
    bench.create("friend", "nslookup server 2>&1", on("own")).await;
    bench.start("friend").await;
    bench.wait("friend").await;
    let said: String = bench.logs("friend").await.into_iter().map(|(_, text)| text).collect();
    assert!(
        said.contains(&format!("Address: {ip}")) || said.contains(&format!("Address 1: {ip}")),
        "{said}"
    );
    let (status, value) = bench.ask("DELETE", "/networks/own", None).await;
    assert!(
        status == StatusCode::FORBIDDEN
            && value["message"]
                .as_str()
                .is_some_and(|m| m.contains("has active endpoints"))
    );
    for name in ["server", "friend"] {
        bench.ask("DELETE", &format!("/containers/{name}?force=1"), None).await;
    }
    assert_eq!(
        bench.ask("DELETE", "/networks/own", None).await,
        (StatusCode::NO_CONTENT, Value::Null)
    );
}
