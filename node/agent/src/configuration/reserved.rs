//! What of the machine is kept from pods.

use super::{Configuration, ConfigurationError};
use crate::eviction::Signal;
use std::collections::BTreeMap;
use strata_meta::Quantity;

/// What can be kept.
const RESERVABLE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

impl Configuration {
    pub(super) fn check_reserved(&self) -> Result<(), ConfigurationError> {
        for (field, list) in [
            ("systemReserved", &self.system_reserved),
            ("kubeReserved", &self.kube_reserved),
        ] {
            for (name, amount) in list {
                if !RESERVABLE.contains(&name.as_str()) {
                    let why = format!("{name:?} is not one of {}", RESERVABLE.join(", "));
                    return Err(ConfigurationError::value(field, why));
                }
                if amount.is_negative() {
                    return Err(ConfigurationError::value(field, format!("{name} must not be negative")));
                }
            }
        }
        let cores = crate::managers::CpuSet::parse(&self.reserved_system_cpus);
        let cores = cores.map_err(|why| ConfigurationError::value("reservedSystemCPUs", why))?;
        if self.cpu_manager_policy == "static" && cores.is_empty() && self.reserved("cpu").is_zero() {
            let why =
                "static needs cores that no pod gets to itself: reservedSystemCPUs, systemReserved or kubeReserved";
            return Err(ConfigurationError::value("cpuManagerPolicy", why));
        }
        Ok(())
    }

    /// What is kept of a resource, before eviction thresholds.
    pub fn reserved(&self, name: &str) -> Quantity {
        if name == "cpu" && !self.reserved_system_cpus.is_empty() {
            let cores = crate::managers::CpuSet::parse(&self.reserved_system_cpus).unwrap_or_default();
            return Quantity::from_units(i64::try_from(cores.len()).unwrap_or(i64::MAX));
        }
        let of = |list: &BTreeMap<String, Quantity>| list.get(name).copied().unwrap_or_default();
        of(&self.system_reserved).plus(of(&self.kube_reserved))
    }

    /// What of a capacity pods may ask for (upstream `GetNodeAllocatableReservation`).
    pub fn allocatable(&self, name: &str, capacity: Quantity) -> Quantity {
        let signal = match name {
            "memory" => Some(Signal::MemoryAvailable),
            "ephemeral-storage" => Some(Signal::NodeFsAvailable),
            _ => None,
        };
        let thresholds = self.thresholds().unwrap_or_default();
        let hard = thresholds
            .iter()
            .find(|t| Some(t.signal) == signal && t.grace.is_zero());
        let threshold = hard.map_or(0, |t| t.value.of(capacity.value()));
        let left = capacity
            .minus(self.reserved(name))
            .minus(Quantity::from_bytes(threshold));
        if left.is_negative() {
            capacity.minus(capacity)
        } else {
            left
        }
    }
}
