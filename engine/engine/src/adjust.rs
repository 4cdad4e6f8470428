//! Changing a sandbox that runs.

use crate::link::blocking;
use crate::spec::limits;
use crate::{Engine, Error, Resources, SandboxId};
use std::sync::Arc;

impl Engine {
    /// Replaces what is to be remembered of a sandbox, and sets limits of its cgroup where that is the sandbox's own.
    ///
    /// A cgroup that somebody else looks after is left as it is.
    pub async fn update_sandbox(
        &self,
        id: &SandboxId,
        memo: String,
        resources: Option<Resources>,
    ) -> Result<(), Error> {
        let sandbox = self.inner.known.sandbox(id)?;
        // Whoever ends it writes the record too.
        let _ending = sandbox.ending.lock().await;
        self.inner.known.sandbox(id)?;
        let inner = Arc::clone(&self.inner);
        let entry = Arc::clone(&sandbox);
        blocking(move || {
            let record = entry.record();
            if let Some(resources) = resources.filter(|_| !record.keep_cgroup && !record.stopped) {
                let applied = inner.cgroup(&record.cgroup_parent)?.apply(&limits(&resources));
                applied.map_err(|error| Error::Runtime {
                    what: "change the limits of the pod",
                    why: error.to_string(),
                })?;
            }
            let record = {
                let mut record = entry.lock_record();
                record.memo = memo;
                record.clone()
            };
            inner.folders.write_sandbox(&record)
        })
        .await
    }
}
