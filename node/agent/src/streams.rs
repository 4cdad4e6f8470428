//! exec, attach and port-forward: an upgraded connection of the API server joined to the engine.

use crate::{context::Context, pod::Container, query::Query};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use strata_engine::{AttachOptions, ContainerId, Engine, ExecOptions, SandboxId, SessionParts};
use strata_http::{
    Body,
    portforward::{self, Forward},
    remotecommand::{self, Options, Outcome, Session},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Runs a command in a container.
pub fn exec(context: &Arc<Context>, mut request: Request<Incoming>, id: ContainerId, query: &Query) -> Response<Body> {
    let wanted = Options::from_query(request.uri().query().unwrap_or_default());
    let command = query.all("command");
    if command.is_empty() {
        return crate::server::text(
            StatusCode::BAD_REQUEST,
            "you must specify at least one command for the container\n",
        );
    }
    let engine = context.options.engine.clone();
    let options = ExecOptions {
        command,
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        ..ExecOptions::default()
    };
    let accepted = match remotecommand::accept(&mut request, wanted) {
        Ok(accepted) => accepted,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        match accepted.session.await {
            Ok(session) => {
                let started = engine.exec(&id, options).await.map(|s| s.into_parts());
                join(session, started, false).await;
            }
            Err(error) => tracing::debug!(container = %id, %error, "exec: the client has gone"),
        }
    });
    accepted.response
}

/// Joins the streams of a running container.
pub fn attach(
    context: &Arc<Context>,
    mut request: Request<Incoming>,
    id: ContainerId,
    specification: Option<Container>,
) -> Response<Body> {
    let mut wanted = Options::from_query(request.uri().query().unwrap_or_default());
    if let Some(container) = specification {
        wanted.tty = container.tty;
        wanted.stdin &= container.stdin;
        wanted.stderr &= !container.tty;
    }
    let engine = context.options.engine.clone();
    let accepted = match remotecommand::accept(&mut request, wanted) {
        Ok(accepted) => accepted,
        Err(refusal) => return *refusal,
    };
    let options = AttachOptions {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    tokio::spawn(async move {
        match accepted.session.await {
            Ok(session) => {
                let started = engine.attach(&id, options).await.map(|s| s.into_parts());
                join(session, started, true).await;
            }
            Err(error) => tracing::debug!(container = %id, %error, "attach: the client has gone"),
        }
    });
    accepted.response
}

/// Copies between a client and a process until the process ends or the client goes.
async fn join(session: Session, started: Result<SessionParts, strata_engine::Error>, attached: bool) {
    let Session {
        stdin,
        stdout,
        stderr,
        mut resize,
        control,
    } = session;
    let parts = match started {
        Ok(parts) => parts,
        Err(e) => {
            drop((stdout, stderr));
            return control.finish(&Outcome::Failed(e.to_string())).await;
        }
    };
    let gone = control.ended();
    let input = tokio::spawn(copy(stdin, parts.stdin));
    let set_size = parts.resize;
    let sizes = tokio::spawn(async move {
        loop {
            let size = *resize.borrow_and_update();
            if let Some(size) = size
                && let Err(error) = set_size(size.width, size.height).await
            {
                tracing::debug!(%error, "resizing a terminal failed");
            }
            if resize.changed().await.is_err() {
                return;
            }
        }
    });
    let output = async { tokio::join!(copy(parts.stdout, stdout), copy(parts.stderr, stderr)) };
    let outcome = tokio::select! {
        (outcome, _) = async { tokio::join!(parts.exit, output) } => match outcome {
            Ok(code) if !attached => Outcome::Exit(code),
            Ok(_) => Outcome::Exit(0),
            Err(e) => Outcome::Failed(e.to_string()),
        },
        () = gone.cancelled() => Outcome::Failed("the client has gone".into()),
    };
    input.abort();
    sizes.abort();
    control.finish(&outcome).await;
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to: Option<impl AsyncWrite + Unpin>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
        tracing::debug!(%error, "a stream was cut");
    }
    // A closed end is what the other side waits for; one that is gone needs no word.
    let _ = to.shutdown().await;
}

/// Joins connections to ports of a pod.
pub fn port_forward(context: &Arc<Context>, mut request: Request<Incoming>, sandbox: SandboxId) -> Response<Body> {
    let engine = context.options.engine.clone();
    let accepted = match portforward::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let mut forwards = match accepted.session.await {
            Ok(forwards) => forwards,
            Err(error) => return tracing::debug!(%error, "port-forward: the client has gone"),
        };
        while let Some(forward) = forwards.next().await {
            tokio::spawn(carry(engine.clone(), sandbox.clone(), forward));
        }
    });
    accepted.response
}

async fn carry(engine: Engine, sandbox: SandboxId, mut forward: Forward) {
    let mut inside = match engine.dial_port(&sandbox, forward.port).await {
        Ok(stream) => stream,
        Err(e) => {
            let why = format!("error forwarding port {} to pod {sandbox}: {e}", forward.port);
            // A client that has gone needs no explanation.
            let _ = forward.error.write_all(why.as_bytes()).await;
            let _ = forward.error.shutdown().await;
            return;
        }
    };
    if let Err(error) = tokio::io::copy_bidirectional(&mut forward.data, &mut inside).await {
        tracing::debug!(%error, port = forward.port, "a forwarded connection was cut");
    }
}
