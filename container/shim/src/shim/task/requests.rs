//! Answers to containerd's requests.

use super::client::Caller;
use super::server::{Server, Wait};
use super::table::{Process, Task};
use super::{metrics, server::Deletion};
use crate::cli::systemd;
use crate::protocol::Status;
use alloc::{format, string::String, string::ToString, vec::Vec};
use core::result;
use strata_runtime::Error;
use strata_runtime::spec::{ConsoleSize, Resources};
use strata_sys::time;
use strata_ttrpc::envelope::{Any, Code, Request, Response, RpcStatus, Timestamp};
use strata_ttrpc::frame::{self, Frame};
use strata_ttrpc::task::{self, *};
use strata_ttrpc::{DecodeError, Message};

/// The same messages under both names.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// How long the output of an ended process may take to be read before the process is forgotten.
const OUTPUT_LIMIT: u64 = 10_000_000_000;

/// Most callers who wait for ends at a time.
const WAIT_LIMIT: usize = 4096;

/// Why a request failed, as containerd gets it.
pub(super) struct Refusal {
    code: Code,
    text: String,
}

/// A request's answer; `None` when it comes later.
pub(super) type Answer = result::Result<Option<Vec<u8>>, Refusal>;

impl Refusal {
    pub(super) fn new(code: Code, text: impl Into<String>) -> Self {
        Refusal {
            code,
            text: text.into(),
        }
    }

    /// With what was tried before it.
    pub(super) fn about(what: &str, error: Error) -> Self {
        let refusal = Refusal::from(error);
        Refusal {
            text: format!("{what}: {}", refusal.text),
            ..refusal
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::System { .. } | Error::Elsewhere(_) | Error::Command(_) => Code::Unknown,
            Error::Invalid(_) => Code::InvalidArgument,
            Error::NotFound(_) => Code::NotFound,
            Error::Exists(_) => Code::AlreadyExists,
            Error::State(_) => Code::FailedPrecondition,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Refusal::new(Code::InvalidArgument, error.to_string())
    }
}

fn state(text: &str) -> Refusal {
    Refusal::new(Code::FailedPrecondition, text)
}

pub(super) fn done() -> Answer {
    Ok(Some(Vec::new()))
}

pub(super) fn message(message: &impl Message) -> Answer {
    Ok(Some(message.encode_to_vec()))
}

impl Server {
    /// What a client has sent.
    pub(super) fn hear(&mut self, number: u64) {
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else {
            return;
        };
        for frame in client.wire.ready() {
            self.take(number, frame);
        }
    }

    fn take(&mut self, number: u64, frame: Frame) {
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else {
            return;
        };
        let caller = Caller {
            client: number,
            stream: frame.stream,
        };
        let refusal = match frame.kind {
            frame::REQUEST if frame.stream.is_multiple_of(2) => "StreamID must be odd for client initiated streams",
            frame::REQUEST if frame.stream <= client.last_stream => "StreamID cannot be re-used and must increment",
            frame::REQUEST => {
                client.last_stream = frame.stream;
                return self.call(caller, frame.body);
            }
            frame::DATA => "StreamID is no longer active",
            // What comes in later versions of the protocol is none of ours.
            _ => return,
        };
        self.refuse(caller, Refusal::new(Code::InvalidArgument, refusal));
    }

    fn call(&mut self, caller: Caller, body: Option<Vec<u8>>) {
        let Some(body) = body else {
            let text = format!("message exceeds the maximum message size of {}", frame::BODY_LIMIT);
            return self.refuse(caller, Refusal::new(Code::ResourceExhausted, text));
        };
        let answer = Request::decode(&*body)
            .map_err(Refusal::from)
            .and_then(|request| self.answer(caller, &request));
        match answer {
            Ok(Some(payload)) => self.reply(caller, &payload),
            Ok(None) => {}
            Err(refusal) => self.refuse(caller, refusal),
        }
    }

    pub(super) fn reply(&mut self, caller: Caller, payload: &[u8]) {
        self.say(
            caller,
            Response {
                status: None,
                payload: payload.into(),
            },
        );
    }

    pub(super) fn refuse(&mut self, caller: Caller, refusal: Refusal) {
        self.say(
            caller,
            Response {
                status: Some(RpcStatus {
                    code: refusal.code as i32,
                    message: refusal.text,
                }),
                payload: Vec::new(),
            },
        );
    }

    fn say(&mut self, caller: Caller, response: Response) {
        let client = self.clients.iter_mut().find(|client| client.number == caller.client);
        if let Some(client) = client {
            client
                .wire
                .send(caller.stream, frame::RESPONSE, &response.encode_to_vec());
        }
    }

    fn answer(&mut self, caller: Caller, request: &Request) -> Answer {
        if !SERVICES.contains(&&*request.service) {
            let text = format!("service {}", request.service);
            return Err(Refusal::new(Code::Unimplemented, text));
        }
        let body = &*request.payload;
        match &*request.method {
            "Create" => self.create(&CreateTaskRequest::decode(body)?),
            "Start" => self.start(&StartRequest::decode(body)?),
            "Delete" => self.delete(caller, DeleteRequest::decode(body)?),
            "Exec" => self.exec(&ExecProcessRequest::decode(body)?),
            "ResizePty" => self.resize(&ResizePtyRequest::decode(body)?),
            "State" => self.state(&StateRequest::decode(body)?),
            "Pause" => self.freeze(&PauseRequest::decode(body)?.id, true),
            "Resume" => self.freeze(&ResumeRequest::decode(body)?.id, false),
            "Kill" => self.kill(&KillRequest::decode(body)?),
            "Pids" => self.pids(&PidsRequest::decode(body)?.id),
            "CloseIO" => self.close_io(&CloseIORequest::decode(body)?),
            "Checkpoint" => {
                let text = "checkpoint and restore are not supported";
                Err(Refusal::new(Code::Unimplemented, text))
            }
            "Wait" => self.await_end(caller, WaitRequest::decode(body)?),
            "Stats" => self.stats(&StatsRequest::decode(body)?.id),
            "Connect" => self.connect(&ConnectRequest::decode(body)?.id),
            "Update" => self.update(&UpdateTaskRequest::decode(body)?),
            "Shutdown" => {
                if self.tasks.is_empty() {
                    self.end();
                }
                done()
            }
            other => Err(Refusal::new(Code::Unimplemented, format!("method {other}"))),
        }
    }

    pub(super) fn task(&mut self, id: &str) -> result::Result<&mut Task, Refusal> {
        let missing = || Refusal::new(Code::NotFound, "container not created");
        self.tasks.get_mut(id).ok_or_else(missing)
    }

    /// A process of a container; an empty name is the init.
    fn process(&mut self, id: &str, name: &str) -> result::Result<&mut Process, Refusal> {
        let task = self.task(id)?;
        if name.is_empty() {
            return Ok(&mut task.init);
        }
        let missing = || Refusal::new(Code::NotFound, format!("process does not exist {name}"));
        task.further
            .get_mut(name)
            .map(|further| &mut further.process)
            .ok_or_else(missing)
    }

    fn start(&mut self, request: &StartRequest) -> Answer {
        if !request.exec_id.is_empty() {
            return self.start_further(&request.id, &request.exec_id);
        }
        let task = self.task(&request.id)?;
        match task.status() {
            task::Status::Created => {}
            task::Status::Paused => return Err(state("cannot start a paused process")),
            task::Status::Stopped => return Err(state("cannot start a stopped process")),
            _ => return Err(state("cannot start a running process")),
        }
        let begun = task.container.start();
        begun.map_err(|error| Refusal::about("OCI runtime start failed", error))?;
        let pid = task.init.pid as u32;
        let event = TaskStart {
            container_id: request.id.clone(),
            pid,
        };
        self.publisher
            .publish("/tasks/start", "containerd.events.TaskStart", &event);
        message(&StartResponse { pid })
    }

    fn delete(&mut self, caller: Caller, request: DeleteRequest) -> Answer {
        let exit = self.process(&request.id, &request.exec_id)?.exit;
        let task = self.task(&request.id)?;
        let running = match task.further.get(&request.exec_id) {
            Some(further) => further.is_running(),
            None => exit.is_none() && task.status() != task::Status::Created,
        };
        if running {
            return Err(state("cannot delete a running process"));
        }
        if request.exec_id.is_empty() && exit.is_none() {
            // Made and never begun.
            task.container.kill()?;
            self.await_death(&request.id)?;
        }
        self.deletions.push(Deletion {
            caller,
            id: request.id,
            further: request.exec_id,
            deadline: time::monotonic() + OUTPUT_LIMIT,
        });
        Ok(None)
    }

    fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let process = self.process(&request.id, &request.exec_id)?;
        let (terminal, number) = (process.names.terminal && process.pid != 0, process.number);
        if let Some(streams) = self.task(&request.id)?.streams(number)
            && terminal
        {
            let side = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
            let size = ConsoleSize {
                height: side(request.height),
                width: side(request.width),
            };
            // One that has just ended has no size any more.
            let _ = streams.resize(size);
        }
        done()
    }

    fn state(&mut self, request: &StateRequest) -> Answer {
        let task = self.task(&request.id)?;
        let whole = task.status();
        let (process, status) = match &*request.exec_id {
            "" => (&task.init, whole),
            name => {
                let missing = || Refusal::new(Code::NotFound, format!("process does not exist {name}"));
                let further = task.further.get(name).ok_or_else(missing)?;
                let paused = whole == task::Status::Paused;
                (&further.process, if paused { whole } else { further.status() })
            }
        };
        let names = &process.names;
        message(&StateResponse {
            id: if request.exec_id.is_empty() {
                request.id.clone()
            } else {
                request.exec_id.clone()
            },
            bundle: task.bundle.clone(),
            pid: process.pid as u32,
            status: status as i32,
            stdin: names.stdin.clone(),
            stdout: names.stdout.clone(),
            stderr: names.stderr.clone(),
            terminal: names.terminal,
            exit_status: process.exit.map_or(0, |exit| exit.code as u32),
            exited_at: process.exit.map(|exit| Timestamp::from_nanoseconds(exit.finished_at)),
            exec_id: request.exec_id.clone(),
        })
    }

    fn freeze(&mut self, id: &str, frozen: bool) -> Answer {
        let task = self.task(id)?;
        match (task.status(), frozen) {
            (task::Status::Running, true) | (task::Status::Paused, false) => {}
            (task::Status::Paused, true) => return Err(state("cannot pause a paused container")),
            (task::Status::Running, false) => return Err(state("cannot resume a running process")),
            (task::Status::Created, _) => return Err(state("cannot pause or resume a task in created state")),
            _ => return Err(state("cannot pause or resume a stopped container")),
        }
        task.container.freeze(frozen)?;
        let container_id = id.into();
        if frozen {
            let event = TaskPaused { container_id };
            self.publisher
                .publish("/tasks/paused", "containerd.events.TaskPaused", &event);
        } else {
            let event = TaskResumed { container_id };
            self.publisher
                .publish("/tasks/resumed", "containerd.events.TaskResumed", &event);
        }
        done()
    }

    fn kill(&mut self, request: &KillRequest) -> Answer {
        let signal = request.signal as i32;
        if !(0..=strata_sys::signal::LAST).contains(&signal) {
            return Err(Refusal::new(Code::InvalidArgument, format!("bad signal {signal}")));
        }
        let process = self.process(&request.id, &request.exec_id)?;
        if process.pid == 0 {
            return Err(state("process not created"));
        }
        let ended = process.exit.is_some();
        let task = self.task(&request.id)?;
        let over = || Refusal::new(Code::NotFound, "process already finished");
        if !request.exec_id.is_empty() {
            if ended {
                return Err(over());
            }
            task.container.signal(Some(&request.exec_id), signal, false)?;
            return done();
        }
        if request.all {
            task.container.signal(None, signal, true)?;
        } else if ended || task.container.state.status == Status::Stopped {
            return Err(over());
        } else if signal == libc::SIGKILL {
            // A frozen process cannot die.
            task.container.kill()?;
        } else {
            task.container.signal(None, signal, false)?;
        }
        done()
    }

    fn pids(&mut self, id: &str) -> Answer {
        let task = self.task(id)?;
        let mut processes = Vec::new();
        for pid in task.container.cgroup.processes()? {
            let named = task.further.iter().find(|(_, further)| further.process.pid == pid);
            let info = named.map(|(name, _)| Any {
                type_url: "containerd.runc.v1.ProcessDetails".into(),
                value: ProcessDetails { exec_id: name.clone() }.encode_to_vec(),
            });
            processes.push(ProcessInfo { pid: pid as u32, info });
        }
        message(&PidsResponse { processes })
    }

    fn close_io(&mut self, request: &CloseIORequest) -> Answer {
        let process = self.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.held.close_input();
        }
        done()
    }

    fn await_end(&mut self, caller: Caller, request: WaitRequest) -> Answer {
        let exit = self.process(&request.id, &request.exec_id)?.exit;
        if let Some(exit) = exit {
            return message(&WaitResponse {
                exit_status: exit.code as u32,
                exited_at: Some(Timestamp::from_nanoseconds(exit.finished_at)),
            });
        }
        // Those who have hung up wait no more.
        let clients = &self.clients;
        self.waits
            .retain(|wait| clients.iter().any(|client| client.number == wait.caller.client));
        if self.waits.len() >= WAIT_LIMIT {
            return Err(Refusal::new(Code::ResourceExhausted, "too many callers wait"));
        }
        self.waits.push(Wait {
            caller,
            id: request.id,
            further: request.exec_id,
        });
        Ok(None)
    }

    fn stats(&mut self, id: &str) -> Answer {
        let task = self.task(id)?;
        message(&StatsResponse {
            stats: Some(metrics::of(&task.container.cgroup)),
        })
    }

    fn connect(&mut self, id: &str) -> Answer {
        let task_pid = self.tasks.get(id).map_or(0, |task| task.init.pid as u32);
        message(&ConnectResponse {
            shim_pid: rustix::process::getpid().as_raw_nonzero().get() as u32,
            task_pid,
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    fn update(&mut self, request: &UpdateTaskRequest) -> Answer {
        let task = self.task(&request.id)?;
        if task.status() == task::Status::Stopped {
            return Err(state("cannot update a stopped container"));
        }
        let Some(any) = &request.resources else {
            return Err(Refusal::new(Code::InvalidArgument, "resources are missing"));
        };
        let resources: Resources = serde_json::from_slice(&any.value)
            .map_err(|error| Refusal::new(Code::InvalidArgument, format!("resources: {error}")))?;
        let cgroup = &task.container.cgroup;
        if !task.unit.is_empty() {
            systemd::update(&task.unit, &resources, cgroup.layout())?;
        }
        cgroup.apply(&resources)?;
        done()
    }
}
