//! Pushing: digests stay what they were, by every way and with every tool.

mod support;

use std::path::Path;
use std::process::Command;
use strata_image::{ImageOptions, ImageStore, LayerState, PullOptions, PushOptions};
use support::{Registry, Tar, digest, documents, no_drafts, packed};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn store(folder: &Path, name: &str, keep: bool) -> ImageStore {
    let options = ImageOptions {
        keep_blobs: keep,
        ..ImageOptions::new(folder.join(name))
    };
    ImageStore::open(options).expect("store")
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .expect("the Debian package skopeo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The digest of what a tag stands for, as skopeo sees it.
fn remote_digest(registry: &Registry, name: &str) -> String {
    let raw = skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{}/{name}", registry.address),
    ]);
    digest(raw.as_bytes())
}

/// A layer of that many bytes that do not compress.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..size / 8).flat_map(|_| next().to_le_bytes()).collect()
}

fn push_app(registry: &Registry) -> String {
    let base = Tar::default().dir("bin/").program("bin/sh", b"program").finish();
    let big = Tar::default().file("big", &noise(9 << 20, 7)).finish();
    registry.push("team/app", "1", &[packed(base), packed(big)], r#"{"Cmd":["sh"]}"#)
}

#[tokio::test]
async fn what_is_pushed_has_the_digest_it_had_whether_bytes_were_kept_or_not() {
    let folder = tempfile::tempdir().expect("folder");
    let (from, to) = (Registry::start(), Registry::start());
    let original = push_app(&from);
    for keep in [true, false] {
        let name = format!("keep-{keep}");
        let images = store(folder.path(), &name, keep);
        let source = format!("{}/team/app:1", from.address);
        images.pull(&source, None, None).await.expect("pull");
        // To another registry, to another repository of the same (mounted), and again (nothing sent).
        for target in [
            format!("{}/other/{name}:2", to.address),
            format!("{}/copy/{name}:3", from.address),
            format!("{}/other/{name}:2", to.address),
        ] {
            images.tag(&source, &target).expect("tag");
            let pushed = images.push(&target, PushOptions::default()).await.expect("push");
            assert_eq!(pushed.digest.to_string(), original);
            assert_eq!(pushed.note, None);
        }
        assert_eq!(remote_digest(&to, &format!("other/{name}:2")), original);
        assert_eq!(remote_digest(&from, &format!("copy/{name}:3")), original);
        assert!(no_drafts(&folder.path().join(&name)));
    }
}

#[tokio::test]
async fn a_push_to_a_neighbour_repository_sends_no_layer() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    push_app(&registry);
    let images = store(folder.path(), "images", true);
    let source = format!("{}/team/app:1", registry.address);
    images.pull(&source, None, None).await.expect("pull");
    let target = format!("{}/team/copy:1", registry.address);
    images.tag(&source, &target).expect("tag");
    let (sender, mut reports) = tokio::sync::mpsc::channel(1000);
    let options = PushOptions {
        progress: Some(sender),
        ..PushOptions::default()
    };
    images.push(&target, options).await.expect("push");
    let mut mounted = 0;
    while let Some(report) = reports.recv().await {
        assert!(!matches!(report.state, LayerState::Pushing { .. }), "{report:?}");
        mounted += usize::from(report.state == LayerState::Mounted);
    }
    assert_eq!(mounted, 3);
}

#[tokio::test]
async fn an_index_goes_whole_when_all_of_it_is_here() {
    let folder = tempfile::tempdir().expect("folder");
    let (from, to) = (Registry::start(), Registry::start());
    let mut children = Vec::new();
    for (architecture, seed) in [("amd64", 1), ("arm64", 2)] {
        let layer = packed(Tar::default().file("noise", &noise(64 << 10, seed)).finish());
        let made = documents(std::slice::from_ref(&layer), "{}");
        from.push_blob("multi", &layer.1);
        from.push_blob("multi", &made.config);
        from.push_manifest("multi", &digest(&made.manifest), OCI_MANIFEST, &made.manifest);
        children.push(
            serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest(&made.manifest),
            "size": made.manifest.len(), "platform": {"os": "linux", "architecture": architecture}}),
        );
    }
    let list = serde_json::json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": children}).to_string();
    from.push_manifest("multi", "1", DOCKER_LIST, list.as_bytes());
    let source = format!("{}/multi:1", from.address);

    let images = store(folder.path(), "one", true);
    images.pull(&source, None, None).await.expect("pull");
    let target = format!("{}/one:1", to.address);
    images.tag(&source, &target).expect("tag");
    let pushed = images.push(&target, PushOptions::default()).await.expect("push");
    assert!(pushed.note.expect("a note").contains("other platforms"));
    assert_eq!(remote_digest(&to, "one:1"), children[0]["digest"]);

    let images = store(folder.path(), "all", true);
    let options = PullOptions {
        all_platforms: true,
        ..PullOptions::default()
    };
    images.pull_with(&source, options).await.expect("pull");
    let target = format!("{}/all:1", to.address);
    images.tag(&source, &target).expect("tag");
    let pushed = images.push(&target, PushOptions::default()).await.expect("push");
    assert_eq!(pushed.note, None);
    assert_eq!(remote_digest(&to, "all:1"), digest(list.as_bytes()));
    // Every platform's content arrived.
    let copy = format!("docker://{}/all:1", to.address);
    let layout = format!("oci:{}", folder.path().join("layout").display());
    skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &copy, &layout]);
    assert_eq!(images.remote_tags(&target, None).await.expect("tags"), ["1"]);
}

#[tokio::test]
async fn an_image_without_a_distributed_form_is_packed_and_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    let layer = Tar::default().dir("bin/").program("bin/sh", b"program").finish();
    let config = documents(&[(layer.clone(), layer.clone())], r#"{"Cmd":["sh"]}"#).config;
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l.tar"]}]);
    let archive = Tar::default()
        .file("c.json", &config)
        .file("l.tar", &layer)
        .file("manifest.json", manifest.to_string().as_bytes())
        .finish();
    for keep in [false, true] {
        let images = store(folder.path(), &format!("{keep}"), keep);
        let loaded = images.load_from(archive.as_slice()).expect("load");
        let target = format!("{}/loaded/{keep}:1", registry.address);
        images.tag("app:1", &target).expect("tag");
        let pushed = images.push(&target, PushOptions::default()).await.expect("push");
        assert_eq!(pushed.note.is_some(), !keep);
        let again = store(folder.path(), &format!("again-{keep}"), false);
        let pulled = again.pull(&target, None, None).await.expect("pull");
        assert_eq!(pulled.id == loaded[0].id, keep);
        assert_eq!(
            std::fs::read(pulled.layers[0].join("bin/sh")).expect("file"),
            b"program"
        );
    }
}

/// A relay before a registry that breaks the first so many uploads after some bytes, and keeps the
/// first lines of what was asked.
struct Relay {
    address: String,
    seen: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Relay {
    fn start(registry: &Registry, breaks: usize, after: u64) -> Self {
        use std::io::{BufRead, BufReader, Read, Write};
        use std::sync::atomic::{AtomicUsize, Ordering};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("port").to_string();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (log, upstream, left) = (seen.clone(), registry.address.clone(), AtomicUsize::new(breaks));
        let serve = move |stream: std::net::TcpStream| -> std::io::Result<()> {
            let mut reader = BufReader::new(stream.try_clone()?);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                if line == "\r\n" {
                    break;
                }
                if !lower.starts_with("connection:") {
                    head.push_str(&line);
                }
            }
            log.lock().expect("log").extend(head.lines().next().map(str::to_owned));
            let mut other = std::net::TcpStream::connect(&upstream)?;
            write!(other, "{head}Connection: close\r\n\r\n")?;
            let breaking = head.starts_with("PATCH ") && left.load(Ordering::SeqCst) > 0;
            let passed: u64 = if breaking { after } else { length };
            std::io::copy(&mut (&mut reader).take(passed.min(length)), &mut other)?;
            if breaking {
                left.fetch_sub(1, Ordering::SeqCst);
                return Ok(());
            }
            let mut answer = stream;
            std::io::copy(&mut other, &mut answer).map(drop)
        };
        let serve = std::sync::Arc::new(serve);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = std::sync::Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, seen }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    let original = push_app(&registry);
    let images = store(folder.path(), "images", true);
    let source = format!("{}/team/app:1", registry.address);
    images.pull(&source, None, None).await.expect("pull");
    let relay = Relay::start(&registry, 2, 3 << 20);
    let target = format!("{}/resumed/app:1", relay.address);
    images.tag(&source, &target).expect("tag");
    let pushed = images.push(&target, PushOptions::default()).await.expect("push");
    assert_eq!(pushed.digest.to_string(), original);
    assert_eq!(remote_digest(&registry, "resumed/app:1"), original);
    let seen = relay.seen.lock().expect("log").clone();
    let patches = seen.iter().filter(|line| line.starts_with("PATCH ")).count();
    assert_eq!(patches, 3, "{seen:#?}");
    // What a puller gets is what was sent.
    let again = store(folder.path(), "again", false);
    let pulled = again
        .pull(&format!("{}/resumed/app:1", registry.address), None, None)
        .await
        .expect("pull");
    assert_eq!(
        std::fs::read(pulled.layers[1].join("big")).expect("file"),
        noise(9 << 20, 7)
    );
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_told_of() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    push_app(&registry);
    let images = store(folder.path(), "images", true);
    let name = format!("{}/team/app:1", registry.address);
    images.pull(&name, None, None).await.expect("pull");
    let target = "127.0.0.1:1/team/app:1";
    images.tag(&name, target).expect("tag");
    let error = images
        .push(target, PushOptions::default())
        .await
        .expect_err("nobody there");
    let text = error.to_string();
    assert!(
        text.starts_with("failed to push image") && text.contains("connection refused"),
        "{text}"
    );
}
