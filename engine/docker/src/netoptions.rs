//! What a user may set about a bridge: the options of docker's driver, by their names.

use crate::error::{Answer, ApiError};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MTU: &str = "com.docker.network.driver.mtu";
const LINK_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// What docker's own options begin with: one that is not known here is refused. Others are notes.
const DOCKERS: &str = "com.docker.network.";
/// Longest beginning of a link's name, so that a number fits after it.
const MAX_PREFIX: usize = 12;

/// The options, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    /// The bridge's own name.
    pub name: Option<String>,
    /// Whether what leaves gets this machine's address.
    pub masquerade: bool,
    /// Whether containers reach each other.
    pub icc: bool,
    /// On which address ports are published that name none.
    pub binding: Option<Ipv4Addr>,
    /// Bytes of a packet.
    pub mtu: Option<u32>,
    /// What links inside are called before their number.
    pub link_prefix: String,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            name: None,
            masquerade: true,
            icc: true,
            binding: None,
            mtu: None,
            link_prefix: "eth".into(),
        }
    }
}

impl BridgeOptions {
    /// Reads what was given; refuses what cannot be carried out.
    pub fn parse(given: &BTreeMap<String, String>) -> Answer<Self> {
        let mut all = Self::default();
        for (key, value) in given {
            match key.as_str() {
                NAME if strata_net::is_link_name(value) => all.name = Some(value.clone()),
                NAME => return Err(ApiError::invalid(format!("invalid bridge name: {value:?}"))),
                MASQUERADE => all.masquerade = switch(key, value)?,
                ICC => all.icc = switch(key, value)?,
                DEFAULT_BRIDGE if !switch(key, value)? => {}
                BINDING => {
                    let ip = value.parse().map_err(|_| unread(key, value, "nil ip"))?;
                    all.binding = Some(ip);
                }
                MTU => {
                    let number: i64 = value.parse().map_err(|_| unread(key, value, "not a number"))?;
                    match u32::try_from(number) {
                        Ok(0) => {}
                        Ok(mtu @ 68..=65_535) => all.mtu = Some(mtu),
                        _ => return Err(ApiError::invalid(format!("invalid MTU number: {number}"))),
                    }
                }
                LINK_PREFIX if value.len() <= MAX_PREFIX && strata_net::is_link_name(value) => {
                    value.clone_into(&mut all.link_prefix);
                }
                GATEWAY_MODE if matches!(value.as_str(), "" | "nat") => {}
                key if key.starts_with(DOCKERS) => {
                    return Err(ApiError::invalid(format!(
                        "network option {key}={value} is not supported"
                    )));
                }
                _ => {}
            }
        }
        Ok(all)
    }
}

fn switch(key: &str, value: &str) -> Answer<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(unread(
            key,
            value,
            &format!("strconv.ParseBool: parsing {other:?}: invalid syntax"),
        )),
    }
}

fn unread(key: &str, value: &str, why: &str) -> ApiError {
    ApiError::invalid(format!("failed to parse {key} value: {value} ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str, value: &str) -> Answer<BridgeOptions> {
        BridgeOptions::parse(&[(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn options_are_carried_out_or_refused() {
        assert_eq!(
            parsed("com.example.note", "x").expect("a note"),
            BridgeOptions::default()
        );
        assert!(!parsed(ICC, "false").expect("valid").icc && !parsed(MASQUERADE, "0").expect("valid").masquerade);
        assert_eq!(parsed(MTU, "1400").expect("valid").mtu, Some(1400));
        assert_eq!(parsed(NAME, "br-x").expect("valid").name.as_deref(), Some("br-x"));
        for (key, value) in [
            (NAME, "a/b"),
            (NAME, "a-name-that-is-long"),
            (ICC, "maybe"),
            (MTU, "-1"),
            (MTU, "x"),
            (BINDING, "here"),
            (GATEWAY_MODE, "routed"),
            (DEFAULT_BRIDGE, "true"),
            ("com.docker.network.bridge.inhibit_ipv4", "true"),
        ] {
            assert!(parsed(key, value).is_err(), "{key}={value}");
        }
    }
}
