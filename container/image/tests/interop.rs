//! Archives written by skopeo, in both formats.

mod support;

use std::path::Path;
use std::process::Command;
use strata_image::{ImageOptions, ImageStore};
use support::{Registry, Tar, gzip, no_drafts, packed};

fn copy(registry: &Registry, to: &str) {
    let from = format!("docker://{}/team/app:1", registry.address);
    let output = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            &from,
            to,
        ])
        .output()
        .expect("the Debian package skopeo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn load(folder: &Path, name: &str, archive: &Path) -> Vec<strata_image::Image> {
    let root = folder.join(name);
    let images = ImageStore::open(ImageOptions::new(&root))
        .expect("store")
        .load(archive)
        .await
        .expect("load");
    assert!(no_drafts(&root));
    images
}

#[tokio::test]
async fn archives_of_skopeo_are_loaded() {
    let folder = tempfile::tempdir().expect("folder");
    let registry = Registry::start();
    let base = Tar::default().dir("bin/").program("bin/sh", b"program").finish();
    let top = Tar::default().dir("etc/").file("etc/file", b"content").finish();
    registry.push("team/app", "1", &[packed(base), packed(top)], r#"{"Cmd":["sh"]}"#);
    let docker = folder.path().join("docker.tar");
    copy(
        &registry,
        &format!("docker-archive:{}:example.com/team/app:2", docker.display()),
    );
    let oci = folder.path().join("oci.tar");
    copy(
        &registry,
        &format!("oci-archive:{}:example.com/team/app:3", oci.display()),
    );
    let squeezed = folder.path().join("docker.tar.gz");
    std::fs::write(&squeezed, gzip(&std::fs::read(&docker).expect("file"))).expect("file");

    let mut ids = Vec::new();
    for (name, archive, tag) in [("a", &docker, "2"), ("b", &oci, "3"), ("c", &squeezed, "2")] {
        let images = load(folder.path(), name, archive).await;
        assert_eq!(images.len(), 1);
        let image = &images[0];
        assert_eq!(image.repo_tags, [format!("example.com/team/app:{tag}")]);
        assert_eq!(image.config.cmd, ["sh"]);
        assert_eq!(image.layers.len(), 2);
        assert_eq!(std::fs::read(image.layers[0].join("bin/sh")).expect("file"), b"program");
        assert_eq!(
            std::fs::read(image.layers[1].join("etc/file")).expect("file"),
            b"content"
        );
        ids.push(image.id);
    }
    assert_eq!(ids[0], ids[2]);
}
