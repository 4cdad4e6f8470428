//! Registries that lie, never end, send on to others or answer with too much: refused, and nothing stays.

#[path = "support/rogue.rs"]
mod rogue;
mod support;

use rogue::{Rogue, path, send};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use strata_image::{Credentials, ImageOptions, ImageStore};
use support::{Tar, digest, documents, gzip, no_drafts};

/// The documents and the layer of an honest image.
#[derive(Clone)]
struct Content {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Content {
    fn new(plain: Vec<u8>, packed: Vec<u8>) -> Self {
        let made = documents(&[(plain, packed.clone())], "{}");
        Self {
            manifest: made.manifest,
            config: made.config,
            layer: packed,
        }
    }

    fn honest() -> Self {
        let plain = Tar::default().file("x", &vec![7; 100_000]).finish();
        let packed = plain.clone();
        Self::new(plain, packed)
    }

    /// The honest answer.
    fn serve(&self, head: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        let wanted = path(head);
        let body = if wanted.contains("/manifests/") {
            &self.manifest
        } else if wanted.ends_with(&digest(&self.config)) {
            &self.config
        } else if wanted.ends_with(&digest(&self.layer)) {
            &self.layer
        } else {
            return send(stream, "404 Not Found", "", b"{}");
        };
        send(stream, "200 OK", "", body)
    }
}

/// Pulls from that registry, must fail with these words within a few seconds, and must leave nothing.
async fn refused(registry: &Rogue, words: &str) {
    refused_with(registry, words, |_| {}).await;
}

async fn refused_with(registry: &Rogue, words: &str, adjust: impl FnOnce(&mut ImageOptions)) {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("images");
    let mut options = ImageOptions::new(&root);
    options.keep_blobs = true;
    adjust(&mut options);
    let store = ImageStore::open(options).expect("store");
    let started = Instant::now();
    let error = store
        .pull(&format!("{}/app:1", registry.address), None, None)
        .await
        .expect_err(words)
        .to_string();
    assert!(error.contains(words), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "took {:?}",
        started.elapsed()
    );
    assert!(no_drafts(&root), "drafts are left");
    for part in ["layers", "blobs/sha256"] {
        assert_eq!(std::fs::read_dir(root.join(part)).expect("folder").count(), 0, "{part}");
    }
    assert!(store.list().expect("list").is_empty());
}

/// Writes until the client has had enough.
fn endless(stream: &mut TcpStream, length: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n{length}\r\n")?;
    let piece = vec![b' '; 64 << 10];
    loop {
        stream.write_all(&piece)?;
    }
}

#[tokio::test]
async fn manifests_that_never_end_or_are_huge_are_given_up() {
    for length in ["", "Content-Length: 1073741824\r\n"] {
        let registry = Rogue::start(move |_, stream| endless(stream, length));
        refused(&registry, "larger than").await;
    }
}

#[tokio::test]
async fn configurations_that_never_end_are_given_up() {
    let content = Content::honest();
    let registry = Rogue::start(move |head, stream| {
        if path(head).ends_with(&digest(&content.config)) {
            return endless(stream, "");
        }
        content.serve(head, stream)
    });
    refused(&registry, "larger than").await;
}

#[tokio::test]
async fn layers_longer_shorter_or_other_than_declared_are_refused() {
    let content = Content::honest();
    for (wrong, words) in [
        ([content.layer.clone(), vec![0; 10]].concat(), "longer than"),
        (content.layer[..1000].to_vec(), "unexpected EOF"),
        (vec![0; content.layer.len()], "digest does not match"),
        (Vec::new(), "unexpected EOF"),
    ] {
        let honest = content.clone();
        let registry = Rogue::start(move |head, stream| {
            if path(head).ends_with(&digest(&honest.layer)) {
                return send(stream, "200 OK", "", &wrong);
            }
            honest.serve(head, stream)
        });
        refused(&registry, words).await;
    }
}

#[tokio::test]
async fn a_layer_that_never_ends_stops_at_its_declared_size() {
    let content = Content::honest();
    let registry = Rogue::start(move |head, stream| {
        if path(head).ends_with(&digest(&content.layer)) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            // All but the last byte is as promised, so that it is the length that ends it.
            stream.write_all(&content.layer[..content.layer.len() - 1])?;
            loop {
                stream.write_all(&[1; 4096])?;
            }
        }
        content.serve(head, stream)
    });
    refused(&registry, "longer than").await;
}

#[tokio::test]
async fn a_bomb_stops_at_the_limit_for_layers() {
    let plain = Tar::default().file("zeros", &vec![0; 64 << 20]).finish();
    let content = Content::new(plain.clone(), gzip(&plain));
    assert!(content.layer.len() < 1 << 20);
    let registry = Rogue::start(move |head, stream| content.serve(head, stream));
    refused_with(&registry, "more than 1048576 bytes", |options| {
        options.max_layer_size = 1 << 20;
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_layers_are_too_many() {
    let layer =
        serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(b"x"), "size": 1});
    let manifest = serde_json::json!({"schemaVersion": 2, "config": {"digest": digest(b"{}"), "size": 2},
        "layers": vec![layer; 10_000]})
    .to_string();
    let registry = Rogue::start(move |_, stream| send(stream, "200 OK", "", manifest.as_bytes()));
    refused(&registry, "too many layers").await;
}

#[tokio::test]
async fn encrypted_and_foreign_layers_are_refused_by_name() {
    for (layer, words) in [
        (
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "digest": digest(b"x"), "size": 1}),
            "encrypted",
        ),
        (
            serde_json::json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest(b"x"),
                "size": 1, "urls": ["http://elsewhere.example/x"]}),
            "foreign",
        ),
    ] {
        let manifest =
            serde_json::json!({"schemaVersion": 2, "config": {"digest": digest(b"{}"), "size": 2}, "layers": [layer]})
                .to_string();
        let registry = Rogue::start(move |_, stream| send(stream, "200 OK", "", manifest.as_bytes()));
        refused(&registry, words).await;
    }
}

#[tokio::test]
async fn indexes_in_indexes_end_somewhere_and_content_under_a_wrong_digest_is_refused() {
    // Each index names the next; the innermost names itself by a digest that is not its own.
    let mut bodies: Vec<(String, Vec<u8>)> = Vec::new();
    let mut inner = digest(b"nothing");
    for _ in 0..20 {
        let body = serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": inner, "size": 1}]}).to_string();
        inner = digest(body.as_bytes());
        bodies.push((inner.clone(), body.into_bytes()));
    }
    let outer = bodies[bodies.len() - 1].1.clone();
    let all = bodies.clone();
    let registry = Rogue::start(move |head, stream| {
        let found = all.iter().find(|(digest, _)| path(head).ends_with(digest.as_str()));
        send(stream, "200 OK", "", found.map_or(&outer, |(_, body)| body))
    });
    refused(&registry, "nested too deeply").await;

    let cycle = bodies[0].1.clone();
    let registry = Rogue::start(move |_, stream| send(stream, "200 OK", "", &cycle));
    refused(&registry, "has digest").await;
}

#[tokio::test]
async fn documents_that_are_no_text_and_headers_that_do_not_end_are_refused() {
    let registry = Rogue::start(|_, stream| {
        send(
            stream,
            "200 OK",
            "",
            b"{\"schemaVersion\": 2, \"config\": \"\xff\xfe\"}",
        )
    });
    refused(&registry, "invalid manifest").await;
    let registry = Rogue::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        let line = format!("X-Long: {}\r\n", "a".repeat(60_000));
        loop {
            stream.write_all(line.as_bytes())?;
        }
    });
    refused(&registry, "failed to resolve").await;
    let registry = Rogue::start(|_, stream| stream.write_all(b"\x00\x01 this is no HTTP\r\n\r\n"));
    refused(&registry, "failed to resolve").await;
}

#[tokio::test]
async fn redirects_that_never_end_are_given_up() {
    let registry = Rogue::start(|head, stream| {
        let location = format!("Location: {}x\r\n", path(head));
        send(stream, "307 Temporary Redirect", &location, b"")
    });
    refused(&registry, "redirects").await;
    let registry = Rogue::start(|_, stream| {
        send(
            stream,
            "307 Temporary Redirect",
            "Location: file:///etc/passwd\r\n",
            b"",
        )
    });
    refused(&registry, "no web server").await;
}

#[tokio::test]
async fn what_authenticates_stays_with_the_registry_it_is_for() {
    let content = Content::honest();
    let honest = content.clone();
    let other = Rogue::start(move |head, stream| honest.serve(head, stream));
    let elsewhere = other.address.clone();
    let registry = Rogue::start(move |head, stream| {
        if !head.to_lowercase().contains("authorization: basic") {
            return send(
                stream,
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"x\"\r\n",
                b"{}",
            );
        }
        if path(head).contains("/blobs/") {
            let location = format!("Location: http://{elsewhere}{}\r\n", path(head));
            return send(stream, "307 Temporary Redirect", &location, b"");
        }
        content.serve(head, stream)
    });
    let folder = tempfile::tempdir().expect("folder");
    let hosts = folder
        .path()
        .join("certs.d")
        .join(registry.address.replace(':', "_") + "_");
    std::fs::create_dir_all(&hosts).expect("folder");
    std::fs::write(
        hosts.join("hosts.toml"),
        format!(
            "server = \"http://{0}\"\n[host.\"http://{0}\"]\n[host.\"http://{0}\".header]\nX-Secret = [\"hidden\"]\n",
            registry.address
        ),
    )
    .expect("file");
    let store = ImageStore::open(ImageOptions {
        hosts_dir: Some(folder.path().join("certs.d")),
        ..ImageOptions::new(folder.path().join("images"))
    })
    .expect("store");
    let login = Credentials {
        username: "ada".into(),
        password: "secret".into(),
        token: String::new(),
    };
    let name = format!("{}/app:1", registry.address);
    store
        .pull(&name, Some(login), None)
        .await
        .expect("pull through the redirect");
    assert!(
        registry
            .heads
            .lock()
            .expect("log")
            .iter()
            .any(|head| head.to_lowercase().contains("x-secret: hidden"))
    );
    let heads = other.heads.lock().expect("log");
    assert!(!heads.is_empty());
    for head in heads.iter() {
        let lower = head.to_lowercase();
        assert!(
            !lower.contains("authorization") && !lower.contains("x-secret"),
            "{head}"
        );
    }
}
