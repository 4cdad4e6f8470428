//! Component statuses: whether the parts of the control plane run, by upstream's names for them.
//!
//! The parts are one process, so nobody is probed: each tells for itself, and one that this server was started without
//! is said to be missing.

use crate::{
    cache::Entry,
    core::Core,
    encode::{ListMeta, list_response, object_response},
    pipeline::Call,
    registry::Row,
    verbs::request_filter,
};
use http::Response;
use serde_json::json;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use strata_http::Body;
use strata_meta::{GroupResource, Object, Revision, Status};
use strata_metrics::Page;

/// What tells whether a part runs.
pub type Health = Box<dyn Fn() -> bool + Send + Sync>;

/// What a part has counted, for the page of metrics.
pub type Shown = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Parts that are not the API server itself.
#[derive(Default)]
pub(crate) struct Components {
    scheduler: OnceLock<Health>,
    controllers: OnceLock<Health>,
    shown: Mutex<Vec<Shown>>,
}

/// In the order in which they are listed.
const NAMES: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

impl Components {
    /// The scheduler and the controllers run from now on. Later calls change nothing.
    pub(crate) fn run(&self, scheduler: Health, controllers: Health) {
        let _ = self.scheduler.set(scheduler);
        let _ = self.controllers.set(controllers);
    }

    /// The page of metrics has this, too.
    pub(crate) fn count(&self, shown: Shown) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
    }

    /// Adds what the parts have counted to a page.
    pub(crate) fn show(&self, page: &mut Page) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().for_each(|show| show(page));
    }

    /// Errors: why a part does not do its work.
    fn check(&self, core: &Core, name: &str) -> Result<(), &'static str> {
        let runs = |health: &OnceLock<Health>| match health.get().map(|health| health()) {
            Some(true) => Ok(()),
            Some(false) => Err("it has ended"),
            None => Err("this server was started without it"),
        };
        match name {
            "scheduler" => runs(&self.scheduler),
            "controller-manager" => runs(&self.controllers),
            _ if core.is_alive() => Ok(()),
            _ => Err("the cache does not follow the store"),
        }
    }
}

/// Whether a row is the one of these.
pub(crate) fn serves(row: &Row) -> bool {
    row.gvk.group.is_empty() && row.gvk.kind == "ComponentStatus"
}

/// Answers a get or a list. Errors: 404 for a part that there is not, 400 for a selector.
pub(crate) fn serve(call: &Call, row: &Arc<Row>) -> Result<Response<Body>, Status> {
    let (form, include) = (call.form()?, call.include_object()?);
    if call.info.verb == "get" {
        let name = &call.info.name;
        if !NAMES.contains(&name.as_str()) {
            return Err(Status::not_found(&GroupResource::new("", "componentstatus"), name));
        }
        return Ok(object_response(200, row, &shown(call, row, name)?, form, include));
    }
    let filter = request_filter(row, &call.info, &call.query)?;
    let mut items = Vec::new();
    for name in NAMES {
        let entry = Entry {
            object: shown(call, row, name)?,
            fields: None,
        };
        if filter.matches(&entry) {
            items.push(entry.object);
        }
    }
    list_response(row, &ListMeta::default(), form, include, items.into_iter())
}

fn shown(call: &Call, row: &Row, name: &str) -> Result<Arc<Object>, Status> {
    let condition = match call.core.components.check(&call.core, name) {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "message": why}),
    };
    let value = json!({"metadata": {"name": name}, "conditions": [condition]});
    let object = Object::from_value(row.gvk.clone(), Revision(0), &value).map_err(Status::internal)?;
    Ok(Arc::new(object))
}
