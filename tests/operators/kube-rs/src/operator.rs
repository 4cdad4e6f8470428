//! The operator: every Greeting has a ConfigMap with its text, a status, and a finalizer that leaves a trace.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event as Report, EventType, Recorder};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub const FINALIZER: &str = "strata.example.com/greeter";

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "strata.example.com", version = "v1", kind = "Greeting", namespaced, status = "GreetingStatus", shortname = "greet")]
#[kube(scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"))]
pub struct GreetingSpec {
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loud: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GreetingStatus {
    pub observed_generation: i64,
    pub text: String,
}

#[derive(Debug)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

struct Context {
    client: Client,
    recorder: Recorder,
}

/// Reconciles until it is dropped.
pub async fn run(client: Client) {
    let recorder = Recorder::new(client.clone(), "greeter".to_owned().into());
    let context = Arc::new(Context { client: client.clone(), recorder });
    let config = watcher::Config::default().streaming_lists();
    Controller::new(Api::<Greeting>::default_namespaced(client.clone()), config.clone())
        .owns(Api::<ConfigMap>::default_namespaced(client), config)
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), context)
        .for_each(|result| async move {
            if let Err(error) = result {
                eprintln!("reconcile: {error}");
            }
        })
        .await;
}

async fn reconcile(greeting: Arc<Greeting>, context: Arc<Context>) -> Result<Action, Error> {
    let greetings: Api<Greeting> = Api::default_namespaced(context.client.clone());
    let done = finalizer(&greetings, FINALIZER, greeting, |event| async {
        match event {
            Event::Apply(greeting) => apply(&greeting, &context).await,
            Event::Cleanup(greeting) => cleanup(&greeting, &context).await,
        }
    });
    done.await.map_err(|e| Error(format!("{e:?}")))
}

async fn apply(greeting: &Greeting, context: &Context) -> Result<Action, Error> {
    let mut text = format!("hello, {}", greeting.spec.name);
    if greeting.spec.loud == Some(true) {
        text = text.to_uppercase();
    }
    let name = greeting.name_any();
    let owner = greeting.controller_owner_ref(&()).ok_or_else(|| Error("no identity".into()))?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [owner]}, "data": {"text": text}});
    let maps: Api<ConfigMap> = Api::default_namespaced(context.client.clone());
    let ours = PatchParams::apply("greeter").force();
    maps.patch(&name, &ours, &Patch::Apply(map)).await?;
    let status = json!({"apiVersion": "strata.example.com/v1", "kind": "Greeting",
        "status": {"observedGeneration": greeting.metadata.generation, "text": text}});
    let greetings: Api<Greeting> = Api::default_namespaced(context.client.clone());
    greetings.patch_status(&name, &ours, &Patch::Apply(status)).await?;
    let report = Report {
        type_: EventType::Normal,
        reason: "Greeted".into(),
        note: Some(text),
        action: "Greet".into(),
        secondary: None,
    };
    context.recorder.publish(&report, &greeting.object_ref(&())).await?;
    Ok(Action::await_change())
}

async fn cleanup(greeting: &Greeting, context: &Context) -> Result<Action, Error> {
    let maps: Api<ConfigMap> = Api::default_namespaced(context.client.clone());
    let trace = json!({"metadata": {"name": format!("{}-gone", greeting.name_any())}});
    maps.create(&PostParams::default(), &serde_json::from_value(trace)?).await?;
    Ok(Action::await_change())
}
