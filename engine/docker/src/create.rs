//! `POST /containers/create`: from what a client asks for, and what the image says, to a record.

use crate::call::{Call, created, lenient, overlay_object};
use crate::config::{Config, EndpointConfig, HostConfig};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::mounts;
use crate::names::{self, random_name};
use crate::record::{Container, Endpoint, Record, State, make_folder, new_id, now, remove_folder, replace};
use http::Response;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use strata_engine::{MASKED_PATHS, READ_ONLY_PATHS};
use strata_http::Body;
use strata_image::{Image, ImageConfig};

/// Less than this cannot hold a process and its page tables.
const LEAST_MEMORY: i64 = 6 << 20;
/// What /dev/shm holds unless told otherwise.
const SHM_SIZE: i64 = 64 << 20;

/// `POST /containers/create`
pub(crate) async fn create(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let name = call.query("name").to_owned();
    let body = call.value().await?;
    let (id, warnings) = make(&inner, &name, body).await?;
    created(&json!({"Id": id, "Warnings": warnings}))
}

/// Makes a container; its identity, and what the user should know.
async fn make(inner: &Arc<Inner>, name: &str, body: Value) -> Answer<(String, Vec<String>)> {
    let mut given = body.as_object().cloned().unwrap_or_default();
    let host = given.remove("HostConfig").unwrap_or(Value::Null);
    let networking = given.remove("NetworkingConfig").unwrap_or(Value::Null);
    let config = Value::Object(given);
    let typed: Config = lenient(&config)?;
    if config.as_object().is_none_or(Map::is_empty) {
        return Err(ApiError::invalid(
            "config cannot be empty in order to create a container",
        ));
    }
    let image = find_image(inner, &typed.image)?;
    let id = new_id()?;
    let name = match name.trim_start_matches('/') {
        "" => random_name(|name| inner.find(name).is_err())?,
        name => names::checked(name)?,
    };
    let mut config = merged(config, &image.config)?;
    let mut host = with_defaults(&host);
    let typed_host: HostConfig = lenient(&host)?;
    let warnings = check(&lenient(&config)?, &typed_host)?;
    let networks = endpoints(inner, &typed_host, &networking)?;
    settle(&mut config, &mut host, &typed_host, &id);
    let folder = inner.container_folder(&id);
    let record = Record {
        name,
        created: now(),
        image: typed.image.clone(),
        image_id: image.id.to_string(),
        config,
        host,
        networks,
        mounts: Vec::new(),
        state: State::default(),
        restart_count: 0,
        stopped_by_hand: false,
        run: None,
        ports: Vec::new(),
        id: id.clone(),
    };
    let container = Container::new(record, folder.clone());
    inner.add_named(Arc::clone(&container))?;
    let (shared, made) = (Arc::clone(inner), Arc::clone(&container));
    let written = blocking(move || {
        make_folder(&made.folder)?;
        shared.images.lease(&made.id, &image)?;
        let mounts = mounts::resolve(&shared, &made.record())?;
        made.lock().mounts = mounts;
        replace(&made.folder.join("container.json"), &made.record())
    })
    .await;
    if let Err(error) = written {
        inner.forget(&id);
        let shared = Arc::clone(inner);
        blocking(move || {
            mounts::forget_anonymous(&shared, &container.record());
            shared.images.release(&container.id)?;
            remove_folder(&folder)
        })
        .await?;
        return Err(error);
    }
    inner.events.container(&container, "create", &[]);
    Ok((id, warnings))
}

/// An image by the name that a user gives it.
pub(crate) fn find_image(inner: &Inner, name: &str) -> Answer<Image> {
    if name.is_empty() {
        return Err(ApiError::invalid("no image specified"));
    }
    match inner.images.resolve(name)? {
        Some(image) => Ok(image),
        None => Err(ApiError::not_found(format!("No such image: {}", tagged(name)))),
    }
}

/// The name with the tag that is meant when there is none.
pub(crate) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// The configuration over the image's, by docker's rules.
fn merged(config: Value, image: &ImageConfig) -> Answer<Value> {
    let given: Config = lenient(&config)?;
    let mut all = defaults_of_config();
    overlay_object(&mut all, &config);
    let given_entrypoint = given.entrypoint.as_ref().map_or(&[][..], |words| &words.0[..]);
    if given_entrypoint.is_empty() {
        if given.cmd.0.is_empty() {
            all.insert("Cmd".into(), list(&image.cmd));
        }
        if given.entrypoint.is_none() {
            all.insert("Entrypoint".into(), list(&image.entrypoint));
        }
    } else if *given_entrypoint == [""] {
        all.insert("Entrypoint".into(), Value::Null);
    }
    let mut env = given.env.clone();
    let name = |line: &str| line.split('=').next().unwrap_or("").to_owned();
    let known: Vec<String> = env.iter().map(|line| name(line)).collect();
    env.extend(image.env.iter().filter(|line| !known.contains(&name(line))).cloned());
    all.insert("Env".into(), json!(env));
    let mut labels = image.labels.clone();
    labels.extend(given.labels.clone());
    all.insert("Labels".into(), json!(labels));
    let union = |own: &BTreeMap<String, Value>, images: &[String]| {
        let names = own.keys().chain(images);
        let set: Map<String, Value> = names.map(|name| (name.clone(), json!({}))).collect();
        if set.is_empty() { None } else { Some(Value::Object(set)) }
    };
    if let Some(ports) = union(&given.exposed_ports, &image.exposed_ports) {
        all.insert("ExposedPorts".into(), ports);
    }
    all.insert(
        "Volumes".into(),
        union(&given.volumes, &image.volumes).unwrap_or(Value::Null),
    );
    for (key, own, images) in [
        ("User", &given.user, &image.user),
        ("WorkingDir", &given.working_dir, &image.working_dir),
    ] {
        if own.is_empty() {
            all.insert(key.into(), json!(images));
        }
    }
    if given.stop_signal.is_empty() && !image.stop_signal.is_empty() {
        all.insert("StopSignal".into(), json!(image.stop_signal));
    }
    all.retain(|key, value| key != "Healthcheck" || !value.is_null());
    all.remove("MacAddress");
    let value = Value::Object(all);
    let typed: Config = lenient(&value)?;
    if typed.cmd.0.is_empty() && typed.entrypoint.is_none_or(|words| words.0.is_empty()) {
        return Err(ApiError::invalid("no command specified"));
    }
    Ok(value)
}

fn list(words: &[String]) -> Value {
    if words.is_empty() { Value::Null } else { json!(words) }
}

fn defaults_of_config() -> Map<String, Value> {
    let value = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
    });
    value.as_object().cloned().unwrap_or_default()
}

/// The host's half with every member that docker shows.
fn with_defaults(given: &Value) -> Value {
    let defaults = json!({
        "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "local", "Config": {}}, "NetworkMode": "bridge",
        "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
        "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null,
        "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
        "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
        "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
        "ShmSize": SHM_SIZE, "Runtime": "strata", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
        "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0,
        "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "",
        "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0,
        "MemorySwappiness": null, "OomKillDisable": null, "PidsLimit": null, "Ulimits": [], "CpuCount": 0,
        "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": null, "ReadonlyPaths": null,
    });
    let mut all = defaults.as_object().cloned().unwrap_or_default();
    overlay_object(&mut all, given);
    for (key, default) in [("NetworkMode", "bridge"), ("IpcMode", "private"), ("Runtime", "strata")] {
        if matches!(all[key].as_str(), Some("" | "default")) {
            all.insert(key.into(), json!(default));
        }
    }
    if all["RestartPolicy"]["Name"] == json!("") {
        all["RestartPolicy"]["Name"] = json!("no");
    }
    if all["LogConfig"]["Type"] == json!("") {
        all["LogConfig"]["Type"] = json!("local");
    }
    if all["LogConfig"]["Config"].is_null() {
        all["LogConfig"]["Config"] = json!({});
    }
    if all["ShmSize"].as_i64() == Some(0) {
        all.insert("ShmSize".into(), json!(SHM_SIZE));
    }
    Value::Object(all)
}

/// What depends on the identity and on the mode of things.
fn settle(config: &mut Value, host: &mut Value, typed: &HostConfig, id: &str) {
    if config["Hostname"].as_str().is_none_or(str::is_empty) {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = match typed.network_mode.as_str() {
            "host" => &own,
            mode if mode.starts_with("container:") => "",
            _ => id.get(..12).unwrap_or(id),
        };
        config["Hostname"] = json!(name);
    }
    if host["MaskedPaths"].is_null() && !typed.privileged {
        host["MaskedPaths"] = json!(MASKED_PATHS);
        host["ReadonlyPaths"] = json!(READ_ONLY_PATHS);
    }
    if host["CgroupnsMode"] == json!("") {
        let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        host["CgroupnsMode"] = json!(if unified && !typed.privileged {
            "private"
        } else {
            "host"
        });
    }
}

/// Refuses what cannot be; what the user should know.
fn check(config: &Config, host: &HostConfig) -> Answer<Vec<String>> {
    let refuse = |sentence: &str| Err(ApiError::invalid(sentence));
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if host.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        return refuse("Conflicting options: Nano CPUs and CPU Period/Quota cannot both be set");
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
    if host.nano_cpus < 0 || host.nano_cpus > cpus * 1_000_000_000 {
        return refuse(&format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    match host.restart_policy.name.as_str() {
        "" | "no" | "on-failure" => {}
        "always" | "unless-stopped" if host.restart_policy.maximum_retry_count == 0 => {}
        "always" | "unless-stopped" => {
            return refuse("invalid restart policy: maximum retry count can only be used with 'on-failure'");
        }
        other => {
            return refuse(&format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    if !host.links.is_empty() {
        return refuse(
            "links are not supported: put the containers on a network of their own, where they find each other by name",
        );
    }
    if host.log_config.kind != "local" && !matches!(host.log_config.kind.as_str(), "json-file" | "none") {
        return refuse(&format!(
            "logger: no log driver named '{}' is registered",
            host.log_config.kind
        ));
    }
    let shared = host.network_mode == "host" || host.network_mode.starts_with("container:");
    if host.network_mode.starts_with("container:") {
        if !config.hostname.is_empty() {
            return refuse("conflicting options: hostname and the network mode");
        }
        if !host.port_bindings.is_empty() || host.publish_all_ports {
            return refuse("conflicting options: port publishing and the container type network mode");
        }
    }
    let mut warnings = Vec::new();
    if shared && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

/// The networks a container is to be on.
fn endpoints(inner: &Inner, host: &HostConfig, networking: &Value) -> Answer<BTreeMap<String, Endpoint>> {
    let given: BTreeMap<String, Value> = match networking.get("EndpointsConfig") {
        Some(value) if !value.is_null() => {
            serde_json::from_value(value.clone()).map_err(|error| ApiError::invalid(error.to_string()))?
        }
        _ => BTreeMap::new(),
    };
    let mode = host.network_mode.as_str();
    if mode.starts_with("container:") {
        return Ok(BTreeMap::new());
    }
    let mut all = BTreeMap::new();
    for (name, config) in given {
        let name = if name == "default" { "bridge".to_owned() } else { name };
        let config: EndpointConfig = if config.is_null() {
            EndpointConfig::default()
        } else {
            lenient(&config)?
        };
        let endpoint = Endpoint {
            config,
            ..Endpoint::default()
        };
        all.insert(name, endpoint);
    }
    all.entry(mode.to_owned()).or_default();
    for (name, endpoint) in &all {
        // One that is not there may be made before the start.
        if inner.networks.find(name).is_ok() {
            inner.networks.check(name, endpoint)?;
        }
    }
    Ok(all)
}
