//! Cluster roles with an aggregationRule get the rules of those that it selects, so that clients read them there.

use crate::{
    Error,
    context::Context,
    error::During,
    tracked::{decode, value},
};
use serde::Deserialize;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use strata_auth::{PolicyRule, aggregate};
use strata_client::{Client, Informer, WorkQueue, resources::CLUSTER_ROLES};
use strata_meta::{LabelSelector, Object, ObjectKey};

const CONTROLLER: &str = "clusterrole-aggregation-controller";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Role {
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<Aggregation>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Aggregation {
    cluster_role_selectors: Vec<LabelSelector>,
}

pub(super) fn start(context: &Arc<Context>) {
    let roles = context.objects(CLUSTER_ROLES);
    let queue: WorkQueue<ObjectKey> = context.queue("ClusterRoleAggregator");
    let (known, changed) = (roles.clone(), queue.clone());
    roles.on_change(move |change| {
        // Any role may be part of any aggregate.
        changed.add(change.key.clone());
        let aggregates = known.select(|_, role| role.decode::<Role>().is_ok_and(|r| r.aggregation_rule.is_some()));
        aggregates.into_iter().for_each(|(key, _)| changed.add(key));
    });
    let ready = {
        let roles = roles.clone();
        async move { roles.synced().await }
    };
    let client = context.client(CONTROLLER);
    context.run(&queue, 1, ready, move |key| {
        let (client, roles) = (client.clone(), roles.clone());
        async move { reconcile(&client, &roles, &key).await }
    });
}

async fn reconcile(client: &Client, roles: &Informer<Arc<Object>>, key: &ObjectKey) -> Result<Option<Duration>, Error> {
    let Some(object) = roles.get(key) else {
        return Ok(None);
    };
    let role: Role = decode(&object)?;
    let Some(aggregation) = role.aggregation_rule else {
        return Ok(None);
    };
    let all = roles.list();
    let mut parts: Vec<(&Object, Vec<PolicyRule>)> = Vec::new();
    for (_, other) in &all {
        parts.push((other, decode::<Role>(other)?.rules.unwrap_or_default()));
    }
    let rules = aggregate(&aggregation.cluster_role_selectors, &parts, &key.name);
    if role.rules.unwrap_or_default() == rules {
        return Ok(None);
    }
    let mut whole = value(&object)?;
    whole["rules"] = json!(rules);
    let updated = client.update(CLUSTER_ROLES, "", &key.name, &whole).await;
    match updated {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
        other => other.map(|_| None).during(|| format!("aggregating {key}")),
    }
}
