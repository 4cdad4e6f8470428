//! Making containers, and taking them away.

use super::io::{self, Names, Owner};
use super::record::{self, Record};
use super::requests::{Answer, Refusal, message};
use super::rootfs;
use super::server::Server;
use super::settings::Settings;
use super::table::{Process, Task};
use crate::cli::make::check_unused;
use crate::cli::systemd::{self, Scope};
use crate::protocol::ContainerSpec;
use crate::shim::container::Container;
use alloc::{collections::BTreeMap, format, string::String};
use core::{mem, result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strata_runtime::spec::{NamespaceKind, Rootfs, Spec};
use strata_runtime::{Error, Result};
use strata_sys::{Errno, time};
use strata_ttrpc::Message;
use strata_ttrpc::envelope::{Code, Timestamp};
use strata_ttrpc::task::{CreateTaskRequest, CreateTaskResponse, DeleteResponse, TaskCreate, TaskDelete, TaskIO};

/// How long a killed container may take to end: its processes may be inside the kernel.
const KILL_LIMIT: u64 = 10_000_000_000;

/// Most containers of one shim, and most further processes of one container.
pub(super) const COUNT_LIMIT: usize = 1024;

impl Server {
    pub(super) fn create(&mut self, request: &CreateTaskRequest) -> Answer {
        if self.is_ending() {
            return Err(Refusal::new(Code::Unavailable, "the shim is ending"));
        }
        if self.tasks.contains_key(&request.id) {
            let text = format!("task {}: already exists", request.id);
            return Err(Refusal::new(Code::AlreadyExists, text));
        }
        if self.tasks.len() >= COUNT_LIMIT {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                "too many containers in this shim",
            ));
        }
        if !request.checkpoint.is_empty() {
            let text = "checkpoint and restore are not supported";
            return Err(Refusal::new(Code::Unimplemented, text));
        }
        let task = self.make(request).map_err(|error| match error {
            Error::Command(text) => {
                let text = Error::Command(format!("unable to start container process: {text}"));
                Refusal::about("OCI runtime create failed", text)
            }
            other => Refusal::about("OCI runtime create failed", other),
        })?;
        let pid = task.init.pid as u32;
        let names = &task.init.names;
        let event = TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIO {
                stdin: names.stdin.clone(),
                stdout: names.stdout.clone(),
                stderr: names.stderr.clone(),
                terminal: names.terminal,
            }),
            checkpoint: String::new(),
            pid,
        };
        self.tasks.insert(request.id.clone(), task);
        self.publisher
            .publish("/tasks/create", "containerd.events.TaskCreate", &event);
        message(&CreateTaskResponse { pid })
    }

    /// Errors leave nothing behind.
    fn make(&mut self, request: &CreateTaskRequest) -> Result<Task> {
        let settings = Settings::of(request.options.as_ref())?;
        let (mut spec, _) = crate::cli::store::load_config(&format!("{}/config.json", request.bundle))?;
        if let Some(process) = &mut spec.process {
            process.terminal = request.terminal;
        }
        let names = Names {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let owner = Owner {
            id: &request.id,
            namespace: &self.place.namespace,
        };
        let opened = io::open(&names, &owner)?;
        let scope = self.place_in_cgroup(&mut spec, &request.id, settings.systemd)?;
        let number = self.number();
        let outcome = rootfs::prepare(&request.rootfs, &request.bundle, &spec).and_then(|root| {
            let mounted = matches!(&root, Some(Rootfs::Path(_)));
            let shares_pids = shares_pids(&spec);
            let plan = ContainerSpec {
                id: request.id.clone(),
                spec: mem::take(&mut spec),
                rootfs: root,
                bundle: request.bundle.clone(),
                log: None,
                stdin: !names.stdin.is_empty(),
                stdin_once: !names.terminal,
                own_pid: true,
                systemd: false,
            };
            let mut container = Container::create_with(number, plan, &self.layout, None, settings.choices())?;
            container.streams.connect(opened.input, opened.outputs);
            Ok(Task {
                bundle: request.bundle.clone(),
                init: Process {
                    number,
                    pid: container.state.pid,
                    names: names.clone(),
                    held: opened.held,
                    exit: None,
                },
                container,
                further: BTreeMap::new(),
                shares_pids,
                pending: None,
                mounted,
                unit: scope.as_ref().map_or_else(String::new, |scope| scope.unit.clone()),
            })
        });
        let unit = scope.as_ref().map_or_else(String::new, |scope| scope.unit.clone());
        let undo = |error| {
            if !unit.is_empty() {
                let _ = systemd::stop(&unit);
            }
            let _ = rootfs::unmount(&request.bundle);
            record::forget(&request.bundle);
            Err(error)
        };
        match outcome {
            Err(error) => undo(error),
            Ok(task) => match remember(&task) {
                Ok(()) => Ok(task),
                Err(error) => {
                    end_now(task);
                    undo(error)
                }
            },
        }
    }

    /// Decides about the container's cgroup; the scope when it is systemd's.
    fn place_in_cgroup(&self, spec: &mut Spec, id: &str, by_systemd: bool) -> Result<Option<Scope>> {
        let scope = by_systemd.then(|| systemd::start(spec, id, &self.layout)).transpose()?;
        let linux = spec.linux.get_or_insert_default();
        if let Some(scope) = &scope {
            linux.cgroups_path = scope.path.clone();
        }
        if scope.is_some() {
            return Ok(scope);
        }
        if linux.cgroups_path.is_empty() {
            linux.cgroups_path = format!("/{id}");
        }
        check_unused(&self.layout, &linux.cgroups_path)?;
        Ok(None)
    }

    /// Waits until a killed container's init has ended, and notes it.
    pub(super) fn await_death(&mut self, id: &str) -> result::Result<(), Refusal> {
        let deadline = time::monotonic() + KILL_LIMIT;
        while self.task(id)?.container.is_running() {
            let left = deadline.saturating_sub(time::monotonic());
            if left == 0 {
                let text = "the container's init did not end in 10 s after SIGKILL";
                return Err(Refusal::new(Code::FailedPrecondition, text));
            }
            let timeout = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let pidfd = self.task(id)?.container.pidfd();
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    let what = String::from("wait for the container");
                    return Err(Error::System { what, errno }.into());
                }
            }
            self.reap();
        }
        Ok(())
    }

    /// Forgets what is to be forgotten and has come to its end.
    pub(super) fn finish_deletions(&mut self) {
        let now = time::monotonic();
        for deletion in mem::take(&mut self.deletions) {
            let quiet = match self.tasks.get(&deletion.id) {
                Some(task) => match task.further.get(&deletion.further) {
                    Some(further) => further.process.exit.is_none() || further.streams.is_at_end(),
                    None => task.container.streams.is_at_end(),
                },
                None => true,
            };
            if !quiet && now < deletion.deadline {
                self.deletions.push(deletion);
                continue;
            }
            let answer = match &*deletion.further {
                "" => self.remove(&deletion.id),
                name => self.remove_further(&deletion.id, name),
            };
            match answer {
                Ok(response) => self.reply(deletion.caller, &response.encode_to_vec()),
                Err(refusal) => self.refuse(deletion.caller, refusal),
            }
        }
    }

    fn remove(&mut self, id: &str) -> result::Result<DeleteResponse, Refusal> {
        let task = self.task(id)?;
        if !task.unit.is_empty() {
            systemd::stop(&task.unit)?;
        }
        task.container
            .remove()
            .map_err(|error| Refusal::about("failed to delete task", error))?;
        if task.mounted {
            rootfs::unmount(&task.bundle)?;
        }
        record::forget(&task.bundle);
        let response = response(&task.init);
        let event = TaskDelete {
            container_id: id.into(),
            pid: response.pid,
            exit_status: response.exit_status,
            exited_at: response.exited_at,
            id: String::new(),
        };
        self.tasks.remove(id);
        self.publisher
            .publish("/tasks/delete", "containerd.events.TaskDelete", &event);
        Ok(response)
    }
}

pub(super) fn response(process: &Process) -> DeleteResponse {
    DeleteResponse {
        pid: process.pid as u32,
        exit_status: process.exit.map_or(0, |exit| exit.code as u32),
        exited_at: process.exit.map(|exit| Timestamp::from_nanoseconds(exit.finished_at)),
    }
}

/// Whether the container's processes live on when its init has ended.
fn shares_pids(spec: &Spec) -> bool {
    let own = spec.linux.as_ref().is_some_and(|linux| {
        let mut namespaces = linux.namespaces.iter();
        namespaces.any(|entry| entry.kind == NamespaceKind::Pid && entry.path.is_empty())
    });
    !own
}

fn remember(task: &Task) -> Result<()> {
    let state = &task.container.state;
    let record = Record {
        pid: state.pid,
        pid_start: state.pid_start,
        cgroup: state.cgroup.clone(),
        unit: task.unit.clone(),
    };
    record::save(&task.bundle, &record)
}

/// Ends a container that was made a moment ago.
fn end_now(task: Task) {
    let pid = task.container.state.pid;
    if task.container.signal(None, libc::SIGKILL, false).is_ok() {
        let _ = strata_sys::process::reap(pid);
    }
    let _ = task.container.remove();
}
