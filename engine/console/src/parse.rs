//! Values of flags: sizes, ports, mounts, devices, limits, environments.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Widest range of ports.
const MAX_RANGE: usize = 65_535;

/// `512m`, `1.5g`, `64k`, `100`, as bytes.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().map_err(|_| invalid())?;
    let unit = lower[end..].trim_start().trim_end_matches('b').trim_end_matches('i');
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(invalid()),
    };
    Ok((number * (1u64 << shift) as f64) as i64)
}

/// [`bytes`], or -1 for no limit.
pub(crate) fn bytes_or_none(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// `1.5` processors, in billionths.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("failed to parse {text} as a rational number"))?;
    Ok((number * 1e9).round() as i64)
}

/// `1h30m`, in nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    Ok(text.parse::<strata_meta::GoDuration>()?.nanos())
}

/// Ports in the API's form: exposed ones and their bindings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ports {
    pub exposed: Map<String, Value>,
    pub bindings: BTreeMap<String, Vec<Value>>,
}

impl Ports {
    /// `[[IP:]HOST_PORT:]PORT[/PROTOCOL]`, each port maybe a range.
    pub fn publish(&mut self, text: &str) -> Result<(), String> {
        let invalid = |why: &str| format!("invalid publish opts format (should be name=value but got '{text}'): {why}");
        let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(format!("invalid proto: {protocol}"));
        }
        let (host, port) = match ports.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("", ports),
        };
        let (ip, host_port) = match host.rsplit_once(':') {
            Some((ip, host_port)) => (ip.trim_matches(['[', ']']), host_port),
            None => ("", host),
        };
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {ip}"));
        }
        if port.is_empty() {
            return Err(format!("no port specified: {text}<empty>"));
        }
        let (first, last) = range(port).map_err(|()| format!("invalid containerPort: {port}"))?;
        let hosts = match host_port {
            "" => None,
            host => Some(range(host).map_err(|()| format!("invalid hostPort: {host}"))?),
        };
        let count = usize::from(last - first) + 1;
        if let Some((low, high)) = hosts
            && usize::from(high - low) + 1 != count
            && first != last
        {
            return Err(invalid("invalid ranges specified for container and host Ports"));
        }
        for offset in 0..=(last - first) {
            let key = format!("{}/{protocol}", first + offset);
            let host_port = match hosts {
                None => String::new(),
                // One port may be led to from the first free of many.
                Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
                Some((low, _)) => (low + offset).to_string(),
            };
            self.exposed.insert(key.clone(), json!({}));
            let binding = json!({"HostIp": ip, "HostPort": host_port});
            self.bindings.entry(key).or_default().push(binding);
        }
        Ok(())
    }

    /// `PORT[-PORT][/PROTOCOL]`
    pub fn expose(&mut self, text: &str) -> Result<(), String> {
        let invalid = || format!("invalid range format for --expose: {text}");
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range(ports).map_err(|()| invalid())?;
        for port in first..=last {
            self.exposed
                .insert(format!("{port}/{}", protocol.to_ascii_lowercase()), json!({}));
        }
        Ok(())
    }
}

fn range(text: &str) -> Result<(u16, u16), ()> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(drop);
    let (first, last) = (number(first)?, number(last)?);
    if first > last || usize::from(last - first) > MAX_RANGE {
        return Err(());
    }
    Ok((first, last))
}

/// `type=bind,source=/a,target=/b,readonly`
pub(crate) fn mount(text: &str) -> Result<Value, String> {
    let mut mount = json!({"Type": "volume"});
    for field in text.split(',') {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let switch = |value: Option<&str>| match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("invalid value for {key}: {other}")),
        };
        let text = || value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"));
        match key.as_str() {
            "type" => mount["Type"] = json!(text()?.to_ascii_lowercase()),
            "source" | "src" => mount["Source"] = json!(text()?),
            "target" | "dst" | "destination" => mount["Target"] = json!(text()?),
            "readonly" | "ro" => mount["ReadOnly"] = json!(switch(value)?),
            "bind-propagation" => mount["BindOptions"]["Propagation"] = json!(text()?),
            "bind-recursive" => match text()? {
                "enabled" => {}
                "disabled" => mount["BindOptions"]["NonRecursive"] = json!(true),
                "writable" => mount["BindOptions"]["ReadOnlyNonRecursive"] = json!(true),
                "readonly" => mount["BindOptions"]["ReadOnlyForceRecursive"] = json!(true),
                other => {
                    return Err(format!(
                        "invalid value for {key}: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ));
                }
            },
            "bind-create-src" => mount["BindOptions"]["CreateMountpoint"] = json!(switch(value)?),
            "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = json!(switch(value)?),
            "volume-subpath" => mount["VolumeOptions"]["Subpath"] = json!(text()?),
            "volume-label" => {
                let (name, label) = text()?.split_once('=').unwrap_or((text()?, ""));
                mount["VolumeOptions"]["Labels"][name] = json!(label);
            }
            "tmpfs-size" => mount["TmpfsOptions"]["SizeBytes"] = json!(bytes(text()?)?),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(text()?, 8)
                    .map_err(|_| format!("invalid value for tmpfs-mode: {}", text().unwrap_or("")))?;
                mount["TmpfsOptions"]["Mode"] = json!(mode);
            }
            "consistency" | "volume-driver" => {}
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if mount["Target"].is_null() {
        return Err("target is required".into());
    }
    let (bind, read_only) = (&mount["BindOptions"], mount["ReadOnly"] == json!(true));
    for (key, value) in [
        ("ReadOnlyNonRecursive", "writable"),
        ("ReadOnlyForceRecursive", "readonly"),
    ] {
        if bind[key] == json!(true) && !read_only {
            return Err(format!(
                "option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"
            ));
        }
    }
    if bind["ReadOnlyForceRecursive"] == json!(true) && bind["Propagation"] != json!("rprivate") {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                .into(),
        );
    }
    Ok(mount)
}

/// `HOST[:INSIDE[:PERMISSIONS]]`
pub(crate) fn device(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_permissions = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (host, inside, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (host, host, permissions),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, permissions] if is_permissions(permissions) => (host, inside, permissions),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !host.starts_with('/') {
        return Err(format!("{host} is not an absolute path"));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions}))
}

/// `nofile=1024:2048`
pub(crate) fn ulimit(text: &str) -> Result<Value, String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| -> Result<i64, String> {
        match text {
            "unlimited" => Ok(-1),
            text => text.parse().map_err(|_| format!("invalid ulimit value: {text}")),
        }
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard >= 0 && (soft > hard || soft < 0) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `no`, `always`, `on-failure[:MAX]`
pub(crate) fn restart(text: &str) -> Result<Value, String> {
    let (name, most) = match text.split_once(':') {
        Some((name, most)) => (
            name,
            most.parse::<u32>()
                .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
        ),
        None => (text, 0),
    };
    Ok(json!({"Name": if name.is_empty() { "no" } else { name }, "MaximumRetryCount": most}))
}

/// Variables of files and flags: `NAME=value`, or `NAME` for one of our own environment.
pub(crate) fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| format!("open {path}: {error}"))?;
        for line in text.lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line
                .split('=')
                .next()
                .is_some_and(|name| name.trim_end().contains(char::is_whitespace))
            {
                return Err(format!(
                    "invalid env file ({path}): variable '{line}' contains whitespaces"
                ));
            }
            all.extend(variable(line)?);
        }
    }
    for flag in flags {
        all.extend(variable(flag)?);
    }
    Ok(all)
}

fn variable(text: &str) -> Result<Option<String>, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(Some(text.to_owned())),
        None if text.is_empty() => Err("invalid environment variable: ".into()),
        None => Ok(std::env::var(text).ok().map(|value| format!("{text}={value}"))),
    }
}

/// `KEY=VALUE` pairs; a key alone has an empty value.
pub(crate) fn pairs(list: &[String]) -> Map<String, Value> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), json!(value))
    };
    list.iter().map(pair).collect()
}

/// `NAME=VALUE` or `NAME`.
pub(crate) fn named(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// `NAME:ADDRESS`
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    match text.split_once([':', '=']) {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("bad format for add-host: {text:?}")),
    }
}

/// `stdin`, `stdout` or `stderr`
pub(crate) fn stream_name(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase() {
        name if matches!(name.as_str(), "stdin" | "stdout" | "stderr") => Ok(name),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// `c 1:3 rwm`
pub(crate) fn device_rule(text: &str) -> Result<String, String> {
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let parts: Vec<&str> = text.split(' ').collect();
    match parts[..] {
        ["a" | "b" | "c", numbers, access]
            if numbers.split_once(':').is_some_and(|(a, b)| number(a) && number(b))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c)) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("invalid device cgroup format '{text}'")),
    }
}

/// An address, of either family.
pub(crate) fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<std::net::IpAddr>() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// `/dev/sda:500`
pub(crate) fn weight_device(text: &str) -> Result<Value, String> {
    let (path, weight) = device_and(text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(json!({"Path": path, "Weight": weight})),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `/dev/sda:1mb`
pub(crate) fn throttle_bytes(text: &str) -> Result<Value, String> {
    let (path, rate) = device_and(text)?;
    let invalid = |_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    };
    Ok(json!({"Path": path, "Rate": bytes(rate).map_err(invalid)?}))
}

/// `/dev/sda:1000`
pub(crate) fn throttle_count(text: &str) -> Result<Value, String> {
    let (path, rate) = device_and(text)?;
    let invalid = |_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    };
    Ok(json!({"Path": path, "Rate": rate.parse::<u64>().map_err(invalid)?}))
}

fn device_and(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    match path.starts_with("/dev/") && !value.contains(':') {
        true => Ok((path, value)),
        false => Err(format!("bad format for device path: {text}")),
    }
}

/// What is wrong with an image's name, in docker's words.
pub fn misnamed(name: &str, why: &str) -> String {
    const FORM: &str = "invalid reference format";
    match why {
        "repository name must be lowercase" => {
            let bare = name.split(['@', ':']).next().unwrap_or(name);
            let path = if bare.contains('/') {
                bare.to_owned()
            } else {
                format!("library/{bare}")
            };
            format!("{FORM}: repository name ({path}) must be lowercase")
        }
        why if why.ends_with(FORM) => FORM.to_owned(),
        why => format!("{FORM}: {why}"),
    }
}

/// A filter, as a flag has it.
pub(crate) fn filter(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('=') {
        true => Ok(text.to_owned()),
        false => Err("bad format of filter (expected name=value)".into()),
    }
}

/// Filters in the API's form.
pub(crate) fn filters(list: &[String]) -> Result<Value, String> {
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for text in list.iter().filter(|text| !text.is_empty()) {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            format!("invalid argument {text:?} for \"-f, --filter\" flag: bad format of filter (expected name=value)")
        })?;
        let key = key.trim().to_ascii_lowercase();
        all.entry(key).or_default().insert(value.trim().to_owned(), json!(true));
    }
    Ok(json!(all))
}

/// A moment: as it is, or so long ago.
pub(crate) fn moment(text: &str) -> String {
    match duration(text) {
        Ok(ago) if !text.is_empty() && text.chars().any(char::is_alphabetic) => {
            let then = jiff::Timestamp::now().as_nanosecond() - i128::from(ago);
            format!("{}.{:09}", then / 1_000_000_000, then % 1_000_000_000)
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_durations_and_processors_are_read() {
        for (text, expected) in [
            ("100", 100),
            ("64k", 65536),
            ("1.5g", 3 << 29),
            ("2MiB", 2 << 20),
            ("1 kb", 1024),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert!(bytes("x").is_err() && bytes("1q").is_err());
        assert_eq!(duration("1m30s"), Ok(90_000_000_000));
        assert!(duration("").is_err() && duration("5").is_err());
        assert_eq!(cpus("1.5"), Ok(1_500_000_000));
    }

    #[test]
    fn published_ports_have_an_address_a_port_or_ranges() {
        let published = |text: &str| {
            let mut ports = Ports::default();
            ports.publish(text).map(|()| json!(ports.bindings))
        };
        assert_eq!(
            published("80").expect("valid"),
            json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]})
        );
        assert_eq!(
            published("127.0.0.1:8080:80/udp").expect("valid"),
            json!({"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})
        );
        assert_eq!(
            published("9000-9001:80-81").expect("valid"),
            json!({"80/tcp": [{"HostIp": "", "HostPort": "9000"}], "81/tcp": [{"HostIp": "", "HostPort": "9001"}]})
        );
        for bad in ["", "x", "1-3:1-2", "70000", "80/ftp", "a.b:1:1", "5-3"] {
            assert!(published(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_devices_and_limits_are_read() {
        assert_eq!(
            mount("type=bind,src=/a,dst=/b,readonly").expect("valid"),
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true})
        );
        assert!(mount("type=bind,src=/a").is_err() && mount("x=y,dst=/b").is_err());
        assert_eq!(device("/dev/x:r").expect("valid")["CgroupPermissions"], json!("r"));
        assert!(device("x").is_err() && device("/a:/b:q").is_err());
        assert_eq!(
            ulimit("nofile=10:20").expect("valid"),
            json!({"Name": "nofile", "Soft": 10, "Hard": 20})
        );
        assert!(ulimit("nofile").is_err() && ulimit("nofile=20:10").is_err());
        assert_eq!(restart("on-failure:3").expect("valid")["MaximumRetryCount"], json!(3));
    }
}
