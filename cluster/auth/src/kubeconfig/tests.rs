use super::*;
use crate::ClusterCa;
use std::os::unix::fs::PermissionsExt;
use strata_http::ServerTls;

struct Fixture {
    directory: tempfile::TempDir,
    ca: ClusterCa,
    leaf: Leaf,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let ca = ClusterCa::open_or_create(&directory.path().join("pki")).expect("authority");
        let leaf = ca.issue_client("admin", &["system:masters"]).expect("leaf");
        Self { directory, ca, leaf }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("dir/config")
    }

    fn merge(&self, server: &str, context: &str) {
        merge_kubeconfig(&self.path(), server, self.ca.ca_pem(), &self.leaf, context).expect("merged");
    }

    fn read(&self) -> Value {
        serde_saphyr::from_str(&std::fs::read_to_string(self.path()).expect("read")).expect("YAML")
    }
}

#[test]
fn a_new_file_is_private_and_complete() {
    let fixture = Fixture::new();
    fixture.merge("https://127.0.0.1:6443", "strata-dev");
    let mode = std::fs::metadata(fixture.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = fixture.read();
    assert_eq!(config["current-context"], "strata-dev");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    let key = config["users"][0]["user"]["client-key-data"].as_str().expect("text");
    let key = STANDARD.decode(key).expect("base64");
    assert!(
        key.starts_with(b"-----BEGIN EC PRIVATE KEY-----\n"),
        "as Java's clients want it"
    );
    // Errors: the key is not the certificate's.
    ServerTls::new(fixture.leaf.cert_pem.as_bytes(), &key, None).expect("the same key");
    let text = kubeconfig(
        "https://127.0.0.1:6443",
        fixture.ca.ca_pem(),
        &fixture.leaf,
        "strata-dev",
    );
    let alone: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(alone["users"], config["users"]);
    assert_eq!(
        std::fs::read_dir(fixture.path().parent().expect("parent"))
            .expect("listed")
            .count(),
        1,
        "no leftovers"
    );
}

#[test]
fn entries_of_others_stay_as_they_are() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path().parent().expect("parent")).expect("made");
    let theirs = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\nextensions:\n- name: x\n  extension: {a: 1}\n\
        clusters:\n- name: prod\n  cluster: {server: 'https://prod', insecure-skip-tls-verify: true}\n\
        users:\n- name: me\n  user:\n    exec: {command: login, args: ['no', '1.0']}\n\
        contexts:\n- name: prod\n  context: {cluster: prod, user: me, namespace: n}\ncurrent-context: prod\n";
    std::fs::write(fixture.path(), theirs).expect("written");
    let before = fixture.read();
    fixture.merge("https://a", "strata-dev");
    fixture.merge("https://b", "strata-dev");
    let merged = fixture.read();
    assert_eq!(merged["clusters"].as_array().expect("list").len(), 2);
    assert_eq!(merged["clusters"][0], before["clusters"][0]);
    assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://b");
    assert_eq!(merged["current-context"], "strata-dev");
    assert!(remove_from_kubeconfig(&fixture.path(), "strata-dev").expect("removed"));
    let mut after = fixture.read();
    assert_eq!(after["current-context"], "");
    after["current-context"] = json!("prod");
    assert_eq!(after, before);
    assert!(!remove_from_kubeconfig(&fixture.path(), "strata-dev").expect("nothing to do"));
}

#[test]
fn removing_a_context_that_is_not_current_leaves_the_choice() {
    let fixture = Fixture::new();
    fixture.merge("https://a", "one");
    fixture.merge("https://b", "two");
    assert!(remove_from_kubeconfig(&fixture.path(), "one").expect("removed"));
    assert_eq!(fixture.read()["current-context"], "two");
    let missing = fixture.directory.path().join("none");
    assert!(!remove_from_kubeconfig(&missing, "one").expect("nothing to do"));
    assert!(!missing.exists());
}

#[test]
fn what_cannot_be_read_is_not_overwritten() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path().parent().expect("parent")).expect("made");
    for bad in ["- a\n- b\n", "clusters: 5\n", "a: [unclosed", "text"] {
        std::fs::write(fixture.path(), bad).expect("written");
        let result = merge_kubeconfig(&fixture.path(), "https://a", fixture.ca.ca_pem(), &fixture.leaf, "c");
        assert!(result.is_err(), "{bad}");
        assert_eq!(std::fs::read_to_string(fixture.path()).expect("read"), bad);
    }
    assert_eq!(
        std::fs::read_dir(fixture.path().parent().expect("parent"))
            .expect("listed")
            .count(),
        1,
        "no lock left"
    );
}

#[test]
fn writers_at_once_lose_nothing_and_links_stay_links() {
    let fixture = Fixture::new();
    fixture.merge("https://a", "first");
    let link = fixture.directory.path().join("link");
    std::os::unix::fs::symlink(fixture.path(), &link).expect("linked");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (fixture, link) = (&fixture, &link);
            scope.spawn(move || {
                merge_kubeconfig(
                    link,
                    "https://a",
                    fixture.ca.ca_pem(),
                    &fixture.leaf,
                    &format!("c{number}"),
                )
                .expect("merged");
            });
        }
    });
    assert_eq!(fixture.read()["contexts"].as_array().expect("list").len(), 9);
    assert!(link.is_symlink());
}

#[test]
fn a_file_keeps_its_owner() {
    use std::os::unix::fs::{MetadataExt, chown};
    let fixture = Fixture::new();
    fixture.merge("https://a", "one");
    // Only root can give files away; others are their own file's owner already.
    if chown(fixture.path(), Some(1234), Some(1235)).is_ok() {
        fixture.merge("https://a", "two");
        let metadata = std::fs::metadata(fixture.path()).expect("there");
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777),
            (1234, 1235, 0o600)
        );
    }
}
