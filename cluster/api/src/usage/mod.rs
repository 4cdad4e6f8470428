//! metrics.k8s.io: what nodes and pods use, worked out when somebody asks (`kubectl top`, autoscalers).
//!
//! The nodes' agents are asked for what has been used so far (`scrape`); two such samples give a rate (`rate`).
//! Nobody is asked before a client wants to know, and not again for a while after. A user's metrics-server takes
//! the place of this by its APIService, as of any other group.

mod rate;
mod scrape;

use crate::{
    cache::{Entry, Filter},
    core::Core,
    encode::{ListMeta, list_response, object_response},
    pipeline::Call,
    registry::Row,
    schema::RowSchema,
    strategy::{StrategyOf, strategy_for},
    verbs::request_filter,
};
use futures::{StreamExt, stream};
use http::Response;
use rate::{Point, Rate, Sample};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use strata_http::Body;
use strata_meta::{GroupResource, GroupVersionKind, Object, Quantity, Revision, Status, Time};
use tokio::{sync::Mutex, time::Instant};

/// The group of what is served here.
pub(crate) const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// How long an answer is good for: autoscalers ask every 15 s.
const FRESH: Duration = Duration::from_secs(5);
/// How old the sample may be that a rate is taken against.
const MEMORY: Duration = Duration::from_secs(120);
/// The time between two samples when there is no earlier one: long enough for the kernel's clock of 10 ms.
const WINDOW: Duration = Duration::from_secs(1);
/// Agents asked at a time.
const AGENTS: usize = 32;

/// What was seen last.
#[derive(Default)]
pub(crate) struct Usage(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    /// The newest sample of each node.
    last: HashMap<String, Sample>,
    figures: Arc<Figures>,
}

/// What everything uses.
#[derive(Default)]
struct Figures {
    nodes: HashMap<String, Rate>,
    /// By namespace and name, then by container; pods of which something is not known are missing.
    pods: HashMap<(String, String), BTreeMap<String, Rate>>,
}

/// The rows of the group.
pub(crate) fn rows() -> Vec<Row> {
    let row = |plural: &str, kind: &str, namespaced| Row {
        gvk: Arc::new(GroupVersionKind::new(GROUP, VERSION, kind)),
        resource: GroupResource::new(GROUP, plural),
        singular: String::new(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        list_kind: format!("{kind}List"),
        verbs: vec!["get".into(), "list".into()],
        subresources: Vec::new(),
        storage_version_hash: String::new(),
        schema: RowSchema::Builtin,
        strategy: StrategyOf::Builtin(strategy_for(GROUP, plural)),
        cache: None,
        conversion: None,
    };
    vec![row("nodes", "NodeMetrics", false), row("pods", "PodMetrics", true)]
}

/// Whether a row is one of these.
pub(crate) fn serves(row: &Row) -> bool {
    row.gvk.group == GROUP && row.cache.is_none()
}

/// Answers a get or a list. Errors: 404 for what has not been seen, 400 for a selector.
pub(crate) async fn serve(call: &Call, row: &Arc<Row>) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let include = call.include_object()?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let of = call.core.resource("", &row.resource.resource);
    if call.info.verb == "get" {
        if row.namespaced && namespace.is_empty() {
            return Err(Status::path_not_found());
        }
        let owner = of.get(if row.namespaced { namespace } else { "" }, name);
        let owner = owner.ok_or_else(|| Status::not_found(&GroupResource::new("", &row.resource.resource), name))?;
        let figures = figures(&call.core).await;
        let object = shown(row, &owner, &figures)?.ok_or_else(|| unseen(row, &owner))?;
        return Ok(object_response(200, row, &object, form, include));
    }
    let filter: Filter = request_filter(row, &call.info, &call.query)?;
    let owners: Vec<Arc<Object>> = of.objects(filter.namespace.as_deref()).collect();
    let figures = figures(&call.core).await;
    let mut items = Vec::new();
    for object in owners {
        let owner = Entry { object, fields: None };
        if filter.matches(&owner) {
            items.extend(shown(row, &owner.object, &figures)?);
        }
    }
    list_response(row, &ListMeta::default(), form, include, items.into_iter())
}

fn unseen(row: &Row, owner: &Object) -> Status {
    let plural = if row.namespaced { "podmetrics" } else { "nodemetrics" };
    let name = match owner.namespace() {
        "" => owner.name().to_owned(),
        namespace => format!("{namespace}/{}", owner.name()),
    };
    Status::not_found(&GroupResource::new(GROUP, plural), &name)
}

/// The figures of a node or pod as an object; `None` when there are none.
fn shown(row: &Row, owner: &Object, figures: &Figures) -> Result<Option<Arc<Object>>, Status> {
    let mut metadata = json!({"name": owner.name(), "creationTimestamp": Time::now()});
    if row.namespaced {
        metadata["namespace"] = json!(owner.namespace());
    }
    if !owner.labels.is_empty() {
        metadata["labels"] = owner.labels.iter().map(|(k, v)| (k.to_string(), json!(&**v))).collect();
    }
    let value = if row.namespaced {
        let key = (owner.namespace().to_owned(), owner.name().to_owned());
        let Some(containers) = figures.pods.get(&key) else {
            return Ok(None);
        };
        // The whole is as old as its oldest part.
        let Some(oldest) = containers.values().min_by_key(|rate| rate.at_millis) else {
            return Ok(None);
        };
        let list: Vec<Value> = containers
            .iter()
            .map(|(name, rate)| json!({"name": name, "usage": usage(rate)}))
            .collect();
        json!({"metadata": metadata, "timestamp": oldest.time(), "window": oldest.window(), "containers": list})
    } else {
        let Some(rate) = figures.nodes.get(owner.name()) else {
            return Ok(None);
        };
        json!({"metadata": metadata, "timestamp": rate.time(), "window": rate.window(), "usage": usage(rate)})
    };
    let object = Object::from_value(row.gvk.clone(), Revision(0), &value).map_err(Status::internal)?;
    Ok(Some(Arc::new(object)))
}

fn usage(rate: &Rate) -> Value {
    let memory = Quantity::from_bytes(i64::try_from(rate.memory).unwrap_or(i64::MAX));
    json!({"cpu": rate.cpu().to_string(), "memory": memory.to_string()})
}

/// What is used now. Those who ask at the same time wait for the same answer.
async fn figures(core: &Core) -> Arc<Figures> {
    let mut seen = core.usage.0.lock().await;
    if seen.at.is_some_and(|at| at.elapsed() < FRESH) {
        return seen.figures.clone();
    }
    let nodes: HashSet<String> = core
        .resource("", "nodes")
        .objects(None)
        .map(|node| node.name().to_owned())
        .collect();
    seen.last
        .retain(|node, sample| nodes.contains(node) && sample.taken.elapsed() < MEMORY);
    let mut base = std::mem::take(&mut seen.last);
    let mut last = samples(core, nodes).await;
    let fresh: HashSet<String> = last.keys().filter(|node| !base.contains_key(*node)).cloned().collect();
    if !fresh.is_empty() {
        base.extend(fresh.iter().filter_map(|node| last.remove_entry(node)));
        tokio::time::sleep(WINDOW).await;
        last.extend(samples(core, fresh).await);
    }
    let mut figures = Figures::default();
    for (node, sample) in &last {
        let Some(base) = base.get(node) else { continue };
        if let (Some(now), Some(before)) = (&sample.node, &base.node)
            && let Some(rate) = Rate::between(before, now)
        {
            figures.nodes.insert(node.clone(), rate);
        }
        figures.pods.extend(pods(base, sample));
    }
    seen.at = Some(Instant::now());
    seen.last = last;
    seen.figures = Arc::new(figures);
    seen.figures.clone()
}

/// Rates of the pods of which every container has one.
fn pods(base: &Sample, sample: &Sample) -> Vec<((String, String), BTreeMap<String, Rate>)> {
    let rate = |pod: &(String, String), name: &String, now: &Point| {
        let before = base.pods.get(pod).and_then(|containers| containers.get(name));
        Rate::of_container(before, now)
    };
    let whole = |(pod, containers): (&(String, String), &BTreeMap<String, Point>)| {
        let rates: Option<BTreeMap<String, Rate>> = containers
            .iter()
            .map(|(name, now)| Some((name.clone(), rate(pod, name, now)?)))
            .collect();
        rates.map(|rates| (pod.clone(), rates))
    };
    sample.pods.iter().filter_map(whole).collect()
}

/// A sample of each node whose agent answers.
async fn samples(core: &Core, nodes: HashSet<String>) -> HashMap<String, Sample> {
    stream::iter(nodes)
        .map(|node| async move {
            match scrape::scrape(core, &node).await {
                Ok(sample) => Some((node, sample)),
                Err(why) => {
                    tracing::debug!(node, why, "a node does not say what it uses");
                    None
                }
            }
        })
        .buffer_unordered(AGENTS)
        .filter_map(futures::future::ready)
        .collect()
        .await
}
