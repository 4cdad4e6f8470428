//! A machine that joins: from a token to certificates of its own, which it then renews itself.

use crate::{
    addons,
    cli::NodeArgs,
    failure::{During, Failure, Outcome, fail},
    token::JoinToken,
};
use base64::Engine as _;
use serde_json::{Value, json};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use strata_auth::{NODE_USER_PREFIX, certificate_request, write_private};
use strata_client::{Client, ClientAuth, HttpsConfig, Resource, resources};
use strata_http::ServerTls;
use strata_task::CancellationToken;

const REQUESTS: Resource = Resource::new(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    false,
);
/// How long the control plane may take to sign.
const SIGNING: Duration = Duration::from_secs(30);
/// Pause between looks at a request that is not signed yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Certificates live a year; asking every 100 days leaves time for a control plane that is away.
const RENEW_EVERY: Duration = Duration::from_secs(100 * 24 * 3600);

/// A machine that has joined.
pub struct Joined {
    /// The API, as this node.
    pub client: Client,
    /// The agent's serving configuration.
    pub tls: Arc<ServerTls>,
    /// Marks links, tables and cgroups on this machine.
    pub instance: String,
    /// Addresses of pods of the whole cluster.
    pub cluster_cidr: String,
    /// Addresses of services.
    pub service_cidr: String,
    /// Address of the cluster's DNS.
    pub dns: IpAddr,
    identity: Identity,
}

#[derive(Clone)]
struct Identity {
    folder: PathBuf,
    server: String,
    ca: String,
    node: String,
    ip: IpAddr,
}

/// Joins, or goes on as what this machine became when it joined.
pub async fn join(args: &NodeArgs, node: &str, ip: IpAddr) -> Outcome<Joined> {
    let folder = args.data_dir.join("node");
    fs::create_dir_all(&folder).during(format!("creating {}", folder.display()))?;
    let token = args.token.as_deref().map(JoinToken::parse).transpose()?;
    let known_ca = fs::read_to_string(folder.join("ca.crt")).ok();
    let ca = match (&token, known_ca) {
        (Some(token), _) => token.ca_pem.clone(),
        (None, Some(ca)) => ca,
        (None, None) => {
            return fail(
                "this machine has not joined yet; give the token that `strata token create` printed with --token",
            );
        }
    };
    let identity = Identity {
        server: args.server.trim_end_matches('/').to_owned(),
        node: node.to_owned(),
        folder,
        ca,
        ip,
    };
    if !identity.folder.join("client.crt").exists() {
        let token = token.ok_or_else(|| Failure("joining needs a token; give it with --token".into()))?;
        let bootstrap = identity.client(ClientAuth::Token(token.secret))?;
        identity.save("ca.crt", &identity.ca)?;
        identity
            .obtain(
                &bootstrap,
                "client",
                "kubernetes.io/kube-apiserver-client-kubelet",
                "client auth",
                false,
            )
            .await?;
    }
    let client = identity.node_client()?;
    if !identity.folder.join("serving.crt").exists() {
        identity
            .obtain(&client, "serving", "kubernetes.io/kubelet-serving", "server auth", true)
            .await?;
    }
    let (certificate, key) = identity.pair("serving")?;
    let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes(), Some(identity.ca.as_bytes()));
    let facts = client
        .get(resources::CONFIG_MAPS, "kube-system", addons::CLUSTER_FACTS)
        .await;
    let facts = facts
        .during("reading the cluster's address ranges")?
        .to_value()
        .during("reading the cluster's address ranges")?;
    let fact = |name: &str| facts["data"][name].as_str().unwrap_or_default().to_owned();
    Ok(Joined {
        tls: Arc::new(tls.during("making the node's TLS configuration")?),
        instance: instance_name(&identity.folder)?,
        cluster_cidr: fact("clusterCIDR"),
        service_cidr: fact("serviceCIDR"),
        dns: fact("dns").parse().during("reading the cluster's DNS address")?,
        client,
        identity,
    })
}

fn instance_name(folder: &Path) -> Outcome<String> {
    let path = folder.join("instance");
    match fs::read_to_string(&path) {
        Ok(name) => Ok(name),
        Err(_) => {
            let name = strata_meta::Uid::random().as_str()[..6].to_owned();
            write_private(&path, name.as_bytes()).during(format!("writing {}", path.display()))?;
            Ok(name)
        }
    }
}

impl Identity {
    fn client(&self, auth: ClientAuth) -> Outcome<Client> {
        let config = HttpsConfig {
            server: self.server.clone(),
            ca_pem: self.ca.clone().into_bytes(),
            auth,
        };
        Client::https(config).during(format!("connecting to {}", self.server))
    }

    fn node_client(&self) -> Outcome<Client> {
        let (certificate, key) = self.pair("client")?;
        self.client(ClientAuth::Certificate {
            cert_pem: certificate.into_bytes(),
            key_pem: key.into_bytes(),
        })
    }

    fn save(&self, name: &str, text: &str) -> Outcome {
        let path = self.folder.join(name);
        write_private(&path, text.as_bytes()).during(format!("writing {}", path.display()))
    }

    fn pair(&self, name: &str) -> Outcome<(String, String)> {
        let read = |extension: &str| {
            let path = self.folder.join(format!("{name}.{extension}"));
            fs::read_to_string(&path).during(format!("reading {}", path.display()))
        };
        Ok((read("crt")?, read("key")?))
    }

    /// Asks the control plane for a certificate and keeps it; the certificate is written last.
    async fn obtain(&self, client: &Client, name: &str, signer: &str, usage: &str, serving: bool) -> Outcome {
        let user = format!("{NODE_USER_PREFIX}{}", self.node);
        let (dns, addresses) = if serving {
            (vec![self.node.clone()], vec![self.ip])
        } else {
            (vec![], vec![])
        };
        let made = certificate_request(&user, strata_auth::GROUP_NODES, &dns, &addresses);
        let (request, key) = made.during("making a certificate request")?;
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": format!("node-{name}-")},
            "spec": {
                "request": base64::engine::general_purpose::STANDARD.encode(request),
                "signerName": signer, "usages": ["digital signature", usage],
            },
        });
        let what = format!("asking {} for the node's {name} certificate", self.server);
        let created = client.create(REQUESTS, "", &object).await.during(&what)?;
        let certificate = tokio::time::timeout(SIGNING, signed(client, created.name())).await;
        let certificate = certificate
            .map_err(|_| Failure(format!("{what}: not signed within {SIGNING:?}")))?
            .during(&what)?;
        self.save(&format!("{name}.key"), &key)?;
        self.save(&format!("{name}.crt"), &certificate)
    }
}

async fn signed(client: &Client, request: &str) -> Result<String, String> {
    loop {
        let object = client.get(REQUESTS, "", request).await.map_err(|e| e.to_string())?;
        let value = object.to_value().map_err(|e| e.to_string())?;
        if let Some(text) = value.pointer("/status/certificate").and_then(Value::as_str) {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|e| e.to_string())?;
            return String::from_utf8(bytes).map_err(|e| e.to_string());
        }
        for condition in value
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if matches!(condition["type"].as_str(), Some("Denied" | "Failed")) {
                return Err(condition["message"].as_str().unwrap_or("denied").to_owned());
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Joined {
    /// Renews the serving certificate from time to time, until cancelled. The new client
    /// certificate is used from the next start on.
    pub fn renewal(&self, cancel: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (identity, client, tls) = (self.identity.clone(), self.client.clone(), self.tls.clone());
        async move {
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(RENEW_EVERY) => {}
                }
                if let Err(failure) = renew(&identity, &client, &tls).await {
                    tracing::warn!(%failure, "the node's certificates could not be renewed");
                }
            }
        }
    }
}

async fn renew(identity: &Identity, client: &Client, tls: &ServerTls) -> Outcome {
    identity
        .obtain(
            client,
            "client",
            "kubernetes.io/kube-apiserver-client-kubelet",
            "client auth",
            false,
        )
        .await?;
    identity
        .obtain(client, "serving", "kubernetes.io/kubelet-serving", "server auth", true)
        .await?;
    let (certificate, key) = identity.pair("serving")?;
    tls.replace_certificate(certificate.as_bytes(), key.as_bytes())
        .during("renewing the serving certificate")
}
