//! From the flags of `run` and `create` to the request that makes the container.

use crate::options::CreateOptions;
use crate::parse::{self, Ports};
use serde_json::{Map, Value, json};

/// The body of `POST /containers/create`. `attached` are the streams that will be attached.
pub(crate) fn body(options: &CreateOptions, attached: [bool; 3]) -> Result<Value, String> {
    check(options)?;
    let mut ports = Ports::default();
    for text in &options.publish {
        ports.publish(text)?;
    }
    for text in &options.expose {
        ports.expose(text)?;
    }
    let mut body = config(options, attached, &ports)?;
    let mut host = host(options, &ports)?;
    if options.rm && !matches!(options.restart.as_str(), "no" | "") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    let (mode, endpoints) = networks(options)?;
    host["NetworkMode"] = json!(mode);
    resources(options, &mut host)?;
    volumes(options, &mut body, &mut host)?;
    body["HostConfig"] = host;
    body["NetworkingConfig"] = json!({"EndpointsConfig": endpoints});
    Ok(body)
}

/// What docker's client refuses before it asks.
fn check(options: &CreateOptions) -> Result<(), String> {
    let name: Result<strata_image::Reference, _> = options.image().parse();
    if let Err(strata_image::ImageError::InvalidReference { why, .. }) = &name
        && !options.image().bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Err(parse::misnamed(options.image(), why));
    }
    let one_of = |flag: &str, value: &str, known: &[&str], kind: &str| match known.contains(&value) {
        false if !value.starts_with("container:") => Err(format!("--{flag}: invalid {kind} mode")),
        _ => Ok(()),
    };
    one_of("pid", &options.pid, &["", "host"], "PID")?;
    one_of("uts", &options.uts, &["", "host"], "UTS")?;
    one_of("userns", &options.userns, &["", "host"], "USER")?;
    one_of("cgroupns", &options.cgroupns, &["", "host", "private"], "CGROUP")?;
    if let Some(value) = options.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
        return Err(format!(
            "invalid value: {value}. Valid memory swappiness range is 0-100"
        ));
    }
    if options.log_driver == "none" && !options.log_opt.is_empty() {
        return Err("invalid logging opts for driver none".into());
    }
    for (name, value) in [
        ("interval", options.health_interval),
        ("timeout", options.health_timeout),
        ("retries", options.health_retries),
        ("start-period", options.health_start_period),
        ("start-interval", options.health_start_interval),
    ] {
        if value.is_some_and(|value| value < 0) {
            return Err(format!("--health-{name} cannot be negative"));
        }
    }
    Ok(())
}

fn config(options: &CreateOptions, attached: [bool; 3], ports: &Ports) -> Result<Value, String> {
    let mut labels = parse::pairs(&label_lines(options)?);
    labels.extend(parse::pairs(&options.label));
    let [stdin, stdout, stderr] = attached;
    let mut config = json!({
        "Hostname": options.hostname, "Domainname": options.domainname, "User": options.process.user,
        "AttachStdin": stdin, "AttachStdout": stdout, "AttachStderr": stderr, "Tty": options.process.tty,
        "OpenStdin": options.process.interactive, "StdinOnce": options.process.interactive && stdin,
        "Env": parse::environment(&options.process.env_file, &options.process.env)?,
        "Cmd": if options.command().is_empty() { Value::Null } else { json!(options.command()) },
        "Image": options.image(), "WorkingDir": options.process.workdir, "Labels": labels, "ExposedPorts": ports.exposed,
    });
    if let Some(entrypoint) = &options.entrypoint {
        config["Entrypoint"] = json!([entrypoint]);
    }
    if !options.stop_signal.is_empty() {
        config["StopSignal"] = json!(options.stop_signal);
    }
    if let Some(seconds) = options.stop_timeout {
        config["StopTimeout"] = json!(seconds);
    }
    if let Some(health) = health(options)? {
        config["Healthcheck"] = health;
    }
    Ok(config)
}

fn label_lines(options: &CreateOptions) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for path in &options.label_file {
        let text = std::fs::read_to_string(path).map_err(|error| format!("open {path}: {error}"))?;
        let kept = text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.extend(kept.map(str::to_owned));
    }
    Ok(lines)
}

fn health(options: &CreateOptions) -> Result<Option<Value>, String> {
    let durations = [
        ("Interval", &options.health_interval),
        ("Timeout", &options.health_timeout),
        ("StartPeriod", &options.health_start_period),
        ("StartInterval", &options.health_start_interval),
    ];
    let any = options.health_cmd.is_some()
        || options.health_retries.is_some()
        || durations.iter().any(|(_, value)| value.is_some());
    if options.no_healthcheck {
        if any {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !any {
        return Ok(None);
    }
    let mut health = json!({});
    if let Some(command) = &options.health_cmd {
        health["Test"] = json!(["CMD-SHELL", command]);
    }
    for (key, value) in durations {
        if let Some(nanos) = value {
            health[key] = json!(nanos);
        }
    }
    if let Some(retries) = options.health_retries {
        health["Retries"] = json!(retries);
    }
    Ok(Some(health))
}

fn host(options: &CreateOptions, ports: &Ports) -> Result<Value, String> {
    let mut security = Vec::new();
    let (mut masked, mut read_only) = (Value::Null, Value::Null);
    for option in &options.security_opt {
        match option.split_once(['=', ':']) {
            Some(("systempaths", "unconfined")) => {
                masked = json!([]);
                read_only = json!([]);
            }
            Some(("seccomp", file)) if !matches!(file, "unconfined" | "builtin") => {
                let profile = std::fs::read_to_string(file)
                    .map_err(|error| format!("opening seccomp profile ({file}) failed: {error}"))?;
                security.push(format!("seccomp={profile}"));
            }
            _ => security.push(option.clone()),
        }
    }
    let mut host = json!({
        "PortBindings": ports.bindings, "PublishAllPorts": options.publish_all,
        "RestartPolicy": parse::restart(&options.restart)?, "AutoRemove": options.rm,
        "LogConfig": {"Type": options.log_driver, "Config": parse::pairs(&options.log_opt)},
        "ContainerIDFile": options.cidfile.clone().unwrap_or_default(),
        "CapAdd": options.cap_add, "CapDrop": options.cap_drop, "CgroupnsMode": options.cgroupns,
        "Dns": options.dns, "DnsOptions": options.dns_option, "DnsSearch": options.dns_search,
        "ExtraHosts": options.add_host, "GroupAdd": options.group_add, "IpcMode": options.ipc,
        "Links": options.link, "OomScoreAdj": options.oom_score_adj, "PidMode": options.pid,
        "Privileged": options.process.privileged, "ReadonlyRootfs": options.read_only, "SecurityOpt": security,
        "UTSMode": options.uts, "UsernsMode": options.userns, "Runtime": options.runtime,
        "CgroupParent": options.cgroup_parent, "Sysctls": parse::pairs(&options.sysctl),
        "Annotations": parse::pairs(&options.annotation), "MaskedPaths": masked, "ReadonlyPaths": read_only,
    });
    if options.init {
        host["Init"] = json!(true);
    }
    for key in ["CapAdd", "CapDrop", "ExtraHosts", "GroupAdd", "Links", "SecurityOpt"] {
        if host[key].as_array().is_some_and(Vec::is_empty) {
            host[key] = Value::Null;
        }
    }
    Ok(host)
}

fn resources(options: &CreateOptions, host: &mut Value) -> Result<(), String> {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            host[key] = value;
        }
    };
    for (key, value) in options.limits.members() {
        set(key, Some(value));
    }
    set("ShmSize", options.shm_size.map(|value| json!(value)));
    set("MemorySwappiness", options.memory_swappiness.map(|value| json!(value)));
    set("OomKillDisable", options.oom_kill_disable.then_some(Value::Bool(true)));
    for (key, list) in [
        ("Ulimits", &options.ulimit),
        ("BlkioWeightDevice", &options.blkio_weight_device),
        ("BlkioDeviceReadBps", &options.device_read_bps),
        ("BlkioDeviceWriteBps", &options.device_write_bps),
        ("BlkioDeviceReadIOps", &options.device_read_iops),
        ("BlkioDeviceWriteIOps", &options.device_write_iops),
    ] {
        set(key, Some(json!(list)));
    }
    set("DeviceCgroupRules", Some(json!(options.device_cgroup_rule)));
    set(
        "StorageOpt",
        (!options.storage_opt.is_empty()).then(|| json!(parse::pairs(&options.storage_opt))),
    );
    let (mut devices, mut named) = (Vec::new(), Vec::new());
    for text in &options.device {
        // VENDOR/CLASS=NAME is a device that a description on the machine explains.
        if !text.starts_with('/') && text.contains('/') && text.contains('=') {
            named.push(text.clone());
        } else {
            devices.push(parse::device(text)?);
        }
    }
    let mut requests = Vec::new();
    if !named.is_empty() {
        requests.push(json!({"Driver": "cdi", "DeviceIDs": named}));
    }
    if options.gpus.is_some() {
        requests.push(json!({"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}));
    }
    set("Devices", Some(json!(devices)));
    set("DeviceRequests", (!requests.is_empty()).then(|| json!(requests)));
    Ok(())
}

fn volumes(options: &CreateOptions, body: &mut Value, host: &mut Value) -> Result<(), String> {
    let (mut binds, mut anonymous) = (Vec::new(), Map::new());
    for text in &options.volume {
        match text.split_once(':') {
            None => {
                anonymous.insert(text.clone(), json!({}));
            }
            Some((source, rest)) if source == "." || source.starts_with("./") || source.starts_with("../") => {
                let here = std::env::current_dir().map_err(|error| error.to_string())?;
                let path = here.join(source);
                let path = path.canonicalize().unwrap_or(path);
                binds.push(format!("{}:{rest}", path.display()));
            }
            Some(_) => binds.push(text.clone()),
        }
    }
    body["Volumes"] = json!(anonymous);
    host["Binds"] = if binds.is_empty() { Value::Null } else { json!(binds) };
    if !options.mount.is_empty() {
        host["Mounts"] = json!(options.mount);
    }
    let tmpfs: Map<String, Value> = options
        .tmpfs
        .iter()
        .map(|text| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_owned(), json!(options))
        })
        .collect();
    if !tmpfs.is_empty() {
        host["Tmpfs"] = json!(tmpfs);
    }
    if !options.volumes_from.is_empty() {
        host["VolumesFrom"] = json!(options.volumes_from);
    }
    host["VolumeDriver"] = json!(options.volume_driver);
    Ok(())
}

/// The mode, and the place in each network.
fn networks(options: &CreateOptions) -> Result<(String, Map<String, Value>), String> {
    let mut endpoints = Map::new();
    let mut mode = None;
    for text in &options.network {
        let (name, endpoint) = network(text)?;
        mode.get_or_insert_with(|| name.clone());
        if name.starts_with("container:") || name == "host" || name == "none" {
            continue;
        }
        endpoints.insert(name, endpoint);
    }
    let mode = mode.unwrap_or_else(|| "bridge".to_owned());
    let own = options.ip.is_some() || !options.network_alias.is_empty() || !options.mac_address.is_empty();
    if own {
        let endpoint = endpoints.entry(mode.clone()).or_insert_with(|| json!({}));
        if !options.network_alias.is_empty() {
            endpoint["Aliases"] = json!(options.network_alias);
        }
        if let Some(ip) = &options.ip {
            endpoint["IPAMConfig"] = json!({"IPv4Address": ip});
        }
        if !options.mac_address.is_empty() {
            endpoint["MacAddress"] = json!(options.mac_address);
        }
    }
    Ok((mode, endpoints))
}

/// `NAME`, or `name=NAME,alias=A,ip=ADDRESS`
fn network(text: &str) -> Result<(String, Value), String> {
    if !text.contains('=') {
        return Ok((text.to_owned(), json!({})));
    }
    let (mut name, mut endpoint) = (String::new(), json!({}));
    let mut aliases = Vec::new();
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("name", value)) => value.clone_into(&mut name),
            Some(("alias", value)) => aliases.push(value.to_owned()),
            Some(("ip", value)) => endpoint["IPAMConfig"] = json!({"IPv4Address": value}),
            Some(("mac-address", value)) => endpoint["MacAddress"] = json!(value),
            Some(("gw-priority", value)) => {
                let priority: i64 = value.parse().map_err(|_| format!("invalid gw-priority: {value}"))?;
                endpoint["GwPriority"] = json!(priority);
            }
            _ => return Err(format!("invalid field {field}")),
        }
    }
    if !aliases.is_empty() {
        endpoint["Aliases"] = json!(aliases);
    }
    if name.is_empty() {
        return Err("network name is not specified".into());
    }
    Ok((name, endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: CreateOptions,
    }

    fn made(line: &str) -> Result<Value, String> {
        let words = std::iter::once("run").chain(line.split(' '));
        body(
            &Line::try_parse_from(words).map_err(|e| e.to_string())?.options,
            [false, true, true],
        )
    }

    #[test]
    fn flags_after_the_image_are_the_commands() {
        let body = made("-it --name n -e A=b -h box image ls -la --rm").expect("valid");
        assert_eq!(body["Cmd"], json!(["ls", "-la", "--rm"]));
        assert_eq!((&body["Tty"], &body["OpenStdin"]), (&json!(true), &json!(true)));
        assert_eq!((&body["Env"], &body["Hostname"]), (&json!(["A=b"]), &json!("box")));
        assert_eq!(body["HostConfig"]["AutoRemove"], json!(false));
    }

    #[test]
    fn mounts_networks_and_limits_reach_the_request() {
        let body = made(
            "-v /a:/b:ro -v /c --tmpfs /t:size=1m --network net1 --network-alias x --ip 10.0.0.9 -m 64m --cpus 0.5 image",
        )
        .expect("valid");
        let host = &body["HostConfig"];
        assert_eq!(
            (&host["Binds"], &body["Volumes"]),
            (&json!(["/a:/b:ro"]), &json!({"/c": {}}))
        );
        assert_eq!(
            (&host["Tmpfs"], &host["NetworkMode"]),
            (&json!({"/t": "size=1m"}), &json!("net1"))
        );
        assert_eq!(
            (&host["Memory"], &host["NanoCpus"]),
            (&json!(64 << 20), &json!(500_000_000))
        );
        let place = &body["NetworkingConfig"]["EndpointsConfig"]["net1"];
        assert_eq!(
            *place,
            json!({"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}})
        );
        assert!(made("--health-cmd x --no-healthcheck image").is_err());
    }
}
