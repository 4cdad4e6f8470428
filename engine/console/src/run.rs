//! `run`, `create`, `start` and `attach`.

use crate::client::{Ask, ClientError};
use crate::commands::{AttachArgs, CreateArgs, RunArgs, StartArgs};
use crate::options::CreateOptions;
use crate::session::{End, Session, follow_size, pass_signals};
use crate::{Console, Failure, pull, request, terminal, text};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::io::Write;

/// The exit code of a failure of ours.
const OURS: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The code by which scripts tell failures apart.
fn code_of(message: &str) -> u8 {
    let says = |text: &str| message.contains(text);
    if says("executable file not found") || says("no such file or directory") {
        NOT_FOUND
    } else if says("permission denied") || says("is a directory") {
        CANNOT_RUN
    } else {
        OURS
    }
}

/// A failure as `run` tells it.
fn told(console: &Console, command: &str, failure: Failure) -> Failure {
    let code = code_of(&failure.message);
    Failure::new(format!(
        "{0}: {1}\n\nRun '{0} {command} --help' for more information",
        console.name, failure.message
    ))
    .with_code(code)
}

/// Which streams are attached: input, output, errors.
fn attached(options: &CreateOptions, detach: bool) -> Result<[bool; 3], String> {
    if detach {
        return Ok([false; 3]);
    }
    let mut streams = [false; 3];
    for name in &options.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => streams[0] = true,
            "stdout" => streams[1] = true,
            "stderr" => streams[2] = true,
            other => {
                return Err(format!(
                    "invalid argument {other:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                ));
            }
        }
    }
    if options.attach.is_empty() {
        streams = [options.process.interactive, true, true];
    }
    Ok(streams)
}

/// Makes the container, with its image fetched if it has to be.
async fn make(console: &Console, options: &CreateOptions, streams: [bool; 3]) -> Result<String, Failure> {
    let file = options.cidfile.as_deref().map(IdFile::create).transpose()?;
    let mut body = request::body(options, streams).map_err(Failure::new)?;
    if let (true, Some((rows, columns))) = (options.process.tty, terminal::size()) {
        body["HostConfig"]["ConsoleSize"] = json!([rows, columns]);
    }
    let ask = || {
        Ask::post("/containers/create")
            .query("name", &options.name)
            .query("platform", &options.platform)
            .body(body.clone())
    };
    match options.pull.as_str() {
        "always" => pull::pull(console, options.image(), options.quiet).await?,
        "missing" | "never" => {}
        other => {
            return Err(Failure::new(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            )));
        }
    }
    let answer = match console.client.ask(ask()).await {
        Err(error @ ClientError::Refused { .. })
            if options.pull == "missing" && error.is_not_found() && error.to_string().contains("No such image") =>
        {
            if !options.quiet {
                let name = strata_template::tagged(options.image());
                // Nobody to read it is fine.
                let _ = writeln!(std::io::stderr(), "Unable to find image '{name}' locally");
            }
            pull::pull(console, options.image(), options.quiet).await?;
            console.client.ask(ask()).await?
        }
        other => other?,
    };
    for warning in answer["Warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let _ = writeln!(std::io::stderr(), "WARNING: {warning}");
    }
    let id = answer["Id"].as_str().unwrap_or("").to_owned();
    if let Some(file) = file {
        file.keep(&id)?;
    }
    Ok(id)
}

/// A file for a container's identity, which goes away if there is none.
struct IdFile {
    path: String,
    file: std::fs::File,
    kept: bool,
}

impl IdFile {
    fn create(path: &str) -> Result<Self, Failure> {
        if std::path::Path::new(path).exists() {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = std::fs::File::create_new(path).map_err(|error| {
            let why = text::errno(&error);
            Failure::new(format!("failed to create the container ID file: open {path}: {why}"))
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            kept: false,
        })
    }

    fn keep(mut self, id: &str) -> Result<(), Failure> {
        self.kept = true;
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(format!(
                "failed to write the container ID ({id}) to the file: {}",
                text::errno(&error)
            ))
        })
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing was written to it; the failure before this matters more.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// `create`
pub(crate) async fn create(console: &Console, args: CreateArgs) -> Result<u8, Failure> {
    let options = &args.create;
    let unreadable = |why| told(console, "create", Failure::new(why)).with_code(OURS);
    let streams = attached(options, false).map_err(unreadable)?;
    request::body(options, streams).map_err(unreadable)?;
    let id = make(console, options, streams).await?;
    println!("{id}");
    Ok(0)
}

/// `run`
pub(crate) async fn run(console: &Console, args: RunArgs) -> Result<u8, Failure> {
    let options = &args.create;
    let failed = |failure| told(console, "run", failure);
    let streams = attached(options, args.detach).map_err(|why| failed(Failure::new(why)))?;
    if args.detach && !options.attach.is_empty() {
        return Err(failed(Failure::new(
            "conflicting options: cannot specify both --attach and --detach",
        )));
    }
    if options.process.tty && options.process.interactive && !args.detach && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let id = make(console, options, streams).await.map_err(failed)?;
    if args.detach {
        console
            .client
            .ask(Ask::post(format!("/containers/{id}/start")))
            .await
            .map_err(|error| failed(error.into()))?;
        println!("{id}");
        return Ok(0);
    }
    let condition = if options.rm { "removed" } else { "next-exit" };
    let follow = Follow {
        id: &id,
        streams,
        tty: options.process.tty,
        detach_keys: &args.leaving.detach_keys,
        pass_signals: args.sig_proxy && !options.process.tty,
    };
    follow.start(console, condition).await.map_err(failed)
}

/// A container that is started and followed.
struct Follow<'a> {
    id: &'a str,
    streams: [bool; 3],
    tty: bool,
    detach_keys: &'a str,
    pass_signals: bool,
}

impl Follow<'_> {
    async fn start(&self, console: &Console, condition: &str) -> Result<u8, Failure> {
        let client = &console.client;
        let id = self.id;
        let [stdin, stdout, stderr] = self.streams;
        let attach = Ask::post(format!("/containers/{id}/attach"))
            .query("stream", 1)
            .flag("stdin", stdin)
            .flag("stdout", stdout)
            .flag("stderr", stderr)
            .query("detachKeys", self.detach_keys);
        let connection = client.hijack(attach).await?;
        // Answered at once, told when it happens: asked before the start, so that nothing is missed.
        let wait = Ask::post(format!("/containers/{id}/wait")).query("condition", condition);
        let waiting = client.send(wait).await?;
        let _signals = self.pass_signals.then(|| pass_signals(client, id));
        let session = Session {
            stdin,
            tty: self.tty,
            detach_keys: self.detach_keys,
        };
        // Carried from now on: what is typed waits in the connection.
        let carry = session.carry(connection);
        let mut carry = std::pin::pin!(carry);
        let started = async {
            client.ask(Ask::post(format!("/containers/{id}/start"))).await?;
            Ok::<_, Failure>(())
        };
        let mut early = None;
        let mut started = std::pin::pin!(started);
        loop {
            tokio::select! {
                result = &mut started => { result?; break; }
                end = &mut carry, if early.is_none() => early = Some(end),
            }
        }
        let _size = (self.tty && terminal::stdout_is_terminal())
            .then(|| follow_size(client, format!("/containers/{id}/resize")));
        let end = match early {
            Some(end) => end,
            None => carry.await,
        };
        if end.map_err(Failure::new)? == End::Detached {
            return Ok(0);
        }
        exit_code(waiting).await
    }
}

/// The code of an answer that comes with the end.
async fn exit_code(waiting: http::Response<hyper::body::Incoming>) -> Result<u8, Failure> {
    let bytes = waiting.into_body().collect().await;
    let bytes = bytes.map_err(|error| Failure::new(format!("error waiting for container: {error}")).with_code(OURS))?;
    let value: Value = serde_json::from_slice(&bytes.to_bytes())
        .map_err(|error| Failure::new(format!("error waiting for container: {error}")).with_code(OURS))?;
    Ok(value["StatusCode"].as_i64().map_or(OURS, |code| code as u8))
}

/// `start`
pub(crate) async fn start(console: &Console, args: StartArgs) -> Result<u8, Failure> {
    if args.attach || args.interactive {
        let [name] = &args.containers[..] else {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        };
        let details = console.client.ask(Ask::get(format!("/containers/{name}/json"))).await?;
        let id = details["Id"].as_str().unwrap_or(name).to_owned();
        let (config, host) = (&details["Config"], &details["HostConfig"]);
        let tty = config["Tty"] == json!(true);
        let follow = Follow {
            id: &id,
            streams: [args.interactive && config["OpenStdin"] == json!(true), true, true],
            tty,
            detach_keys: &args.leaving.detach_keys,
            pass_signals: args.attach && !tty,
        };
        let condition = if host["AutoRemove"] == json!(true) {
            "removed"
        } else {
            "next-exit"
        };
        return follow.start(console, condition).await;
    }
    let mut failed = Vec::new();
    for name in &args.containers {
        match console.client.ask(Ask::post(format!("/containers/{name}/start"))).await {
            Ok(_) => println!("{name}"),
            Err(error) => {
                eprintln!("{error}");
                failed.push(name.as_str());
            }
        }
    }
    match failed.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(format!(
            "Error: failed to start containers: {}",
            failed.join(", ")
        ))),
    }
}

/// `attach`
pub(crate) async fn attach(console: &Console, args: AttachArgs) -> Result<u8, Failure> {
    let client = &console.client;
    let details = client
        .ask(Ask::get(format!("/containers/{}/json", args.container)))
        .await?;
    let (state, config) = (&details["State"], &details["Config"]);
    if state["Running"] != json!(true) {
        return Err(Failure::new("cannot attach to a stopped container, start it first"));
    }
    if state["Paused"] == json!(true) {
        return Err(Failure::new("cannot attach to a paused container, unpause it first"));
    }
    if state["Restarting"] == json!(true) {
        return Err(Failure::new(
            "cannot attach to a restarting container, wait until it is running",
        ));
    }
    let id = details["Id"].as_str().unwrap_or("").to_owned();
    let tty = config["Tty"] == json!(true);
    let stdin = !args.no_stdin && config["OpenStdin"] == json!(true);
    if tty && stdin && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let waiting = client
        .send(Ask::post(format!("/containers/{id}/wait")).query("condition", "not-running"))
        .await?;
    let ask = Ask::post(format!("/containers/{id}/attach"))
        .query("stream", 1)
        .flag("stdin", stdin)
        .query("stdout", 1)
        .query("stderr", 1)
        .query("detachKeys", &args.leaving.detach_keys);
    let connection = client.hijack(ask).await?;
    let _signals = (args.sig_proxy && !tty).then(|| pass_signals(client, &id));
    let _size =
        (tty && terminal::stdout_is_terminal()).then(|| follow_size(client, format!("/containers/{id}/resize")));
    let session = Session {
        stdin,
        tty,
        detach_keys: &args.leaving.detach_keys,
    };
    match session.carry(connection).await.map_err(Failure::new)? {
        End::Detached => Err(Failure::new("read escape sequence")),
        End::Over => exit_code(waiting).await,
    }
}
