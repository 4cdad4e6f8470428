//! Configurations of network plugins, and what plugins answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_cni::{Addresses, NetworkList};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(network) = NetworkList::parse(bytes) {
        assert!(!network.name.contains('/') && !network.plugins.is_empty());
    }
    if let Ok(result) = serde_json::from_slice(bytes) {
        let _ = Addresses::of(&result, "eth0");
    }
});
