//! The program is killed, or the machine goes down, before every single step of an operation:
//! what is found afterwards is whole or not there, and the operation then succeeds.

#[path = "../tests/support/rogue.rs"]
mod rogue;

use crate::faults::Watched;
use crate::pack::pack;
use crate::pull::copy_hashed;
use crate::{CommitOptions, Digest, ImageError, ImageOptions, ImageStore, ImportOptions};
use rogue::{Rogue, path, send};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Different fates of what was not on disk; the first is a kill alone, after which all is there.
const FATES: u64 = 6;

fn open(root: &Path) -> ImageStore {
    ImageStore::open(ImageOptions {
        keep_blobs: true,
        ..ImageOptions::new(root)
    })
    .expect("store")
}

/// A root with some files of several blocks.
fn tar(name: &str) -> Vec<u8> {
    let mut tar = crate::tar_write::TarWriter::new(Vec::new());
    for part in 0..4u8 {
        let content = vec![part + 1; 9000];
        tar.bytes(&format!("{name}-{part}"), 0o644, &content).expect("memory");
    }
    tar.finish().expect("memory")
}

fn import(store: &ImageStore, name: &str) -> Result<(), ImageError> {
    let options = ImportOptions {
        reference: Some(format!("{name}:1")),
        ..ImportOptions::default()
    };
    store.import(tar(name).as_slice(), &options).map(drop)
}

fn upper(folder: &Path) -> std::path::PathBuf {
    let upper = folder.join("upper");
    fs::create_dir_all(&upper).expect("folder");
    let made = upper.join("made");
    fs::write(&made, vec![9; 20_000]).expect("file");
    // The same layer every time.
    let file = fs::File::options().write(true).open(made).expect("file");
    file.set_modified(std::time::UNIX_EPOCH).expect("time");
    upper
}

fn commit(store: &ImageStore, folder: &Path) -> Result<(), ImageError> {
    let base = store.resolve("base:1")?.ok_or(ImageError::Absent("base".into()))?;
    let options = CommitOptions {
        reference: Some("made:1".into()),
        upper: upper(folder),
        ..CommitOptions::default()
    };
    store.commit(&base, &options).map(drop)
}

/// A registry with one image of two layers.
fn registry() -> Rogue {
    let layers = [tar("one"), tar("two")];
    let digests: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config =
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}})
            .to_string();
    let described: Vec<serde_json::Value> = layers
        .iter()
        .map(|layer| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(layer), "size": layer.len()}))
        .collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "layers": described,
        "config": {"digest": Digest::of(config.as_bytes()), "size": config.len()}})
    .to_string();
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for blob in layers.into_iter().chain([config.into_bytes()]) {
        blobs.insert(Digest::of(&blob).to_string(), blob);
    }
    Rogue::start(move |head, stream| {
        let last = path(head).rsplit('/').next().unwrap_or_default();
        match blobs.get(last) {
            Some(blob) => send(stream, "200 OK", "", blob),
            None => send(stream, "200 OK", "", manifest.as_bytes()),
        }
    })
}

/// What each layer must hold, by a digest over all of it.
fn content(store: &ImageStore, key: &str) -> Digest {
    let packed = pack(&store.inner.folder.layer_files(key), Vec::new()).expect("layer");
    Digest::of(&packed)
}

/// Nothing that would be used is half.
fn check(store: &ImageStore, known: &BTreeMap<String, Digest>, when: &str) {
    let folder = &store.inner.folder;
    for item in fs::read_dir(folder.layers()).expect("layers") {
        let key = item.expect("entry").file_name().into_string().expect("text");
        if !store.inner.has_layer(&key).expect("readable") {
            continue;
        }
        assert_eq!(Some(&content(store, &key)), known.get(&key), "{when}: layer {key}");
        let record = folder.layer_record(&key).expect("readable").expect("there");
        for blob in record.blobs {
            if let Ok(mut file) = fs::File::open(folder.blob(blob.digest)) {
                let found = copy_hashed(&mut file, &mut std::io::sink()).expect("readable");
                assert_eq!(found, blob.digest, "{when}: bytes of layer {key}");
            }
        }
    }
    for (id, record) in folder.read_index().expect("index").images {
        for key in &record.layers {
            assert!(
                store.inner.has_layer(key).expect("readable"),
                "{when}: {id} lacks {key}"
            );
        }
        assert!(
            store.kept_blob(id).unwrap().is_some(),
            "{when}: {id} lacks its configuration"
        );
        for tag in &record.tags {
            let outgoing = store.outgoing(tag).expect("documents");
            assert_eq!(outgoing.note, None, "{when}: {tag}");
        }
    }
}

/// The machine goes down: what was not on disk is there, gone or torn, as `fate` has it.
fn power_loss(watched: &Watched, mut fate: u64) {
    let mut next = |choices: u64| {
        fate = fate
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (fate >> 33) % choices
    };
    for (path, solid) in watched.at_risk() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        match next(3) {
            0 => {}
            1 if metadata.is_dir() => fs::remove_dir_all(&path).expect("removed"),
            1 => fs::remove_file(&path).expect("removed"),
            _ if solid => {}
            _ if metadata.is_dir() => {
                for item in fs::read_dir(path.join("fs")).expect("layer") {
                    tear(&item.expect("entry").path(), next(4));
                }
            }
            _ => tear(&path, next(4)),
        }
    }
}

fn tear(file: &Path, how: u64) {
    let length = fs::metadata(file).expect("file").len();
    let kept = match how {
        0 => length,
        1 => 0,
        2 => length / 2,
        _ => return fs::remove_file(file).expect("removed"),
    };
    let open = fs::File::options().write(true).open(file).expect("file");
    open.set_len(kept).expect("shortened");
}

/// The records of layers not yet on disk speak of the boot before.
fn another_boot(root: &Path) {
    for item in fs::read_dir(root.join("layers")).expect("layers") {
        let file = item.expect("entry").path().join("layer.json");
        let Ok(text) = fs::read(&file) else { continue };
        let mut record: serde_json::Value = serde_json::from_slice(&text).expect("record");
        if !record["unsynced_since"].is_null() {
            record["unsynced_since"] = "another boot".into();
            fs::write(&file, record.to_string()).expect("file");
        }
    }
}

/// What the layers of an operation that was not disturbed hold.
fn whole(
    before: &dyn Fn(&ImageStore),
    operation: &dyn Fn(&ImageStore, &Path) -> Result<(), ImageError>,
) -> BTreeMap<String, Digest> {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("images"));
    before(&store);
    operation(&store, folder.path()).expect("undisturbed");
    let items = fs::read_dir(store.inner.folder.layers()).expect("layers");
    let keys = items.map(|item| item.expect("entry").file_name().into_string().expect("text"));
    keys.map(|key| (key.clone(), content(&store, &key))).collect()
}

/// Runs an operation to every possible end.
fn every_end(
    name: &str,
    before: &dyn Fn(&ImageStore),
    operation: &dyn Fn(&ImageStore, &Path) -> Result<(), ImageError>,
) {
    let known = whole(before, operation);
    let mut ends = 0;
    for fate in 0..FATES {
        for steps in 0.. {
            let folder = tempfile::tempdir().expect("folder");
            let root = folder.path().join("images");
            let watched = Watched::new(&root);
            let store = open(&root);
            before(&store);
            store.sync_layers().expect("synced");
            watched.end_after(steps);
            let done = operation(&store, folder.path()).and_then(|()| store.sync_layers());
            let ended = watched.restart();
            assert_eq!(done.is_err(), ended, "{name}: {done:?}");
            drop(store);
            if fate > 0 {
                power_loss(&watched, fate + steps as u64 * 1000);
                another_boot(&root);
            }
            let when = format!("{name}, fate {fate}, after {steps} steps");
            let store = open(&root);
            check(&store, &known, &when);
            before(&store);
            operation(&store, folder.path()).expect("the second time");
            check(&store, &known, &format!("{when}, again"));
            ends += usize::from(ended);
            if !ended {
                break;
            }
        }
    }
    assert!(ends >= 4 * FATES as usize, "{name}: only {ends} ends");
}

#[test]
fn imports_are_whole_or_not_there() {
    every_end("import", &|_| {}, &|store, _| import(store, "base"));
}

#[test]
fn commits_are_whole_or_not_there() {
    let before = |store: &ImageStore| import(store, "base").expect("base");
    every_end("commit", &before, &commit);
}

#[test]
fn pulls_are_whole_or_not_there() {
    let registry = registry();
    let name = format!("{}/app:1", registry.address);
    every_end("pull", &|_| {}, &|store, _| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(store.pull(&name, None, None)).map(drop)
    });
}

#[test]
fn a_removal_that_ends_early_leaves_whole_images() {
    let before = |store: &ImageStore| {
        import(store, "base").expect("base");
        import(store, "kept").expect("kept");
    };
    let known = whole(&before, &|_, _| Ok(()));
    let mut ends = 0;
    for fate in 0..FATES {
        for steps in 0.. {
            let folder = tempfile::tempdir().expect("folder");
            let root = folder.path().join("images");
            let watched = Watched::new(&root);
            let store = open(&root);
            before(&store);
            store.sync_layers().expect("synced");
            watched.end_after(steps);
            let done = store.remove("base:1");
            let ended = watched.restart();
            assert_eq!(done.is_err(), ended, "{done:?}");
            drop(store);
            if fate > 0 {
                power_loss(&watched, fate + steps as u64 * 1000);
                another_boot(&root);
            }
            let when = format!("remove, fate {fate}, after {steps} steps");
            let store = open(&root);
            check(&store, &known, &when);
            assert!(store.resolve("kept:1").expect("index").is_some(), "{when}");
            before(&store);
            check(&store, &known, &format!("{when}, again"));
            ends += usize::from(ended);
            if !ended {
                break;
            }
        }
    }
    assert!(ends >= 2 * FATES as usize, "only {ends} ends");
}
