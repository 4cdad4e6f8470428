//! What is measured, under upstream's names, and the page that shows it.
//!
//! Counting takes atomic additions and no lock; what is known anyway is read when somebody asks for the page.

mod access;
mod admission;
pub(crate) mod expressions;
mod health;
mod process;
mod requests;
mod storage;
pub(crate) mod waits;

pub(crate) use access::Filter;
pub(crate) use admission::{Asked, Conditioned};
pub(crate) use expressions::DEFAULT;
pub(crate) use storage::Seen;
pub(crate) use waits::Layer;

use crate::{
    core::Core,
    encode::{JSON, Negotiated, bytes_response},
    json,
    pipeline::Call,
};
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use std::sync::Arc;
use strata_client::ClientMetrics;
use strata_http::Body;
use strata_metrics::{Counter, Family, Kind, Page};

/// Counters of the server.
pub(crate) struct Metrics {
    /// Requests.
    pub(crate) requests: requests::Requests,
    /// Authentication and authorization.
    pub(crate) access: access::Access,
    /// Admission.
    pub(crate) admission: admission::Admission,
    /// The store and the cache.
    pub(crate) storage: storage::Storage,
    /// Health checks.
    pub(crate) health: health::Health,
    /// Work queues and clients inside the process.
    pub(crate) clients: Arc<ClientMetrics>,
    /// API servers behind this one that became unavailable, by name and reason.
    pub(crate) unavailable: Family<2, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: requests::Requests::new(),
            access: access::Access::new(),
            admission: admission::Admission::new(),
            storage: storage::Storage::new(),
            health: health::Health::new(),
            clients: Arc::default(),
            unavailable: Family::counters(
                "aggregator_unavailable_apiservice_total",
                "How often API servers behind this one became unavailable.",
                ["name", "reason"],
            ),
        }
    }
}

/// Answers `/metrics`.
pub(crate) fn serve(call: &Call) -> Response<Body> {
    let core = &call.core;
    let mut page = Page::default();
    core.metrics.requests.show(&mut page);
    core.metrics.access.show(&mut page);
    core.metrics.admission.show(&mut page);
    core.metrics.storage.show(core, &mut page);
    core.metrics.clients.show(&mut page);
    core.metrics.unavailable.show(&mut page);
    api_services(core, &mut page);
    process::show(&mut page);
    core.metrics.health.show(&mut page);
    core.flow.show(&mut page);
    core.services.show(&mut page);
    expressions::show(&mut page);
    version(&mut page);
    core.authorizer.show(&mut page);
    core.impersonation.show(&mut page);
    core.components.show(&mut page);
    if let Some(encryption) = &core.encryption {
        encryption.show(&mut page);
    }
    let mut text = page.finish();
    if let Some(audit) = &core.audit {
        audit.render(&mut text);
    }
    exposition(call, text)
}

/// Answers `/metrics/slis`: what service levels are measured by (KEP-3466).
pub(crate) fn slis(call: &Call) -> Response<Body> {
    let mut page = Page::default();
    call.core.metrics.health.show(&mut page);
    exposition(call, page.finish())
}

fn exposition(call: &Call, text: String) -> Response<Body> {
    let zipped = call
        .headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains("gzip")));
    let form = Negotiated { gzip: zipped, ..JSON };
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let mut response = bytes_response(200, "text/plain", text.into(), form);
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

/// Which version the API is of, and with which others it gets along.
fn version(page: &mut Page) {
    let labels = [
        ("binary", "1.36.3"),
        ("component", "kube"),
        ("emulation", "1.36"),
        ("min_compat", "1.35"),
    ];
    page.section("version_info", Kind::Gauge, "The version of the API.")
        .sample(&labels, 1.0);
}

/// Which API servers there are besides, and whether they answer.
fn api_services(core: &Core, page: &mut Page) {
    let help = "API servers that are unavailable now.";
    let mut section = page.section("aggregator_unavailable_apiservice", Kind::Gauge, help);
    for service in core.resource("apiregistration.k8s.io", "apiservices").objects(None) {
        // One that cannot be read is not known to be available.
        let available = service.to_value().is_ok_and(|value| {
            let mut conditions = json::list(&value, "status.conditions").iter();
            conditions.any(|c| json::text(c, "type") == "Available" && json::text(c, "status") == "True")
        });
        section.sample(&[("name", service.name())], if available { 0.0 } else { 1.0 });
    }
}
