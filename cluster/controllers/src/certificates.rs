//! Signs the certificates of nodes and users: a decision on each request, then the signature.
//!
//! The signers are upstream's `kubernetes.io/kube-apiserver-client-kubelet` (a node's identity)
//! and `kubernetes.io/kubelet-serving` (its API). Both are approved here without a person for who holds
//! a join token and for the node itself; anything else waits for a person, as does what is asked of
//! `kubernetes.io/kube-apiserver-client`. What is approved and breaks its signer's rules fails.

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
    /// It is not for these signers, is settled, or waits for a person.
    Leave,
    /// A node's identity.
    SignClient { node: String },
    /// A user's identity.
    SignUser { names: RequestedNames },
    /// A node's API.
    SignServer {
        node: String,
        names: Vec<String>,
        addresses: Vec<IpAddr>,
    },
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

/// The shortest certificate, whatever is asked for (upstream's).
const SHORTEST: Duration = Duration::from_secs(600);

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    /// By whoever may approve.
    Approved,
    /// Signed, denied or failed.
    Settled,
}

impl RequestSpec {
    /// How long the certificate may live, as far as the author says.
    fn lifetime(&self) -> Duration {
        let stated = self.expiration_seconds.map(Duration::from_secs);
        stated.map_or(Duration::MAX, |stated| stated.max(SHORTEST))
    }

    /// Whether it asks for exactly what a node needs, with or without the usage that RSA keys have.
    fn has_usages_of_node(&self, own: &str) -> Result<(), String> {
        let known = |usage: &String| matches!(usage.as_str(), "digital signature" | "key encipherment") || usage == own;
        let asks = |wanted: &str| self.usages.iter().any(|usage| usage == wanted);
        match self.usages.iter().all(known) && asks("digital signature") && asks(own) {
            true => Ok(()),
            false if own == "client auth" => {
                Err("usages did not match [client auth digital signature key encipherment]".into())
            }
            false => Err("usages did not match [digital signature key encipherment server auth]".into()),
        }
    }
}

/// What a person asked for, once approved.
fn judge_user(spec: &RequestSpec, stage: Stage, pem: &str) -> Verdict {
    if stage != Stage::Approved {
        return Verdict::Leave;
    }
    let known = |usage: &&String| matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth");
    if let Some(other) = spec.usages.iter().find(|usage| !known(usage)) {
        return Verdict::Fail(format!("invalid usage for client certificate: {other}"));
    }
    if !spec.usages.iter().any(|usage| usage == "client auth") {
        return Verdict::Fail("missing required usage for client certificate: client auth".into());
    }
    match RequestedNames::parse(pem) {
        Ok(names) => Verdict::SignUser { names },
        Err(e) => Verdict::Fail(e.to_string()),
    }
}

/// What is wrong with a request for a node's certificate, in upstream's words; else the node's name.
fn check_node(spec: &RequestSpec, names: &RequestedNames) -> Result<String, String> {
    if names.organizations != [GROUP_NODES] {
        return Err("subject organization is not system:nodes".into());
    }
    let is_client = spec.signer_name == CLIENT_SIGNER;
    if is_client && !names.dns.is_empty() {
        return Err("DNS subjectAltNames are not allowed".into());
    }
    if is_client && !names.addresses.is_empty() {
        return Err("IP subjectAltNames are not allowed".into());
    }
    if !is_client && names.dns.is_empty() && names.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    spec.has_usages_of_node(if is_client { "client auth" } else { "server auth" })?;
    let node = names.common_name.strip_prefix(NODE_USER_PREFIX);
    let node = node.ok_or("subject common name does not begin with system:node:")?;
    match strata_meta::names::dns1123_subdomain(node).first() {
        None => Ok(node.to_owned()),
        Some(why) => Err(format!("the node's name is not valid: {why}")),
    }
}

/// What a node's agent asked for: signed when approved, by a person or because of who asks.
fn judge(spec: &RequestSpec, stage: Stage, pem: &str, reserved: &[IpAddr]) -> Verdict {
    if stage == Stage::Settled || !matches!(spec.signer_name.as_str(), CLIENT_SIGNER | SERVING_SIGNER) {
        return Verdict::Leave;
    }
    let approved = stage == Stage::Approved;
    let names = match RequestedNames::parse(pem) {
        Ok(names) => names,
        Err(e) if approved => return Verdict::Fail(e.to_string()),
        Err(_) => return Verdict::Leave,
    };
    let node = match check_node(spec, &names) {
        Ok(node) => node,
        Err(why) if approved => return Verdict::Fail(why),
        Err(_) => return Verdict::Leave,
    };
    let is_node_itself = spec.username == names.common_name;
    let may_join = spec.groups.iter().any(|g| g == GROUP_BOOTSTRAPPERS);
    if spec.signer_name == CLIENT_SIGNER {
        return match approved || is_node_itself || may_join {
            true => Verdict::SignClient { node },
            false => Verdict::Leave,
        };
    }
    let foreign = |ip: &IpAddr| reserved.contains(ip) || ip.is_loopback() || ip.is_unspecified();
    let own_names = names.dns.iter().all(|name| *name == node) && !names.addresses.iter().any(foreign);
    match approved || (is_node_itself && own_names) {
        true => Verdict::SignServer {
            names: names.dns,
            node,
            addresses: names.addresses,
        },
        false => Verdict::Leave,
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
    let stage = match request.status.conditions.iter().any(|c| c["type"] == "Approved") {
        _ if settled => Stage::Settled,
        true => Stage::Approved,
        false => Stage::Asked,
    };
    let verdict = match request.spec.signer_name == USER_SIGNER {
        true => judge_user(&request.spec, stage, text),
        false => judge(&request.spec, stage, text, reserved),
    };
    // Longer than any certificate of ours, and short enough to be added to a date.
    let lifetime = request.spec.lifetime().min(Duration::from_secs(100 * 365 * 24 * 3600));
    let asked = (request.spec.usages.as_slice(), lifetime);
    let signed = match verdict {
        Verdict::Leave => return Ok(None),
        Verdict::Fail(why) => {
            return fail(client, request, "SignerValidationFailure", &why).await;
        }
        Verdict::SignClient { node } => {
            let user = format!("{NODE_USER_PREFIX}{node}");
            ca.sign_client_request_for(text, &user, &[GROUP_NODES], asked)
        }
        Verdict::SignUser { names } => {
            let groups: Vec<&str> = names.organizations.iter().map(String::as_str).collect();
            ca.sign_client_request_for(text, &names.common_name, &groups, asked)
        }
        Verdict::SignServer { node, names, addresses } => {
            let user = format!("{NODE_USER_PREFIX}{node}");
            ca.sign_node_server_request(text, (&user, GROUP_NODES), &names, &addresses, asked)
        }
    };
    match signed {
        Ok(certificate) => {
            if stage == Stage::Asked {
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
        Err(e) => fail(client, request, "SigningFailed", &e.to_string()).await,
    }
}

/// Says why there will be no certificate, beside what has been said: a patch replaces the whole list.
async fn fail(client: &Client, request: &Request, reason: &str, why: &str) -> Result<Option<Duration>, Error> {
    let mut conditions = request.status.conditions.clone();
    conditions.push(condition("Failed", reason, why));
    update(
        client,
        &request.metadata.name,
        "status",
        json!({ "conditions": conditions }),
    )
    .await
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

    fn request(signer: &str, username: &str, groups: &[&str], usages: &[&str]) -> RequestSpec {
        RequestSpec {
            request: String::new(),
            signer_name: signer.into(),
            username: username.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            usages: usages.iter().map(|u| (*u).to_owned()).collect(),
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

    const CLIENT: [&str; 2] = ["digital signature", "client auth"];
    const SERVER: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

    #[test]
    fn only_a_join_token_or_the_node_itself_gets_a_nodes_identity_unasked() {
        let asked = pem("system:node:a", "system:nodes", &[], &[]);
        let sign = Verdict::SignClient { node: "a".into() };
        for (username, groups, allowed) in [
            ("system:bootstrap:x", &[GROUP_BOOTSTRAPPERS][..], true),
            ("system:node:a", &[GROUP_NODES][..], true),
            ("system:node:b", &[GROUP_NODES][..], false),
            ("alice", &[][..], false),
        ] {
            let spec = request(CLIENT_SIGNER, username, groups, &CLIENT);
            let verdict = judge(&spec, Stage::Asked, &asked, &[]);
            assert_eq!(verdict == sign, allowed, "{username}: {verdict:?}");
            assert_eq!(
                judge(&spec, Stage::Approved, &asked, &[]),
                sign,
                "a person decides otherwise"
            );
            assert_eq!(judge(&spec, Stage::Settled, &asked, &[]), Verdict::Leave);
        }
        let other = request("example.com/x", "alice", &[], &CLIENT);
        assert_eq!(judge(&other, Stage::Approved, &asked, &[]), Verdict::Leave);
    }

    #[test]
    fn what_is_no_nodes_request_waits_and_fails_when_approved() {
        let node = |usages: &[&str], signer: &str| request(signer, "system:node:a", &[GROUP_NODES], usages);
        for (spec, asked, why) in [
            (
                node(&CLIENT, CLIENT_SIGNER),
                pem("admin", "system:masters", &[], &[]),
                "organization is not system:nodes",
            ),
            (
                node(&CLIENT, CLIENT_SIGNER),
                pem("admin", "system:nodes", &[], &[]),
                "common name does not begin",
            ),
            (
                node(&CLIENT, CLIENT_SIGNER),
                pem("system:node:a", "system:nodes", &["a"], &[]),
                "DNS subjectAltNames",
            ),
            (
                node(&CLIENT, CLIENT_SIGNER),
                pem("system:node:a", "system:nodes", &[], &["10.0.0.7"]),
                "IP subjectAltNames",
            ),
            (
                node(&SERVER, CLIENT_SIGNER),
                pem("system:node:a", "system:nodes", &[], &[]),
                "usages did not match",
            ),
            (
                node(&CLIENT, SERVING_SIGNER),
                pem("system:node:a", "system:nodes", &["a"], &[]),
                "usages did not match",
            ),
            (
                node(&SERVER, SERVING_SIGNER),
                pem("system:node:a", "system:nodes", &[], &[]),
                "subjectAltName is required",
            ),
            (node(&SERVER, SERVING_SIGNER), "nonsense".into(), ""),
        ] {
            assert_eq!(judge(&spec, Stage::Asked, &asked, &[]), Verdict::Leave, "{why}");
            let Verdict::Fail(said) = judge(&spec, Stage::Approved, &asked, &[]) else {
                panic!("{why}");
            };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_user_gets_what_was_approved_for_client_usages_only() {
        let asked = pem("alice", "devs", &[], &[]);
        let mut spec = request(USER_SIGNER, "alice", &[], &["client auth"]);
        assert_eq!(judge_user(&spec, Stage::Asked, &asked), Verdict::Leave);
        assert_eq!(judge_user(&spec, Stage::Settled, &asked), Verdict::Leave);
        let Verdict::SignUser { names } = judge_user(&spec, Stage::Approved, &asked) else {
            panic!("an approved request is signed");
        };
        assert_eq!(
            (names.common_name.as_str(), &names.organizations[..]),
            ("alice", &["devs".to_owned()][..])
        );
        assert!(matches!(
            judge_user(&spec, Stage::Approved, "no request"),
            Verdict::Fail(_)
        ));
        spec.usages.push("server auth".to_owned());
        let why = Verdict::Fail("invalid usage for client certificate: server auth".into());
        assert_eq!(judge_user(&spec, Stage::Approved, &asked), why);
        spec.usages = vec!["digital signature".to_owned()];
        let why = Verdict::Fail("missing required usage for client certificate: client auth".into());
        assert_eq!(judge_user(&spec, Stage::Approved, &asked), why);
        spec.expiration_seconds = Some(1);
        assert_eq!(spec.lifetime(), SHORTEST);
    }

    #[test]
    fn a_serving_certificate_is_for_the_nodes_own_name_and_addresses_unless_a_person_says_so() {
        let reserved: Vec<IpAddr> = vec!["10.96.0.1".parse().unwrap()];
        let ask = |stage, username: &str, dns: &[&str], ips: &[&str]| {
            let asked = pem("system:node:a", "system:nodes", dns, ips);
            let spec = request(SERVING_SIGNER, username, &[GROUP_NODES], &SERVER);
            judge(&spec, stage, &asked, &reserved)
        };
        let own = "system:node:a";
        assert!(matches!(
            ask(Stage::Asked, own, &["a"], &["10.0.0.7"]),
            Verdict::SignServer { .. }
        ));
        for (username, dns, ips) in [
            (own, &["b"][..], &["10.0.0.7"][..]),
            (own, &["a"], &["10.96.0.1"]),
            (own, &["a"], &["127.0.0.1"]),
            ("system:node:b", &["a"], &["10.0.0.7"]),
        ] {
            assert_eq!(ask(Stage::Asked, username, dns, ips), Verdict::Leave, "{dns:?} {ips:?}");
            let approved = ask(Stage::Approved, username, dns, ips);
            assert!(matches!(approved, Verdict::SignServer { .. }), "{dns:?} {ips:?}");
        }
    }
}
