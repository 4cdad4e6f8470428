//! Further processes of a container: described by `Exec`, begun by `Start`.

use super::create::{COUNT_LIMIT, response};
use super::io::{self, Held, Names, Owner};
use super::requests::{Answer, Refusal, done, message};
use super::server::Server;
use super::table::{Further, Process};
use crate::protocol::{ExecSpec, ExitStatus};
use crate::shim::streams::Streams;
use alloc::{format, string::String, vec::Vec};
use core::result;
use rustix::fd::OwnedFd;
use strata_runtime::{Error, Result, spec};
use strata_sys::time;
use strata_ttrpc::envelope::Code;
use strata_ttrpc::task::{DeleteResponse, ExecProcessRequest, StartResponse, Status, TaskExecAdded, TaskExecStarted};

/// Exit code of a process that could not begin, as shells have it.
const NOT_BEGUN: i32 = 127;

impl Server {
    pub(super) fn exec(&mut self, request: &ExecProcessRequest) -> Answer {
        let number = self.number();
        let task = self.task(&request.id)?;
        match task.status() {
            Status::Stopped => return Err(state("cannot exec in a stopped state")),
            Status::Paused => return Err(state("cannot exec in a paused state")),
            _ => {}
        }
        if request.exec_id.is_empty() || task.further.contains_key(&request.exec_id) {
            let text = format!("id {}: already exists", request.exec_id);
            return Err(Refusal::new(Code::AlreadyExists, text));
        }
        if task.further.len() >= COUNT_LIMIT {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                "too many processes in this container",
            ));
        }
        let text = request.spec.as_ref().map_or(&[][..], |any| &any.value);
        let mut process: spec::Process = serde_json::from_slice(text)
            .map_err(|error| Refusal::new(Code::InvalidArgument, format!("process: {error}")))?;
        process.terminal = request.terminal;
        let further = Further {
            process: Process {
                number,
                pid: 0,
                names: Names {
                    stdin: request.stdin.clone(),
                    stdout: request.stdout.clone(),
                    stderr: request.stderr.clone(),
                    terminal: request.terminal,
                },
                held: Held::default(),
                exit: None,
            },
            plan: Some(process),
            streams: Streams::default(),
        };
        task.further.insert(request.exec_id.clone(), further);
        let event = TaskExecAdded {
            container_id: request.id.clone(),
            exec_id: request.exec_id.clone(),
        };
        self.publisher
            .publish("/tasks/exec-added", "containerd.events.TaskExecAdded", &event);
        done()
    }

    pub(super) fn start_further(&mut self, id: &str, name: &str) -> Answer {
        match self.begin(id, name) {
            Ok(pid) => {
                let event = TaskExecStarted {
                    container_id: id.into(),
                    exec_id: name.into(),
                    pid: pid as u32,
                };
                self.publisher
                    .publish("/tasks/exec-started", "containerd.events.TaskExecStarted", &event);
                message(&StartResponse { pid: pid as u32 })
            }
            Err(refusal) => {
                // Whoever waits for it waits no longer; there is nothing that could end.
                let exit = ExitStatus {
                    code: NOT_BEGUN,
                    finished_at: time::now(),
                    ..ExitStatus::default()
                };
                let further = self.tasks.get_mut(id).and_then(|task| task.further.get_mut(name));
                if let Some(further) = further.filter(|further| further.plan.is_none() && further.process.pid == 0) {
                    further.process.exit = Some(exit);
                    self.release_waits(id, name, exit);
                }
                Err(refusal)
            }
        }
    }

    fn begin(&mut self, id: &str, name: &str) -> result::Result<i32, Refusal> {
        let namespace = self.place.namespace.clone();
        let task = self.task(id)?;
        if task.status() == Status::Paused {
            return Err(state("cannot exec in a paused state"));
        }
        let missing = || Refusal::new(Code::NotFound, format!("process does not exist {name}"));
        let further = task.further.get_mut(name).ok_or_else(missing)?;
        let Some(plan) = further.plan.take() else {
            return Err(state("cannot start a process that was started already"));
        };
        let owner = Owner {
            id,
            namespace: &namespace,
        };
        let opened = io::open(&further.process.names, &owner)?;
        let (mut streams, given) = streams(&further.process.names)?;
        let spec = ExecSpec {
            container: id.into(),
            id: name.into(),
            process: plan,
            inherit: false,
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let begun = task.container.exec(spec, given).map_err(|error| match error {
            Error::Command(text) => Error::Command(format!("exec failed: unable to start container process: {text}")),
            other => other,
        });
        let (pid, master) = begun.map_err(|error| Refusal::about("OCI runtime exec failed", error))?;
        further.process.pid = pid;
        if let Some(master) = master {
            streams.set_terminal(master, !further.process.names.stdin.is_empty())?;
        }
        streams.connect(opened.input, opened.outputs);
        further.streams = streams;
        further.process.held = opened.held;
        Ok(pid)
    }

    pub(super) fn remove_further(&mut self, id: &str, name: &str) -> result::Result<DeleteResponse, Refusal> {
        let missing = || Refusal::new(Code::NotFound, format!("process does not exist {name}"));
        let further = self.task(id)?.further.remove(name).ok_or_else(missing)?;
        Ok(response(&further.process))
    }
}

/// The streams of a further process, and its ends of them.
fn streams(names: &Names) -> Result<(Streams, Vec<OwnedFd>)> {
    if names.terminal {
        return Ok((Streams::for_terminal(None, false)?, Vec::new()));
    }
    let (streams, ends) = Streams::pipes(None, !names.stdin.is_empty(), true)?;
    Ok((streams, ends.into()))
}

fn state(text: &str) -> Refusal {
    Refusal::new(Code::FailedPrecondition, String::from(text))
}
