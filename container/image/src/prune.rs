//! Taking images away, and what belongs to none any more.

use crate::disk::unique_name;
use crate::faults::{self, Step};
use crate::records::{ImageRecord, Index};
use crate::{Digest, ImageError, ImageFilters, ImageStore, Removed};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

impl ImageStore {
    /// Takes away a name (or, by id, all names), and the image with its last name. Blocking.
    ///
    /// Errors: `InUse` if a container needs the image, `Absent` if it is not here.
    pub fn remove(&self, reference: &str) -> Result<Removed, ImageError> {
        self.remove_with(reference, true)
    }

    /// [`ImageStore::remove`]; without `force`, an id that has names in several repositories is refused. Blocking.
    pub fn remove_with(&self, reference: &str, force: bool) -> Result<Removed, ImageError> {
        let folder = &self.inner.folder;
        let mut removed = Removed::default();
        let users = folder.leases()?;
        folder.update_index(|index| {
            let (id, _) = index
                .find(reference)
                .ok_or_else(|| ImageError::Absent(reference.to_owned()))?;
            let record = index
                .images
                .get_mut(&id)
                .ok_or_else(|| ImageError::Absent(reference.to_owned()))?;
            let named =
                exact_name(reference).filter(|name| record.tags.contains(name) || record.digests.contains(name));
            let last = match named {
                Some(name) => {
                    let others = record
                        .tags
                        .iter()
                        .chain(&record.digests)
                        .filter(|known| **known != name);
                    // A digest name alone keeps no image that was pulled by tag.
                    let tags_left = others.clone().any(|known| record.tags.contains(known));
                    let only_name = !tags_left && (record.tags.contains(&name) || others.count() == 0);
                    if !only_name {
                        record.tags.remove(&name);
                        record.digests.remove(&name);
                        removed.untagged.push(name);
                    }
                    only_name
                }
                None if !force && repositories(record) > 1 => {
                    return Err(ImageError::InUse {
                        image: reference.to_owned(),
                        owner: "several repositories (force removes them all)".to_owned(),
                    });
                }
                None => true,
            };
            if last {
                if let Some((owner, _)) = users.iter().find(|(_, lease)| lease.image == id) {
                    return Err(ImageError::InUse {
                        image: reference.to_owned(),
                        owner: owner.clone(),
                    });
                }
                removed
                    .untagged
                    .extend(record.tags.iter().chain(&record.digests).cloned());
                index.images.remove(&id);
                removed.deleted.push(id.to_string());
            }
            Ok(())
        })?;
        removed.freed = self.sweep()?;
        Ok(removed)
    }

    /// Takes a name (or, by id, all names) away from an image, which stays for those who use it. Blocking.
    pub fn untag(&self, reference: &str) -> Result<Vec<String>, ImageError> {
        self.inner.folder.update_index(|index| {
            let (id, _) = index
                .find(reference)
                .ok_or_else(|| ImageError::Absent(reference.to_owned()))?;
            let record = index
                .images
                .get_mut(&id)
                .ok_or_else(|| ImageError::Absent(reference.to_owned()))?;
            let own = |name: &String, wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| wanted == name);
            let wanted =
                exact_name(reference).filter(|name| record.tags.contains(name) || record.digests.contains(name));
            let all = record.tags.iter().chain(&record.digests);
            let gone: Vec<String> = all.filter(|name| own(name, &wanted)).cloned().collect();
            record.tags.retain(|name| !gone.contains(name));
            record.digests.retain(|name| !gone.contains(name));
            Ok(gone)
        })
    }

    /// Removes images that have no tag and no user (`all`: that have no user), and everything
    /// that belongs to no image. Blocking.
    pub fn prune(&self, all: bool) -> Result<Removed, ImageError> {
        self.prune_with(all, &ImageFilters::default())
    }

    /// [`ImageStore::prune`] of images that meet conditions. Blocking.
    pub fn prune_with(&self, all: bool, filters: &ImageFilters) -> Result<Removed, ImageError> {
        let folder = &self.inner.folder;
        let chosen: BTreeSet<Digest> = filters
            .apply(self, self.summaries()?)?
            .into_iter()
            .map(|summary| summary.image.id)
            .collect();
        // `dangling=false` asks for named images too.
        let all = all || filters.has("dangling");
        let used: BTreeSet<Digest> = folder.leases()?.into_iter().map(|(_, lease)| lease.image).collect();
        let mut removed = Removed::default();
        folder.update_index(|index| {
            index.images.retain(|id, record| {
                let keep = used.contains(id) || !(all || record.tags.is_empty()) || !chosen.contains(id);
                if !keep {
                    removed
                        .untagged
                        .extend(record.tags.iter().chain(&record.digests).cloned());
                    removed.deleted.push(id.to_string());
                }
                keep
            });
            Ok(())
        })?;
        removed.freed = self.sweep()?;
        Ok(removed)
    }

    /// Deletes unused content; does nothing while anybody adds some (the next sweep will).
    pub(crate) fn sweep(&self) -> Result<u64, ImageError> {
        let folder = &self.inner.folder;
        let Some(_removing) = folder.try_lock_removing()? else {
            return Ok(0);
        };
        let index = folder.read_index()?;
        let leases = folder.leases()?;
        let layers: BTreeSet<&str> = index
            .images
            .values()
            .flat_map(|record| &record.layers)
            .chain(leases.iter().flat_map(|(_, lease)| &lease.layers))
            .map(String::as_str)
            .collect();
        let mut freed = self.discard_others(&folder.layers(), |name| layers.contains(name))?;
        let blobs = blob_names(&index);
        freed += self.discard_others(&folder.root.join("blobs/sha256"), |name| blobs.contains(name))?;
        self.discard_others(&folder.drafts(), |_| false)?;
        Ok(freed)
    }

    fn discard_others(&self, folder: &Path, keep: impl Fn(&str) -> bool) -> Result<u64, ImageError> {
        let mut freed = 0;
        for item in fs::read_dir(folder).map_err(ImageError::io("read directory", folder))? {
            let item = item.map_err(ImageError::io("read directory", folder))?;
            if item.file_name().to_str().is_some_and(&keep) {
                continue;
            }
            let recorded = item
                .file_name()
                .to_str()
                .and_then(|name| self.inner.folder.layer_record(name).ok()?);
            let length = item.metadata().map_err(ImageError::io("read", item.path()))?.len();
            freed += recorded.map_or(length, |record| record.bytes);
            self.discard(&item.path())?;
        }
        Ok(freed)
    }

    /// Deletes a file or folder; a folder leaves its place at once, so that no half of it is ever found.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), ImageError> {
        let failed = || ImageError::io("remove", path);
        faults::step(Step::Removed { path: path.to_owned() }).map_err(failed())?;
        let metadata = fs::symlink_metadata(path).map_err(failed())?;
        if !metadata.is_dir() {
            return fs::remove_file(path).map_err(failed());
        }
        let doomed = self.inner.folder.drafts().join(unique_name());
        let doomed = if path.starts_with(self.inner.folder.drafts()) {
            path.to_owned()
        } else {
            fs::rename(path, &doomed).map_err(failed())?;
            doomed
        };
        fs::remove_dir_all(&doomed).map_err(failed())
    }
}

/// In how many repositories an image has a tag.
fn repositories(record: &ImageRecord) -> usize {
    let names: BTreeSet<&str> = record
        .tags
        .iter()
        .filter_map(|tag| Some(tag.rsplit_once(':')?.0))
        .collect();
    names.len()
}

/// The name as the index writes it; none for an id.
fn exact_name(reference: &str) -> Option<String> {
    if reference.parse::<Digest>().is_ok()
        || (reference.len() >= 12 && reference.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return None;
    }
    let reference: crate::Reference = reference.parse().ok()?;
    match reference.digest {
        Some(digest) => Some(format!("{}@{digest}", reference.name())),
        None => reference.tagged(),
    }
}

fn blob_names(index: &Index) -> BTreeSet<String> {
    index
        .images
        .iter()
        .flat_map(|(id, record)| record.blobs.iter().map(Digest::hex).chain(std::iter::once(id.hex())))
        .collect()
}
