//! Requests that move a container along its life: start, stop, kill, restart, pause, wait, and the like.

use crate::call::{Call, nothing, ok, stream};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::record::{Container, Phase, Status};
use crate::{launch, names, spec};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use strata_engine::ContainerId;
use strata_http::Body;

/// How long a container may take to stop of itself (as docker).
const GRACE: i64 = 10;
/// Longer grace than this is for ever.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const KILL: i32 = 9;

/// `POST /containers/{name}/start`
pub(crate) async fn start(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let _turn = container.turn.lock().await;
    match container.status() {
        Status::Paused => {
            return Err(ApiError::conflict(
                "cannot start a paused container, try unpause instead",
            ));
        }
        Status::Running => return Err(ApiError::not_modified()),
        Status::Removing | Status::Dead => {
            return Err(ApiError::conflict(
                "container is marked for removal and cannot be started",
            ));
        }
        _ => {}
    }
    container.end_run();
    container.change(|record| {
        record.stopped_by_hand = false;
        record.restart_count = 0;
    })?;
    if let Err(error) = launch::start(&inner, &container).await {
        if container.lock().host["AutoRemove"] == json!(true)
            && let Err(left) = crate::remove::remove(&inner, &container, true).await
        {
            tracing::warn!(container = %container.id, error = %left, "could not remove a container that did not start");
        }
        return Err(error);
    }
    nothing()
}

/// Ends a container: the stop signal, then SIGKILL after the grace. Returns when it is over.
pub(crate) async fn end(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    grace: Duration,
    signal: Option<i32>,
) -> Answer<()> {
    let (status, run) = {
        let mut record = container.lock();
        record.stopped_by_hand = true;
        (record.state.status, record.run.clone())
    };
    if status == Status::Restarting {
        // Nothing runs; the restart that is waited for does not come.
        container.end_run();
        let _turn = container.turn.lock().await;
        if container.status() == Status::Restarting {
            return container.change(|record| record.state.status = Status::Exited);
        }
    }
    let Some(run) = run.filter(|_| container.status().is_alive()) else {
        return Ok(());
    };
    let mut phase = container.phase.subscribe();
    let exits = phase.borrow().exits;
    let id = ContainerId::from(run.container.as_str());
    if status == Status::Paused {
        inner.engine.resume(&id).await?;
    }
    let ended = async {
        let over = |phase: &Phase| phase.exits > exits || phase.removed || !phase.status.is_alive();
        // The sender is part of the container, which is held.
        let _ = phase.wait_for(over).await;
    };
    let stopped = match signal {
        Some(number) if !grace.is_zero() => {
            let asked = inner.engine.kill(&id, number).await;
            match tokio::time::timeout(grace, ended).await {
                Ok(()) => return Ok(()),
                Err(_) => asked.and(inner.engine.stop_container(&id, Duration::ZERO).await),
            }
        }
        _ => {
            let stopped = inner.engine.stop_container(&id, grace.min(LONGEST)).await;
            if stopped.is_ok() {
                ended.await;
                return Ok(());
            }
            stopped
        }
    };
    match stopped {
        // Gone in this moment.
        Err(error) if error.is_not_found() => {}
        other => other?,
    }
    let over = |phase: &Phase| phase.exits > exits || phase.removed || !phase.status.is_alive();
    // As above.
    let _ = container.phase.subscribe().wait_for(over).await;
    Ok(())
}

/// The grace a client asks for, or the container's own.
fn grace(call: &Call, container: &Container) -> Answer<Duration> {
    let own = container.lock().config["StopTimeout"].as_i64();
    let seconds = call.number("t")?.or(own).unwrap_or(GRACE);
    Ok(u64::try_from(seconds).map_or(LONGEST, Duration::from_secs))
}

fn signal(text: &str) -> Answer<Option<i32>> {
    match text {
        "" => Ok(None),
        text => number_of(text).map(Some),
    }
}

fn number_of(text: &str) -> Answer<i32> {
    let invalid = || ApiError::invalid(format!("invalid signal: {text}"));
    strata_engine::signal_number(text).ok_or_else(invalid)
}

/// `POST /containers/{name}/stop`
pub(crate) async fn stop(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let (grace, signal) = (grace(&call, &container)?, signal(call.query("signal"))?);
    container.settle().await;
    let status = container.status();
    if !status.is_alive() && status != Status::Restarting {
        return Err(ApiError::not_modified());
    }
    end(&inner, &container, grace, signal).await?;
    inner.events.container(&container, "stop", &[]);
    nothing()
}

/// `POST /containers/{name}/restart`
pub(crate) async fn restart(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let (grace, signal) = (grace(&call, &container)?, signal(call.query("signal"))?);
    // It must outlive its end even if it is to be removed by that.
    let auto_remove = container.change(|record| std::mem::replace(&mut record.host["AutoRemove"], json!(false)))?;
    let ended = end(&inner, &container, grace, signal).await;
    let turn = container.turn.lock().await;
    container.change(|record| {
        record.host["AutoRemove"] = auto_remove;
        record.stopped_by_hand = false;
    })?;
    ended?;
    if !container.status().is_alive() {
        launch::start(&inner, &container).await?;
    }
    drop(turn);
    inner.events.container(&container, "restart", &[]);
    nothing()
}

/// The engine's container of one that runs.
pub(crate) fn running(container: &Container) -> Answer<ContainerId> {
    let record = container.lock();
    match &record.run {
        Some(run) if record.state.status.is_alive() => Ok(ContainerId::from(run.container.as_str())),
        _ => Err(ApiError::conflict(format!("container {} is not running", record.id))),
    }
}

/// `POST /containers/{name}/kill`
pub(crate) async fn kill(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    container.settle().await;
    let number = signal(call.query("signal"))?.unwrap_or(KILL);
    let id = running(&container)
        .map_err(|error| ApiError::conflict(format!("cannot kill container: {}: {}", call.name(), error.message)))?;
    let stop_signal = container.lock().config["StopSignal"].as_str().unwrap_or("").to_owned();
    if number == KILL || number_of(if stop_signal.is_empty() { "TERM" } else { &stop_signal })? == number {
        container.change(|record| record.stopped_by_hand = true)?;
    }
    let mut phase = container.phase.subscribe();
    let exits = phase.borrow().exits;
    if container.status() == Status::Paused && number == KILL {
        inner.engine.resume(&id).await?;
    }
    inner.engine.kill(&id, number).await?;
    inner
        .events
        .container(&container, "kill", &[("signal", number.to_string())]);
    if number == KILL {
        // The sender is part of the container, which is held.
        let _ = phase.wait_for(|phase| phase.exits > exits || phase.removed).await;
    }
    nothing()
}

/// `POST /containers/{name}/pause`
pub(crate) async fn pause(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let _turn = container.turn.lock().await;
    let id = running(&container)?;
    if container.status() == Status::Paused {
        return Err(ApiError::conflict(format!(
            "container {} is already paused",
            container.id
        )));
    }
    inner.engine.pause(&id).await?;
    container.change(|record| record.state.status = Status::Paused)?;
    inner.events.container(&container, "pause", &[]);
    nothing()
}

/// `POST /containers/{name}/unpause`
pub(crate) async fn unpause(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let _turn = container.turn.lock().await;
    if container.status() != Status::Paused {
        return Err(ApiError::conflict(format!("container {} is not paused", container.id)));
    }
    inner.engine.resume(&running(&container)?).await?;
    container.change(|record| record.state.status = Status::Running)?;
    inner.events.container(&container, "unpause", &[]);
    nothing()
}

/// `POST /containers/{name}/rename`
pub(crate) async fn rename(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let name = names::checked(call.query("name").trim_start_matches('/'))?;
    if container.lock().name == name {
        return Err(ApiError::invalid(
            "Error when allocating new name: Renaming a container with the same name as its current name",
        ));
    }
    let old = inner.rename(&container, &name).map_err(|error| {
        ApiError::new(
            error.status,
            format!("Error when allocating new name: {}", error.message),
        )
    })?;
    inner
        .events
        .container(&container, "rename", &[("oldName", format!("/{old}"))]);
    nothing()
}

/// `POST /containers/{name}/resize`
pub(crate) async fn resize(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let (width, height) = size(&call)?;
    container.settle().await;
    running(&container)?;
    let resizer = container.resizer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let resizer = resizer.ok_or_else(|| ApiError::conflict("the container has no terminal"))?;
    resizer(width, height).await?;
    ok(&json!({}))
}

/// Columns and rows.
pub(crate) fn size(call: &Call) -> Answer<(u16, u16)> {
    let number = |key: &str| {
        let text = call.query(key);
        text.parse::<u16>()
            .map_err(|_| ApiError::invalid(format!("invalid resize {key} {text:?}")))
    };
    Ok((number("w")?, number("h")?))
}

/// `POST /containers/{name}/wait`: the answer begins at once, its body comes with the event.
pub(crate) async fn wait(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let condition = call.query("condition").to_owned();
    let mut phase = container.phase.subscribe();
    let exits = phase.borrow().exits;
    let over = move |phase: &Phase| match condition.as_str() {
        "" | "not-running" => phase.removed || phase.exits > exits || !phase.status.is_alive(),
        "next-exit" => phase.removed || phase.exits > exits,
        _ => phase.removed,
    };
    if !matches!(call.query("condition"), "" | "not-running" | "next-exit" | "removed") {
        return Err(ApiError::invalid(format!(
            "invalid condition: {:?}",
            call.query("condition")
        )));
    }
    let (sender, body) = Body::channel(1);
    let (busy, stop) = (inner.activity.begin(), inner.stop.clone());
    tokio::spawn(async move {
        let _busy = busy;
        let code = tokio::select! {
            ended = phase.wait_for(over) => ended.map(|phase| phase.exit_code).ok(),
            () = stop.cancelled() => None,
            () = sender.closed() => None,
        };
        let Some(code) = code else { return };
        let value = json!({"StatusCode": code});
        // The client may have gone.
        let _ = sender.send(Bytes::from(format!("{value}\n"))).await;
    });
    Ok(stream("application/json", body))
}

/// `POST /containers/{name}/update`
pub(crate) async fn update(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let given = call.value().await?;
    let _turn = container.turn.lock().await;
    let mut record = container.record();
    // Zero and null mean: as it is.
    for (key, value) in given.as_object().into_iter().flatten() {
        let unchanged = value.is_null()
            || *value == json!(0)
            || *value == json!("")
            || value.as_array().is_some_and(Vec::is_empty)
            || (key == "RestartPolicy" && value["Name"] == json!(""));
        let known = record.host.get(key).is_some();
        if !unchanged && known {
            record.host[key] = value.clone();
        }
    }
    let host = record.typed_host()?;
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(ApiError::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(ApiError::invalid(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    crate::check::limits(&host)?;
    if record.state.status.is_alive() {
        inner
            .engine
            .update_resources(&running(&container)?, spec::resources(&host))
            .await?;
    }
    container.change(|known| known.host = record.host)?;
    inner.events.container(&container, "update", &[]);
    ok(&json!({"Warnings": Value::Null}))
}
