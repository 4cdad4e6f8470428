//! `POST /containers/create`: from what a client asks for, and what the image says, to a record.

use crate::call::{Call, created, lenient, overlay_object};
use crate::check::check;
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
    let (shared, known) = (Arc::clone(inner), image.id);
    let document = blocking(move || Ok(shared.images.config_value(known)?)).await?;
    let mut config = merged(config, &image.config, &document["config"])?;
    let mut host = with_defaults(&host);
    let typed_host: HostConfig = lenient(&host)?;
    let warnings = check(&lenient(&config)?, &typed_host)?;
    let networks = match typed.network_disabled {
        true => BTreeMap::new(),
        false => endpoints(inner, &typed_host, &networking)?,
    };
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
        None => Err(ApiError::not_found(format!(
            "No such image: {}",
            strata_template::tagged(name)
        ))),
    }
}

/// The configuration over the image's, by docker's rules.
fn merged(config: Value, image: &ImageConfig, more: &Value) -> Answer<Value> {
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
    if let Some(check) = with_images_check(all.get("Healthcheck"), &more["Healthcheck"]) {
        all.insert("Healthcheck".into(), check);
    }
    if given.shell.is_empty() && more["Shell"].is_array() {
        all.insert("Shell".into(), more["Shell"].clone());
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

/// A health check with what the image says where the user says nothing.
fn with_images_check(given: Option<&Value>, image: &Value) -> Option<Value> {
    let image = image.as_object()?;
    let Some(given) = given.and_then(Value::as_object) else {
        return Some(json!(image));
    };
    let mut all = given.clone();
    let says_nothing = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(words)) => words.is_empty(),
        Some(value) => value.as_i64() == Some(0),
    };
    for (key, value) in image {
        if says_nothing(all.get(key)) {
            all.insert(key.clone(), value.clone());
        }
    }
    Some(Value::Object(all))
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
        "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "bridge",
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
        all["LogConfig"]["Type"] = json!("json-file");
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
            _ if typed.uts_mode == "host" => &own,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_check_is_the_images_where_the_user_says_nothing() {
        let image = json!({"Test": ["CMD", "a"], "Interval": 5, "Retries": 2});
        assert_eq!(with_images_check(None, &image), Some(image.clone()));
        let given = json!({"Interval": 9, "Retries": 0});
        let both = json!({"Test": ["CMD", "a"], "Interval": 9, "Retries": 2});
        assert_eq!(with_images_check(Some(&given), &image), Some(both));
        assert_eq!(with_images_check(Some(&given), &Value::Null), None);
    }

    #[test]
    fn commands_users_and_signals_come_from_the_image() {
        let image = ImageConfig {
            entrypoint: vec!["/e".into()],
            cmd: vec!["c".into()],
            stop_signal: "USR1".into(),
            exposed_ports: vec!["80/tcp".into()],
            volumes: vec!["/v".into()],
            env: vec!["A=1".into(), "B=2".into()],
            ..ImageConfig::default()
        };
        let more = json!({"Shell": ["/bin/ash", "-c"]});
        let all = merged(json!({"Env": ["A=9"]}), &image, &more).expect("valid");
        assert_eq!((&all["Entrypoint"], &all["Cmd"]), (&json!(["/e"]), &json!(["c"])));
        assert_eq!(
            (&all["StopSignal"], &all["Shell"]),
            (&json!("USR1"), &json!(["/bin/ash", "-c"]))
        );
        assert_eq!(
            (&all["ExposedPorts"], &all["Volumes"]),
            (&json!({"80/tcp": {}}), &json!({"/v": {}}))
        );
        assert_eq!(all["Env"], json!(["A=9", "B=2"]));
        // An entrypoint of one's own drops the image's arguments.
        let own = merged(json!({"Entrypoint": ["x"]}), &image, &more).expect("valid");
        assert_eq!((&own["Entrypoint"], &own["Cmd"]), (&json!(["x"]), &Value::Null));
    }
}
