//! Removing containers.

use crate::call::{Call, nothing, ok};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::{Container, Status, remove_folder};
use crate::{life, mounts, usage};
use http::Response;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use strata_http::Body;

/// `DELETE /containers/{name}`
pub(crate) async fn delete(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    if call.flag("link") {
        return Err(ApiError::unsupported("removing a link"));
    }
    let (force, volumes) = (call.flag("force"), call.flag("v"));
    let status = container.status();
    if !force {
        let name = container.lock().name.clone();
        match status {
            Status::Paused => {
                return Err(ApiError::conflict(format!(
                    "cannot remove container \"{name}\": container is paused and must be unpaused first"
                )));
            }
            Status::Running | Status::Restarting => {
                return Err(ApiError::conflict(format!(
                    "cannot remove container \"{name}\": container is {}: stop the container before removing or force remove",
                    status.as_str()
                )));
            }
            _ => {}
        }
    } else if status.is_alive() || status == Status::Restarting {
        life::end(&inner, &container, Duration::ZERO, None).await?;
    }
    let _turn = container.turn.lock().await;
    if inner.find(&container.id).is_err() {
        // It removed itself as it ended.
        return nothing();
    }
    remove(&inner, &container, volumes).await?;
    nothing()
}

/// Removes a container that does not run. The caller holds its turn.
pub(crate) async fn remove(inner: &Arc<Inner>, container: &Arc<Container>, volumes: bool) -> Answer<()> {
    container.end_run();
    let (shared, gone) = (Arc::clone(inner), Arc::clone(container));
    blocking(move || {
        let record = gone.record();
        // Without its record, what is left after an interruption is removed at the next start.
        let file = gone.folder.join("container.json");
        std::fs::remove_file(&file).map_err(ApiError::io("remove", &file))?;
        shared.forget(&gone.id);
        if volumes {
            mounts::forget_anonymous(&shared, &record);
        }
        let released = shared.images.release(&gone.id).map_err(ApiError::from);
        released.and(remove_folder(&gone.folder))
    })
    .await?;
    inner.events.container(container, "destroy", &[]);
    container.phase.send_modify(|phase| {
        phase.removed = true;
        phase.status = Status::Dead;
    });
    Ok(())
}

/// `POST /containers/prune`
pub(crate) async fn prune(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = match filters.get("until").first() {
        Some(text) => crate::time::parse_past(text)?,
        None => None,
    };
    let (mut deleted, mut freed) = (Vec::new(), 0);
    for container in inner.all() {
        let record = container.record();
        let old = until.is_none_or(|until| crate::time::parse(&record.created).is_ok_and(|at| at < Some(until)));
        if record.state.status.is_alive() || record.state.status == Status::Restarting || !old {
            continue;
        }
        if !filters.fits_labels(&record.labels()) {
            continue;
        }
        let _turn = container.turn.lock().await;
        if container.status().is_alive() || inner.find(&container.id).is_err() {
            continue;
        }
        freed += usage::folder_size(&container.folder.join("upper"));
        remove(&inner, &container, false).await?;
        deleted.push(container.id.clone());
    }
    ok(&json!({"ContainersDeleted": deleted, "SpaceReclaimed": freed}))
}
