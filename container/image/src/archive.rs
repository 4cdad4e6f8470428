//! Images from archives: docker's `save` and OCI layouts, as tar files, compressed or not.
//!
//! The members are found in one scan and then read at their places, so their order does
//! not matter and no layer is copied.

use crate::config::{ConfigDocument, Descriptor, DockerArchiveItem, ManifestDocument};
use crate::disk::{Draft, sync_file};
use crate::layer::{Compression, Expected, compression};
use crate::manifest::image_manifest;
use crate::pull::{choose, copy_hashed};
use crate::records::ImageRecord;
use crate::registry::MAX_DOCUMENT;
use crate::tar_stream::{TarError, TarStream};
use crate::transfer::blocking;
use crate::{Digest, Image, ImageError, ImageStore, Reference};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Members of an archive; an image has a few per layer.
const MAX_MEMBERS: usize = 100_000;
/// Symbolic links between members of old docker archives.
const MAX_LINKS: usize = 8;
/// Nested indexes of an OCI layout.
const MAX_NESTING: usize = 4;
/// Manifests of one index.
const MAX_MANIFESTS: usize = 256;

/// An archive whose members' places are known.
struct Archive {
    path: PathBuf,
    file: File,
    members: HashMap<String, Member>,
    /// Where a compressed archive was written out.
    _plain: Option<Draft>,
}

enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// An image in an archive.
struct Found {
    names: Vec<Reference>,
    target: Option<Digest>,
    manifest: Option<Digest>,
    config_digest: Digest,
    config: ConfigDocument,
    layers: Vec<(String, Option<Digest>)>,
    blobs: Vec<(Digest, Vec<u8>)>,
    /// Content for other platforms.
    others: Vec<Digest>,
}

impl ImageStore {
    /// Reads a docker or OCI archive, plain or compressed; its images in order.
    pub async fn load(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let store = self.clone();
        let path = path.to_owned();
        blocking(move || {
            let file = File::open(&path).map_err(ImageError::io("open", &path))?;
            store.load_file(path, file)
        })
        .await
    }

    /// Like [`ImageStore::load`] from a stream, which is written to disk first. Blocking.
    pub fn load_from(&self, mut source: impl Read) -> Result<Vec<Image>, ImageError> {
        let _adding = self.inner.folder.lock_adding()?;
        let draft = Draft::new(&self.inner.folder.drafts())?;
        let path = draft.path().join("archive");
        let mut file = File::create_new(&path).map_err(ImageError::io("create", &path))?;
        let limit = self.inner.options.max_layer_size;
        let written = io::copy(&mut (&mut source).take(limit.saturating_add(1)), &mut file);
        if written.map_err(ImageError::io("write", &path))? > limit {
            let why = format!("more than {limit} bytes");
            return Err(ImageError::Archive { path, why });
        }
        let file = File::open(&path).map_err(ImageError::io("open", &path))?;
        self.load_file(path, file)
    }

    fn load_file(&self, path: PathBuf, file: File) -> Result<Vec<Image>, ImageError> {
        let _adding = self.inner.folder.lock_adding()?;
        let archive = self.open_archive(path, file)?;
        // Docker writes both; the index says what the images are called in registries.
        let found = if archive.members.contains_key("index.json") {
            self.admit_archive("oci-archive", &archive.path.display().to_string())?;
            self.oci_images(&archive)?
        } else if archive.members.contains_key("manifest.json") {
            self.admit_archive("docker-archive", &archive.path.display().to_string())?;
            self.docker_images(&archive)?
        } else {
            return Err(archive.broken("neither manifest.json nor index.json in it; not an image archive"));
        };
        let images = found.into_iter().map(|image| self.add_found(&archive, image)).collect();
        // The archive may be gone the next moment.
        self.sync_layers()?;
        images
    }

    fn open_archive(&self, path: PathBuf, file: File) -> Result<Archive, ImageError> {
        let mut reader = BufReader::new(&file);
        let kind = compression(&mut reader).map_err(ImageError::io("read", &path))?;
        let (file, plain) = match kind {
            Compression::None => (file, None),
            Compression::Gzip => self.write_out(&path, flate2::bufread::MultiGzDecoder::new(reader))?,
            Compression::Zstd => {
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(reader).map_err(ImageError::io("read", &path))?;
                self.write_out(&path, decoder)?
            }
        };
        let members = scan(&path, &file)?;
        Ok(Archive {
            path,
            file,
            members,
            _plain: plain,
        })
    }

    fn write_out(&self, path: &Path, source: impl Read) -> Result<(File, Option<Draft>), ImageError> {
        let draft = Draft::new(&self.inner.folder.drafts())?;
        let plain = draft.path().join("archive");
        let mut file = File::create_new(&plain).map_err(ImageError::io("create", &plain))?;
        let limit = self.inner.options.max_layer_size;
        let written = io::copy(&mut source.take(limit.saturating_add(1)), &mut file);
        if written.map_err(ImageError::io("read", path))? > limit {
            let why = format!("more than {limit} bytes when uncompressed");
            return Err(ImageError::Archive {
                path: path.to_owned(),
                why,
            });
        }
        Ok((File::open(&plain).map_err(ImageError::io("open", &plain))?, Some(draft)))
    }

    fn docker_images(&self, archive: &Archive) -> Result<Vec<Found>, ImageError> {
        let items: Vec<DockerArchiveItem> = archive.document("manifest.json")?;
        let mut found = Vec::new();
        for item in items {
            let body = archive.read(&item.config)?;
            let config: ConfigDocument = archive.parse(&item.config, &body)?;
            let names = item
                .repo_tags
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, _>>()?;
            let config_digest = Digest::of(&body);
            let layers = item.layers.into_iter().map(|layer| (layer, None)).collect();
            let blobs = vec![(config_digest, body)];
            found.push(Found {
                names,
                target: None,
                manifest: None,
                config_digest,
                config,
                layers,
                blobs,
                others: Vec::new(),
            });
        }
        Ok(found)
    }

    fn oci_images(&self, archive: &Archive) -> Result<Vec<Found>, ImageError> {
        let index: ManifestDocument = archive.document("index.json")?;
        let mut found: Vec<Found> = Vec::new();
        for descriptor in &index.manifests {
            found.push(self.oci_image(archive, descriptor)?);
        }
        if archive.members.contains_key("manifest.json") {
            let items: Vec<DockerArchiveItem> = archive.document("manifest.json")?;
            for image in found.iter_mut().filter(|image| image.names.is_empty()) {
                let hex = image.config_digest.hex();
                for name in items
                    .iter()
                    .filter(|item| item.config.contains(&hex))
                    .flat_map(|i| &i.repo_tags)
                {
                    image.names.push(name.parse()?);
                }
            }
        }
        Ok(found)
    }

    fn oci_image(&self, archive: &Archive, descriptor: &Descriptor) -> Result<Found, ImageError> {
        let mut blobs = Vec::new();
        let mut digest = descriptor.digest;
        let manifest = loop {
            let body = archive.blob(digest)?;
            let manifest: ManifestDocument = archive.parse(&digest.to_string(), &body)?;
            blobs.push((digest, body));
            if manifest.manifests.is_empty() {
                break manifest;
            }
            if blobs.len() > MAX_NESTING {
                return Err(archive.broken("indexes are nested too deeply"));
            }
            let name = archive.path.display().to_string();
            digest = choose(&self.inner.options.platform, &name, &manifest.manifests)?;
        };
        let config_digest = manifest
            .config
            .ok_or_else(|| archive.broken("a manifest has no configuration"))?
            .digest;
        let body = archive.blob(config_digest)?;
        let config: ConfigDocument = archive.parse(&config_digest.to_string(), &body)?;
        blobs.push((config_digest, body));
        let layers = manifest
            .layers
            .iter()
            .map(|layer| (blob_path(layer.digest), Some(layer.digest)))
            .collect();
        for layer in &manifest.layers {
            layer.usable().map_err(|why| archive.broken(why))?;
        }
        let others = match self.inner.options.keep_blobs {
            true => self.other_content(archive, &mut blobs)?,
            false => Vec::new(),
        };
        let names = oci_name(descriptor)
            .into_iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?;
        Ok(Found {
            names,
            target: Some(descriptor.digest),
            manifest: Some(digest),
            config_digest,
            config,
            layers,
            blobs,
            others,
        })
    }

    /// What the archive has of an index beyond the chosen image: documents into `blobs`, and content.
    fn other_content(&self, archive: &Archive, blobs: &mut Vec<(Digest, Vec<u8>)>) -> Result<Vec<Digest>, ImageError> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < blobs.len() && blobs.len() < MAX_MANIFESTS {
            let manifest = serde_json::from_slice::<ManifestDocument>(&blobs[at].1).ok();
            at += 1;
            // A configuration among the documents is no manifest.
            let Some(manifest) = manifest else { continue };
            for descriptor in &manifest.manifests {
                let known = blobs.iter().any(|(digest, _)| *digest == descriptor.digest);
                if !known && archive.has_blob(descriptor.digest) {
                    blobs.push((descriptor.digest, archive.blob(descriptor.digest)?));
                }
            }
            for descriptor in manifest.config.iter().chain(&manifest.layers) {
                let known = blobs.iter().any(|(digest, _)| *digest == descriptor.digest);
                if !known && archive.has_blob(descriptor.digest) {
                    found.push(descriptor.digest);
                }
            }
        }
        Ok(found)
    }

    fn add_found(&self, archive: &Archive, mut image: Found) -> Result<Image, ImageError> {
        let inner = &self.inner;
        let keep = inner.options.keep_blobs;
        if image.layers.len() != image.config.rootfs.diff_ids.len() {
            return Err(archive.broken("an image's layers are not those of its configuration"));
        }
        let mut size = image.blobs.iter().map(|(_, body)| body.len() as u64).sum();
        let mut kept = Vec::new();
        for ((member, blob), diff) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let content = archive.open(member)?;
            size += content.left;
            let there = match (keep, blob) {
                (false, _) => inner.has_layer(&diff.hex())?,
                (true, Some(blob)) => inner.is_kept(&diff.hex(), *blob)?,
                (true, None) => inner.kept_layer(&diff.hex())?.map(|blob| kept.push(blob)).is_some(),
            };
            if there {
                continue;
            }
            let expected = Expected {
                blob: *blob,
                diff: Some(*diff),
            };
            kept.push(inner.add_layer(content, expected, keep)?.blob);
        }
        let mut held: Vec<Digest> = image.layers.iter().filter_map(|(_, blob)| *blob).collect();
        if keep && image.manifest.is_none() {
            let config_size = image.blobs.iter().map(|(_, body)| body.len() as u64).sum();
            let body = image_manifest(image.config_digest, config_size, &kept);
            let digest = Digest::of(&body);
            image.manifest = Some(digest);
            image.blobs.push((digest, body));
            held.extend(kept.iter().map(|blob| blob.digest));
        }
        for digest in &image.others {
            self.keep_member(archive, *digest)?;
        }
        for (digest, body) in &image.blobs {
            inner.folder.put_blob(*digest, body)?;
        }
        let digests = match image.target {
            Some(target) => image
                .names
                .iter()
                .map(|name| format!("{}@{target}", name.name()))
                .collect(),
            None => Default::default(),
        };
        if !keep {
            held.clear();
        }
        held.extend(image.blobs.iter().map(|(digest, _)| *digest));
        held.extend(&image.others);
        let tags: std::collections::BTreeSet<String> = image.names.iter().filter_map(Reference::tagged).collect();
        let target = image.target.or(image.manifest);
        let record = ImageRecord {
            targets: tags.iter().filter_map(|tag| Some((tag.clone(), target?))).collect(),
            tags,
            digests,
            blobs: held.into_iter().collect(),
            config: image.config.config,
            layers: self.compose(image.config.rootfs.diff_ids.iter().map(Digest::hex).collect())?,
            size,
            created: image.config.created,
            manifest: image.manifest,
            ..ImageRecord::default()
        };
        inner.enter(image.config_digest, record)
    }

    fn keep_member(&self, archive: &Archive, digest: Digest) -> Result<(), ImageError> {
        let draft = Draft::new(&self.inner.folder.drafts())?;
        let path = draft.path().join("blob");
        let mut file = File::create_new(&path).map_err(ImageError::io("create", &path))?;
        let found =
            copy_hashed(&mut archive.open(&blob_path(digest))?, &mut file).map_err(ImageError::io("write", &path))?;
        if found != digest {
            return Err(ImageError::DigestMismatch {
                expected: digest.to_string(),
                found: found.to_string(),
            });
        }
        sync_file(&path)?;
        self.inner.folder.take_blob(&path, digest)
    }
}

/// The full name written by containerd and docker, or skopeo's, which may be a tag alone.
fn oci_name(descriptor: &Descriptor) -> Option<String> {
    let name = |key: &str| descriptor.annotations.get(key).filter(|name| !name.is_empty());
    name("io.containerd.image.name")
        .or_else(|| name("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':'])))
        .cloned()
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The places of all members. Only sizes are trusted here, and only within the file.
fn scan(path: &Path, file: &File) -> Result<HashMap<String, Member>, ImageError> {
    let broken = |why: String| ImageError::Archive {
        path: path.to_owned(),
        why,
    };
    let mut stream = TarStream::new(Window {
        file,
        offset: 0,
        left: u64::MAX,
    });
    let mut members = HashMap::new();
    loop {
        let entry = match stream.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(members),
            Err(TarError::Read(error)) => return Err(ImageError::io("read", path)(error)),
            Err(error) => return Err(broken(error.to_string())),
        };
        if members.len() >= MAX_MEMBERS {
            return Err(broken(format!("more than {MAX_MEMBERS} members")));
        }
        let name = plain_name(&String::from_utf8_lossy(&entry.path));
        if entry.kind.is_file() {
            members.insert(
                name,
                Member::File {
                    offset: stream.position(),
                    size: entry.size,
                },
            );
        } else if entry.kind.is_symlink() {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = format!("{folder}/{}", String::from_utf8_lossy(&entry.link));
            members.insert(name, Member::Link(plain_name(&target)));
        } else if entry.kind.is_hard_link() {
            members.insert(name, Member::Link(plain_name(&String::from_utf8_lossy(&entry.link))));
        }
    }
}

/// The name without `.` and `..`; names of members only select members.
fn plain_name(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Archive {
    fn broken(&self, why: impl Into<String>) -> ImageError {
        ImageError::Archive {
            path: self.path.clone(),
            why: why.into(),
        }
    }

    fn open(&self, name: &str) -> Result<Window<'_>, ImageError> {
        let mut name = plain_name(name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                Some(Member::File { offset, size }) => {
                    return Ok(Window {
                        file: &self.file,
                        offset: *offset,
                        left: *size,
                    });
                }
                Some(Member::Link(target)) => name = target.clone(),
                None => return Err(self.broken(format!("{name} is missing"))),
            }
        }
        Err(self.broken(format!("{name} is linked to itself")))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let mut window = self.open(name)?;
        if window.left > MAX_DOCUMENT as u64 {
            return Err(self.broken(format!("{name} is larger than {MAX_DOCUMENT} bytes")));
        }
        let mut body = Vec::new();
        window
            .read_to_end(&mut body)
            .map_err(ImageError::io("read", &self.path))?;
        Ok(body)
    }

    fn has_blob(&self, digest: Digest) -> bool {
        self.members.contains_key(&blob_path(digest))
    }

    fn blob(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let body = self.read(&blob_path(digest))?;
        let found = Digest::of(&body);
        if found == digest {
            Ok(body)
        } else {
            Err(ImageError::DigestMismatch {
                expected: digest.to_string(),
                found: found.to_string(),
            })
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, name: &str, body: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(body).map_err(|error| self.broken(format!("{name}: {error}")))
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        self.parse(name, &self.read(name)?)
    }
}

/// Part of a file, read without moving its position.
struct Window<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_members_stay_inside_the_archive() {
        for (name, plain) in [
            ("./a/b", "a/b"),
            ("a/../../x", "x"),
            ("/etc/passwd", "etc/passwd"),
            ("", ""),
        ] {
            assert_eq!(plain_name(name), plain);
        }
    }
}
