//! What containers are, in the API's shapes: `GET /containers/json` and `GET /containers/{name}/json`.

use crate::call::{Call, Filters, is_true, ok};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::{Container, Endpoint, MountPoint, NEVER, Record, State, Status};
use crate::time::ago;
use crate::usage;
use http::Response;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use strata_http::Body;

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
];

/// `GET /containers/json`
pub(crate) async fn list(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    let known: Vec<&str> = FILTERS.into_iter().chain(["volume"]).collect();
    filters.only(&known)?;
    for status in filters.get("status") {
        let known = [
            "created",
            "running",
            "paused",
            "restarting",
            "removing",
            "exited",
            "dead",
        ];
        if !known.contains(&status.as_str()) {
            return Err(ApiError::invalid(format!("invalid filter 'status={status}'")));
        }
    }
    let limit = call
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let by_state = !filters.get("status").is_empty() || !filters.get("exited").is_empty();
    let all = call.flag("all") || limit.is_some() || by_state;
    let size = call.flag("size");
    let bounds = Bounds::of(&inner, &filters)?;
    let mut rows = Vec::new();
    for container in inner.all() {
        // A thousand records are looked at where they are: a copy costs ten times as much as its row.
        let (mut row, record) = {
            let record = container.lock();
            let alive = record.state.status.is_alive() || record.state.status == Status::Restarting;
            if (!all && !alive) || !bounds.contain(&record) || !fits(&inner, &record, &filters) {
                continue;
            }
            (row(&record), size.then(|| record.clone()))
        };
        if let Some(record) = record {
            let (own, image) = sizes(&inner, &container, &record).await?;
            row["SizeRw"] = json!(own);
            row["SizeRootFs"] = json!(own + image);
        }
        rows.push(row);
        if limit == Some(rows.len()) {
            break;
        }
    }
    ok(&Value::Array(rows))
}

/// The moments between which containers were made.
struct Bounds {
    since: Option<String>,
    before: Option<String>,
}

impl Bounds {
    fn of(inner: &Inner, filters: &Filters) -> Answer<Self> {
        let moment = |key: &str| match filters.get(key).first() {
            Some(name) => inner.find(name).map(|container| Some(container.lock().created.clone())),
            None => Ok(None),
        };
        Ok(Self {
            since: moment("since")?,
            before: moment("before")?,
        })
    }

    fn contain(&self, record: &Record) -> bool {
        self.since.as_ref().is_none_or(|since| record.created > *since)
            && self.before.as_ref().is_none_or(|before| record.created < *before)
    }
}

fn fits(inner: &Inner, record: &Record, filters: &Filters) -> bool {
    let health = record
        .state
        .health
        .as_ref()
        .map_or("none", |health| health.status.as_str());
    let image = |wanted: &str| {
        record.image == wanted
            || strata_template::tagged(&record.image) == strata_template::tagged(wanted)
            || record
                .image_id
                .trim_start_matches("sha256:")
                .starts_with(wanted.trim_start_matches("sha256:"))
            || inner
                .images
                .resolve(wanted)
                .is_ok_and(|image| image.is_some_and(|image| image.id.to_string() == record.image_id))
    };
    let port = |wanted: &str, public: bool| {
        let Ok((number, protocol)) = crate::launch::parse_port(wanted) else {
            return false;
        };
        record
            .ports
            .iter()
            .any(|port| port.protocol == protocol && number == if public { port.host_port } else { port.port })
    };
    let exposed = |wanted: &str| {
        let wanted = if wanted.contains('/') {
            wanted.to_owned()
        } else {
            format!("{wanted}/tcp")
        };
        record.config["ExposedPorts"].get(&wanted).is_some() || port(&wanted, false)
    };
    filters.fits("id", |id| record.id.starts_with(id))
        && filters.fits("name", |name| named(&record.name, name))
        && filters.fits("status", |status| record.state.status.as_str() == status)
        && filters.fits("health", |wanted| wanted == health)
        && filters.fits("exited", |code| {
            record.state.status == Status::Exited && code.parse() == Ok(record.state.exit_code)
        })
        && filters.fits("ancestor", image)
        && filters.fits("network", |wanted| {
            record
                .networks
                .iter()
                .any(|(name, place)| name == wanted || (wanted.len() >= 12 && place.network_id.starts_with(wanted)))
        })
        && filters.fits("volume", |wanted| {
            record.mounts.iter().any(|mount| {
                mount.name == wanted || mount.destination == wanted || mount.source.to_str() == Some(wanted)
            })
        })
        && filters.fits("publish", |wanted| port(wanted, true))
        && filters.fits("expose", exposed)
        && filters.fits("is-task", |wanted| !is_true(wanted))
        && filters.fits_labels(&record.labels())
}

/// Whether a pattern fits a name: a part of it, between `^` and `$` all of it.
fn named(name: &str, pattern: &str) -> bool {
    let (begins, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (ends, rest) = match rest.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match (begins, ends) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// "Up 3 minutes (healthy)", "Exited (0) 2 hours ago".
pub(crate) fn said(state: &State) -> String {
    let since = |moment: &Option<String>| ago(moment.as_deref().unwrap_or(NEVER));
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => match &state.health {
            Some(health) if health.status == "starting" => {
                format!("Up {} (health: starting)", since(&state.started_at))
            }
            Some(health) => format!("Up {} ({})", since(&state.started_at), health.status),
            None => format!("Up {}", since(&state.started_at)),
        },
        Status::Paused => format!("Up {} (Paused)", since(&state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Removing => "Removal In Progress".into(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Dead => "Dead".into(),
    }
}

fn row(record: &Record) -> Value {
    let command: Vec<String> = record
        .command()
        .iter()
        .map(|word| {
            if word.contains(' ') {
                format!("'{word}'")
            } else {
                word.clone()
            }
        })
        .collect();
    let created = record
        .created
        .parse::<jiff::Timestamp>()
        .map_or(0, jiff::Timestamp::as_second);
    let exposed = record.config["ExposedPorts"].as_object();
    let mut ports: Vec<Value> = record
        .ports
        .iter()
        .map(|port| {
            json!({"IP": port.host_ip, "PrivatePort": port.port, "PublicPort": port.host_port, "Type": port.protocol})
        })
        .collect();
    for port in exposed.into_iter().flatten().map(|(port, _)| port) {
        if let Ok((number, protocol)) = crate::launch::parse_port(port)
            && record.state.status.is_alive()
            && !record
                .ports
                .iter()
                .any(|known| known.port == number && known.protocol == protocol)
        {
            ports.push(json!({"PrivatePort": number, "Type": protocol}));
        }
    }
    json!({
        "Id": record.id, "Names": [format!("/{}", record.name)], "Image": record.image, "ImageID": record.image_id,
        "Command": command.join(" "), "Created": created, "Ports": ports, "Labels": record.labels(),
        "State": record.state.status.as_str(), "Status": said(&record.state),
        "HostConfig": {"NetworkMode": record.network_mode()},
        "NetworkSettings": {"Networks": networks(record)}, "Mounts": mounts(record),
    })
}

fn mounts(record: &Record) -> Vec<Value> {
    let shown = record.mounts.iter().filter(|mount| !mount.hidden);
    shown.map(mount).collect()
}

fn mount(mount: &MountPoint) -> Value {
    let mut value = Map::new();
    value.insert("Type".into(), json!(mount.kind));
    if !mount.name.is_empty() {
        value.insert("Name".into(), json!(mount.name));
    }
    value.insert("Source".into(), json!(mount.source));
    value.insert("Destination".into(), json!(mount.destination));
    if !mount.driver.is_empty() {
        value.insert("Driver".into(), json!(mount.driver));
    }
    value.insert("Mode".into(), json!(mount.mode));
    value.insert("RW".into(), json!(mount.read_write));
    value.insert("Propagation".into(), json!(mount.propagation));
    Value::Object(value)
}

fn networks(record: &Record) -> Value {
    let all: BTreeMap<&String, Value> = record
        .networks
        .iter()
        .map(|(name, place)| (name, endpoint(record, name, place)))
        .collect();
    json!(all)
}

fn endpoint(record: &Record, name: &str, place: &Endpoint) -> Value {
    let text = |ip: Option<std::net::Ipv4Addr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let config = &place.config;
    let built_in = name == crate::networks::DEFAULT || crate::networks::WITHOUT_BRIDGE.contains(&name);
    let dns_names = if built_in {
        Value::Null
    } else {
        let mut all = vec![record.name.clone()];
        all.extend(config.aliases.iter().cloned());
        all.push(record.short_id().to_owned());
        all.dedup();
        json!(all)
    };
    let ipam = config
        .ipam_config
        .as_ref()
        .map_or(Value::Null, |ipam| json!({"IPv4Address": ipam.ipv4_address}));
    json!({
        "IPAMConfig": ipam, "Links": null,
        "Aliases": if config.aliases.is_empty() { Value::Null } else { json!(config.aliases) },
        "MacAddress": place.mac, "DriverOpts": null, "GwPriority": config.gw_priority,
        "NetworkID": place.network_id, "EndpointID": place.endpoint_id, "Gateway": text(place.gateway),
        "IPAddress": text(place.ip), "IPPrefixLen": place.prefix, "IPv6Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "DNSNames": dns_names,
    })
}

/// Bytes of a container's own files and of its image's.
async fn sizes(inner: &Arc<Inner>, container: &Arc<Container>, record: &Record) -> Answer<(u64, u64)> {
    let image = inner.images.resolve(&record.image_id)?.map_or(0, |image| image.size);
    let upper = container.folder.join("upper");
    let own = blocking(move || Ok(usage::folder_size(&upper))).await?;
    Ok((own, image))
}

/// `GET /containers/{name}/json`
pub(crate) async fn inspect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let record = container.record();
    let mut value = document(&inner, &container, &record);
    if call.flag("size") {
        let (own, image) = sizes(&inner, &container, &record).await?;
        value["SizeRw"] = json!(own);
        value["SizeRootFs"] = json!(own + image);
    }
    ok(&value)
}

fn document(inner: &Inner, container: &Container, record: &Record) -> Value {
    let command = record.command();
    let (program, arguments) = command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let execs = inner.execs.of(&record.id);
    let file = |name: &str| {
        let path = container.folder.join(name);
        if path.exists() { json!(path) } else { json!("") }
    };
    let mut config = record.config.clone();
    config["Image"] = json!(record.image);
    json!({
        "Id": record.id, "Created": record.created, "Path": program, "Args": arguments, "State": state(&record.state),
        "Image": record.image_id, "ResolvConfPath": file("resolv.conf"), "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"), "LogPath": file(crate::record::LOG_NAME), "Name": format!("/{}", record.name),
        "RestartCount": record.restart_count, "Driver": "overlay2", "Platform": "linux", "MountLabel": "",
        "ProcessLabel": "", "AppArmorProfile": "",
        "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
        "HostConfig": record.host, "GraphDriver": {
            "Data": {"ID": record.id, "UpperDir": container.folder.join("upper"), "WorkDir": container.folder.join("work")},
            "Name": "overlay2",
        },
        "Mounts": mounts(record), "Config": config, "NetworkSettings": network_settings(record),
    })
}

fn state(state: &State) -> Value {
    let moment = |moment: &Option<String>| moment.clone().unwrap_or_else(|| NEVER.to_owned());
    let mut value = json!({
        "Status": state.status.as_str(), "Running": state.status.is_alive() || state.status == Status::Restarting,
        "Paused": state.status == Status::Paused, "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed, "Dead": state.status == Status::Dead, "Pid": state.pid,
        "ExitCode": state.exit_code, "Error": state.error, "StartedAt": moment(&state.started_at),
        "FinishedAt": moment(&state.finished_at),
    });
    if let Some(health) = &state.health {
        value["Health"] = json!(health);
    }
    value
}

fn network_settings(record: &Record) -> Value {
    let mut ports: BTreeMap<String, Value> = BTreeMap::new();
    if record.state.status.is_alive() {
        for port in record.config["ExposedPorts"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(port, _)| port)
        {
            ports.insert(port.clone(), Value::Null);
        }
    }
    for port in &record.ports {
        let key = format!("{}/{}", port.port, port.protocol);
        let binding = json!({"HostIp": port.host_ip, "HostPort": port.host_port.to_string()});
        match ports.get_mut(&key) {
            Some(Value::Array(list)) => list.push(binding),
            _ => {
                ports.insert(key, json!([binding]));
            }
        }
    }
    let bridge = record.networks.get(crate::networks::DEFAULT);
    let place = bridge.cloned().unwrap_or_default();
    let text = |ip: Option<std::net::Ipv4Addr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let run = record.run.as_ref().map_or("", |run| run.sandbox.as_str());
    let key = match record.state.pid {
        0 => String::new(),
        pid => format!("/proc/{pid}/ns/net"),
    };
    json!({
        "Bridge": "", "SandboxID": run, "SandboxKey": key, "Ports": ports, "HairpinMode": false,
        "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null, "EndpointID": place.endpoint_id, "Gateway": text(place.gateway),
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": text(place.ip), "IPPrefixLen": place.prefix,
        "IPv6Gateway": "", "MacAddress": place.mac, "Networks": networks(record),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_parts_and_anchors() {
        for (pattern, expected) in [
            ("eb", true),
            ("^we", true),
            ("^/web1$", true),
            ("^web$", false),
            ("1$", true),
            ("x", false),
        ] {
            assert_eq!(named("web1", pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn states_are_said_as_docker_says_them() {
        let state = |status| State {
            status,
            exit_code: 3,
            started_at: Some(crate::record::now()),
            finished_at: Some(crate::record::now()),
            ..State::default()
        };
        assert_eq!(said(&state(Status::Running)), "Up Less than a second");
        assert_eq!(said(&state(Status::Exited)), "Exited (3) Less than a second ago");
        assert_eq!(said(&state(Status::Paused)), "Up Less than a second (Paused)");
        assert_eq!(said(&state(Status::Created)), "Created");
    }
}
