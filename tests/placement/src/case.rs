//! One random cluster with pods that wait in it.

use crate::{
    config, nodes,
    pods::{Place, pod},
    random::Random,
    storage,
};
use serde::Serialize;
use serde_json::Value;
use strata_scheduler::Configuration;

/// A cluster and the pods to place in it, as the oracle reads it.
#[derive(Serialize)]
pub struct Case {
    pub seed: u64,
    pub objects: Vec<Value>,
    /// As namespace/name.
    pub pending: Vec<String>,
    /// A KubeSchedulerConfiguration; absent means the defaults.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub config: Value,
}

/// What a cluster is about; with everything at once no node would ever do.
pub struct Theme {
    pub taints: bool,
    pub images: bool,
    pub features: bool,
    pub extended: bool,
    pub init: bool,
    pub resizing: bool,
    pub ports: bool,
    pub affinity: bool,
    pub spread: bool,
    pub between: bool,
    pub priorities: bool,
    pub leaving: bool,
    pub nominated: bool,
    pub volumes: bool,
}

impl Theme {
    fn new(random: &mut Random) -> Self {
        Self {
            taints: random.percent(40),
            images: random.percent(50),
            features: random.percent(15),
            extended: random.percent(35),
            init: random.percent(40),
            resizing: random.percent(25),
            ports: random.percent(30),
            affinity: random.percent(35),
            spread: random.percent(45),
            between: random.percent(40),
            priorities: random.percent(60),
            leaving: random.percent(30),
            nominated: random.percent(30),
            volumes: random.percent(30),
        }
    }
}

impl Case {
    /// The case of a seed, always the same.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let theme = Theme::new(&mut random);
        let nodes = random.between(2, 10);
        let mut objects: Vec<Value> = (0..nodes).map(|at| nodes::node(&mut random, &theme, at)).collect();
        objects.extend(nodes::namespaces(&mut random));
        if random.percent(50) {
            objects.extend(nodes::workloads(&mut random));
        }
        if theme.priorities && random.percent(60) {
            objects.extend(nodes::budgets(&mut random));
        }
        if theme.volumes {
            objects.extend(storage::objects(&mut random, nodes));
        }
        for at in 0..random.between(0, nodes * 4) {
            let node = format!("node-{}", random.between(0, nodes - 1));
            objects.push(pod(&mut random, &theme, at, &Place::Placed(&node)));
        }
        let mut pending = Vec::new();
        for at in 0..random.between(4, 8) {
            let node = format!("node-{}", random.between(0, nodes));
            let place = if theme.nominated && random.percent(35) {
                Place::Nominated(&node)
            } else {
                Place::Waiting
            };
            let pod = pod(&mut random, &theme, at, &place);
            let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
            pending.push(format!("{}/{}", text("namespace"), text("name")));
            objects.push(pod);
        }
        let config = if random.percent(35) {
            config::file(&mut random)
        } else {
            Value::Null
        };
        Self {
            seed,
            objects,
            pending,
            config,
        }
    }

    /// What the scheduler is configured with.
    pub fn configuration(&self) -> Result<Configuration, String> {
        if self.config.is_null() {
            return Ok(Configuration::default());
        }
        Configuration::read(&self.config).map_err(|error| format!("{error}: {}", self.config))
    }
}
