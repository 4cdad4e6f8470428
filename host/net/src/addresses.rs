//! Allocation of pod addresses.

use std::time::Duration;

/// How long a released address stays unused, so that nobody's open connection reaches its next owner.
pub const REUSE_DELAY: Duration = Duration::from_secs(30);
