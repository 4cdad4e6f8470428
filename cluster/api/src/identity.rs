//! The lease that says that this API server is there, and the end of those of servers that are not (KEP-1965).

use crate::{
    core::Core,
    json,
    verbs::{Change, Creation, DeleteOptions, Part, apply_change, create_object, delete_object},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_meta::{MicroTime, Status, Time, Uid};

const GROUP: &str = "coordination.k8s.io";
const NAMESPACE: &str = "kube-system";
const LABEL: &str = "apiserver.kubernetes.io/identity";
/// How long the lease holds, how often it is renewed and how often dead ones are looked for (upstream's numbers).
const HOLDS: Duration = Duration::from_secs(3600);
const RENEWAL: Duration = Duration::from_secs(10);
const COLLECTION: Duration = Duration::from_secs(3600);

/// Keeps the lease and removes dead ones, until the server stops.
pub(crate) async fn keep(core: Arc<Core>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name_of(&host);
    let holder = format!("{name}_{}", Uid::random().as_str());
    let mut renewal = tokio::time::interval(RENEWAL);
    let mut collection = tokio::time::interval(COLLECTION);
    loop {
        tokio::select! {
            _ = renewal.tick() => if let Err(status) = renew(&core, &host, &name, &holder).await {
                tracing::warn!(%status, name, "the server's lease cannot be renewed yet");
            },
            _ = collection.tick() => collect(&core).await,
        }
    }
}

/// The name of a server by its host and what it is: 128 bits of their digest in base 32.
fn name_of(host: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hasher = Sha256::new();
    for text in [host, "kube-apiserver"] {
        hasher.update(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        hasher.update(text);
    }
    let digest = hasher.finalize();
    let mut name = String::from("apiserver-");
    let (mut bits, mut count) = (0_u32, 0);
    for byte in &digest[..16] {
        bits = (bits << 8 | u32::from(*byte)) & 0xffff;
        count += 8;
        while count >= 5 {
            count -= 5;
            name.push(char::from(DIGITS[(bits >> count & 31) as usize]));
        }
    }
    if count > 0 {
        name.push(char::from(DIGITS[(bits << (5 - count) & 31) as usize]));
    }
    name
}

fn server() -> UserInfo {
    UserInfo::new("system:apiserver", &[GROUP_MASTERS])
}

async fn renew(core: &Arc<Core>, host: &str, name: &str, holder: &str) -> Result<(), Status> {
    let user = server();
    let row = core
        .registry
        .get(GROUP, "v1", "leases")
        .ok_or_else(Status::path_not_found)?;
    let spec =
        json!({"holderIdentity": holder, "leaseDurationSeconds": HOLDS.as_secs(), "renewTime": MicroTime::now()});
    if core.resource(GROUP, "leases").get(NAMESPACE, name).is_none() {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": NAMESPACE,
                "labels": {LABEL: "kube-apiserver", "kubernetes.io/hostname": host},
                "annotations": {"kubernetes.io/peer-advertise-address": core.advertise.to_string()}},
            "spec": spec,
        });
        let creation = Creation::own(core, &user, &row, NAMESPACE);
        return create_object(&creation, lease, &mut Vec::new()).await.map(drop);
    }
    let change = Change::own(core, &user, &row, (NAMESPACE, name), Part::Main);
    let mut unheard = Vec::new();
    let made = apply_change(&change, &mut unheard, |old, _| {
        let mut new = old.clone();
        new["spec"] = spec.clone();
        new["metadata"]["annotations"]["kubernetes.io/peer-advertise-address"] = json!(core.advertise.to_string());
        Ok(new)
    });
    made.await.map(drop)
}

/// Removes the leases of servers that have not renewed them.
async fn collect(core: &Arc<Core>) {
    let Some(row) = core.registry.get(GROUP, "v1", "leases") else {
        return;
    };
    let user = server();
    for lease in core.resource(GROUP, "leases").objects(Some(NAMESPACE)) {
        let is_dead = || lease.to_value().is_ok_and(|value| has_expired(&value, Time::now()));
        if lease.label(LABEL) != Some("kube-apiserver") || !is_dead() {
            continue;
        }
        let options = DeleteOptions::default();
        let mut unheard = Vec::new();
        let removed = delete_object(core, &user, &row, NAMESPACE, lease.name(), &options, &mut unheard).await;
        if let Err(status) = removed
            && !status.is_not_found()
        {
            tracing::warn!(%status, name = lease.name(), "the lease of a server that is gone cannot be removed yet");
        }
    }
}

/// Whether a lease holds no longer; one that does not say how long it holds does not.
fn has_expired(lease: &Value, now: Time) -> bool {
    let renewed = MicroTime::parse(json::text(lease, "spec.renewTime"));
    match (renewed, json::int(lease, "spec.leaseDurationSeconds")) {
        (Some(renewed), Some(seconds)) => renewed.0.as_second() + seconds < now.as_second(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_host_as_upstream_names_it() {
        // kube-apiserver v1.36.3 on a host of that name.
        assert_eq!(name_of("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
    }

    #[test]
    fn leases_hold_as_long_as_they_say() {
        let lease = |renewed: &str| json!({"spec": {"renewTime": renewed, "leaseDurationSeconds": 10}});
        let now = Time::parse("2026-01-01T00:01:00Z").unwrap();
        assert!(has_expired(&lease("2026-01-01T00:00:49.000000Z"), now));
        assert!(!has_expired(&lease("2026-01-01T00:00:51.000000Z"), now));
        assert!(has_expired(&json!({"spec": {}}), now));
    }
}
