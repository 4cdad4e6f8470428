//! The forms of the program: `start` and `delete` in a bundle, `-info`, `-v`.

use super::record::Record;
use super::server::{Place, Server};
use super::settings::Settings;
use super::{NAME, record, removal};
use crate::cli::own_program;
use crate::cli::show::features_json;
use alloc::{borrow::ToOwned, collections::BTreeMap, format, string::String, vec::Vec};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest, Sha256};
use strata_runtime::cgroup::{Cgroup, Layout};
use strata_runtime::{Context, Error, Result};
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{Errno, file, stream, time};
use strata_ttrpc::Message;
use strata_ttrpc::envelope::{Any, Timestamp};
use strata_ttrpc::task::{DeleteResponse, RuntimeInfo, RuntimeVersion};

/// Where shims listen, as containerd's own do.
const SOCKETS: &str = "/run/containerd/s";

/// Annotations that name a group of containers with one shim; the first that is there counts.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Largest options and configurations that are read.
const INPUT_LIMIT: usize = 16 << 20;

/// Flags with a value; whatever else begins with a dash is a switch.
const VALUES: [&str; 7] = [
    "namespace",
    "id",
    "address",
    "publish-binary",
    "bundle",
    "socket",
    "log-level",
];

/// What the command line says.
struct Call {
    flags: BTreeMap<String, String>,
    action: String,
}

impl Call {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut call = Call {
            flags: BTreeMap::new(),
            action: String::new(),
        };
        let mut arguments = arguments.iter().skip(1);
        while let Some(argument) = arguments.next() {
            let Some(text) = argument.strip_prefix('-') else {
                call.action = argument.clone();
                continue;
            };
            let text = text.strip_prefix('-').unwrap_or(text);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if VALUES.contains(&text) => {
                    let value = arguments.next().cloned();
                    let missing = || Error::Invalid(format!("flag needs an argument: -{text}"));
                    (text, value.ok_or_else(missing)?)
                }
                None => (text, String::from("true")),
            };
            call.flags.insert(name.into(), value);
        }
        Ok(call)
    }

    fn value(&self, name: &str) -> &str {
        self.flags.get(name).map_or("", String::as_str)
    }

    fn required(&self, name: &str) -> Result<&str> {
        match self.value(name) {
            "" => Err(Error::Invalid(format!("shim {name} cannot be empty"))),
            value => Ok(value),
        }
    }
}

pub(super) fn run(arguments: &[String], environment: &[String]) -> Result<()> {
    let call = Call::parse(arguments)?;
    if call.flags.contains_key("v") || call.flags.contains_key("version") {
        let text = format!("{NAME}:\n  Version:  {}\n", env!("CARGO_PKG_VERSION"));
        return print(text.as_bytes());
    }
    if call.flags.contains_key("info") {
        return print(&info());
    }
    let namespace = call.required("namespace")?;
    let id = call.required("id")?;
    crate::cli::store::check_id(id)?;
    match &*call.action {
        "start" => {
            own_program::protect(arguments, environment)?;
            start(&call, namespace, id, environment)
        }
        "delete" => delete(id),
        other => Err(Error::Invalid(format!(
            "{other:?}: containerd runs this program with start or delete"
        ))),
    }
}

fn print(bytes: &[u8]) -> Result<()> {
    file::write_all(stream::output(), bytes).context(|| "write to the standard output")
}

/// What the runtime supports, for who asks before there is a container.
fn info() -> Vec<u8> {
    let features = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".into(),
        value: features_json().into_bytes(),
    };
    RuntimeInfo {
        name: "io.containerd.strata.v2".into(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").into(),
            revision: String::new(),
        }),
        features: Some(features),
        ..RuntimeInfo::default()
    }
    .encode_to_vec()
}

/// Answers with the address of the shim for the bundle in the working directory: a new one, or that of its group.
fn start(call: &Call, namespace: &str, id: &str, environment: &[String]) -> Result<()> {
    let group = group(id)?;
    let address = call.value("address");
    let digest = Sha256::digest(format!("{address}/{namespace}/{group}"));
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let socket = format!("{SOCKETS}/{name}");
    if let Some(listener) = listen(&socket)? {
        let outcome = launch(
            Place {
                namespace: namespace.into(),
                events: events_address(address, environment),
                socket: socket.clone(),
            },
            listener,
        );
        if outcome.is_err() {
            let _ = rustix::fs::unlink(&*socket);
        }
        outcome?;
    }
    // How containerd finds the shim again when it is started anew.
    let url = format!("unix://{socket}");
    let here = file::open_directory(".").context(|| "open the bundle")?;
    file::replace(&here, "address", url.as_bytes(), 0o600).context(|| "write address")?;
    print(url.as_bytes())
}

/// The name that the bundle's container shares a shim with others under.
fn group(id: &str) -> Result<String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Annotated {
        annotations: BTreeMap<String, String>,
    }
    let text = file::read_at(CWD, "config.json", INPUT_LIMIT).context(|| "read config.json")?;
    let spec: Annotated =
        serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("config.json: {error}")))?;
    let named = GROUPS.iter().find_map(|name| spec.annotations.get(*name));
    Ok(named.filter(|name| !name.is_empty()).map_or(id, |name| &**name).into())
}

/// containerd's socket for events: what it says, or where it is unless it was told otherwise.
fn events_address(address: &str, environment: &[String]) -> String {
    let given = environment
        .iter()
        .find_map(|entry| entry.strip_prefix("TTRPC_ADDRESS="));
    let path = given.filter(|path| !path.is_empty());
    let path = path.map_or_else(|| format!("{address}.ttrpc"), ToOwned::to_owned);
    path.strip_prefix("unix://").map_or(path.clone(), ToOwned::to_owned)
}

/// Listens for containerd; `None` when a shim does so already.
fn listen(path: &str) -> Result<Option<OwnedFd>> {
    let what = || format!("listen at {path}");
    file::make_directories(SOCKETS, 0o711).context(what)?;
    match bind(path) {
        Ok(listener) => return Ok(Some(listener)),
        Err(Errno::ADDRINUSE) => {}
        Err(errno) => return Err(Error::System { what: what(), errno }),
    }
    match connect(path) {
        // It listens, and may have more callers than it has taken yet.
        Ok(_) | Err(Errno::AGAIN) => return Ok(None),
        // It was killed.
        Err(Errno::CONNREFUSED) => rustix::fs::unlink(path).context(what)?,
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::System { what: what(), errno }),
    }
    bind(path).map(Some).context(what)
}

fn bind(path: &str) -> strata_sys::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The mode of the socket file is that of the socket at bind: no moment at which others could connect.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects to a stream socket, which does not block from then on.
pub(super) fn connect(path: &str) -> strata_sys::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Starts a shim that goes on when this program has ended.
fn launch(place: Place, listener: OwnedFd) -> Result<()> {
    let input = file::read_all(stream::input(), INPUT_LIMIT).context(|| "read the options")?;
    let settings = Settings::of_start(&input)?;
    let layout = Layout::detect()?;
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    // More likely to be killed than containerd itself.
    let score = file::read_text(&*format!("/proc/{parent}/oom_score_adj"), 64)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .map(|score| (score + 1).min(1000));
    let group = match &*settings.shim_cgroup {
        "" => None,
        path => Some(Cgroup::create(&layout, path)?),
    };
    let server = Server::new(place, layout, listener)?;
    // SAFETY: the program has one thread.
    let child = match unsafe { process::fork(ForkOptions::default()) }.context(|| "fork")? {
        Fork::Parent(child) => child,
        Fork::Child => process::exit(server.run()),
    };
    // Ours goes without an end of the service.
    core::mem::forget(server);
    if let Some(score) = score {
        // Lowering takes a capability that may be missing.
        let _ = file::write(
            &*format!("/proc/{}/oom_score_adj", child.pid),
            format!("{score}").as_bytes(),
        );
    }
    let placed = group.map_or(Ok(()), |group| group.adopt(child.pid));
    if placed.is_err() {
        let _ = process::signal(&child.pidfd, libc::SIGKILL);
    }
    placed
}

/// Cleans up after a shim that has died, in the bundle or beside it; tells how the container ended.
fn delete(id: &str) -> Result<()> {
    let here = rustix::process::getcwd(Vec::new()).context(|| "getcwd")?;
    let here = here.to_string_lossy();
    let (bundles, _) = here.rsplit_once('/').unwrap_or(("", ""));
    let bundle = format!("{bundles}/{id}");
    let pid = match file::open_directory(&*bundle) {
        Ok(directory) => {
            let record = match record::load(&directory) {
                Ok(record) => record.unwrap_or_default(),
                Err(error) => {
                    warn(&error);
                    Record::default()
                }
            };
            let pid = record.pid;
            clean_up(&record, id, &bundle);
            forget_socket(&directory);
            pid
        }
        Err(Errno::NOENT) => 0,
        Err(errno) => {
            let what = format!("open {bundle}");
            return Err(Error::System { what, errno });
        }
    };
    let response = DeleteResponse {
        pid: pid as u32,
        exit_status: 128 + libc::SIGKILL as u32,
        exited_at: Some(Timestamp::from_nanoseconds(time::now())),
    };
    print(&response.encode_to_vec())
}

/// containerd shows as warnings what is said here; what can be removed is removed all the same.
fn clean_up(record: &Record, id: &str, bundle: &str) {
    for error in removal::after_death(record, id, bundle) {
        warn(&error);
    }
}

fn warn(error: &Error) {
    let _ = file::write_all(stream::error(), format!("{error}\n").as_bytes());
}

/// Removes the socket of a shim that has died.
fn forget_socket(bundle: &OwnedFd) {
    let Ok(text) = file::read_at(bundle, "address", 4096) else {
        return;
    };
    let text = String::from_utf8_lossy(&text);
    let Some(path) = text.trim().strip_prefix("unix://") else {
        return;
    };
    if path.starts_with(SOCKETS) && connect(path).err() == Some(Errno::CONNREFUSED) {
        let _ = rustix::fs::unlink(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn call(text: &str) -> Result<Call> {
        let words: Vec<String> = text.split(' ').map(|word| word.to_string()).collect();
        Call::parse(&words)
    }

    #[test]
    fn flags_are_taken_as_go_takes_them() {
        let parsed = call("shim -namespace k8s.io --id=a -debug -unheard-of -address /a start").unwrap();
        assert_eq!(parsed.action, "start");
        assert_eq!(parsed.value("namespace"), "k8s.io");
        assert_eq!((parsed.value("id"), parsed.value("address")), ("a", "/a"));
        assert!(call("shim -id").is_err());
        assert!(call("shim start").unwrap().required("id").is_err());
    }

    #[test]
    fn events_go_where_containerd_says() {
        let environment = ["A=b".to_string(), "TTRPC_ADDRESS=unix:///x.ttrpc".to_string()];
        assert_eq!(events_address("/run/c.sock", &environment), "/x.ttrpc");
        assert_eq!(events_address("/run/c.sock", &[]), "/run/c.sock.ttrpc");
    }
}
