//! Layers made to escape: each is refused, and nothing outside the store is touched.

mod support;

use std::path::Path;
use strata_image::{Image, ImageError, ImageOptions, ImageStore};
use support::{Tar, digest, documents, header, no_drafts};

/// Loads an image with these layers from a docker archive, made from files in memory.
fn load(folder: &Path, layers: Vec<Vec<u8>>) -> Result<Image, ImageError> {
    load_with(folder, layers, |_| {})
}

fn load_with(folder: &Path, layers: Vec<Vec<u8>>, adjust: impl FnOnce(&mut ImageOptions)) -> Result<Image, ImageError> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = layers.iter().map(|layer| (layer.clone(), layer.clone())).collect();
    let config = documents(&pairs, "{}").config;
    let names: Vec<String> = (0..layers.len()).map(|index| format!("{index}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["test:1"], "Layers": names}]);
    let mut archive = Tar::default().file("config.json", &config);
    for (name, layer) in names.iter().zip(&layers) {
        archive = archive.file(name, layer);
    }
    let archive = archive
        .file("manifest.json", &serde_json::to_vec(&manifest).expect("json"))
        .finish();
    let mut options = ImageOptions::new(folder.join("images"));
    adjust(&mut options);
    let store = ImageStore::open(options).expect("store");
    let mut images = store.load_from(archive.as_slice())?;
    Ok(images.remove(0))
}

/// The layer is refused with these words, leaves nothing in the store and touches nothing outside.
fn refused(layer: Vec<u8>, words: &str) {
    let folder = tempfile::tempdir().expect("folder");
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).expect("folder");
    std::fs::write(outside.join("secret"), "secret").expect("file");
    let error = load(folder.path(), vec![layer]).expect_err(words);
    assert!(error.to_string().contains(words), "{error}");
    let root = folder.path().join("images");
    assert!(no_drafts(&root), "drafts are left");
    assert_eq!(std::fs::read_dir(root.join("layers")).expect("layers").count(), 0);
    assert_eq!(std::fs::read_dir(&outside).expect("outside").count(), 1);
    assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("file"), "secret");
    assert!(!Path::new("/strata-escaped").exists());
}

#[test]
fn absolute_names_are_refused() {
    refused(
        Tar::default().file("/strata-escaped", b"x").finish(),
        "absolute names are not allowed",
    );
}

#[test]
fn absolute_names_may_be_allowed_and_then_stay_inside() {
    let folder = tempfile::tempdir().expect("folder");
    let layer = Tar::default().dir("/ko-app").file("/ko-app/app", b"x").finish();
    let image = load_with(folder.path(), vec![layer], |options| {
        options.allow_absolute_names = true
    })
    .expect("allowed");
    assert!(image.layers[0].join("ko-app/app").is_file());
    assert!(!Path::new("/ko-app").exists());
}

#[test]
fn names_that_climb_are_refused() {
    for name in ["../outside/secret", "a/../../outside/secret", "..", "a/.."] {
        refused(Tar::default().file(name, b"x").finish(), "`..` is not allowed");
    }
}

#[test]
fn names_that_climb_in_extended_headers_are_refused() {
    let layer = Tar::default()
        .pax(&[("path", b"../outside/secret")])
        .file("harmless", b"x")
        .finish();
    refused(layer, "`..` is not allowed");
    let layer = Tar::default()
        .entry(b'L', "././@LongLink", "", 0o644, b"../outside/secret\0")
        .file("x", b"x")
        .finish();
    refused(layer, "`..` is not allowed");
}

#[test]
fn writing_through_a_symbolic_link_that_leads_outside_is_refused() {
    for target in [
        "/",
        "/tmp",
        "../outside",
        "../../../../../../../../tmp",
        "/proc/self/cwd",
    ] {
        let layer = Tar::default()
            .symlink("way", target)
            .file("way/strata-escaped", b"x")
            .finish();
        refused(layer, "way/strata-escaped");
        assert!(!Path::new("/tmp/strata-escaped").exists());
        let layer = Tar::default().symlink("way", target).dir("way/strata-escaped").finish();
        refused(layer, "way/strata-escaped");
        let layer = Tar::default()
            .symlink("way", target)
            .file("way/.wh.secret", b"")
            .finish();
        refused(layer, "way/.wh.secret");
    }
}

#[test]
fn a_symbolic_link_is_replaced_not_followed() {
    let folder = tempfile::tempdir().expect("folder");
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "kept").expect("file");
    let target = victim.to_str().expect("text").to_owned();
    let layer = Tar::default().symlink("file", &target).file("file", b"new").finish();
    let image = load(folder.path(), vec![layer]).expect("harmless");
    assert_eq!(std::fs::read_to_string(&victim).expect("file"), "kept");
    assert_eq!(
        std::fs::read_to_string(image.layers[0].join("file")).expect("file"),
        "new"
    );
}

#[test]
fn hard_links_that_lead_outside_are_refused() {
    for target in ["/etc/passwd", "../outside/secret", "..", ""] {
        refused(Tar::default().hard_link("link", target).finish(), "hard link");
    }
    let through = Tar::default()
        .symlink("way", "/etc")
        .hard_link("link", "way/passwd")
        .finish();
    refused(through, "symbolic link");
    let directory = Tar::default().dir("a").hard_link("link", "a").finish();
    refused(directory, "only a file can be linked to");
}

#[test]
fn device_nodes_are_refused() {
    for kind in [b'3', b'4'] {
        refused(
            Tar::default().entry(kind, "dev/mem", "", 0o666, b"").finish(),
            "device nodes are not allowed",
        );
    }
}

#[test]
fn oversized_headers_are_refused() {
    let long = vec![b'a'; 5000];
    refused(
        Tar::default().pax(&[("path", &long)]).file("x", b"").finish(),
        "exceeds limit",
    );
    let huge = vec![b'a'; 3 << 20];
    refused(
        Tar::default().pax(&[("comment", &huge)]).file("x", b"").finish(),
        "exceeds limit",
    );
    // A header that promises more than any memory holds: nothing is allocated for it.
    let promise = Tar::default()
        .raw(&header(b'x', "PaxHeader", "", 0o644, 0o77777777777))
        .finish();
    refused(promise, "exceeds limit");
    let mut many = Tar::default();
    for _ in 0..40 {
        many = many.pax(&[("comment", b"again")]);
    }
    refused(many.file("x", b"").finish(), "");
}

#[test]
fn files_with_holes_keep_them_and_lies_about_holes_are_refused() {
    use std::os::unix::fs::MetadataExt;
    let map = |realsize: &'static [u8], text: &str, content: &[u8]| {
        let mut body = text.as_bytes().to_vec();
        body.resize(512, 0);
        body.extend_from_slice(content);
        Tar::default()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"big"),
                ("GNU.sparse.realsize", realsize),
            ])
            .file("x", &body)
            .finish()
    };
    let folder = tempfile::tempdir().expect("folder");
    let image = load(folder.path(), vec![map(b"1048583", "1\n1048576\n7\n", b"the end")]).expect("holes");
    let path = image.layers[0].join("big");
    let content = std::fs::read(&path).expect("file");
    assert_eq!(content.len(), 1_048_583);
    assert!(content[..1_048_576].iter().all(|byte| *byte == 0) && content.ends_with(b"the end"));
    assert!(std::fs::metadata(&path).expect("file").blocks() < 100);
    refused(map(b"9000000000000", "1\n0\n1\n", b"x"), "bytes of content");
    refused(map(b"9", "1\n1048576\n7\n", b"the end"), "do not fit");
    refused(map(b"100", "2\n0\n4\n2\n4\n", b"12345678"), "overlap");
    refused(map(b"100", "1\n0\n50\n", b"1234"), "");
    // A map that ends in the middle of a number.
    for length in [1600, 2048, 2100] {
        let mut cut = map(b"1048583", "1\n1048576\n7\n", b"the end");
        cut.truncate(length);
        refused(cut, "");
        let mut endless = map(b"1048583", &"1".repeat(511), b"the end");
        endless.truncate(length);
        refused(endless, "");
    }
}

#[test]
fn zeros_become_holes() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().expect("folder");
    let mut content = vec![0; 4 << 20];
    content[1_000_000] = 1;
    let layer = Tar::default()
        .file("middle", &content)
        .file("all", &vec![0; 1 << 20])
        .finish();
    let image = load(folder.path(), vec![layer]).expect("zeros");
    for (name, expected) in [("middle", &content[..]), ("all", &content[..1 << 19])] {
        let path = image.layers[0].join(name);
        let found = std::fs::read(&path).expect("file");
        assert_eq!(&found[..expected.len()], expected, "{name}");
        assert!(std::fs::metadata(&path).expect("file").blocks() < 1000, "{name}");
    }
    assert_eq!(
        std::fs::metadata(image.layers[0].join("all")).expect("file").len(),
        1 << 20
    );
}

#[test]
fn device_nodes_may_be_allowed_but_never_one_that_steers_overlayfs() {
    let node = |major: &[u8], minor: &[u8]| {
        let mut block = header(b'3', "null", "", 0o666, 0);
        block[329..329 + major.len()].copy_from_slice(major);
        block[337..337 + minor.len()].copy_from_slice(minor);
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Tar::default().raw(&block).finish()
    };
    let allow = |options: &mut ImageOptions| options.allow_devices = true;
    let folder = tempfile::tempdir().expect("folder");
    match load_with(folder.path(), vec![node(b"0000001\0", b"0000003\0")], allow) {
        Ok(image) => {
            use std::os::unix::fs::MetadataExt;
            let found = std::fs::symlink_metadata(image.layers[0].join("null")).expect("node");
            assert_eq!(found.rdev(), rustix::fs::makedev(1, 3));
        }
        // Without the privilege.
        Err(error) => assert!(error.to_string().contains("not permitted"), "{error}"),
    }
    let folder = tempfile::tempdir().expect("folder");
    let error = load_with(folder.path(), vec![node(b"0000000\0", b"0000000\0")], allow).expect_err("whiteout");
    assert!(error.to_string().contains("no device 0:0"), "{error}");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let folder = tempfile::tempdir().expect("folder");
    let layer = Tar::default().file("zeros", &vec![0; 4 << 20]).finish();
    let error = load_with(folder.path(), vec![layer], |options| options.max_layer_size = 1 << 20).expect_err("bomb");
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    assert!(no_drafts(&folder.path().join("images")));
}

#[test]
fn owners_out_of_range_are_refused() {
    refused(
        Tar::default().pax(&[("uid", b"4294967295")]).file("x", b"").finish(),
        "out of range",
    );
    refused(
        Tar::default().pax(&[("gid", b"99999999999")]).file("x", b"").finish(),
        "out of range",
    );
}

#[test]
fn whiteouts_that_name_no_file_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        refused(
            Tar::default().dir("a").file(name, b"").finish(),
            "whiteout names no file",
        );
    }
}

#[test]
fn a_truncated_layer_is_refused() {
    let mut layer = Tar::default().file("x", &[1; 4096]).finish();
    layer.truncate(2048);
    refused(layer, "unexpected end");
    refused(b"this is no archive, but longer than nothing".to_vec(), "");
    refused(vec![0xff; 2048], "invalid tar header");
}

#[test]
fn attributes_that_would_steer_overlayfs_are_left_out() {
    let folder = tempfile::tempdir().expect("folder");
    let layer = Tar::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.kept", b"yes"),
        ])
        .dir("a")
        .finish();
    let image = load(folder.path(), vec![layer]).expect("loaded");
    let path = image.layers[0].join("a");
    let get = |name: &str| {
        let mut buffer = [0u8; 64];
        rustix::fs::getxattr(&path, name, &mut buffer).map(|count| buffer[..count].to_vec())
    };
    assert!(get("trusted.overlay.redirect").is_err() && get("user.overlay.opaque").is_err());
    match get("user.kept") {
        Ok(value) => assert_eq!(value, b"yes"),
        // This file system keeps no user attributes.
        Err(errno) => assert_eq!(errno, rustix::io::Errno::NODATA),
    }
}

#[test]
fn an_archive_that_lies_about_its_content_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let store = ImageStore::open(ImageOptions::new(folder.path().join("images"))).expect("store");
    let digest = digest(b"expected");
    let name = format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{"digest": digest, "size": 8}]});
    let archive = Tar::default()
        .file(&name, b"something")
        .file("index.json", &serde_json::to_vec(&index).expect("json"))
        .finish();
    let error = store.load_from(archive.as_slice()).expect_err("lie").to_string();
    assert!(error.contains("digest does not match"), "{error}");
    let error = store
        .load_from(Tar::default().file("x", b"").finish().as_slice())
        .expect_err("nothing")
        .to_string();
    assert!(error.contains("not an image archive"), "{error}");
}

/// A skippable frame of zstd (RFC 8878 section 3.1.2) with that content.
fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(content.len()).expect("short").to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

#[test]
fn seekable_forms_of_gzip_and_zstd_are_read_as_plain_ones() {
    let layer = Tar::default()
        .file("first", &vec![1; 70_000])
        .file("second", &vec![2; 70_000])
        .finish();
    let (head, tail) = layer.split_at(71_000);
    // As zstd:chunked and estargz are: many frames or members, and an index that readers skip.
    let chunked = [
        skippable(b"before"),
        support::zstd(head),
        skippable(b"between"),
        support::zstd(tail),
        skippable(b"the index and its footer"),
    ]
    .concat();
    let members = [support::gzip(head), support::gzip(tail), support::gzip(b"")].concat();
    for packed in [chunked, members] {
        let folder = tempfile::tempdir().expect("folder");
        let store = ImageStore::open(ImageOptions::new(folder.path().join("images"))).expect("store");
        let image = store
            .import(packed.as_slice(), &strata_image::ImportOptions::default())
            .expect("import");
        assert_eq!(
            std::fs::read(image.layers[0].join("second")).expect("file"),
            vec![2; 70_000]
        );
        let told = store.inspect(&image.id.to_string()).expect("inspect");
        assert_eq!(told.root_fs["Layers"][0], digest(&layer));
    }
}

#[test]
fn names_that_are_no_text_are_kept_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("folder");
    let layer = Tar::default()
        .pax(&[("path", b"not \xff text")])
        .file("x", b"content")
        .finish();
    let image = load(folder.path(), vec![layer]).expect("loaded");
    let name = image.layers[0].join(std::ffi::OsStr::from_bytes(b"not \xff text"));
    assert_eq!(std::fs::read(name).expect("file"), b"content");
}
