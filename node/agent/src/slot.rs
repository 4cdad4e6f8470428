//! What a pod's worker remembers about one container.

use crate::{
    container,
    planner::{Again, Exit, Instance, State, Unhealthy},
    pod::{Container, Resources},
    start::StepError,
};
use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};
use strata_engine::{ContainerId, ContainerState, ContainerStatus, Engine};
use strata_meta::Time;
use strata_task::CancellationToken;

/// Bytes of a termination message (core/v1: at most 4096).
const MESSAGE_MAX: u64 = 4096;
/// Bytes of the log that stand in for a missing message (upstream: 2048, 80 lines).
const LOG_TAIL: i64 = 2048;

/// What a pod's worker remembers about one container.
#[derive(Default)]
pub struct Slot {
    /// The newest instance.
    pub current: Option<Tracked>,
    /// How the instance before it ended.
    pub last: Option<(String, Exit)>,
    /// How many instances came before the next one.
    pub attempt: u32,
    /// Why there is no instance.
    pub error: Option<StepError>,
    /// How often starting failed in a row.
    pub failures: u32,
    /// Not to be tried again before this.
    pub not_before: Option<Time>,
    /// Something is being done to it.
    pub busy: bool,
    /// What becomes of the present instance after its end.
    pub again: Again,
    /// All of the pod is begun anew, and this one has not been since.
    pub anew: bool,
}

/// An instance of a container.
pub struct Tracked {
    /// The engine's name.
    pub id: ContainerId,
    /// How many came before.
    pub attempt: u32,
    /// The image as the pod named it when the instance was made.
    pub image: String,
    /// The image's full name and identity.
    pub resolved: (String, String),
    /// Whether its startup probe has passed.
    pub started: bool,
    /// Whether it serves.
    pub ready: bool,
    /// Why a probe wants it restarted.
    pub unhealthy: Option<Unhealthy>,
    /// How it ended, read once.
    pub exit: Option<Exit>,
    /// The resources it has.
    pub resources: Resources,
    /// Ends its probes.
    pub probes: CancellationToken,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.probes.cancel();
    }
}

impl Slot {
    /// The planner's view of the container; `None` if nothing was ever tried.
    pub fn instance(&self) -> Option<Instance> {
        let waiting = |reason: &str| Instance {
            attempt: self.attempt,
            last: self.last.clone(),
            busy: self.busy,
            not_before: self.not_before,
            again: self.again,
            anew: self.anew,
            ..Instance::waiting(reason)
        };
        if let Some(error) = &self.error {
            let mut instance = waiting(&error.reason);
            instance.state = State::Waiting {
                reason: error.reason.clone(),
                message: error.message.clone(),
            };
            return Some(instance);
        }
        let Some(tracked) = &self.current else {
            return (self.busy || self.anew).then(|| waiting("ContainerCreating"));
        };
        Some(Instance {
            id: tracked.id.to_string(),
            attempt: tracked.attempt,
            image: tracked.image.clone(),
            resolved: tracked.resolved.clone(),
            started: tracked.started,
            ready: tracked.ready,
            unhealthy: tracked.unhealthy.clone(),
            resources: Some(tracked.resources.clone()),
            ..waiting("ContainerCreating")
        })
    }
}

impl Tracked {
    /// An instance found in the engine, new or from before a restart of the agent.
    pub fn of(status: &ContainerStatus, resolved: (String, String), resources: Resources) -> Self {
        let image = status.annotations.get(container::IMAGE).cloned().unwrap_or_default();
        let mut tracked = Self::new(status.id.clone(), status.attempt, image, resolved);
        tracked.resources = resources;
        tracked
    }

    /// An instance of that name.
    pub fn new(id: ContainerId, attempt: u32, image: String, resolved: (String, String)) -> Self {
        Self {
            id,
            attempt,
            image,
            resolved,
            started: false,
            ready: false,
            unhealthy: None,
            exit: None,
            resources: Resources::default(),
            probes: CancellationToken::new(),
        }
    }

    /// What the instance does now, by the engine's word.
    pub fn state(&mut self, engine: &Engine, container: &Container, pod_dir: &Path) -> State {
        if let Some(exit) = &self.exit {
            return State::Exited(exit.clone());
        }
        let status = match engine.container(&self.id) {
            Ok(status) => status,
            Err(_) => return self.ended(lost()),
        };
        let started = status.started_at.map(time);
        match status.state {
            ContainerState::Running => State::Running {
                since: started.unwrap_or_else(Time::now),
            },
            ContainerState::Created => State::Waiting {
                reason: "ContainerCreating".into(),
                message: String::new(),
            },
            ContainerState::Unknown => self.ended(lost()),
            ContainerState::Exited => {
                let code = status.exit_code.unwrap_or(-1);
                let exit = Exit {
                    code,
                    reason: status.reason.clone(),
                    message: termination_message(&status, container, pod_dir, self.attempt, code),
                    started,
                    finished: status.finished_at.map_or_else(Time::now, time),
                };
                self.ended(exit)
            }
        }
    }

    fn ended(&mut self, exit: Exit) -> State {
        self.probes.cancel();
        self.exit = Some(exit.clone());
        State::Exited(exit)
    }
}

/// An instance whose end nobody saw (upstream: ContainerStatusUnknown, 137).
fn lost() -> Exit {
    Exit {
        code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was last looked at".into(),
        started: None,
        finished: Time::now(),
    }
}

/// A moment of the engine as the API writes it.
pub fn time(at: SystemTime) -> Time {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Time::from_second(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn termination_message(status: &ContainerStatus, container: &Container, dir: &Path, attempt: u32, code: i32) -> String {
    let file = container::termination_file(dir, &container.name, attempt);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&file).and_then(|f| f.take(MESSAGE_MAX).read_to_end(&mut bytes));
    if read.is_ok() && !bytes.is_empty() {
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    if container.termination_message_policy == "FallbackToLogsOnError" && code != 0 {
        return log_tail(&status.log_path);
    }
    status.message.clone()
}

fn log_tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-length.min(LOG_TAIL * 2)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = match read() {
        Ok(text) => text,
        Err(error) => return format!("the log could not be read: {error}"),
    };
    // CRI log lines: time, stream, tag, text. A line that was not ended has the tag P.
    let content = |line: &str| {
        let mut parts = line.splitn(4, ' ').skip(2);
        let (tag, text) = (parts.next()?, parts.next()?);
        let end = if tag.starts_with('P') { "" } else { "\n" };
        Some(format!("{text}{end}"))
    };
    let mut tail: String = text.lines().filter_map(content).collect();
    while tail.len() > LOG_TAIL as usize {
        let cut = tail.find('\n').map_or(tail.len(), |at| at + 1);
        tail.drain(..cut);
    }
    tail
}
