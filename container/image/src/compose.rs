//! Putting layers on top of each other.

use crate::{ImageError, ImageStore};

impl ImageStore {
    /// The folders that make up a root of these layers, bottom first.
    pub(crate) fn compose(&self, keys: Vec<String>) -> Result<Vec<String>, ImageError> {
        Ok(keys)
    }
}
