//! Groups and versions that other API servers serve, as APIService objects say: the request goes on to the
//! service's endpoint, and their discovery and schemas are merged with the server's own.
//!
//! [`Aggregator`] knows them from the cache; `forward` passes a request on; `keep` finds out who answers and
//! writes that into the objects' conditions; `local` keeps the objects of what the server serves itself.

mod available;
mod document;
mod forward;
mod local;

pub(crate) use available::keep;
pub(crate) use document::Documents;
pub(crate) use forward::forward;
pub(crate) use local::{condition, priority};

use crate::{json, options::FrontProxy};
use serde_json::Value;
use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use strata_http::ClientTls;
use strata_meta::{GroupVersion, WatchEvent};
use tokio::sync::Notify;

/// The default of a service's port.
const PORT: u16 = 443;

/// An API server behind a service.
#[derive(Clone)]
pub(crate) struct Remote {
    /// The APIService's name.
    pub(crate) name: String,
    /// What it serves.
    pub(crate) version: GroupVersion,
    /// How the group is ordered among groups, and the version among versions; higher is first.
    pub(crate) priority: (i64, i64),
    /// The service's namespace.
    pub(crate) namespace: String,
    /// The service's name.
    pub(crate) service: String,
    /// The service's port.
    pub(crate) port: u16,
    /// How the connection is secured, or why that cannot be.
    pub(crate) tls: Result<ClientTls, String>,
    /// Whether the last check passed, as the object says.
    pub(crate) available: bool,
}

impl Remote {
    /// The name its certificate has.
    pub(crate) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// The path of its group and version.
    pub(crate) fn path(&self) -> String {
        match self.version.group.as_str() {
            "" => format!("/api/{}", self.version.version),
            group => format!("/apis/{group}/{}", self.version.version),
        }
    }
}

/// What is served elsewhere.
pub(crate) struct Aggregator {
    front_proxy: Option<FrontProxy>,
    remotes: RwLock<HashMap<GroupVersion, Arc<Remote>>>,
    any: AtomicBool,
    /// What the others say they serve.
    pub(crate) documents: Documents,
    /// Told when a check is due.
    changed: Notify,
}

impl Aggregator {
    /// Nothing yet.
    pub(crate) fn new(front_proxy: Option<FrontProxy>) -> Self {
        Self {
            front_proxy,
            remotes: RwLock::default(),
            any: AtomicBool::new(false),
            documents: Documents::default(),
            changed: Notify::new(),
        }
    }

    /// Whom extension API servers believe about callers, PEM.
    pub(crate) fn front_proxy_ca(&self) -> Option<&str> {
        self.front_proxy.as_ref().map(|front| front.ca_pem.as_str())
    }

    /// A change of an APIService.
    pub(crate) fn observe(&self, event: &WatchEvent) {
        let Some(object) = event.object() else { return };
        let gone = matches!(event, WatchEvent::Deleted(_));
        let remote = match object.to_value() {
            Ok(value) => self.read(&value),
            Err(error) => return tracing::error!(%error, "an APIService cannot be read and is not followed"),
        };
        let mut remotes = self.remotes.write().expect("no panic under this lock");
        remotes.retain(|_, r| r.name != object.name());
        match remote.filter(|_| !gone) {
            Some(remote) => {
                remotes.insert(remote.version.clone(), Arc::new(remote));
            }
            None => self.documents.forget(object.name()),
        }
        self.any.store(!remotes.is_empty(), Ordering::Release);
        drop(remotes);
        self.changed.notify_one();
    }

    /// A change of a service or its endpoints.
    pub(crate) fn endpoints_changed(&self, namespace: &str, service: &str) {
        if self.any()
            && self
                .all()
                .iter()
                .any(|r| r.namespace == namespace && r.service == service)
        {
            self.changed.notify_one();
        }
    }

    fn read(&self, value: &Value) -> Option<Remote> {
        let service = json::get(value, "spec.service").filter(|s| !s.is_null())?;
        let text = |path| json::text(value, path).to_owned();
        let number = |path| json::int(value, path).unwrap_or(0);
        let condition = json::list(value, "status.conditions")
            .iter()
            .find(|c| json::text(c, "type") == "Available");
        Some(Remote {
            name: text("metadata.name"),
            version: GroupVersion::new(&text("spec.group"), &text("spec.version")),
            priority: (number("spec.groupPriorityMinimum"), number("spec.versionPriority")),
            namespace: json::text(service, "namespace").to_owned(),
            service: json::text(service, "name").to_owned(),
            port: json::int(service, "port")
                .and_then(|p| p.try_into().ok())
                .unwrap_or(PORT),
            tls: self.tls(value),
            available: condition.is_some_and(|c| json::text(c, "status") == "True"),
        })
    }

    fn tls(&self, value: &Value) -> Result<ClientTls, String> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let leaf = self.front_proxy.as_ref().map(|front| &front.identity);
        let identity = leaf.map(|leaf| (leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes()));
        let made = if json::flag(value, "spec.insecureSkipTLSVerify") {
            ClientTls::unverified(identity)
        } else {
            let bundle = STANDARD
                .decode(json::text(value, "spec.caBundle"))
                .map_err(|e| e.to_string())?;
            ClientTls::new(&bundle, identity)
        };
        made.map(|tls| tls.http1_only()).map_err(|e| e.to_string())
    }

    /// Whether anything is served elsewhere; what most requests need to know.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Everything served elsewhere, in order of preference.
    pub(crate) fn all(&self) -> Vec<Arc<Remote>> {
        let remotes = self.remotes.read().expect("no panic under this lock");
        let mut all: Vec<_> = remotes.values().cloned().collect();
        all.sort_by_key(|r| (Reverse(r.priority), r.name.clone()));
        all
    }

    /// Who serves a path, if not this server.
    pub(crate) fn of(&self, path: &str) -> Option<Arc<Remote>> {
        if !self.any() {
            return None;
        }
        let mut parts = path.trim_start_matches('/').split('/');
        let group = match parts.next()? {
            "apis" => parts.next()?,
            "api" => "",
            _ => return None,
        };
        self.serving(&GroupVersion::new(group, parts.next().filter(|v| !v.is_empty())?))
    }

    /// Who serves a group and version, if not this server.
    pub(crate) fn serving(&self, version: &GroupVersion) -> Option<Arc<Remote>> {
        let remotes = self.remotes.read().expect("no panic under this lock");
        remotes.get(version).cloned()
    }
}
