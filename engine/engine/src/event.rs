//! What happens to containers, told as it happens.

use crate::{ContainerId, SandboxId};
use std::time::SystemTime;

/// A change of state. A receiver that lags lists everything again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// A container's process was started.
    ContainerStarted {
        /// The container.
        id: ContainerId,
        /// Its sandbox.
        sandbox_id: SandboxId,
    },
    /// A container's process ended.
    ContainerExited {
        /// The container.
        id: ContainerId,
        /// Its sandbox.
        sandbox_id: SandboxId,
        /// Exit code; 128 + the signal if one ended it.
        exit_code: i32,
        /// Whether the out-of-memory killer ended it.
        oom_killed: bool,
        /// When.
        finished_at: SystemTime,
    },
    /// The out-of-memory killer struck in a container, which may go on.
    OomKilled {
        /// The container.
        id: ContainerId,
        /// Its sandbox.
        sandbox_id: SandboxId,
    },
    /// A sandbox was stopped or its shim died.
    SandboxExited {
        /// The sandbox.
        sandbox_id: SandboxId,
    },
}
