//! Pulling from a real registry.

mod support;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use strata_image::{Credentials, ImageOptions, ImageStore, LayerState, PushOptions};
use support::gate::{Gate, Manner};
use support::{Registry, Tar, digest, documents, no_drafts, packed, zstd};

/// User ada, password "secret", bcrypt.
const HTPASSWD: &str = "ada:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

fn store(folder: &tempfile::TempDir) -> ImageStore {
    ImageStore::open(ImageOptions::new(folder.path().join("images"))).expect("store")
}

fn base() -> (Vec<u8>, Vec<u8>) {
    let tar = Tar::default()
        .dir("bin/")
        .program("bin/sh", b"program")
        .dir("etc/")
        .file("etc/old", b"old")
        .entry(b'5', "tmp/", "", 0o1777, b"")
        .hard_link("bin/ash", "bin/sh")
        .symlink("lib", "usr/lib")
        .finish();
    packed(tar)
}

#[tokio::test]
async fn an_image_is_pulled_unpacked_found_again_and_removed() {
    let folder = tempfile::tempdir().expect("folder");
    let (registry, store) = (Registry::start(), store(&folder));
    let top = Tar::default()
        .dir("etc/")
        .file("etc/.wh.old", b"")
        .file("etc/new", b"new")
        .finish();
    let zstd_top = zstd(&top);
    let manifest = registry.push(
        "a/app",
        "1",
        &[base(), (top, zstd_top)],
        r#"{"Cmd":["sh"],"Env":["A=b"]}"#,
    );
    let name = format!("{}/a/app:1", registry.address);

    let (progress, mut reports) = tokio::sync::mpsc::channel(100);
    let image = store.pull(&name, None, Some(progress)).await.expect("pull");
    assert_eq!(image.repo_tags, [name.as_str()]);
    assert_eq!(image.repo_digests, [format!("{}/a/app@{manifest}", registry.address)]);
    assert_eq!(image.config.cmd, ["sh"]);
    assert_eq!(image.layers.len(), 2);
    let mut done = 0;
    while let Ok(report) = reports.try_recv() {
        done += u32::from(report.state == LayerState::Done);
    }
    assert_eq!(done, 2);

    let bottom = &image.layers[0];
    let shell = std::fs::metadata(bottom.join("bin/sh")).expect("file");
    assert_eq!(
        (shell.mode() & 0o7777, shell.nlink(), shell.mtime()),
        (0o755, 2, 0o14000000000)
    );
    assert_eq!(
        std::fs::metadata(bottom.join("tmp")).expect("dir").mode() & 0o7777,
        0o1777
    );
    assert_eq!(
        std::fs::read_link(bottom.join("lib")).expect("link").to_str(),
        Some("usr/lib")
    );
    let whiteout = std::fs::symlink_metadata(image.layers[1].join("etc/old")).expect("whiteout");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);

    for text in [&name, &image.id.to_string(), &image.id.short(), &image.repo_digests[0]] {
        assert_eq!(
            store.resolve(text).expect("index").map(|found| found.id),
            Some(image.id),
            "{text}"
        );
    }
    assert!(no_drafts(&folder.path().join("images")));

    store.lease("container-1", &image).expect("lease");
    let error = store.remove(&image.id.to_string()).expect_err("in use").to_string();
    assert!(error.contains("in use by container-1"), "{error}");
    store.release("container-1").expect("release");
    let removed = store.remove(&name).expect("remove");
    assert_eq!(removed.deleted, [image.id.to_string()]);
    assert!(!bottom.exists() && store.list().expect("index").is_empty());
}

#[tokio::test]
async fn a_digest_and_an_index_lead_to_the_same_image() {
    let folder = tempfile::tempdir().expect("folder");
    let (registry, store) = (Registry::start(), store(&folder));
    let manifest = registry.push("multi", "amd64", &[base()], "{}");
    let size = documents(&[base()], "{}").manifest.len();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size,
            "platform": {"os": "linux", "architecture": std::env::consts::ARCH.replace("x86_64", "amd64")}}]});
    let index = serde_json::to_vec(&index).expect("json");
    registry.push_manifest("multi", "all", "application/vnd.oci.image.index.v1+json", &index);
    let by_tag = store
        .pull(&format!("{}/multi:all", registry.address), None, None)
        .await
        .expect("index");
    assert_eq!(
        by_tag.repo_digests,
        [format!("{}/multi@{}", registry.address, digest(&index))]
    );
    let by_digest = store
        .pull(&format!("{}/multi@{manifest}", registry.address), None, None)
        .await
        .expect("digest");
    assert_eq!(by_digest.id, by_tag.id);

    let other = index_for("s390x", &manifest, size);
    registry.push_manifest("multi", "other", "application/vnd.oci.image.index.v1+json", &other);
    let error = store
        .pull(&format!("{}/multi:other", registry.address), None, None)
        .await
        .expect_err("platform");
    assert!(
        error.is_not_found() && error.to_string().contains("no match for platform"),
        "{error}"
    );
}

fn index_for(architecture: &str, manifest: &str, size: usize) -> Vec<u8> {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": manifest, "size": size,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "platform": {"os": "linux", "architecture": architecture}}]});
    serde_json::to_vec(&index).expect("json")
}

#[tokio::test]
async fn a_tag_that_moves_takes_its_name_along() {
    let folder = tempfile::tempdir().expect("folder");
    let (registry, store) = (Registry::start(), store(&folder));
    let name = format!("{}/moving:1", registry.address);
    registry.push("moving", "1", &[base()], r#"{"Cmd":["one"]}"#);
    let first = store.pull(&name, None, None).await.expect("first");
    registry.push("moving", "1", &[base()], r#"{"Cmd":["two"]}"#);
    let second = store.pull(&name, None, None).await.expect("second");
    assert_ne!(first.id, second.id);
    assert_eq!(first.layers, second.layers);
    assert_eq!(
        store.resolve(&name).expect("index").map(|found| found.id),
        Some(second.id)
    );
    let pruned = store.prune(false).expect("prune");
    assert_eq!(pruned.deleted, [first.id.to_string()]);
    assert!(second.layers[0].exists());
}

#[tokio::test]
async fn what_is_absent_forbidden_or_down_is_said_as_upstream_says_it() {
    let folder = tempfile::tempdir().expect("folder");
    let store = store(&folder);
    let closed = Registry::start_with_login("ada", "secret", HTPASSWD);
    let open = Registry::start();

    let error = store
        .pull(&format!("{}/nothing:1", open.address), None, None)
        .await
        .expect_err("absent");
    let image = format!("{}/nothing:1", open.address);
    assert!(error.is_not_found());
    assert!(error.to_string().ends_with(&format!("{image}: not found")), "{error}");

    let error = store
        .pull(&format!("{}/app:1", closed.address), None, None)
        .await
        .expect_err("login")
        .to_string();
    assert!(
        error.contains("pull access denied, repository does not exist or may require authorization"),
        "{error}"
    );
    assert!(error.contains("no basic auth credentials"), "{error}");

    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("port")
        .local_addr()
        .expect("port")
        .port();
    let error = store
        .pull(&format!("localhost:{port}/app:1"), None, None)
        .await
        .expect_err("down")
        .to_string();
    assert!(
        error.contains(&format!("dial tcp localhost:{port}: connect: connection refused")),
        "{error}"
    );

    let error = store.pull("UPPER/x:1:2", None, None).await.expect_err("name");
    assert!(error.is_invalid_name());
    assert!(store.list().expect("index").is_empty() && no_drafts(&folder.path().join("images")));
}

#[tokio::test]
async fn a_login_opens_a_closed_registry() {
    let folder = tempfile::tempdir().expect("folder");
    let store = store(&folder);
    let registry = Registry::start_with_login("ada", "secret", HTPASSWD);
    registry.push("app", "1", &[base()], "{}");
    let name = format!("{}/app:1", registry.address);
    let login = |password: &str| Credentials {
        username: "ada".into(),
        password: password.into(),
        token: String::new(),
    };
    let image = store.pull(&name, Some(login("secret")), None).await.expect("login");
    assert_eq!(image.repo_tags, [name.as_str()]);
    // The same login lets what was pulled be pushed, whose bytes are fetched again with it.
    let target = format!("{}/other:1", registry.address);
    store.tag(&name, &target).expect("tag");
    let push = |password: &str| PushOptions {
        credentials: Some(login(password)),
        source_credentials: Some(login(password)),
        ..PushOptions::default()
    };
    let refused = store.push(&target, push("wrong")).await.expect_err("wrong").to_string();
    assert!(refused.contains("push access denied"), "{refused}");
    store.push(&target, push("secret")).await.expect("push");
    store
        .verify_login(&registry.address, &login("secret"))
        .await
        .expect("known");
    let unknown = store.verify_login(&registry.address, &login("wrong")).await;
    assert!(
        unknown
            .expect_err("unknown")
            .to_string()
            .starts_with("login attempt to")
    );
    let error = store
        .pull(&name, Some(login("wrong")), None)
        .await
        .expect_err("wrong")
        .to_string();
    assert!(error.contains("pull access denied"), "{error}");
}

#[tokio::test]
async fn a_mirror_serves_instead_of_a_registry_that_is_down() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    registry.push("team/app", "1", &[base()], "{}");
    let hosts = folder.path().join("hosts/registry.invalid");
    std::fs::create_dir_all(&hosts).expect("folder");
    std::fs::write(
        hosts.join("hosts.toml"),
        format!("[host.\"http://{}\"]\n", registry.address),
    )
    .expect("file");
    let mut options = ImageOptions::new(folder.path().join("images"));
    options.hosts_dir = Some(folder.path().join("hosts"));
    let store = ImageStore::open(options).expect("store");
    let image = store
        .pull("registry.invalid/team/app:1", None, None)
        .await
        .expect("mirror");
    assert_eq!(image.repo_tags, ["registry.invalid/team/app:1"]);
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let (registry, store) = (Registry::start(), store(&folder));
    let (_, gz) = base();
    registry.push("lying", "1", &[(b"another tar".to_vec(), gz)], "{}");
    let error = store
        .pull(&format!("{}/lying:1", registry.address), None, None)
        .await
        .expect_err("diff id");
    assert!(error.to_string().contains("digest does not match"), "{error}");
    assert!(store.list().expect("index").is_empty() && no_drafts(&folder.path().join("images")));
    let layers = std::fs::read_dir(folder.path().join("images/layers")).expect("layers");
    assert_eq!(layers.count(), 0);
}

#[tokio::test]
async fn a_token_is_fetched_and_used() {
    let folder = tempfile::tempdir().expect("folder");
    let (registry, store) = (Registry::start(), store(&folder));
    registry.push("app", "1", &[base()], "{}");
    let gate = Gate::start(&registry.address, Manner::Token);
    let name = format!("{}/app:1", gate.address);
    let login = Credentials {
        username: "ada".into(),
        password: "secret".into(),
        token: String::new(),
    };
    let image = store.pull(&name, Some(login), None).await.expect("token");
    assert_eq!(image.repo_tags, [name.as_str()]);
    let error = store.pull(&name, None, None).await.expect_err("anonymous").to_string();
    assert!(error.contains("failed to fetch anonymous token"), "{error}");
    let identity = |token: &str| Credentials {
        username: "<token>".into(),
        password: String::new(),
        token: token.into(),
    };
    store.remove(&name).expect("remove");
    store
        .pull(&name, Some(identity("identity")), None)
        .await
        .expect("identity token");
    store.remove(&name).expect("remove");
    let error = store
        .pull(&name, Some(identity("stale")), None)
        .await
        .expect_err("stale")
        .to_string();
    assert!(error.contains("failed to fetch oauth token"), "{error}");
}

#[tokio::test]
async fn a_transfer_that_breaks_is_resumed() {
    let folder = tempfile::tempdir().expect("folder");
    let (registry, store) = (Registry::start(), store(&folder));
    // Not compressible, so that it is long on the wire too.
    let mut noise = vec![0u8; 3 << 20];
    let mut state = 1u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    registry.push(
        "big",
        "1",
        &[packed(Tar::default().file("noise", &noise).finish())],
        "{}",
    );
    let gate = Gate::start(
        &registry.address,
        Manner::Breaking {
            times: 2,
            after: 1 << 20,
        },
    );
    let image = store
        .pull(&format!("{}/big:1", gate.address), None, None)
        .await
        .expect("resumed");
    assert_eq!(gate.broken.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(std::fs::read(image.layers[0].join("noise")).expect("file"), noise);
}

#[tokio::test]
async fn stores_that_share_a_folder_pull_side_by_side() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    registry.push("shared", "1", &[base()], "{}");
    let name = format!("{}/shared:1", registry.address);
    let (one, two) = (store(&folder), store(&folder));
    let pulls = [one.clone(), one.clone(), two.clone(), two];
    let pulls = pulls.iter().map(|store| store.pull(&name, None, None));
    for image in futures::future::join_all(pulls).await {
        assert!(image.expect("pull").layers[0].join("bin/sh").exists());
    }
    assert_eq!(one.list().expect("index").len(), 1);
    assert!(no_drafts(&folder.path().join("images")));
}

#[tokio::test]
async fn layers_that_a_crash_may_have_torn_are_fetched_again() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    registry.push("torn", "1", &[base()], "{}");
    let name = format!("{}/torn:1", registry.address);
    let image = store(&folder).pull(&name, None, None).await.expect("pull");
    let layer = image.layers[0].parent().expect("folder").to_owned();
    let record = layer.join("layer.json");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::fs::read_to_string(&record)
        .expect("record")
        .contains("unsynced_since\":\"")
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the layer is never brought to disk"
        );
        std::thread::yield_now();
    }
    // As if the machine had gone down before the layer was on disk.
    std::fs::write(&record, r#"{"unsynced_since":"another-boot"}"#).expect("file");
    let store = store(&folder);
    assert!(store.resolve(&name).expect("index").is_none() && !layer.exists());
    assert!(store.pull(&name, None, None).await.expect("again").layers[0].exists());
}

#[test]
fn a_newer_store_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    drop(store(&folder));
    std::fs::write(folder.path().join("images/format"), "99").expect("file");
    let error = ImageStore::open(ImageOptions::new(folder.path().join("images")))
        .err()
        .expect("refused");
    assert!(error.to_string().contains("format version 99"), "{error}");
}

#[test]
fn a_builtin_image_links_its_files() {
    use strata_image::{Builtin, BuiltinFile, BuiltinSource, ImageConfig};
    let folder = tempfile::tempdir().expect("folder");
    let program = folder.path().join("program");
    std::fs::write(&program, "program").expect("file");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let store = store(&folder);
    let builtin = Builtin {
        files: vec![
            BuiltinFile {
                path: "/strata".into(),
                source: BuiltinSource::Host(program.clone()),
                mode: 0o755,
            },
            BuiltinFile {
                path: "etc/passwd".into(),
                source: BuiltinSource::Bytes(b"root:x:0:0::/:\n".to_vec()),
                mode: 0o644,
            },
        ],
        config: ImageConfig {
            entrypoint: vec!["/strata".into()],
            ..ImageConfig::default()
        },
    };
    let image = store.add_builtin("strata.local/hello", builtin.clone()).expect("image");
    let linked = std::fs::metadata(image.layers[0].join("strata")).expect("file");
    assert_eq!(linked.ino(), std::fs::metadata(&program).expect("file").ino());
    assert_eq!(image.repo_tags, ["strata.local/hello:latest"]);
    let again = store.add_builtin("strata.local/hello", builtin.clone()).expect("again");
    assert_eq!((again.id, again.layers.clone()), (image.id, image.layers.clone()));
    assert!(store.resolve("strata.local/hello").expect("index").is_some());

    std::fs::remove_file(&program).expect("remove");
    std::fs::write(&program, "a newer program").expect("file");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let newer = store.add_builtin("strata.local/hello", builtin).expect("newer");
    assert_ne!(newer.id, image.id);
    assert_eq!(
        store
            .resolve("strata.local/hello")
            .expect("index")
            .map(|found| found.id),
        Some(newer.id)
    );
}
