//! The agent's own API, which the API server calls (logs, exec, attach, port-forward) and who collects figures.
//! Paths and parameters are the upstream kubelet's.

use crate::{
    access::Access,
    cadvisor,
    container::{POD_NAME, POD_NAMESPACE, POD_UID},
    context::Context,
    local_volumes,
    logs::{self, LogOptions},
    pod::Pod,
    query::Query,
    statics::mirror::runs_as,
    streams, summary, usage,
    watcher::LogWatcher,
};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::sync::Arc;
use strata_client::Informer;
use strata_engine::{ContainerState, ContainerStatus, SandboxStatus};
use strata_http::{Body, Handler, Peer};
use strata_meta::{MicroTime, Object, ObjectKey};

/// Chunks of a log that wait for a slow client.
const LOG_CHUNKS: usize = 64;

/// The agent's own API. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    context: Arc<Context>,
    access: Arc<Access>,
    pods: Informer<Pod>,
    raw: Informer<Arc<Object>>,
}

/// A refused request: status and sentence.
pub type Refusal = (StatusCode, String);

impl Handler for Server {
    fn call(&self, request: Request<Incoming>, peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let server = self.clone();
        Box::pin(async move {
            let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
            if let Err((status, why)) = server.access.check(method, path, headers, &peer).await {
                return text(status, why);
            }
            let answer = server.route(request).await;
            answer.unwrap_or_else(|(status, why)| text(status, format!("{why}\n")))
        })
    }
}

/// A plain answer.
pub fn text(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// Prometheus' text format.
fn exposition(body: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    let media = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

fn not_found(what: impl ToString) -> Refusal {
    (StatusCode::NOT_FOUND, what.to_string())
}

fn bad_request(what: impl ToString) -> Refusal {
    (StatusCode::BAD_REQUEST, what.to_string())
}

impl Server {
    /// `raw` shows the same pods as `pods`, whole.
    pub fn new(context: Arc<Context>, pods: Informer<Pod>, raw: Informer<Arc<Object>>) -> Self {
        let access = Access::new(context.options.client.clone(), &context.options.node_name);
        Self {
            access: Arc::new(access),
            context,
            pods,
            raw,
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        match segments.as_slice() {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => Ok(text(StatusCode::OK, "ok")),
            ["pods" | "runningpods"] if reading => Ok(json(self.pod_list())),
            ["stats", "summary"] => {
                let whole = !query.flag("only_cpu_and_memory");
                Ok(json(summary::stats(&self.context, &self.pods, whole).await))
            }
            ["metrics", "resource"] if reading => Ok(exposition(usage::exposition(&self.context).await)),
            ["metrics", "cadvisor"] if reading => Ok(exposition(cadvisor::exposition(&self.context, &self.pods).await)),
            ["metrics", "probes"] if reading => Ok(exposition(self.context.tries.exposition())),
            ["volumes", name] => {
                let answer = local_volumes::serve(&self.context.local_volumes, request.method(), name, &query);
                Ok(json(answer.await?))
            }
            ["configz"] if reading => Ok(json(self.configz())),
            ["metrics"] => Ok(exposition(summary::metrics(&self.context, &self.pods))),
            ["containerLogs", namespace, pod, container] if reading => {
                self.logs(namespace, pod, container, &query).await
            }
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                let container = self.running(namespace, pod, container)?;
                Ok(streams::exec(&self.context, request, container.id, &query))
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                let status = self.running(namespace, pod, container)?;
                let spec = self.specification(namespace, pod, container);
                Ok(streams::attach(&self.context, request, status.id, spec))
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                let sandbox = self.sandbox(namespace, pod)?;
                Ok(streams::port_forward(&self.context, request, sandbox.id))
            }
            _ => Err(not_found("404 page not found")),
        }
    }

    /// The settings that have a field in upstream's KubeletConfiguration.
    fn configz(&self) -> Vec<u8> {
        let options = &self.context.options;
        let configuration = serde_json::json!({"kubeletconfig": {
            "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "port": options.listener.local_addr().map_or(0, |address| address.port()),
            "clusterDomain": options.cluster_domain, "clusterDNS": options.cluster_dns,
            "cgroupRoot": options.cgroup_root, "cgroupsPerQOS": true,
        }});
        let mut configuration = configuration;
        let told = serde_json::to_value(&*options.configuration);
        if let (Ok(serde_json::Value::Object(told)), Some(all)) = (told, configuration["kubeletconfig"].as_object_mut())
        {
            all.extend(told);
        }
        configuration.to_string().into_bytes()
    }

    fn pod_list(&self) -> Vec<u8> {
        let mut body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
        for (i, (_, pod)) in self.raw.list().iter().enumerate() {
            if i > 0 {
                body.push(b',');
            }
            pod.write_json(&mut body, false);
        }
        body.extend_from_slice(b"]}");
        body
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        let pod = self.pods.get(&ObjectKey::new(namespace, name));
        pod.ok_or_else(|| not_found(format!("pod {namespace}/{name} does not exist")))
    }

    fn specification(&self, namespace: &str, pod: &str, container: &str) -> Option<crate::pod::Container> {
        let pod = self.pod(namespace, pod).ok()?;
        pod.all_containers().find(|c| c.name == container).cloned()
    }

    /// The instances of a container, newest first.
    fn instances(&self, pod: &Pod, container: &str) -> Vec<ContainerStatus> {
        let uid = runs_as(pod);
        let mut all = self.context.options.engine.list_containers();
        all.retain(|c| c.name == container && c.labels.get(POD_UID).map(String::as_str) == Some(uid));
        all.sort_by_key(|c| std::cmp::Reverse(c.attempt));
        all
    }

    fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerStatus, Refusal> {
        let pod = self.pod(namespace, pod)?;
        let newest = self.instances(&pod, container).into_iter().next();
        let status = newest.ok_or_else(|| not_found(format!("container not found ({container:?})")))?;
        if status.state == ContainerState::Running {
            Ok(status)
        } else {
            let why = format!("container {container:?} of pod {:?} is not running", pod.metadata.name);
            Err((StatusCode::INTERNAL_SERVER_ERROR, why))
        }
    }

    fn sandbox(&self, namespace: &str, pod: &str) -> Result<SandboxStatus, Refusal> {
        let pod = self.pod(namespace, pod)?;
        let all = self.context.options.engine.list_sandboxes().into_iter();
        let newest = all.filter(|s| s.uid == runs_as(&pod)).max_by_key(|s| s.attempt);
        newest.ok_or_else(|| not_found(format!("sandbox of pod {:?} does not exist", pod.metadata.name)))
    }

    async fn logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: &Query,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, name)?;
        if !pod.all_containers().any(|c| c.name == container) {
            return Err(bad_request(format!(
                "container {container} is not valid for pod {name}"
            )));
        }
        let previous = query.flag("previous");
        let status = self.instances(&pod, container).into_iter().nth(usize::from(previous));
        let status = status.ok_or_else(|| {
            bad_request(if previous {
                format!("previous terminated container {container:?} in pod {name:?} not found")
            } else {
                format!(
                    "container {container:?} in pod {name:?} is waiting to start: {}",
                    waiting_reason(&pod, container)
                )
            })
        })?;
        let options = log_options(query)?;
        let (sender, body) = Body::channel(LOG_CHUNKS);
        let engine = self.context.options.engine.clone();
        tokio::spawn(async move {
            let id = status.id.clone();
            let ended = {
                let engine = engine.clone();
                let id = id.clone();
                move || {
                    engine
                        .container(&id)
                        .map_or(true, |c| c.state != ContainerState::Running)
                }
            };
            let watcher = LogWatcher::new(&engine, &status.log_path);
            let sent = logs::send(status.log_path.clone(), options, &sender, ended, &watcher).await;
            if let Err(error) = sent {
                tracing::debug!(container = %id, %error, "sending a log failed");
                sender.abort(error).await;
            }
        });
        let mut response = Response::new(body);
        let plain = header::HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        Ok(response)
    }
}

fn waiting_reason(pod: &Pod, container: &str) -> &'static str {
    let is_init = pod.spec.init_containers.iter().any(|c| c.name == container);
    if !is_init && !pod.spec.init_containers.is_empty() {
        "PodInitializing"
    } else {
        "ContainerCreating"
    }
}

fn log_options(query: &Query) -> Result<LogOptions, Refusal> {
    let since_time = query
        .get("sinceTime")
        .map(|t| MicroTime::parse(t).ok_or_else(|| bad_request("invalid sinceTime")));
    let since_seconds = query.number("sinceSeconds").map_err(bad_request)?;
    let since = match (since_time.transpose()?, since_seconds) {
        (Some(at), _) => Some(at),
        (None, Some(seconds)) => {
            let seconds = i64::try_from(seconds).map_err(bad_request)?;
            MicroTime::parse(&strata_meta::Time::now().plus_seconds(-seconds).to_string())
        }
        (None, None) => None,
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        tail: query.number("tailLines").map_err(bad_request)?,
        since,
        limit: query.number("limitBytes").map_err(bad_request)?,
        stream: query
            .get("stream")
            .filter(|s| *s != "All")
            .unwrap_or_default()
            .to_owned(),
    })
}

/// Labels by which a container's pod is named in summaries.
pub fn pod_name(status: &ContainerStatus) -> (&str, &str) {
    let label = |key| status.labels.get(key).map(String::as_str).unwrap_or_default();
    (label(POD_NAMESPACE), label(POD_NAME))
}
