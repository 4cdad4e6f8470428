//! `POST /containers/{name}/attach`: a connection becomes the container's terminal or its streams.

use crate::call::Call;
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::logs;
use crate::record::{Status, Waiting};
use crate::streams::{self, Keys, Pump};
use http::Response;
use std::sync::{Arc, PoisonError};
use strata_engine::AttachOptions;
use strata_http::Body;
use tokio::sync::oneshot;

/// Most who may wait for one container's start.
const MAX_WAITING: usize = 32;

/// `POST /containers/{name}/attach`
pub(crate) async fn attach(inner: Arc<Inner>, mut call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let keys = Keys::parse(call.query("detachKeys"))?;
    let wants = AttachOptions {
        stdin: call.flag("stdin"),
        stdout: call.flag("stdout"),
        stderr: call.flag("stderr"),
    };
    let (logs, follow) = (call.flag("logs"), call.flag("stream"));
    let config = container.record().typed_config()?;
    let status = container.status();
    if status == Status::Paused {
        return Err(ApiError::conflict(format!(
            "container {} is paused, unpause the container before attach",
            call.name()
        )));
    }
    let (sender, receiver) = oneshot::channel();
    if follow {
        // Its start or end may be under way.
        let _turn = container.turn.lock().await;
        if container.status() == Status::Running {
            let id = crate::life::running(&container)?;
            match inner.engine.attach(&id, wants).await {
                // The receiver is below.
                Ok(session) => drop(sender.send(session.into_parts())),
                // It has ended in this moment: there is nothing to come.
                Err(strata_engine::Error::WrongState { .. }) => drop(sender),
                Err(error) => return Err(error.into()),
            }
        } else {
            let mut waiting = container.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|one| !one.grant.is_closed());
            if waiting.len() >= MAX_WAITING {
                return Err(ApiError::conflict("too many clients wait for the container"));
            }
            waiting.push(Waiting {
                options: wants,
                grant: sender,
            });
        }
    } else {
        drop(sender);
    }
    let (response, upgraded) = call.hijack(!config.tty);
    let busy = inner.activity.begin();
    tokio::spawn(async move {
        let _busy = busy;
        let Ok(connection) = upgraded.await else { return };
        let (mut from_client, mut to_client) = tokio::io::split(connection);
        let framed = !config.tty;
        if logs
            && logs::dump(&container, wants.stdout, wants.stderr, framed, &mut to_client)
                .await
                .is_err()
        {
            return;
        }
        // A client that goes before the start is noticed by reading, if it has nothing to say.
        let Some(session) = streams::granted(receiver, &mut from_client, wants.stdin).await else {
            streams::finish(to_client).await;
            return;
        };
        inner.events.container(&container, "attach", &[]);
        let pump = Pump {
            session,
            framed,
            keys: keys.filter(|_| config.tty),
        };
        if pump.run(from_client, to_client).await.detached {
            inner.events.container(&container, "detach", &[]);
        }
    });
    Ok(response)
}
