//! What kubectl does over connections that stay open, by WebSocket as it does today and by SPDY as it did.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Stdio,
};
use strata_e2e::{Kubectl, Server};

/// The switch of each command, and what tells in kubectl's log that it spoke WebSocket.
const FORWARD: (&str, &str) = ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "SPDY/3.1+portforward.k8s.io");
const EXEC: (&str, &str) = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "v5.channel.k8s.io");

#[test]
fn ports_are_forwarded_and_commands_run_by_websocket_and_by_spdy() {
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.ok("run web --image=strata.local/hello");
    k.ok("wait pod web --for=condition=Ready --timeout=60s");
    for websocket in [true, false] {
        forward(&k, websocket);
        exec(&k, websocket);
    }
}

fn forward(k: &Kubectl, websocket: bool) {
    let mut command = k.command("port-forward -v=8 pod/web :8080");
    let mut child = command
        .env(FORWARD.0, websocket.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is on the PATH");
    let mut stderr = child.stderr.take().expect("piped");
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).map(|_| log)
    });
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut said).expect("kubectl says where it listens");
    let port = said.split(':').nth(1).and_then(|rest| rest.split(' ').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    // One after another and several at a time, over one connection to the server.
    let connections: Vec<TcpStream> = (0..4)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens"))
        .collect();
    for mut connection in connections {
        connection
            .write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
            .expect("it takes a request");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("it answers");
        assert!(answer.contains("hello from web"), "{answer}");
    }
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    let log = log.join().expect("the reader does not panic").expect("a log");
    assert_eq!(log.contains(FORWARD.1), websocket, "{log}");
}

fn exec(k: &Kubectl, websocket: bool) {
    let output = k
        .command("exec -v=8 web -- /strata --version")
        .env(EXEC.0, websocket.to_string())
        .output()
        .expect("kubectl is on the PATH");
    let (out, log) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success() && out.starts_with("strata "), "{out}{log}");
    assert_eq!(log.contains(&format!("Protocol: {}", EXEC.1)), websocket, "{log}");
}
