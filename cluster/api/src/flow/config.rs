//! From the objects to a configuration.

use super::{
    Config,
    bootstrap::mandatory,
    classify::{Schema, Spec},
    level::{Level, Settings},
    share, uid_header,
};
use crate::json;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Upstream's defaults, should an object lack them.
const SHARES: i64 = 30;
const QUEUING: (usize, usize, usize) = (64, 8, 50);

/// The objects as they are now.
#[derive(Default)]
pub(super) struct Objects {
    schemas: BTreeMap<String, Value>,
    levels: BTreeMap<String, Value>,
}

impl Objects {
    /// Takes a change.
    pub(super) fn set(&mut self, kind: &str, name: &str, body: Option<Value>) {
        let map = match kind {
            "FlowSchema" => &mut self.schemas,
            _ => &mut self.levels,
        };
        match body {
            Some(body) => map.insert(name.to_owned(), body),
            None => map.remove(name),
        };
    }

    /// What is in force; levels and counters that stay the same go on.
    pub(super) fn config(&self, before: &Config) -> Config {
        let mut levels: HashMap<String, Arc<Level>> = HashMap::new();
        let mut uids: HashMap<String, Value> = HashMap::new();
        let must: Vec<Value> = mandatory().collect();
        let of_kind = |kind: &'static str| must.iter().filter(move |o| o["kind"] == kind);
        let named = |o: &Value| json::text(o, "metadata.name").to_owned();
        let missing = of_kind("PriorityLevelConfiguration").filter(|o| !self.levels.contains_key(&named(o)));
        for object in self.levels.values().chain(missing) {
            let name = named(object);
            let settings = settings(object);
            let known = before.levels.get(&name).filter(|level| level.settings == settings);
            let level = known.cloned().unwrap_or_else(|| Arc::new(Level::new(&name, settings)));
            uids.insert(name.clone(), object["metadata"]["uid"].clone());
            levels.insert(name, level);
        }
        share::nominal(levels.values());
        let missing = of_kind("FlowSchema").filter(|o| !self.schemas.contains_key(&named(o)));
        let mut schemas: Vec<Arc<Schema>> = Vec::new();
        for object in self.schemas.values().chain(missing) {
            let spec: Spec = match serde_json::from_value(object["spec"].clone()) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(%error, name = named(object), "a FlowSchema cannot be read and matches nothing");
                    continue;
                }
            };
            // A schema without its level matches nothing (upstream: dangling).
            let Some(level) = levels.get(&spec.priority_level_configuration.name) else {
                continue;
            };
            let name = named(object);
            let known = before.schemas.iter().find(|s| s.name == name);
            let uid = |value: &Value| uid_header(value.as_str().unwrap_or(""));
            schemas.push(Arc::new(Schema {
                uid: uid(&object["metadata"]["uid"]),
                level_uid: uid(&uids[&level.name]),
                level: level.clone(),
                counters: known.map(|s| s.counters.clone()).unwrap_or_default(),
                name,
                spec,
            }));
        }
        schemas.sort_by(|a, b| {
            let key = |s: &Schema| s.spec.matching_precedence;
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        Config { schemas, levels }
    }
}

fn settings(object: &Value) -> Settings {
    let exempt = json::text(object, "spec.type") == "Exempt";
    let part = if exempt { "spec.exempt" } else { "spec.limited" };
    let number = |name: &str| json::int(object, &format!("{part}.{name}"));
    let natural = |n: i64| u32::try_from(n).unwrap_or(0);
    let size = |name: &str, default: usize| {
        let n = json::int(object, &format!("spec.limited.limitResponse.queuing.{name}"));
        n.and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0)
            .unwrap_or(default)
    };
    let queues = json::text(object, "spec.limited.limitResponse.type") == "Queue";
    Settings {
        exempt,
        shares: natural(number("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { SHARES })),
        lendable: natural(number("lendablePercent").unwrap_or(0)),
        borrowing: number("borrowingLimitPercent").map(natural),
        queuing: queues.then(|| {
            let (queues, hand, length) = QUEUING;
            (
                size("queues", queues),
                size("handSize", hand),
                size("queueLengthLimit", length),
            )
        }),
    }
}
