//! Images made from files of this machine.

use crate::config::{ConfigDocument, RootfsDocument};
use crate::disk::{Draft, make_folder};
use crate::records::ImageRecord;
use crate::{Builtin, BuiltinFile, BuiltinSource, Digest, Image, ImageError, ImageStore, Reference};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path};

impl ImageStore {
    /// Makes an image from files of this machine; replaces an earlier one of that name. Blocking.
    ///
    /// A host file is recognised by device, inode, size and time, not read: the cost is that of a link.
    pub fn add_builtin(&self, name: &str, builtin: Builtin) -> Result<Image, ImageError> {
        let reference: Reference = name.parse()?;
        let inner = &self.inner;
        let _adding = inner.folder.lock_adding()?;
        let diff = identity(&builtin)?;
        let key = diff.hex();
        let draft = Draft::new(&inner.folder.drafts())?;
        let root = draft.path().join("fs");
        make_folder(&root, 0o755)?;
        let mut record = inner.fresh_record();
        for file in &builtin.files {
            record.bytes += place(&root, file)?;
        }
        inner.folder.write_layer_record(draft.path(), &record)?;
        let size = record.bytes;
        draft.keep_as(&inner.folder.layers().join(&key))?;
        let document = ConfigDocument {
            architecture: inner.options.platform.architecture.clone(),
            os: inner.options.platform.os.clone(),
            created: None,
            config: builtin.config.clone(),
            rootfs: RootfsDocument {
                kind: "layers".into(),
                diff_ids: vec![diff],
            },
        };
        let config = serde_json::to_vec(&document).map_err(|error| ImageError::Malformed {
            image: name.to_owned(),
            what: "configuration",
            why: error.to_string(),
        })?;
        let id = Digest::of(&config);
        inner.folder.put_blob(id, &config)?;
        let record = ImageRecord {
            tags: reference.tagged().into_iter().collect(),
            blobs: [id].into(),
            config: builtin.config,
            layers: vec![key],
            size,
            ..ImageRecord::default()
        };
        let image = inner.enter(id, record)?;
        self.sync_later();
        Ok(image)
    }
}

fn identity(builtin: &Builtin) -> Result<Digest, ImageError> {
    let mut text = String::from("strata builtin 1\n");
    for BuiltinFile { path, source, mode } in &builtin.files {
        let content = match source {
            BuiltinSource::Host(host) => {
                let metadata = fs::metadata(host).map_err(ImageError::io("read", host))?;
                format!(
                    "{}:{}:{}:{}:{}",
                    metadata.dev(),
                    metadata.ino(),
                    metadata.len(),
                    metadata.mtime(),
                    metadata.mtime_nsec()
                )
            }
            BuiltinSource::Bytes(bytes) => Digest::of(bytes).to_string(),
            BuiltinSource::Symlink(target) => format!("-> {target:?}"),
            BuiltinSource::Directory => "directory".to_owned(),
        };
        text.push_str(&format!("{path:?} {mode:o} {content}\n"));
    }
    Ok(Digest::of(text.as_bytes()))
}

/// Puts one file into the new layer; its bytes.
fn place(root: &Path, file: &BuiltinFile) -> Result<u64, ImageError> {
    let relative = file.path.trim_start_matches('/');
    let plain = Path::new(relative)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if relative.is_empty() || !plain {
        return Err(ImageError::InvalidReference {
            name: file.path.clone(),
            why: "a builtin file needs a plain path",
        });
    }
    let target = root.join(relative);
    if let Some(parent) = target.parent() {
        make_folder(parent, 0o755)?;
    }
    let failed = || ImageError::io("write", &target);
    match &file.source {
        BuiltinSource::Host(host) => {
            link_or_copy(host, &target, file.mode).map_err(failed())?;
        }
        BuiltinSource::Bytes(bytes) => {
            fs::write(&target, bytes).map_err(failed())?;
            fs::set_permissions(&target, fs::Permissions::from_mode(file.mode)).map_err(failed())?;
        }
        BuiltinSource::Symlink(to) => symlink(to, &target).map_err(failed())?,
        BuiltinSource::Directory => {
            make_folder(&target, 0o755)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(file.mode)).map_err(failed())?;
        }
    }
    let metadata = fs::symlink_metadata(&target).map_err(failed())?;
    Ok(if metadata.is_file() { metadata.len() } else { 0 })
}

/// A hard link if owner and permissions fit too, else shared blocks, else a copy.
fn link_or_copy(host: &Path, target: &Path, mode: u32) -> io::Result<()> {
    // A link to a symbolic link would dangle inside.
    let host = host.canonicalize()?;
    let metadata = fs::metadata(&host)?;
    if metadata.mode() & 0o7777 == mode && metadata.uid() == 0 && fs::hard_link(&host, target).is_ok() {
        return Ok(());
    }
    let mut from = File::open(&host)?;
    let mut to = File::create_new(target)?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
        io::copy(&mut from, &mut to)?;
        to.flush()?;
    }
    to.set_permissions(fs::Permissions::from_mode(mode))
}
