//! Ports as `ps` writes them.

use serde_json::Value;
use std::net::IpAddr;

/// Ports that follow each other, with the same way in.
struct Group {
    key: String,
    first: u64,
    last: u64,
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`; equal ports in a row as a range.
pub(crate) fn displayed(ports: &Value) -> String {
    let mut all: Vec<&Value> = ports.as_array().into_iter().flatten().collect();
    let number = |port: &Value, key: &str| port[key].as_u64().unwrap_or(0);
    let text = |port: &Value, key: &str| port[key].as_str().unwrap_or("").to_owned();
    all.sort_by_key(|port| {
        (
            number(port, "PrivatePort"),
            text(port, "IP"),
            number(port, "PublicPort"),
            text(port, "Type"),
        )
    });
    let mut groups: Vec<Group> = Vec::new();
    let (mut done, mut mapped) = (Vec::new(), Vec::new());
    for port in all {
        let (private, public) = (number(port, "PrivatePort"), number(port, "PublicPort"));
        let (ip, kind) = (text(port, "IP"), text(port, "Type"));
        let mut key = kind.clone();
        if !ip.is_empty() {
            if public != private {
                mapped.push(format!("{}->{private}/{kind}", joined(&ip, &public.to_string())));
                continue;
            }
            key = format!("{ip}/{kind}");
        }
        match groups.iter_mut().find(|group| group.key == key) {
            None => groups.push(Group {
                key,
                first: private,
                last: private,
            }),
            Some(group) if private == group.last + 1 => group.last = private,
            Some(group) => {
                done.push(written(group));
                (group.first, group.last) = (private, private);
            }
        }
    }
    done.extend(groups.iter().map(written));
    done.extend(mapped);
    done.join(", ")
}

fn written(group: &Group) -> String {
    let range = match group.first == group.last {
        true => group.first.to_string(),
        false => format!("{}-{}", group.first, group.last),
    };
    match group.key.rsplit_once('/') {
        Some((ip, kind)) => format!("{}->{range}/{kind}", joined(ip, &range)),
        None => format!("{range}/{}", group.key),
    }
}

/// An address with a port; one of the newer family in brackets.
pub(crate) fn joined(ip: &str, port: &str) -> String {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{ip}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::displayed;
    use serde_json::json;

    #[test]
    fn ports_are_written_as_docker_writes_them() {
        let port = |ip: &str, private: u16, public: u16, kind: &str| match ip {
            "" => json!({"PrivatePort": private, "Type": kind}),
            ip => json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": kind}),
        };
        for (ports, expected) in [
            (json!([port("", 80, 0, "tcp")]), "80/tcp"),
            (json!([port("0.0.0.0", 80, 8080, "tcp")]), "0.0.0.0:8080->80/tcp"),
            (
                json!([port("0.0.0.0", 81, 81, "tcp"), port("0.0.0.0", 80, 80, "tcp")]),
                "0.0.0.0:80-81->80-81/tcp",
            ),
            (
                json!([port("", 80, 0, "tcp"), port("", 90, 0, "tcp")]),
                "80/tcp, 90/tcp",
            ),
            (json!([]), ""),
        ] {
            assert_eq!(displayed(&ports), expected);
        }
    }
}
