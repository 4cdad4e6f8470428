//! What plugins answer: results with addresses, and errors.

use crate::config::Version;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// Addresses and links of a result.
const MAX_ITEMS: usize = 256;

/// The addresses a sandbox was given, those of the wanted family first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    #[serde(default)]
    interface: Option<usize>,
}

impl Addresses {
    /// The addresses of a sandbox's link in a result; IPv4 before IPv6. Errors: the result makes no sense.
    pub fn of(result: &Value, link: &str) -> Result<Self, String> {
        let outcome = Outcome::deserialize(result).map_err(|error| format!("the result is malformed: {error}"))?;
        if outcome.ips.len() > MAX_ITEMS || outcome.interfaces.len() > MAX_ITEMS {
            return Err(format!("the result has more than {MAX_ITEMS} links or addresses"));
        }
        let mut found = Vec::new();
        for ip in &outcome.ips {
            let own = match ip.interface.map(|index| outcome.interfaces.get(index)) {
                // Who says nothing speaks of the one that was asked for.
                None => true,
                Some(Some(interface)) => interface.name == link && !interface.sandbox.is_empty(),
                Some(None) => return Err(format!("address {} is of a link that is not there", ip.address)),
            };
            let text = ip.address.split('/').next().unwrap_or("");
            let address: IpAddr = text.parse().map_err(|_| format!("bad address {:?}", ip.address))?;
            if own && !found.contains(&address) {
                found.push(address);
            }
        }
        found.sort_by_key(IpAddr::is_ipv6);
        Ok(Self(found))
    }
}

/// A result in the form of a version: some plugins answer in an older one.
pub(crate) fn in_version(mut result: Value, version: Version) -> Result<Value, String> {
    let top = result.as_object_mut().ok_or("the result is not an object")?;
    if let Some(told) = top
        .get("cniVersion")
        .and_then(Value::as_str)
        .filter(|told| !told.is_empty())
    {
        Version::parse(told)?;
    }
    top.insert("cniVersion".into(), version.to_string().into());
    let ips = top.get_mut("ips").and_then(Value::as_array_mut);
    for ip in ips.into_iter().flatten().filter_map(Value::as_object_mut) {
        let six = ip
            .get("address")
            .and_then(Value::as_str)
            .is_some_and(|text| text.contains(':'));
        if version >= Version::NO_FAMILY {
            ip.remove("version");
        } else {
            ip.insert("version".into(), if six { "6" } else { "4" }.into());
        }
    }
    Ok(result)
}

/// What a plugin that failed says: its code, and its sentence.
pub(crate) fn complaint(stdout: &[u8], stderr: &[u8], status: &str) -> (Option<u64>, String) {
    #[derive(Deserialize)]
    struct Complaint {
        #[serde(default)]
        code: u64,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    if let Ok(told) = serde_json::from_slice::<Complaint>(stdout)
        && !(told.msg.is_empty() && told.code == 0)
    {
        let details = if told.details.is_empty() {
            String::new()
        } else {
            format!("; {}", told.details)
        };
        return (Some(told.code), shortened(&format!("{}{details}", told.msg)));
    }
    let said = if stderr.is_empty() { stdout } else { stderr };
    let said = String::from_utf8_lossy(said);
    match said.trim() {
        "" => (None, format!("netplugin failed with no error message: {status}")),
        said => (None, format!("netplugin failed: {} ({status})", shortened(said))),
    }
}

/// A sentence in an error is not a log.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 2048;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_addresses_are_those_of_the_sandboxes_link() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [
                {"address": "fd00::2/64", "interface": 2},
                {"address": "10.0.0.2/24", "interface": 2, "gateway": "10.0.0.1"},
                {"address": "10.0.0.1/24", "interface": 0},
            ],
        });
        let found = Addresses::of(&result, "eth0").expect("valid").0;
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.0.0.2", "fd00::2"]);
        let plain = json!({"ips": [{"address": "10.0.0.9/24"}]});
        assert_eq!(Addresses::of(&plain, "eth0").expect("valid").0.len(), 1);
        for bad in [
            json!({"ips": [{"address": "10.0.0.9/24", "interface": 3}]}),
            json!({"ips": [{"address": "nonsense"}]}),
            json!({"ips": 7}),
            json!(7),
        ] {
            let _ = Addresses::of(&bad, "eth0").expect_err("refused");
        }
    }

    #[test]
    fn a_result_takes_the_form_of_the_version() {
        let old = json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/24"}]});
        let new = in_version(old, Version::NO_FAMILY).expect("valid");
        assert_eq!(new, json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}));
        let old = in_version(new, Version::CHECK).expect("valid");
        assert_eq!(old["ips"][0]["version"], "4");
        assert!(in_version(json!({"cniVersion": "7"}), Version::CHECK).is_err());
        assert!(in_version(json!(7), Version::CHECK).is_err());
    }

    #[test]
    fn a_failure_is_told_in_the_plugins_words() {
        let told = complaint(
            br#"{"code": 11, "msg": "busy", "details": "later"}"#,
            b"",
            "exit status: 1",
        );
        assert_eq!(told, (Some(11), "busy; later".into()));
        assert_eq!(
            complaint(b"{}", b"boom", "exit status: 2").1,
            "netplugin failed: boom (exit status: 2)"
        );
        assert!(complaint(b"", b"", "exit status: 2").1.contains("no error message"));
        assert!(complaint(b"", "ä".repeat(100_000).as_bytes(), "x").1.len() < 5000);
    }
}
