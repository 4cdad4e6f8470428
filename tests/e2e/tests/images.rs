//! `strata image`: what a person does with images on a node.

use std::process::Command;
use strata_e2e::{Registry, Server, binary, build_busybox};

#[test]
fn images_are_pulled_loaded_listed_used_and_removed() {
    let registry = Registry::start();
    let busybox = build_busybox();
    let pulled = busybox.push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let strata = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(["--log", "error", "image", "--data-dir"])
            .arg(server.data_dir())
            .args(arguments);
        let run = command.output().expect("the binary runs");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
        (run.status.success(), text)
    };
    let (ok, text) = strata(&["pull", &pulled]);
    assert!(ok && text.contains(&pulled), "{text}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archive = folder.path().join("image.tar");
    busybox.archive(&archive, "example.com/loaded:2");
    let (ok, text) = strata(&["load", &archive.to_string_lossy()]);
    assert!(ok && text.contains("example.com/loaded:2"), "{text}");
    let (_, listed) = strata(&["ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    for name in [pulled.as_str(), "example.com/loaded:2", "strata.local/hello"] {
        assert!(listed.contains(name), "{name} is not in\n{listed}");
    }
    let k = server.kubectl();
    k.ok("run box --image=example.com/loaded:2 --image-pull-policy=Never --restart=Never --command -- echo loaded");
    k.until("get pod box -o jsonpath={.status.phase}", |out| out == "Succeeded");
    assert_eq!(k.ok("logs box"), "loaded\n");
    k.ok("delete pod box");
    let (ok, text) = strata(&["rm", &pulled]);
    assert!(ok, "{text}");
    let (_, listed) = strata(&["ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!listed.contains(&pulled), "{listed}");
    let (ok, text) = strata(&["pull", "-q", "localhost:1/none"]);
    assert!(!ok && text.lines().count() == 1, "{text}");
}
