//! Nodes: their health, the eviction of their pods, and their pod address ranges.

mod eviction;
mod health;
mod ipam;

use crate::{Error, context::Context};
use std::sync::Arc;

/// The service account whose role upstream gives all of these.
const CONTROLLER: &str = "node-controller";

pub(crate) fn start(context: &Arc<Context>) -> Result<(), Error> {
    ipam::start(context)?;
    health::start(context);
    eviction::start(context);
    Ok(())
}
