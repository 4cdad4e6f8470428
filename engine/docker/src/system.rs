//! Requests about the machine and the daemon.

use crate::call::{Call, ok, stream};
use crate::daemon::Inner;
use crate::error::{Answer, blocking};
use crate::machine;
use crate::record::Status;
use crate::usage;
use http::{HeaderValue, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use strata_http::Body;

/// The newest API spoken here.
pub(crate) const API_VERSION: &str = "1.49";
/// The oldest.
pub(crate) const MIN_API_VERSION: &str = "1.24";

/// `GET /_ping`
pub(crate) async fn ping(_: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let head = call.request.method() == http::Method::HEAD;
    let body = if head { Body::empty() } else { Body::full("OK") };
    let mut response = stream("text/plain; charset=utf-8", body);
    for (name, value) in [
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("builder-version", "1"),
        ("swarm", "inactive"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /version`
pub(crate) async fn version(inner: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    let (version, kernel) = (&inner.options.version, kernel());
    let details = json!({
        "ApiVersion": API_VERSION, "Arch": architecture(), "Experimental": "false",
        "KernelVersion": kernel, "MinAPIVersion": MIN_API_VERSION, "Os": "linux",
    });
    ok(&json!({
        "Platform": {"Name": "Strata"},
        "Components": [{"Name": "Engine", "Version": version, "Details": details}],
        "Version": version, "ApiVersion": API_VERSION, "MinAPIVersion": MIN_API_VERSION, "GitCommit": "",
        "GoVersion": "", "Os": "linux", "Arch": architecture(), "KernelVersion": kernel, "BuildTime": "",
    }))
}

/// `GET /info`
pub(crate) async fn info(inner: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    let all = inner.all();
    let count = |wanted: &dyn Fn(Status) -> bool| all.iter().filter(|c| wanted(c.status())).count();
    let system = std::fs::read_to_string("/etc/os-release").ok().and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned))?;
        Some(line.trim_matches('"').to_owned())
    });
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let images = inner.images.list()?.len();
    ok(&json!({
        "ID": inner.options.instance, "Containers": all.len(), "ContainersRunning": count(&|s| s == Status::Running),
        "ContainersPaused": count(&|s| s == Status::Paused),
        "ContainersStopped": count(&|s| !s.is_alive()), "Images": images, "Driver": "overlay2",
        "DriverStatus": [["Supports d_type", "true"]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "local", "none"]},
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": true, "PidsLimit": true, "IPv4Forwarding": true, "Debug": false, "NFd": 0, "OomKillDisable": !unified,
        "NGoroutines": 0, "SystemTime": crate::record::now(), "LoggingDriver": "json-file", "CgroupDriver": "cgroupfs",
        "CgroupVersion": if unified { "2" } else { "1" }, "NEventsListener": 0, "KernelVersion": kernel(),
        "OperatingSystem": system.unwrap_or_else(|| "Linux".into()), "OSVersion": "", "OSType": "linux",
        "Architecture": std::env::consts::ARCH, "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": machine::memory()?, "GenericResources": null, "DockerRootDir": inner.options.root,
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": rustix::system::uname().nodename().to_string_lossy(), "Labels": [], "ExperimentalBuild": false,
        "ServerVersion": inner.options.version, "Runtimes": {"strata": {"path": "strata-runtime"}},
        "DefaultRuntime": "strata", "Swarm": {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": false,
            "NodeAddr": "", "Error": "", "RemoteManagers": null},
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "strata-runtime",
        "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""},
        "SecurityOptions": ["name=seccomp,profile=builtin"], "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"], "Warnings": null,
    }))
}

/// `GET /system/df`
pub(crate) async fn df(inner: Arc<Inner>, _: Call) -> Answer<Response<Body>> {
    let value = blocking(move || {
        let images = inner.images.list()?;
        let containers: Vec<Value> = inner
            .all()
            .iter()
            .map(|container| {
                let record = container.record();
                let own = usage::folder_size(&container.folder.join("upper"));
                json!({
                    "Id": record.id, "Names": [format!("/{}", record.name)], "Image": record.image,
                    "ImageID": record.image_id, "Command": record.command().join(" "), "Created": 0, "Ports": [],
                    "SizeRw": own, "Labels": record.labels(), "State": record.state.status.as_str(),
                    "Status": crate::inspect::said(&record.state), "HostConfig": {}, "NetworkSettings": null,
                    "Mounts": [],
                })
            })
            .collect();
        let users = |id: &str| containers.iter().filter(|row| row["ImageID"] == json!(id)).count();
        let rows: Vec<Value> = images
            .iter()
            .map(|image| {
                let id = image.id.to_string();
                json!({
                    "Containers": users(&id), "Created": 0, "Id": id, "Labels": null, "ParentId": "",
                    "RepoDigests": image.repo_digests, "RepoTags": image.repo_tags, "SharedSize": 0, "Size": image.size,
                })
            })
            .collect();
        let volumes: Vec<Value> = inner
            .volumes
            .list()
            .iter()
            .map(|volume| {
                let users = inner
                    .all()
                    .iter()
                    .filter(|c| c.lock().mounts.iter().any(|m| m.name == volume.name))
                    .count();
                let size = usage::folder_size(&inner.volumes.data(&volume.name));
                json!({
                    "Name": volume.name, "Driver": "local", "Mountpoint": inner.volumes.data(&volume.name),
                    "Labels": volume.labels, "Scope": "local", "Options": null, "CreatedAt": volume.created,
                    "UsageData": {"RefCount": users, "Size": size},
                })
            })
            .collect();
        let layers: u64 = images.iter().map(|image| image.size).sum();
        Ok(json!({
            "LayersSize": layers, "Images": rows, "Containers": containers, "Volumes": volumes, "BuildCache": [],
        }))
    });
    ok(&value.await?)
}
