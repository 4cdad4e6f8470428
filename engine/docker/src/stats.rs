//! What containers use, and which processes they have.

use crate::call::{Call, ok, stream};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::{Container, NEVER, now};
use crate::{machine, processes};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use strata_http::Body;
use strata_runtime::cgroup::{Cgroup, Layout};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// `GET /containers/{name}/stats`
pub(crate) async fn stats(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let streamed = call.flag_or("stream", true);
    let one_shot = call.flag("one-shot");
    let mut before = json!({"cpu_stats": {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}}, "read": NEVER});
    if !streamed {
        if !one_shot && container.status().is_alive() {
            before = sample(&inner, &container).await?;
            tokio::time::sleep(INTERVAL).await;
        }
        let current = sample(&inner, &container).await?;
        return ok(&with_before(current, &before));
    }
    let (sender, body) = Body::channel(2);
    let (busy, stop) = (inner.activity.begin(), inner.stop.clone());
    tokio::spawn(async move {
        let _busy = busy;
        loop {
            let current = match sample(&inner, &container).await {
                Ok(current) => current,
                Err(error) => return tracing::debug!(container = %container.id, %error, "no more statistics"),
            };
            let line = Bytes::from(format!("{}\n", with_before(current.clone(), &before)));
            if sender.send(line).await.is_err() || container.phase.borrow().removed {
                return;
            }
            before = current;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = sender.closed() => return,
                () = stop.cancelled() => return,
            }
        }
    });
    Ok(stream("application/json", body))
}

fn with_before(mut current: Value, before: &Value) -> Value {
    current["precpu_stats"] = before["cpu_stats"].clone();
    current["preread"] = before["read"].clone();
    current
}

async fn sample(inner: &Arc<Inner>, container: &Arc<Container>) -> Answer<Value> {
    let record = container.record();
    let mut value = json!({
        "name": format!("/{}", record.name), "id": record.id, "read": now(), "preread": NEVER, "pids_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": null, "io_serviced_recursive": null, "io_queue_recursive": null,
            "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
            "io_time_recursive": null, "sectors_recursive": null},
        "num_procs": 0, "storage_stats": {}, "memory_stats": {},
        "cpu_stats": {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}},
    });
    let Ok(id) = crate::life::running(container) else {
        value["read"] = json!(NEVER);
        return Ok(value);
    };
    let usage = inner.engine.usage(&id).await?;
    let host = record.typed_host()?;
    let pid = record.state.pid;
    let (system, networks, total) =
        blocking(move || Ok((machine::processor_time()?, networks(pid), machine::memory()?))).await?;
    let limit = if host.memory > 0 { host.memory as u64 } else { total };
    let inactive = usage.memory_usage.saturating_sub(usage.memory_working_set);
    value["pids_stats"] = json!({"current": usage.pids, "limit": host.pids_limit.filter(|limit| *limit > 0).map_or(Value::Null, |limit| json!(limit))});
    value["cpu_stats"] = json!({
        "cpu_usage": {"total_usage": usage.cpu_usage_nanos, "usage_in_kernelmode": 0, "usage_in_usermode": usage.cpu_usage_nanos},
        "system_cpu_usage": system,
        "online_cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    });
    value["memory_stats"] = json!({
        "usage": usage.memory_usage, "limit": limit,
        "stats": {"total_inactive_file": inactive, "inactive_file": inactive, "rss": usage.memory_rss,
            "pgfault": usage.page_faults, "pgmajfault": usage.major_page_faults},
    });
    if host.network_mode != "host" {
        value["networks"] = networks;
    }
    Ok(value)
}

/// What went over the links of a process's network namespace; nothing of one that has ended.
fn networks(pid: i32) -> Value {
    let links = strata_net::link_counters(pid).unwrap_or_else(|_| Vec::new());
    let all = links.into_iter().map(|link| {
        let (received, sent) = link.columns.split_at(strata_net::SENT);
        let counts = json!({
            "rx_bytes": received[0], "rx_packets": received[1], "rx_errors": received[2], "rx_dropped": received[3],
            "tx_bytes": sent[0], "tx_packets": sent[1], "tx_errors": sent[2], "tx_dropped": sent[3],
        });
        (link.name, counts)
    });
    Value::Object(all.collect())
}

/// `GET /containers/{name}/top`
pub(crate) async fn top(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let id = crate::life::running(&container)
        .map_err(|_| ApiError::conflict(format!("container {} is not running", container.id)))?;
    let arguments = call.query("ps_args").to_owned();
    let parent = container.lock().host["CgroupParent"].as_str().unwrap_or("").to_owned();
    let own = crate::spec::cgroup_of(&inner.options.cgroup_root, &parent, &container.id);
    let path = format!("{own}/{id}");
    let value = blocking(move || {
        let layout = Layout::detect().map_err(|error| ApiError::internal(error.to_string()))?;
        let cgroup = Cgroup::open(&layout, &path).map_err(|error| ApiError::internal(error.to_string()))?;
        let pids = cgroup
            .processes()
            .map_err(|error| ApiError::internal(error.to_string()))?;
        processes::list(&arguments, &pids)
    })
    .await?;
    ok(&value)
}
