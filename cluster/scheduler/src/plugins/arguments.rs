//! Arguments of plugins, as upstream's `…Args` kinds say them.

use super::{
    inter_pod_affinity::InterPodAffinity,
    node_affinity::NodeAffinity,
    node_resources::{BalancedAllocation, Ignored, NodeResourcesFit, Strategy, Weighed, usual_resources},
    topology_spread::PodTopologySpread,
};
use crate::{
    affinity,
    pod::{RawSpread, Spread},
};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// What is said to the plugins of a profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments {
    fit: Fit,
    balanced: Balanced,
    between: Between,
    affinity: Added,
    spread: Defaults,
    spread_defaults: Arc<[Spread]>,
}

impl Arguments {
    /// Takes a plugin's arguments. Those of plugins that have none are passed over, as upstream does.
    pub fn take(&mut self, plugin: &str, args: Value) -> Result<(), serde_json::Error> {
        match plugin {
            "NodeResourcesFit" => self.fit = serde_json::from_value(args)?,
            "NodeResourcesBalancedAllocation" => self.balanced = serde_json::from_value(args)?,
            "InterPodAffinity" => self.between = serde_json::from_value(args)?,
            "NodeAffinity" => self.affinity = serde_json::from_value(args)?,
            "PodTopologySpread" => {
                self.spread = serde_json::from_value(args)?;
                self.spread_defaults = self
                    .spread
                    .default_constraints
                    .iter()
                    .map(RawSpread::of_no_pod)
                    .collect();
            }
            _ => {}
        }
        Ok(())
    }

    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let strategy = self.fit.scoring_strategy.as_ref();
        if let Some(strategy) = strategy {
            match &*strategy.kind {
                "" | "LeastAllocated" | "MostAllocated" => {}
                "RequestedToCapacityRatio" => strategy.requested_to_capacity_ratio.check()?,
                other => return Err(format!("scoringStrategy.type: Unsupported value: {other:?}")),
            }
        }
        let weights = strategy.iter().flat_map(|strategy| &strategy.resources);
        if weights
            .chain(&self.balanced.resources)
            .any(|one| !(0..=100).contains(&one.weight))
        {
            return Err("a resource's weight is not between 0 and 100".to_owned());
        }
        let weight = self.between.hard_pod_affinity_weight;
        if weight.is_some_and(|weight| !(0..=100).contains(&weight)) {
            return Err("hardPodAffinityWeight: not in valid range [0, 100]".to_owned());
        }
        match &*self.spread.defaulting_type {
            "List" => Ok(()),
            "" | "System" if self.spread_defaults.is_empty() => Ok(()),
            "" | "System" => Err("when .defaultingType is System, no default constraints may be given".to_owned()),
            other => Err(format!("defaultingType: Unsupported value: {other:?}")),
        }
    }

    pub fn node_resources(&self) -> NodeResourcesFit {
        let mut plugin = NodeResourcesFit {
            ignored: Arc::new(Ignored {
                names: self.fit.ignored_resources.clone(),
                groups: self.fit.ignored_resource_groups.clone(),
            }),
            ..NodeResourcesFit::default()
        };
        if let Some(said) = &self.fit.scoring_strategy {
            plugin.resources = weighed(&said.resources);
            plugin.strategy = match &*said.kind {
                "MostAllocated" => Strategy::MostAllocated,
                "RequestedToCapacityRatio" => Strategy::Ratio(said.requested_to_capacity_ratio.points()),
                _ => Strategy::LeastAllocated,
            };
        }
        plugin
    }

    pub fn balanced_allocation(&self) -> BalancedAllocation {
        BalancedAllocation {
            resources: weighed(&self.balanced.resources),
        }
    }

    pub fn inter_pod_affinity(&self) -> InterPodAffinity {
        InterPodAffinity {
            hard_weight: self.between.hard_pod_affinity_weight.unwrap_or(1),
            ignores_placed: self.between.ignore_preferred_terms_of_existing_pods,
        }
    }

    pub fn node_affinity(&self) -> NodeAffinity {
        NodeAffinity {
            added: self.affinity.added_affinity.clone().map(Arc::new),
        }
    }

    pub fn topology_spread(&self) -> PodTopologySpread {
        let listed = self.spread.defaulting_type == "List";
        PodTopologySpread {
            defaults: listed.then(|| self.spread_defaults.clone()),
        }
    }
}

fn weighed(resources: &[Resource]) -> Weighed {
    if resources.is_empty() {
        return usual_resources();
    }
    let weight = |one: &Resource| if one.weight == 0 { 1 } else { one.weight };
    resources
        .iter()
        .map(|one| (one.name.as_str().into(), weight(one)))
        .collect()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fit {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScoringStrategy {
    #[serde(rename = "type")]
    kind: String,
    resources: Vec<Resource>,
    requested_to_capacity_ratio: Ratio,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    name: String,
    weight: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ratio {
    shape: Vec<Point>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Point {
    utilization: i64,
    score: i64,
}

impl Ratio {
    fn check(&self) -> Result<(), String> {
        let grows = self.shape.windows(2).all(|two| two[0].utilization < two[1].utilization);
        let within = |point: &Point| (0..=100).contains(&point.utilization) && (0..=10).contains(&point.score);
        if self.shape.is_empty() || !grows || !self.shape.iter().all(within) {
            return Err(
                "requestedToCapacityRatio.shape: not points of growing utilization (0 to 100) with scores (0 to 10)"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Scores as nodes have them.
    fn points(&self) -> Arc<[(i64, i64)]> {
        self.shape
            .iter()
            .map(|point| (point.utilization, point.score * 10))
            .collect()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Balanced {
    resources: Vec<Resource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Between {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Added {
    added_affinity: Option<affinity::NodeAffinity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Defaults {
    default_constraints: Vec<RawSpread>,
    defaulting_type: String,
}
