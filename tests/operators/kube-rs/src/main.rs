//! An operator on kube-rs, and the client that asks it to work: exits with an error when something is not as it should be.

mod operator;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResourceExt, Discovery, Resource, ResourceExt};
use operator::{Greeting, GreetingSpec};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::try_default().await?;
    define(&client).await?;
    let operator = tokio::spawn(operator::run(client.clone()));
    reconciled(&client).await?;
    discovered(&client).await?;
    watched(&client).await?;
    conflicts(&client).await?;
    deleted(&client).await?;
    operator.abort();
    println!("all is as it should be");
    Ok(())
}

async fn define(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("greeter").force();
    definitions.patch(Greeting::crd_name(), &apply, &Patch::Apply(Greeting::crd())).await?;
    let established = await_condition(definitions, Greeting::crd_name(), conditions::is_crd_established());
    timeout(PATIENCE, established).await.context("never established")??;
    Ok(())
}

/// What the operator makes of a new, a changed and a damaged state.
async fn reconciled(client: &Client) -> Result<()> {
    let greetings: Api<Greeting> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let spec = GreetingSpec { name: "world".into(), loud: None, replicas: None };
    greetings.create(&PostParams::default(), &Greeting::new("one", spec)).await?;
    says(&maps, "one", "hello, world").await.context("created")?;
    timeout(PATIENCE, await_condition(greetings.clone(), "one", |found: Option<&Greeting>| {
        found.is_some_and(|g| g.status.as_ref().is_some_and(|s| Some(s.observed_generation) == g.metadata.generation))
    })).await.context("status")??;

    greetings.patch("one", &PatchParams::default(), &Patch::Merge(json!({"spec": {"loud": true}}))).await?;
    says(&maps, "one", "HELLO, WORLD").await.context("patched")?;
    let uid = maps.get("one").await?.uid();
    maps.delete("one", &DeleteParams::default()).await?;
    says(&maps, "one", "HELLO, WORLD").await.context("made again")?;
    ensure!(maps.get("one").await?.uid() != uid, "the config map is another");

    let wrong = greetings.patch("one", &PatchParams::default(), &Patch::Merge(json!({"spec": {"name": ""}}))).await;
    let Err(kube::Error::Api(status)) = wrong else { anyhow::bail!("an empty name is taken: {wrong:?}") };
    ensure!(status.code == 422 && status.message.contains("spec.name"), "{status:?}");
    let scale = greetings.patch_scale("one", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}}))).await?;
    ensure!(scale.spec.and_then(|s| s.replicas) == Some(3), "the scale is written");
    Ok(())
}

async fn says(maps: &Api<ConfigMap>, name: &str, text: &str) -> Result<()> {
    let said = |found: Option<&ConfigMap>| {
        found.and_then(|m| m.data.as_ref()).and_then(|d| d.get("text")).is_some_and(|t| t == text)
    };
    timeout(PATIENCE, await_condition(maps.clone(), name, said)).await.context("not in time")??;
    Ok(())
}

/// The same object through discovery, as anything and as metadata alone.
async fn discovered(client: &Client) -> Result<()> {
    let found = Discovery::new(client.clone()).run_aggregated().await?;
    let plain = Discovery::new(client.clone()).run().await?;
    ensure!(found.groups().count() == plain.groups().count(), "both discoveries name the same groups");
    let kind = GroupVersionKind::gvk("strata.example.com", "v1", "Greeting");
    let (resource, capabilities) = found.resolve_gvk(&kind).context("not discovered")?;
    ensure!(capabilities.subresources.iter().any(|(r, _)| r.plural.ends_with("scale")), "scale is discovered");
    let any: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
    ensure!(any.get("one").await?.data["spec"]["name"] == "world", "as anything");
    let meta = any.get_metadata("one").await?;
    ensure!(meta.finalizers().iter().any(|f| f == operator::FINALIZER), "as metadata");
    let list = any.list_metadata(&ListParams::default().limit(1)).await?;
    ensure!(list.items.len() == 1, "as a list of metadata");
    Ok(())
}

/// A watch that opens with the whole, a bookmark, and what comes then.
async fn watched(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let params = WatchParams::default().initial_events().labels("watched=yes");
    let mut events = Box::pin(maps.watch(&params, "0").await?);
    let first = timeout(PATIENCE, events.try_next()).await??;
    ensure!(matches!(first, Some(WatchEvent::Bookmark(_))), "nothing, then a bookmark: {first:?}");
    let labelled = json!({"metadata": {"name": "seen", "labels": {"watched": "yes"}}});
    maps.create(&PostParams::default(), &serde_json::from_value(labelled)?).await?;
    let next = timeout(PATIENCE, events.try_next()).await??;
    ensure!(matches!(next, Some(WatchEvent::Added(_))), "added: {next:?}");
    maps.patch("seen", &PatchParams::default(), &Patch::Strategic(json!({"metadata": {"labels": {"watched": null}}}))).await?;
    let last = timeout(PATIENCE, events.try_next()).await??;
    ensure!(matches!(last, Some(WatchEvent::Deleted(_))), "it has left the selection: {last:?}");
    Ok(())
}

/// Two managers of one field, and two writers of one version.
async fn conflicts(client: &Client) -> Result<()> {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let lease = |holder: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lead"},
            "spec": {"holderIdentity": holder}})
    };
    leases.patch("lead", &PatchParams::apply("a"), &Patch::Apply(lease("a"))).await?;
    let second = leases.patch("lead", &PatchParams::apply("b"), &Patch::Apply(lease("b"))).await;
    let Err(kube::Error::Api(status)) = second else { anyhow::bail!("b takes what is a's") };
    ensure!(status.code == 409 && status.message.contains("conflict with \"a\""), "{status:?}");
    leases.patch("lead", &PatchParams::apply("b").force(), &Patch::Apply(lease("b"))).await?;
    let mut old = leases.get("lead").await?;
    old.meta_mut().resource_version = Some("1".into());
    let stale = leases.replace("lead", &PostParams::default(), &old).await;
    ensure!(matches!(stale, Err(kube::Error::Api(s)) if s.is_conflict()), "a stale version is refused");
    Ok(())
}

/// The finalizer runs, and what the object owned goes with it.
async fn deleted(client: &Client) -> Result<()> {
    let greetings: Api<Greeting> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (greeting, map) = (greetings.get("one").await?, maps.get("one").await?);
    greetings.delete("one", &DeleteParams::background()).await?;
    let uid = greeting.uid().context("uid")?;
    timeout(PATIENCE, await_condition(greetings, "one", conditions::is_deleted(&uid))).await.context("greeting")??;
    let uid = map.uid().context("uid")?;
    timeout(PATIENCE, await_condition(maps.clone(), "one", conditions::is_deleted(&uid))).await.context("map")??;
    maps.get("one-gone").await.context("the finalizer's trace")?;
    Ok(())
}
