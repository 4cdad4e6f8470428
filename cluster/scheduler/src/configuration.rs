//! How pods are placed: profiles of plugins with their arguments, as upstream's
//! KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1) says it.

use crate::{
    cycle::{Enabled, Framework},
    plugins::{self, Arguments},
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::HashSet, time::Duration};

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// A whole configuration; the default is upstream's.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub(crate) profiles: Vec<Profile>,
    /// Before the first new attempt.
    pub(crate) first_backoff: Duration,
    /// Before any new attempt.
    pub(crate) longest_backoff: Duration,
}

/// How the pods of one `schedulerName` are placed.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub name: Box<str>,
    /// Of how many nodes that do the best is taken, in percent; 0 lets the size of the cluster decide.
    pub share: usize,
    /// Plugins in their order.
    filters: Vec<String>,
    /// Those that may leave out nodes before any is looked at.
    narrows: Vec<String>,
    /// Plugins with their weights.
    scores: Vec<(String, i64)>,
    /// Whether less important pods are removed.
    pub preempts: bool,
    /// Whether a plugin of this name is at work when volumes are to be bound.
    pub binds_volumes: bool,
    arguments: Arguments,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigurationError(String);

impl Default for Configuration {
    fn default() -> Self {
        let profile = Profile {
            name: "default-scheduler".into(),
            share: 0,
            filters: plugins::FILTERS.map(str::to_owned).into(),
            narrows: plugins::FILTERS.map(str::to_owned).into(),
            scores: plugins::default_weights(),
            preempts: true,
            binds_volumes: true,
            arguments: Arguments::default(),
        };
        Self {
            profiles: vec![profile],
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(10),
        }
    }
}

impl Configuration {
    /// Reads a configuration file's content.
    /// Errors: what is wrong with it, or asks for something that there is not.
    pub fn read(value: &Value) -> Result<Self, ConfigurationError> {
        let raw: Raw = serde_json::from_value(value.clone()).map_err(|error| wrong(error.to_string()))?;
        if (&*raw.api_version, &*raw.kind) != (API_VERSION, KIND) {
            return Err(wrong(format!("not a {KIND} of {API_VERSION}")));
        }
        if !raw.extenders.is_empty() {
            return Err(wrong("extenders are not supported"));
        }
        let seconds =
            |given: Option<i64>, usual: i64| Duration::from_secs(given.unwrap_or(usual).max(1).unsigned_abs());
        let mut profiles: Vec<RawProfile> = raw.profiles;
        if profiles.is_empty() {
            profiles.push(RawProfile::default());
        }
        if let [only] = &mut profiles[..]
            && only.scheduler_name.is_empty()
        {
            "default-scheduler".clone_into(&mut only.scheduler_name);
        }
        let share = raw.percentage_of_nodes_to_score;
        let profiles: Vec<Profile> = profiles
            .into_iter()
            .map(|profile| profile.read(share))
            .collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        if let Some(twice) = profiles.iter().find(|profile| !names.insert(&*profile.name)) {
            return Err(wrong(format!("two profiles are named {:?}", twice.name)));
        }
        let (first, longest) = (raw.pod_initial_backoff_seconds, raw.pod_max_backoff_seconds);
        Ok(Self {
            profiles,
            first_backoff: seconds(first, 1),
            longest_backoff: seconds(longest, 10).max(seconds(first, 1)),
        })
    }
}

impl Profile {
    pub(crate) fn framework(&self) -> Framework {
        let mut names: Vec<&String> = self.filters.iter().collect();
        for name in self.narrows.iter().chain(self.scores.iter().map(|(name, _)| name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut enabled: Vec<Enabled> = Vec::new();
        for name in names {
            let weight = self.scores.iter().find(|(scored, _)| scored == name);
            if let Some(plugin) = plugins::make(name, &self.arguments) {
                enabled.push(Enabled {
                    plugin,
                    narrows: self.narrows.iter().position(|narrowing| narrowing == name),
                    filters: self.filters.contains(name),
                    weight: weight.map_or(0, |(_, weight)| *weight),
                });
            }
        }
        Framework::new(enabled, self.share)
    }
}

fn wrong(why: impl Into<String>) -> ConfigurationError {
    ConfigurationError(why.into())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    percentage_of_nodes_to_score: Option<i64>,
    #[serde(default)]
    pod_initial_backoff_seconds: Option<i64>,
    #[serde(default)]
    pod_max_backoff_seconds: Option<i64>,
    #[serde(default)]
    profiles: Vec<RawProfile>,
    #[serde(default)]
    extenders: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawProfile {
    scheduler_name: String,
    percentage_of_nodes_to_score: Option<i64>,
    plugins: RawPlugins,
    plugin_config: Vec<RawConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPlugins {
    pre_filter: RawSet,
    filter: RawSet,
    post_filter: RawSet,
    score: RawSet,
    pre_bind: RawSet,
    multi_point: RawSet,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSet {
    enabled: Vec<RawPlugin>,
    disabled: Vec<RawPlugin>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct RawPlugin {
    name: String,
    weight: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConfig {
    name: String,
    args: Value,
}

impl RawProfile {
    fn read(self, share: Option<i64>) -> Result<Profile, ConfigurationError> {
        if self.scheduler_name.is_empty() {
            return Err(wrong("every profile of several needs a schedulerName"));
        }
        let share = self.percentage_of_nodes_to_score.or(share).unwrap_or(0);
        if !(0..=100).contains(&share) {
            return Err(wrong("percentageOfNodesToScore is not between 0 and 100"));
        }
        let plugins = &self.plugins;
        let everywhere = plugins.multi_point.over_defaults();
        for named in everywhere.iter().chain(plugins.all()) {
            if !plugins::is_known(&named.name) {
                return Err(wrong(format!("there is no plugin {:?}", named.name)));
            }
        }
        let mut filters = plugins.filter.at_point(&everywhere, &plugins::FILTERS);
        let prepared = plugins.pre_filter.at_point(&everywhere, &plugins::FILTERS);
        // A plugin that may not look at the pod first cannot check nodes, unless it needs no look.
        filters.retain(|plugin| prepared.iter().any(|other| other.name == plugin.name));
        let scored = plugins.score.at_point(&everywhere, &plugins::SCORES);
        let after = plugins.post_filter.at_point(&everywhere, &["DefaultPreemption"]);
        let before_binding = plugins.pre_bind.at_point(&everywhere, &["VolumeBinding"]);
        let mut arguments = Arguments::default();
        for config in self.plugin_config {
            let why = |error: serde_json::Error| wrong(format!("args of plugin {}: {error}", config.name));
            arguments.take(&config.name, config.args).map_err(why)?;
        }
        arguments.check().map_err(wrong)?;
        Ok(Profile {
            name: self.scheduler_name.into(),
            share: usize::try_from(share).unwrap_or(0),
            filters: filters.into_iter().map(|plugin| plugin.name).collect(),
            narrows: prepared.into_iter().map(|plugin| plugin.name).collect(),
            scores: scored.into_iter().map(RawPlugin::weighed).collect(),
            preempts: !after.is_empty(),
            binds_volumes: !before_binding.is_empty(),
            arguments,
        })
    }
}

impl RawPlugin {
    fn weighed(self) -> (String, i64) {
        let weight = self.weight.filter(|weight| *weight != 0);
        (self.name, weight.unwrap_or(1))
    }
}

impl RawPlugins {
    fn all(&self) -> impl Iterator<Item = &RawPlugin> {
        [
            &self.pre_filter,
            &self.filter,
            &self.post_filter,
            &self.score,
            &self.pre_bind,
        ]
        .into_iter()
        .flat_map(|set| &set.enabled)
    }
}

impl RawSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|one| one.name == name || one.name == "*")
    }

    fn enables(&self, name: &str) -> Option<&RawPlugin> {
        self.enabled.iter().find(|one| one.name == name)
    }

    /// The default plugins but those that are disabled, with what is said of them anew, then the others.
    fn over_defaults(&self) -> Vec<RawPlugin> {
        let defaults = plugins::defaults().filter(|(name, _)| !self.disables(name));
        let mut all: Vec<RawPlugin> = defaults
            .map(|(name, weight)| {
                self.enables(name).cloned().unwrap_or_else(|| RawPlugin {
                    name: name.to_owned(),
                    weight,
                })
            })
            .collect();
        let more = self
            .enabled
            .iter()
            .filter(|one| !all.iter().any(|held| held.name == one.name));
        let more: Vec<RawPlugin> = more.cloned().collect();
        all.extend(more);
        all
    }

    /// What is enabled at one point of those that have it: what is named there and everywhere
    /// first, then the rest of everywhere, then the rest of what is named there.
    fn at_point(&self, everywhere: &[RawPlugin], able: &[&str]) -> Vec<RawPlugin> {
        let is_able = |one: &&RawPlugin| able.contains(&&*one.name);
        let general: Vec<&RawPlugin> = everywhere
            .iter()
            .filter(is_able)
            .filter(|one| !self.disables(&one.name) || self.enables(&one.name).is_some() && !self.disables("*"))
            .collect();
        let in_general = |name: &str| general.iter().any(|one| one.name == name);
        let named = self.enabled.iter().filter(is_able);
        let (first, last): (Vec<&RawPlugin>, Vec<&RawPlugin>) = named.partition(|one| in_general(&one.name));
        let middle = general.iter().filter(|one| self.enables(&one.name).is_none());
        first.into_iter().chain(middle.copied()).chain(last).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(profile: Value) -> Result<Profile, ConfigurationError> {
        let file = json!({"apiVersion": API_VERSION, "kind": KIND, "profiles": [profile]});
        Configuration::read(&file).map(|mut read| read.profiles.remove(0))
    }

    #[test]
    fn a_file_that_says_nothing_means_the_defaults() {
        let said = read(json!({})).expect("valid");
        let default = &Configuration::default().profiles[0];
        assert_eq!((&said.name, &said.filters), (&default.name, &default.filters));
        let sorted = |mut scores: Vec<(String, i64)>| {
            scores.sort();
            scores
        };
        assert_eq!(sorted(said.scores), sorted(default.scores.clone()));
    }

    #[test]
    fn plugins_are_disabled_reordered_and_weighed_at_one_point_or_at_all() {
        let profile = read(json!({"plugins": {
            "multiPoint": {"disabled": [{"name": "ImageLocality"}]},
            "filter": {"disabled": [{"name": "NodePorts"}], "enabled": [{"name": "NodeResourcesFit"}]},
            "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeAffinity", "weight": 7}]},
            "postFilter": {"disabled": [{"name": "DefaultPreemption"}]},
        }}))
        .expect("valid");
        assert_eq!(profile.filters[0], "NodeResourcesFit");
        assert!(!profile.filters.contains(&"NodePorts".to_owned()));
        assert_eq!(profile.scores, [("NodeAffinity".to_owned(), 7)]);
        assert!(!profile.preempts);
    }

    #[test]
    fn what_cannot_be_done_is_refused_before_anything_is_placed() {
        let wrong = [
            json!({"plugins": {"filter": {"enabled": [{"name": "Mine"}]}}}),
            json!({"percentageOfNodesToScore": 101}),
            json!({"pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "Best"}}}]}),
            json!({"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 101}}]}),
        ];
        for profile in wrong {
            assert!(read(profile.clone()).is_err(), "{profile}");
        }
        let several = json!({"apiVersion": API_VERSION, "kind": KIND, "profiles": [{}, {}]});
        assert!(Configuration::read(&several).is_err());
    }
}
