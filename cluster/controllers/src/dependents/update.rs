//! How pods of an old template are replaced: what the kinds of apps/v1 say of it.

use serde::Deserialize;
use strata_meta::IntOrString;

/// DeploymentStrategy, DaemonSetUpdateStrategy, StatefulSetUpdateStrategy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct UpdateStrategy {
    #[serde(rename = "type")]
    pub type_: String,
    pub rolling_update: Option<RollingUpdate>,
}

/// The bounds of a rolling update; each kind has some of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RollingUpdate {
    pub max_surge: Option<IntOrString>,
    pub max_unavailable: Option<IntOrString>,
    /// The first ordinal that is updated.
    pub partition: Option<i32>,
}
