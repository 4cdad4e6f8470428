//! What the shim knows of its containers and their processes.

use super::io::{Held, Names};
use crate::protocol::{ExitStatus, Status};
use crate::shim::container::Container;
use crate::shim::streams::Streams;
use alloc::{collections::BTreeMap, string::String};
use strata_runtime::spec;
use strata_ttrpc::task;

/// A container.
pub(super) struct Task {
    pub(super) bundle: String,
    pub(super) container: Container,
    pub(super) init: Process,
    /// Further processes by name.
    pub(super) further: BTreeMap<String, Further>,
    /// Its processes outlive the init unless they are killed: it has no pid namespace of its own.
    pub(super) shares_pids: bool,
    /// The init has ended; told of when the further processes have.
    pub(super) pending: Option<ExitStatus>,
    /// Its root is mounted on the machine.
    pub(super) mounted: bool,
    /// systemd's name of its cgroup.
    pub(super) unit: String,
}

/// A process, first or further.
pub(super) struct Process {
    pub(super) number: u64,
    /// 0 before it was started.
    pub(super) pid: i32,
    pub(super) names: Names,
    pub(super) held: Held,
    /// How it ended, once that has been told.
    pub(super) exit: Option<ExitStatus>,
}

/// A further process.
pub(super) struct Further {
    pub(super) process: Process,
    /// What to run; taken by the start.
    pub(super) plan: Option<spec::Process>,
    pub(super) streams: Streams,
}

impl Further {
    pub(super) fn is_running(&self) -> bool {
        self.process.pid != 0 && self.process.exit.is_none()
    }

    pub(super) fn status(&self) -> task::Status {
        match (self.process.pid, self.process.exit) {
            (_, Some(_)) => task::Status::Stopped,
            (0, None) => task::Status::Created,
            _ => task::Status::Running,
        }
    }
}

impl Task {
    pub(super) fn status(&self) -> task::Status {
        let state = &self.container.state;
        match state.status {
            // Its end has not been told.
            Status::Stopped if self.init.exit.is_none() => task::Status::Running,
            Status::Stopped => task::Status::Stopped,
            _ if state.paused => task::Status::Paused,
            Status::Created => task::Status::Created,
            Status::Running => task::Status::Running,
        }
    }

    /// The streams of the process with a number, and what holds their pipes.
    pub(super) fn streams(&mut self, number: u64) -> Option<&mut Streams> {
        if self.init.number == number {
            return Some(&mut self.container.streams);
        }
        let mut all = self.further.values_mut();
        all.find(|further| further.process.number == number)
            .map(|further| &mut further.streams)
    }

    /// Lets go of the pipes of processes that have ended and whose output has been handed over.
    pub(super) fn release_pipes(&mut self) {
        if self.init.exit.is_some() && self.container.streams.is_at_end() {
            self.init.held.release();
        }
        for further in self.further.values_mut() {
            if further.process.exit.is_some() && further.streams.is_at_end() {
                further.process.held.release();
            }
        }
    }

    pub(super) fn has_running_further(&self) -> bool {
        self.further.values().any(Further::is_running)
    }
}
