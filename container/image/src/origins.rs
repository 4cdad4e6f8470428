//! Where the content of an image can be had again: the registries that it is known to be in.

use crate::config::Descriptor;
use crate::disk::Lock;
use crate::records::ImageRecord;
use crate::registry::Registry;
use crate::{Credentials, ImageError, ImageStore, Reference};
use tokio::sync::OnceCell;

/// The places of one image, each set up when it is first asked.
pub(crate) struct Origins<'a> {
    store: &'a ImageStore,
    places: Vec<Place<'a>>,
}

struct Place<'a> {
    name: &'a str,
    registry: OnceCell<(Lock, Registry)>,
}

impl<'a> Origins<'a> {
    /// Those of an image, the likeliest first.
    pub fn of(store: &'a ImageStore, record: &'a ImageRecord) -> Self {
        let names = record.digests.iter().chain(&record.sources);
        let places = names.map(|name| Place {
            name,
            registry: OnceCell::new(),
        });
        Origins {
            store,
            places: places.collect(),
        }
    }

    /// Makes sure that a blob is here as a file, fetching it if need be. `login`: a registry and the login for it, the
    /// same in each call for that registry.
    pub async fn obtain(&self, blob: &Descriptor, login: Option<(&str, &Credentials)>) -> Result<(), ImageError> {
        if self.store.inner.folder.blob(blob.digest).exists() {
            return Ok(());
        }
        let mut last = ImageError::Absent(format!("content {}", blob.digest));
        for place in &self.places {
            let open = || async {
                let reference: Reference = place.name.parse()?;
                // A login is for its own registry and for no other that has the same content.
                let login = login.filter(|(registry, _)| *registry == reference.registry);
                let login = login.map(|(_, login)| login.clone());
                self.store.registry(reference, login, "pull").await
            };
            let (_, registry) = place.registry.get_or_try_init(open).await?;
            match self.store.keep_content(registry, blob).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
