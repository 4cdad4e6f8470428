//! Further processes in running containers.

use crate::call::{Call, created, nothing, ok};
use crate::connection::Connection;
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::record::{Container, Status, new_id};
use crate::streams::{Keys, Pump};
use futures::FutureExt;
use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use strata_engine::{ContainerId, ExecOptions, Resizer, SessionParts};
use strata_http::Body;

/// How long an ended one can be asked about.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Most that are known at a time.
const MOST: usize = 10_000;

/// All execs of all containers.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Exec>>);

/// One exec.
#[derive(Clone)]
struct Exec {
    container: String,
    wanted: Wanted,
    running: bool,
    exit_code: Option<i32>,
    resizer: Option<Resizer>,
    /// When it ended, or was made.
    since: Instant,
    started: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Wanted {
    user: String,
    privileged: bool,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct StartBody {
    detach: bool,
    tty: bool,
    console_size: Vec<u16>,
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Exec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Answer<Exec> {
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| ApiError::not_found(format!("No such exec instance: {id}")))
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Exec)) {
        if let Some(exec) = self.lock().get_mut(id) {
            change(exec);
        }
    }

    /// Takes note that it is started; an error the second time.
    fn begin(&self, id: &str) -> Answer<()> {
        match self.lock().get_mut(id) {
            Some(exec) if exec.started => Err(ApiError::conflict(format!("exec instance {id} was started already"))),
            Some(exec) => {
                exec.started = true;
                Ok(())
            }
            None => Err(ApiError::not_found(format!("No such exec instance: {id}"))),
        }
    }

    fn ended(&self, id: &str, code: i32) {
        self.change(id, |exec| {
            exec.running = false;
            exec.exit_code = Some(code);
            exec.since = Instant::now();
        });
    }

    /// Those of a container that run.
    pub fn of(&self, container: &str) -> Vec<String> {
        let all = self.lock();
        let own = all
            .iter()
            .filter(|(_, exec)| exec.container == container && exec.running);
        own.map(|(id, _)| id.clone()).collect()
    }

    fn add(&self, id: String, exec: Exec) -> Answer<()> {
        let mut all = self.lock();
        all.retain(|_, exec| exec.running || exec.since.elapsed() < REMEMBERED);
        if all.len() >= MOST {
            return Err(ApiError::conflict("too many exec instances"));
        }
        all.insert(id, exec);
        Ok(())
    }
}

/// `POST /containers/{name}/exec`
pub(crate) async fn create(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let wanted: Wanted = call.json().await?;
    if wanted.cmd.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    Keys::parse(&wanted.detach_keys)?;
    container.settle().await;
    match container.status() {
        Status::Running => {}
        Status::Paused => {
            return Err(ApiError::conflict(format!(
                "container {} is paused, unpause the container before exec",
                container.id
            )));
        }
        Status::Restarting => {
            return Err(ApiError::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        _ => return Err(ApiError::conflict(format!("container {} is not running", container.id))),
    }
    let id = new_id()?;
    let command = wanted.cmd.join(" ");
    let exec = Exec {
        container: container.id.clone(),
        wanted,
        running: false,
        exit_code: None,
        resizer: None,
        since: Instant::now(),
        started: false,
    };
    inner.execs.add(id.clone(), exec)?;
    inner.events.container(
        &container,
        &format!("exec_create: {command}"),
        &[("execID", id.clone())],
    );
    created(&json!({"Id": id}))
}

/// `POST /exec/{id}/start`
pub(crate) async fn start(inner: Arc<Inner>, mut call: Call) -> Answer<Response<Body>> {
    let id = call.name().to_owned();
    let exec = inner.execs.get(&id)?;
    let container = inner.find(&exec.container)?;
    // The request's body has to be read before the connection can be taken over.
    let (parts, hijacked) = call.take_over().await?;
    let body: StartBody = crate::call::lenient(&parts)?;
    let wanted = exec.wanted;
    if body.tty && !wanted.tty && !body.detach {
        return Err(ApiError::invalid("the exec instance has no terminal"));
    }
    let keys = Keys::parse(&wanted.detach_keys)?.filter(|_| wanted.tty);
    let within = crate::life::running(&container)?;
    inner.execs.begin(&id)?;
    let attached = !body.detach;
    let starting = Starting {
        inner: Arc::clone(&inner),
        id,
        container,
        within,
        wanted,
        attached,
        size: body.console_size,
    };
    let Some((mut response, upgraded)) = hijacked.filter(|_| attached) else {
        starting.begin().await?;
        return ok(&json!({}));
    };
    if starting.wanted.tty {
        let raw = http::HeaderValue::from_static("application/vnd.docker.raw-stream");
        response.headers_mut().insert("content-type", raw);
    }
    let busy = inner.activity.begin();
    // The answer goes before the process begins: some clients read its head and the output apart.
    tokio::spawn(async move {
        let _busy = busy;
        let Ok(connection) = upgraded.await else { return };
        starting.carry(connection, keys).await;
    });
    Ok(response)
}

/// A process about to be started.
struct Starting {
    inner: Arc<Inner>,
    id: String,
    container: Arc<Container>,
    within: ContainerId,
    wanted: Wanted,
    attached: bool,
    size: Vec<u16>,
}

impl Starting {
    fn options(&self) -> ExecOptions {
        let (wanted, attached) = (&self.wanted, self.attached);
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        ExecOptions {
            command: wanted.cmd.clone(),
            tty: wanted.tty,
            stdin: attached && wanted.attach_stdin,
            stdout: attached && (wanted.attach_stdout || wanted.tty),
            stderr: attached && wanted.attach_stderr,
            env: wanted.env.clone(),
            user: text(&wanted.user),
            working_dir: text(&wanted.working_dir),
            privileged: wanted.privileged,
        }
    }

    /// Starts the process; its streams, and what ends when its code is known.
    async fn begin(&self) -> Answer<(SessionParts, tokio::task::JoinHandle<()>)> {
        let (inner, id) = (&self.inner, &self.id);
        let started = inner.engine.exec(&self.within, self.options()).await;
        let mut session = started.map_err(|error| self.refused(&error.into()))?.into_parts();
        inner.execs.change(id, |exec| {
            exec.running = true;
            exec.resizer = Some(Arc::clone(&session.resize));
        });
        if let [height, width] = self.size[..]
            && self.wanted.tty
            && let Err(error) = (session.resize)(width, height).await
        {
            tracing::debug!(exec = id, %error, "could not set the size of a terminal");
        }
        let action = format!("exec_start: {}", self.wanted.cmd.join(" "));
        inner
            .events
            .container(&self.container, &action, &[("execID", id.clone())]);
        // Streams may end before the process and the other way round: each is followed by itself.
        let exit = std::mem::replace(&mut session.exit, std::future::pending().boxed());
        let (shared, name, container) = (Arc::clone(inner), id.clone(), Arc::clone(&self.container));
        let ended = tokio::spawn(async move {
            let code = exit.await.unwrap_or(137);
            shared.execs.ended(&name, code);
            let more = [("execID", name), ("exitCode", code.to_string())];
            shared.events.container(&container, "exec_die", &more);
        });
        Ok((session, ended))
    }

    /// Starts the process and carries its streams over a connection.
    async fn carry(self, mut connection: Connection, keys: Option<Keys>) {
        let framed = !self.wanted.tty;
        match self.begin().await {
            Ok((session, ended)) => {
                let (from_client, to_client) = tokio::io::split(connection);
                let pump = Pump { session, framed, keys };
                // The code is known to whoever asks after the streams ended.
                let to_client = Late {
                    inner: to_client,
                    before_end: Some(ended),
                };
                pump.run(from_client, to_client).await;
            }
            // What cannot be run is told where its output would have been.
            Err(error) => {
                let line = format!("{}\r\n", error.message);
                // The client may have gone.
                let _ = crate::streams::write(&mut connection, 1, line.as_bytes(), framed).await;
                crate::streams::finish(connection).await;
            }
        }
    }

    /// Notes the code that shells use for what cannot be run; what the user is told.
    fn refused(&self, error: &ApiError) -> ApiError {
        let why = error.message.split_once(": ");
        let why = why.map_or(error.message.as_str(), |(_, why)| why);
        let absent = why.contains("not found") || why.contains("no such file");
        self.inner.execs.ended(&self.id, if absent { 127 } else { 126 });
        ApiError::invalid(format!(
            "OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"
        ))
    }
}

/// A writer whose end waits for something else.
struct Late<W> {
    inner: W,
    before_end: Option<tokio::task::JoinHandle<()>>,
}

impl<W: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for Late<W> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if let Some(before) = &mut self.before_end {
            // That it panicked does not matter here.
            let _ = std::task::ready!(before.poll_unpin(cx));
            self.before_end = None;
        }
        std::pin::Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// `POST /exec/{id}/resize`
pub(crate) async fn resize(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let exec = inner.execs.get(call.name())?;
    let (width, height) = crate::life::size(&call)?;
    match exec.resizer.filter(|_| exec.running) {
        Some(resizer) => resizer(width, height).await?,
        None => {
            return Err(ApiError::conflict(format!(
                "exec instance {} is not running",
                call.name()
            )));
        }
    }
    nothing()
}

/// `GET /exec/{id}/json`
pub(crate) async fn inspect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let id = call.name();
    let exec = inner.execs.get(id)?;
    let wanted = &exec.wanted;
    let (program, arguments) = wanted
        .cmd
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    ok(&json!({
        "ID": id, "Running": exec.running, "ExitCode": exec.exit_code.map_or(Value::Null, |code| json!(code)),
        "ProcessConfig": {
            "tty": wanted.tty, "entrypoint": program, "arguments": arguments,
            "privileged": wanted.privileged, "user": wanted.user,
        },
        "OpenStdin": wanted.attach_stdin, "OpenStderr": wanted.attach_stderr, "OpenStdout": wanted.attach_stdout,
        "CanRemove": false, "ContainerID": exec.container, "DetachKeys": wanted.detach_keys, "Pid": 0,
    }))
}
