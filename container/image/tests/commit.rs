//! Images made here: commits of an upper directory, imports, and what a container changed.

mod support;

use rustix::fs::{CWD, Dev, FileType, Mode, XattrFlags, mknodat, setxattr};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use strata_image::{
    ChangeKind, CommitOptions, Image, ImageFilters, ImageOptions, ImageStore, ImportOptions, PushOptions, diff,
};
use support::{Registry, Tar, no_drafts};

fn store(root: &Path) -> ImageStore {
    let options = ImageOptions {
        keep_blobs: true,
        allow_devices: true,
        ..ImageOptions::new(root)
    };
    ImageStore::open(options).expect("store")
}

fn base(images: &ImageStore) -> Image {
    let root = Tar::default()
        .dir("bin/")
        .program("bin/sh", b"program")
        .dir("etc/")
        .file("etc/passwd", b"root")
        .file("etc/gone", b"x")
        .dir("var/")
        .dir("var/cache/")
        .file("var/cache/old", b"x")
        .finish();
    let options = ImportOptions {
        reference: Some("base:1".into()),
        changes: vec!["CMD [\"/bin/sh\"]".into(), "ENV A=1".into()],
        message: "made by a test".into(),
        ..ImportOptions::default()
    };
    images.import(root.as_slice(), &options).expect("import")
}

/// An upper directory as a container leaves it.
fn upper(folder: &Path) -> std::path::PathBuf {
    let upper = folder.join("upper");
    for path in ["etc", "var/cache", "new"] {
        std::fs::create_dir_all(upper.join(path)).expect("folder");
    }
    std::fs::write(upper.join("etc/passwd"), "changed").expect("file");
    mknodat(
        CWD,
        upper.join("etc/gone"),
        FileType::CharacterDevice,
        Mode::empty(),
        Dev::default(),
    )
    .expect("whiteout");
    setxattr(
        upper.join("var/cache"),
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .expect("opaque");
    std::fs::write(upper.join("var/cache/fresh"), "y").expect("file");
    std::fs::write(upper.join("new/one"), vec![1; 100_000]).expect("file");
    std::fs::hard_link(upper.join("new/one"), upper.join("new/two")).expect("link");
    symlink("/bin/sh", upper.join("new/link")).expect("link");
    std::fs::File::create(upper.join("new/holes"))
        .and_then(|file| file.set_len(1 << 20))
        .expect("file");
    // CAP_NET_RAW, effective and permitted.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    setxattr(
        upper.join("new/one"),
        "security.capability",
        &capability,
        XattrFlags::empty(),
    )
    .expect("capability");
    let long = upper.join("new").join("n".repeat(200));
    std::fs::write(long, "long name").expect("file");
    upper
}

fn list(layers: &[std::path::PathBuf], upper: &Path) -> Vec<String> {
    diff(layers, upper)
        .expect("diff")
        .iter()
        .map(|change| {
            format!("{} {}", change.kind.letter(), String::from_utf8_lossy(&change.path))
                .replace(&"n".repeat(200), "long")
        })
        .collect()
}

#[tokio::test]
async fn a_container_is_committed_with_all_that_it_changed() {
    let folder = tempfile::tempdir().expect("folder");
    let images = store(&folder.path().join("images"));
    let base = base(&images);
    let upper = upper(folder.path());
    assert_eq!(
        list(&base.layers, &upper),
        [
            "C /etc",
            "D /etc/gone",
            "C /etc/passwd",
            "A /new",
            "A /new/holes",
            "A /new/link",
            "A /new/long",
            "A /new/one",
            "A /new/two",
            "C /var",
            "C /var/cache",
            "A /var/cache/fresh",
            "D /var/cache/old",
        ]
    );
    let options = CommitOptions {
        reference: Some("made:1".into()),
        upper: upper.clone(),
        changes: vec!["LABEL made=here".into()],
        author: "ada".into(),
        comment: "a commit".into(),
        created_by: "sh".into(),
        ..CommitOptions::default()
    };
    let made = images.commit(&base, &options).expect("commit");
    assert_eq!(made.layers.len(), 2);
    assert_eq!(made.layers[0], base.layers[0]);
    assert_eq!(made.config.cmd, ["/bin/sh"]);
    let top = &made.layers[1];
    assert_eq!(std::fs::read(top.join("etc/passwd")).expect("file"), b"changed");
    let gone = std::fs::symlink_metadata(top.join("etc/gone")).expect("whiteout");
    assert_eq!((gone.rdev(), gone.mode() & 0o170_000), (0, 0o020_000));
    let mut value = [0; 64];
    let count = rustix::fs::getxattr(top.join("var/cache"), "trusted.overlay.opaque", &mut value).expect("opaque");
    assert_eq!(&value[..count], b"y");
    let one = std::fs::metadata(top.join("new/one")).expect("file");
    assert_eq!(one.ino(), std::fs::metadata(top.join("new/two")).expect("file").ino());
    assert_eq!(
        rustix::fs::getxattr(top.join("new/one"), "security.capability", &mut value).expect("capability"),
        20
    );
    assert!(std::fs::metadata(top.join("new/holes")).expect("file").blocks() < 100);
    assert_eq!(
        std::fs::read(top.join("new").join("n".repeat(200))).expect("file"),
        b"long name"
    );
    // What was committed and its source differ in nothing.
    assert_eq!(
        list(&made.layers, &upper),
        list(&[base.layers[0].clone(), upper.clone()], &upper)
    );

    let steps = images.history("made:1").expect("history");
    assert_eq!(
        steps.iter().map(|step| step.comment.as_str()).collect::<Vec<_>>(),
        ["a commit", "made by a test"]
    );
    let told = images.inspect("made:1").expect("inspect");
    assert_eq!((told.author.as_str(), told.comment.as_str()), ("ada", "a commit"));
    assert_eq!(told.config["Labels"]["made"], "here");
    let labelled = ImageFilters::parse(&["label=made=here".into()]).expect("filter");
    let found = labelled
        .apply(&images, images.summaries().expect("list"))
        .expect("filter");
    assert_eq!(found.len(), 1);

    // The same changes give the same layer, and it survives a registry.
    let again = images
        .commit(
            &base,
            &CommitOptions {
                reference: None,
                ..options
            },
        )
        .expect("commit");
    assert_eq!(again.layers, made.layers);
    let registry = Registry::start();
    let name = format!("{}/made:1", registry.address);
    images.tag("made:1", &name).expect("tag");
    let pushed = images.push(&name, PushOptions::default()).await.expect("push");
    assert_eq!(pushed.note, None);
    let other = store(&folder.path().join("other"));
    let pulled = other.pull(&name, None, None).await.expect("pull");
    assert_eq!(pulled.id, made.id);
    assert!(no_drafts(&folder.path().join("images")) && no_drafts(&folder.path().join("other")));
}

#[test]
fn a_commit_without_changes_adds_no_layer() {
    let folder = tempfile::tempdir().expect("folder");
    let images = store(&folder.path().join("images"));
    let base = base(&images);
    let upper = folder.path().join("upper");
    std::fs::create_dir(&upper).expect("folder");
    assert!(diff(&base.layers, &upper).expect("diff").is_empty());
    let options = CommitOptions {
        reference: Some("same:1".into()),
        upper,
        ..CommitOptions::default()
    };
    let made = images.commit(&base, &options).expect("commit");
    assert_eq!(made.layers, base.layers);
    assert_eq!(images.history("same:1").expect("history").len(), 2);
}

#[test]
fn imports_are_compressed_or_not_and_wrong_ones_leave_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("images");
    let images = store(&root);
    let plain = Tar::default().file("x", b"y").finish();
    let from = |bytes: &[u8]| {
        images
            .import(bytes, &ImportOptions::default())
            .map(|image| image.layers)
    };
    let layers = from(&plain).expect("plain");
    assert_eq!(from(&support::gzip(&plain)).expect("gzip"), layers);
    assert_eq!(from(&support::zstd(&plain)).expect("zstd"), layers);
    let before = std::fs::read_dir(root.join("layers")).expect("layers").count();
    for bad in [&b"not a tar, but long enough to be looked at as one"[..], &plain[..700]] {
        assert!(from(bad).is_err());
    }
    let wrong = ImportOptions {
        changes: vec!["RUN x".into()],
        ..ImportOptions::default()
    };
    assert!(images.import(plain.as_slice(), &wrong).is_err());
    assert_eq!(std::fs::read_dir(root.join("layers")).expect("layers").count(), before);
    assert!(no_drafts(&root));
    assert_eq!(ChangeKind::Added.letter(), 'A');
}

#[test]
fn a_full_disk_loses_the_images_that_nobody_used_for_longest() {
    use std::time::Duration;
    use strata_image::{CollectPolicy, DiskUsage};
    let folder = tempfile::tempdir().expect("folder");
    let images = store(&folder.path().join("images"));
    for name in ["first", "second", "third", "used"] {
        let root = Tar::default().file(name, &vec![1; 200_000]).finish();
        let options = ImportOptions {
            reference: Some(format!("{name}:1")),
            ..ImportOptions::default()
        };
        images.import(root.as_slice(), &options).expect("import");
    }
    let used = images.resolve("used:1").expect("index").expect("image");
    images.lease("container", &used).expect("lease");
    // `first` was used after the others came.
    let first = images.resolve("first:1").expect("index").expect("image");
    images.lease("short", &first).expect("lease");
    images.release("short").expect("release");
    let policy = CollectPolicy {
        high_percent: 85,
        low_percent: 82,
        minimum_age: Duration::ZERO,
        maximum_age: None,
    };
    let usage = |available| DiskUsage {
        capacity: 10_000_000,
        available,
    };
    let half_full = images.collect_at(&policy, usage(5_000_000)).expect("nothing to do");
    assert!(half_full.removed.deleted.is_empty());
    let old = CollectPolicy {
        minimum_age: Duration::from_secs(3600),
        ..policy
    };
    let too_new = images.collect_at(&old, usage(1_400_000)).expect("nothing is old");
    assert!(too_new.removed.deleted.is_empty() && too_new.missing > 0);
    // 300,001 bytes too many: two images of a little more than 200,000.
    let two = images.collect_at(&policy, usage(1_499_999)).expect("full");
    assert_eq!(
        two.removed.untagged,
        ["docker.io/library/second:1", "docker.io/library/third:1"]
    );
    assert_eq!(two.missing, 0);
    assert!(images.resolve("first:1").expect("index").is_some());
    let all = images.collect_at(&policy, usage(0)).expect("full");
    assert_eq!(all.removed.untagged, ["docker.io/library/first:1"]);
    assert!(all.missing > 1_000_000);
    assert!(images.resolve("used:1").expect("index").is_some());
}
