//! Layers that only make sense on top of others, mounted and looked at as a container would.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use strata_image::{Image, ImageOptions, ImageStore};
use support::{Tar, documents};

/// An overlay mount, gone with this value.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Image, folder: &Path) -> Self {
        let target = folder.join("merged");
        std::fs::create_dir(&target).expect("folder");
        let lower: Vec<&str> = image
            .layers
            .iter()
            .rev()
            .map(|path| path.to_str().expect("text"))
            .collect();
        let options = std::ffi::CString::new(format!("lowerdir={}", lower.join(":"))).expect("text");
        rustix::mount::mount(
            "overlay",
            &target,
            "overlay",
            rustix::mount::MountFlags::RDONLY,
            options.as_c_str(),
        )
        .expect("mount");
        Self(target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn load(folder: &Path, layers: &[Vec<u8>]) -> Result<Image, strata_image::ImageError> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = layers.iter().map(|layer| (layer.clone(), layer.clone())).collect();
    let names: Vec<String> = (0..layers.len()).map(|index| format!("{index}.tar")).collect();
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["test:1"], "Layers": names}]);
    let mut archive = Tar::default().file("c.json", &documents(&pairs, "{}").config);
    for (name, layer) in names.iter().zip(layers) {
        archive = archive.file(name, layer);
    }
    let archive = archive
        .file("manifest.json", &serde_json::to_vec(&manifest).expect("json"))
        .finish();
    let store = ImageStore::open(ImageOptions::new(folder.join("images"))).expect("store");
    Ok(store.load_from(archive.as_slice())?.remove(0))
}

fn base() -> Vec<u8> {
    Tar::default()
        .entry(b'5', "tmp/", "", 0o1777, b"")
        .dir("usr/")
        .dir("usr/lib/")
        .file("usr/lib/old", b"old")
        .symlink("lib", "usr/lib")
        .file("usr/original", b"original")
        .finish()
}

#[test]
fn a_folder_without_an_entry_keeps_what_it_is_below() {
    let folder = tempfile::tempdir().expect("folder");
    let image = load(
        folder.path(),
        &[base(), Tar::default().file("tmp/sub/file", b"x").finish()],
    )
    .expect("loaded");
    let mounted = Mounted::new(&image, folder.path());
    let tmp = std::fs::metadata(mounted.0.join("tmp")).expect("tmp");
    assert_eq!(tmp.mode() & 0o7777, 0o1777);
    assert!(mounted.0.join("tmp/sub/file").is_file());
}

#[test]
fn files_below_a_link_of_a_lower_layer_go_where_it_leads() {
    let folder = tempfile::tempdir().expect("folder");
    let top = Tar::default()
        .file("lib/new", b"new")
        .file("lib/deep/er", b"deep")
        .file("lib/.wh.old", b"")
        .finish();
    let image = load(folder.path(), &[base(), top]).expect("loaded");
    let mounted = Mounted::new(&image, folder.path());
    let root = &mounted.0;
    assert!(std::fs::symlink_metadata(root.join("lib")).expect("lib").is_symlink());
    assert_eq!(std::fs::read_to_string(root.join("usr/lib/new")).expect("new"), "new");
    assert_eq!(std::fs::read_to_string(root.join("lib/deep/er")).expect("deep"), "deep");
    assert!(!root.join("usr/lib/old").exists());
}

#[test]
fn a_hard_link_may_lead_to_a_lower_layer() {
    let folder = tempfile::tempdir().expect("folder");
    let top = Tar::default()
        .dir("usr/")
        .hard_link("usr/second", "usr/original")
        .finish();
    let image = load(folder.path(), &[base(), top]).expect("loaded");
    let mounted = Mounted::new(&image, folder.path());
    assert_eq!(
        std::fs::read_to_string(mounted.0.join("usr/second")).expect("link"),
        "original"
    );

    let other = tempfile::tempdir().expect("folder");
    let top = Tar::default().hard_link("second", "nowhere").finish();
    let error = load(other.path(), &[base(), top]).expect_err("no target").to_string();
    assert!(error.contains("hard link to \"nowhere\""), "{error}");
}

#[test]
fn ordinary_layers_are_shared_as_they_are() {
    let folder = tempfile::tempdir().expect("folder");
    let top = Tar::default().dir("usr/").file("usr/more", b"x").finish();
    let image = load(folder.path(), &[base(), top]).expect("loaded");
    assert_eq!(image.layers.len(), 2);
}
