//! cgroups above those of pods: made, limited and measured for whoever arranges pods in classes.

use crate::link::blocking;
use crate::spec::limits;
use crate::{Engine, Error, Resources, Stats};
use std::sync::{Arc, PoisonError};
use strata_runtime::cgroup::Cgroup;

impl Engine {
    /// Makes a cgroup where it is missing and gives it limits. `path` is absolute in every hierarchy. What the
    /// machine's kernel has no controller for is left out.
    ///
    /// Errors: `Runtime` with what the kernel refused.
    pub async fn set_cgroup(&self, path: &str, mut resources: Resources) -> Result<(), Error> {
        self.inner.without_huge_pages(&mut resources);
        let (inner, path) = (Arc::clone(&self.inner), path.to_owned());
        blocking(move || {
            let failed = |error: strata_runtime::Error| Error::Runtime {
                what: "set a cgroup",
                why: error.to_string(),
            };
            let _making = inner.making_cgroup.lock().unwrap_or_else(PoisonError::into_inner);
            let cgroup = Cgroup::create(&inner.cgroups, &path).map_err(failed)?;
            cgroup.apply(&limits(&resources)).map_err(failed)
        })
        .await
    }

    /// What all processes in a cgroup and below use; zeros for what the machine does not count.
    pub async fn cgroup_usage(&self, path: &str) -> Result<Stats, Error> {
        let (inner, path) = (Arc::clone(&self.inner), path.to_owned());
        blocking(move || inner.read_cgroup(&path)).await
    }
}
