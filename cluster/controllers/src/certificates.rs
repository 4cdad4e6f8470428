//! Signs the certificates of nodes and users: a decision on each request, then the signature.
//!
//! The signers are upstream's `kubernetes.io/kube-apiserver-client-kubelet` (a node's identity)
//! and `kubernetes.io/kubelet-serving` (its API). Both are approved here without a person,
//! because only two callers qualify: who holds a join token, and the node itself. What a person asks
//! of `kubernetes.io/kube-apiserver-client` is signed once another person has approved it.

use crate::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc, time::Duration};
use strata_auth::{ClusterCa, GROUP_BOOTSTRAPPERS, GROUP_NODES, NODE_USER_PREFIX, RequestedNames};
use strata_client::{Client, Informer, Resource, Scope, WorkQueue};
use strata_meta::{ObjectKey, ObjectMeta, Time};
use strata_task::{CancellationToken, TaskTracker};

const REQUESTS: Resource = Resource::new(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    false,
);
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const USER_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// The controller's projection of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    metadata: ObjectMeta,
    spec: RequestSpec,
    status: RequestStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RequestSpec {
    request: String,
    signer_name: String,
    username: String,
    groups: Vec<String>,
    usages: Vec<String>,
    expiration_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RequestStatus {
    certificate: Option<String>,
    conditions: Vec<Value>,
}

/// What is done about a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is not for these signers, or is settled.
    Leave,
    /// A node's identity.
    SignClient { node: String },
    /// A user's identity, for at most so long.
    SignUser { names: RequestedNames, lifetime: Duration },
    /// A node's API.
    SignServer { node: String, addresses: Vec<IpAddr> },
    /// It asks for what its author may not have.
    Deny(String),
    /// It is approved and cannot be signed.
    Fail(String),
}

/// Signs the certificates of nodes and users.
pub struct CertificateSigner {
    tasks: TaskTracker,
}

impl CertificateSigner {
    /// Starts signing. No server certificate is given for an address in `reserved` (the API's own).
    pub fn start(client: Client, ca: Arc<ClusterCa>, reserved: Vec<IpAddr>, cancel: CancellationToken) -> Self {
        let requests: Informer<Request> = Informer::start(&client, REQUESTS, Scope::default(), cancel.clone());
        let queue: WorkQueue<ObjectKey> = client.queue("certificate");
        let changed = queue.clone();
        requests.on_change(move |change| changed.add(change.key.clone()));
        let tasks = TaskTracker::new();
        let (ended, stopping) = (queue.clone(), cancel);
        tasks.spawn(async move {
            stopping.cancelled().await;
            ended.shutdown();
        });
        tasks.spawn(async move {
            let reconcile = |key: ObjectKey| {
                let (client, ca, request) = (client.clone(), ca.clone(), requests.get(&key));
                let reserved = reserved.clone();
                async move {
                    match request {
                        Some(request) => settle(&client, &ca, &request, &reserved).await,
                        None => Ok(None),
                    }
                }
            };
            queue.run(1, reconcile).await;
        });
        tasks.close();
        Self { tasks }
    }

    /// Waits until it has ended after a cancellation.
    pub async fn join(&self) {
        self.tasks.wait().await;
    }
}

/// What a person asked for, once approved.
fn judge_user(spec: &RequestSpec, settled: bool, approved: bool, pem: &str) -> Verdict {
    if settled || !approved {
        return Verdict::Leave;
    }
    let known = |usage: &String| matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth");
    if !spec.usages.iter().all(known) || !spec.usages.iter().any(|usage| usage == "client auth") {
        let message = format!("usages did not match: {}", spec.usages.join(", "));
        return Verdict::Fail(message);
    }
    match RequestedNames::parse(pem) {
        Ok(names) => Verdict::SignUser {
            names,
            lifetime: spec.expiration_seconds.map_or(Duration::MAX, Duration::from_secs),
        },
        Err(e) => Verdict::Fail(e.to_string()),
    }
}

fn judge(spec: &RequestSpec, settled: bool, pem: &str, reserved: &[IpAddr]) -> Verdict {
    if settled || !matches!(spec.signer_name.as_str(), CLIENT_SIGNER | SERVING_SIGNER) {
        return Verdict::Leave;
    }
    let names = match RequestedNames::parse(pem) {
        Ok(names) => names,
        Err(e) => return Verdict::Deny(e.to_string()),
    };
    let Some(node) = names.common_name.strip_prefix(NODE_USER_PREFIX).map(str::to_owned) else {
        return Verdict::Deny(format!("the common name must begin with {NODE_USER_PREFIX}"));
    };
    if names.organizations != [GROUP_NODES] || !strata_meta::names::dns1123_subdomain(&node).is_empty() {
        return Verdict::Deny(format!(
            "the organization must be {GROUP_NODES} and the node's name valid"
        ));
    }
    let is_node_itself = spec.username == names.common_name;
    let may_join = spec.groups.iter().any(|g| g == GROUP_BOOTSTRAPPERS);
    if spec.signer_name == CLIENT_SIGNER {
        return match (
            is_node_itself || may_join,
            names.dns.is_empty() && names.addresses.is_empty(),
        ) {
            (true, true) => Verdict::SignClient { node },
            (false, _) => Verdict::Deny("only a join token or the node itself may ask for a node's identity".into()),
            (true, false) => Verdict::Deny("a client certificate has no host names".into()),
        };
    }
    if !is_node_itself {
        return Verdict::Deny("only the node itself may ask for its serving certificate".into());
    }
    let foreign = |ip: &&IpAddr| reserved.contains(ip) || ip.is_loopback() || ip.is_unspecified();
    if let Some(ip) = names.addresses.iter().find(foreign) {
        return Verdict::Deny(format!("{ip} is not an address of the node"));
    }
    if names.dns.iter().any(|name| *name != node) {
        return Verdict::Deny("the only DNS name of a node is its name".into());
    }
    Verdict::SignServer {
        node,
        addresses: names.addresses,
    }
}

async fn settle(
    client: &Client,
    ca: &ClusterCa,
    request: &Request,
    reserved: &[IpAddr],
) -> Result<Option<Duration>, Error> {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let refused = |c: &Value| matches!(c["type"].as_str(), Some("Denied" | "Failed"));
    let settled = request.status.certificate.is_some() || request.status.conditions.iter().any(refused);
    let pem = base64
        .decode(&request.spec.request)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let name = &request.metadata.name;
    let text = pem.as_deref().unwrap_or_default();
    let verdict = match request.spec.signer_name == USER_SIGNER {
        true => {
            let approved = request.status.conditions.iter().any(|c| c["type"] == "Approved");
            judge_user(&request.spec, settled, approved, text)
        }
        false => judge(&request.spec, settled, text, reserved),
    };
    let by_person = matches!(verdict, Verdict::SignUser { .. });
    let signed = match verdict {
        Verdict::Leave => return Ok(None),
        Verdict::Fail(why) => {
            let failed = condition("Failed", "SignerValidationFailure", &why);
            return update(client, name, "status", json!({"conditions": [failed]})).await;
        }
        Verdict::Deny(why) => {
            tracing::warn!(request = name, why, "certificate request denied");
            let condition = condition("Denied", "Refused", &why);
            return update(client, name, "approval", json!({"conditions": [condition]})).await;
        }
        Verdict::SignClient { node } => {
            let user = format!("{NODE_USER_PREFIX}{node}");
            ca.sign_client_request(text, &user, &[GROUP_NODES])
        }
        Verdict::SignUser { names, lifetime } => {
            let groups: Vec<&str> = names.organizations.iter().map(String::as_str).collect();
            // Longer than any certificate of ours, and short enough to be added to a date.
            let lifetime = lifetime.min(Duration::from_secs(100 * 365 * 24 * 3600));
            ca.sign_client_request_for(text, &names.common_name, &groups, lifetime)
        }
        Verdict::SignServer { node, addresses } => ca.sign_server_request(text, &[node], &addresses),
    };
    match signed {
        Ok(certificate) => {
            if !by_person {
                let approved = condition("Approved", "AutoApproved", "Auto approving node certificate");
                update(client, name, "approval", json!({"conditions": [approved]})).await?;
            }
            update(
                client,
                name,
                "status",
                json!({"certificate": base64.encode(certificate)}),
            )
            .await
        }
        Err(e) => {
            let failed = condition("Failed", "SigningFailed", &e.to_string());
            update(client, name, "status", json!({"conditions": [failed]})).await
        }
    }
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    let now = Time::now();
    json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now, "lastTransitionTime": now})
}

async fn update(client: &Client, name: &str, subresource: &str, status: Value) -> Result<Option<Duration>, Error> {
    let patch = strata_client::Patch::Strategic(json!({ "status": status }));
    match client.patch(REQUESTS, "", name, Some(subresource), patch).await {
        Ok(_) => Ok(None),
        Err(e) if e.is_not_found() => Ok(None),
        Err(source) => Err(Error::Request {
            what: format!("updating certificate request {name}"),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(signer: &str, username: &str, groups: &[&str]) -> RequestSpec {
        RequestSpec {
            request: String::new(),
            signer_name: signer.into(),
            username: username.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..RequestSpec::default()
        }
    }

    fn pem(common_name: &str, organization: &str, dns: &[&str], ips: &[&str]) -> String {
        let dns: Vec<String> = dns.iter().map(|d| (*d).to_owned()).collect();
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        strata_auth::certificate_request(common_name, organization, &dns, &ips)
            .unwrap()
            .0
    }

    #[test]
    fn only_a_join_token_or_the_node_itself_gets_a_nodes_identity() {
        let asked = pem("system:node:a", "system:nodes", &[], &[]);
        let sign = Verdict::SignClient { node: "a".into() };
        for (username, groups, allowed) in [
            ("system:bootstrap:x", &[GROUP_BOOTSTRAPPERS][..], true),
            ("system:node:a", &[GROUP_NODES][..], true),
            ("system:node:b", &[GROUP_NODES][..], false),
            ("alice", &[][..], false),
        ] {
            let verdict = judge(&request(CLIENT_SIGNER, username, groups), false, &asked, &[]);
            assert_eq!(verdict == sign, allowed, "{username}: {verdict:?}");
        }
        let master = pem("admin", "system:masters", &[], &[]);
        let verdict = judge(
            &request(CLIENT_SIGNER, "system:bootstrap:x", &[GROUP_BOOTSTRAPPERS]),
            false,
            &master,
            &[],
        );
        assert!(matches!(verdict, Verdict::Deny(_)), "{verdict:?}");
        assert_eq!(
            judge(&request("example.com/x", "alice", &[]), false, &asked, &[]),
            Verdict::Leave
        );
        assert_eq!(
            judge(&request(CLIENT_SIGNER, "system:node:a", &[]), true, &asked, &[]),
            Verdict::Leave
        );
    }

    #[test]
    fn a_user_gets_what_was_approved_for_client_usages_only() {
        let asked = pem("alice", "devs", &[], &[]);
        let mut spec = request(USER_SIGNER, "alice", &[]);
        spec.usages = vec!["client auth".to_owned()];
        assert_eq!(judge_user(&spec, false, false, &asked), Verdict::Leave);
        assert_eq!(judge_user(&spec, true, true, &asked), Verdict::Leave);
        let Verdict::SignUser { names, .. } = judge_user(&spec, false, true, &asked) else {
            panic!("an approved request is signed");
        };
        assert_eq!(
            (names.common_name.as_str(), &names.organizations[..]),
            ("alice", &["devs".to_owned()][..])
        );
        assert!(matches!(judge_user(&spec, false, true, "no request"), Verdict::Fail(_)));
        spec.usages.push("server auth".to_owned());
        assert!(matches!(judge_user(&spec, false, true, &asked), Verdict::Fail(_)));
    }

    #[test]
    fn a_serving_certificate_is_for_the_nodes_own_name_and_addresses() {
        let reserved: Vec<IpAddr> = vec!["10.96.0.1".parse().unwrap()];
        let ask = |dns: &[&str], ips: &[&str]| {
            let asked = pem("system:node:a", "system:nodes", dns, ips);
            judge(
                &request(SERVING_SIGNER, "system:node:a", &[GROUP_NODES]),
                false,
                &asked,
                &reserved,
            )
        };
        assert!(matches!(ask(&["a"], &["10.0.0.7"]), Verdict::SignServer { .. }));
        for (dns, ips) in [
            (&["b"][..], &["10.0.0.7"][..]),
            (&["a"], &["10.96.0.1"]),
            (&["a"], &["127.0.0.1"]),
        ] {
            assert!(matches!(ask(dns, ips), Verdict::Deny(_)), "{dns:?} {ips:?}");
        }
    }
}
