//! What the server is started with.

use futures::future::BoxFuture;
use std::{collections::BTreeMap, io, net::SocketAddr, ops::RangeInclusive, sync::Arc};
use strata_auth::{Leaf, TokenIssuer};
use strata_http::BoxedIo;
use strata_store::Store;

/// What an [`crate::ApiServer`] is made of.
pub struct ApiOptions {
    /// Where objects are kept; nobody else opens it.
    pub store: Arc<dyn Store>,
    /// Signs and checks service account tokens.
    pub issuer: Arc<TokenIssuer>,
    /// Certificates of the cluster's authority, PEM: who node agents are believed by.
    pub ca_pem: String,
    /// What the server shows to node agents; without it they cannot be reached.
    pub agent_identity: Option<Leaf>,
    /// How the server shows itself to extension API servers; without it they do not believe whom it speaks for.
    pub front_proxy: Option<FrontProxy>,
    /// The longest life of a token that somebody asks for, in seconds; without it 2^32.
    pub longest_token: Option<i64>,
    /// What is written down about requests, and where; nothing without it.
    pub audit: Option<crate::AuditOptions>,
    /// What the store sees encrypted only, and with which keys.
    pub encryption: Option<crate::EncryptionOptions>,
    /// Who else knows identities and rights.
    pub outside: crate::OutsideOptions,
    /// Whether what nodes and pods use is served (metrics.k8s.io), which asks the nodes' agents.
    pub usage: bool,
    /// The command line, as /flagz shows it; nothing secret.
    pub flags: BTreeMap<String, String>,
    /// Changes what is logged; without it that stays as it is.
    pub log_filter: Option<LogFilter>,
    /// Where clients inside the cluster reach this server: the endpoint of the `kubernetes` service.
    pub advertise: SocketAddr,
    /// Cluster addresses of services, such as `10.96.0.0/12`.
    pub service_cidr: String,
    /// Ports of NodePort services.
    pub node_ports: RangeInclusive<u16>,
    /// The way to nodes and pods.
    pub dialer: Arc<dyn Dialer>,
}

impl ApiOptions {
    /// Upstream's defaults for what has one: `10.96.0.0/12`, ports 30000 to 32767, direct connections.
    pub fn new(store: Arc<dyn Store>, issuer: Arc<TokenIssuer>, ca_pem: String, advertise: SocketAddr) -> Self {
        Self {
            store,
            issuer,
            ca_pem,
            agent_identity: None,
            front_proxy: None,
            longest_token: None,
            audit: None,
            encryption: None,
            usage: false,
            flags: BTreeMap::new(),
            log_filter: None,
            outside: crate::OutsideOptions::default(),
            advertise,
            service_cidr: "10.96.0.0/12".into(),
            node_ports: 30000..=32767,
            dialer: Arc::new(DirectDialer),
        }
    }
}

/// Sets the filter of the log. Errors: a filter that cannot be read.
pub type LogFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The authority and the certificate with which the server speaks for its callers to extension API servers.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// The authority, PEM.
    pub ca_pem: String,
    /// A certificate of it for [`strata_auth::FRONT_PROXY_CLIENT`].
    pub identity: Leaf,
    /// Which front proxies of that authority are believed, and in which headers.
    pub believed: strata_auth::RequestHeaders,
}

/// Where a connection should lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The HTTPS port of a node's agent.
    Agent {
        /// The node's name.
        node: String,
        /// The address and port the node tells in its status.
        address: SocketAddr,
    },
    /// A port of a pod, also on behalf of a service.
    Pod {
        /// The node the pod runs on, `""` when that is not known (an endpoint that is no pod).
        node: String,
        /// The pod's address and the port.
        address: SocketAddr,
    },
}

/// Makes connections to nodes and pods, wherever they are.
pub trait Dialer: Send + Sync + 'static {
    /// A byte stream to the target. Errors: when it cannot be reached.
    fn dial(&self, target: Target) -> BoxFuture<'_, io::Result<BoxedIo>>;
}

/// Connects by TCP, for a server that has a route to its nodes and pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectDialer;

impl Dialer for DirectDialer {
    fn dial(&self, target: Target) -> BoxFuture<'_, io::Result<BoxedIo>> {
        Box::pin(async move {
            let (Target::Agent { address, .. } | Target::Pod { address, .. }) = target;
            let connecting = tokio::net::TcpStream::connect(address);
            let stream = tokio::time::timeout(DIAL_TIMEOUT, connecting).await??;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }
}

/// Upstream's dialer gives up after 30 s.
const DIAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error("store: {0}")]
    Store(#[from] strata_store::Error),
    /// A setting that cannot be used.
    #[error("{setting}: {why}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Writing the objects that every cluster has.
    #[error("writing {what}: {status}")]
    Bootstrap {
        /// The object.
        what: String,
        /// The refusal.
        status: Box<strata_meta::Status>,
    },
}
