//! exec, attach and port-forward for clients: an upgraded connection joined to a container or a pod's port.

use crate::{AttachOptions, ContainerId, Engine, Error, ExecOptions, SandboxId, SessionParts};
use http::{Request, Response};
use strata_http::{
    Body,
    portforward::{self, Forward},
    remotecommand::{self, Options, Outcome, Session},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Answers a request to run a command in a container: the response to send, after which the session goes on.
pub fn exec<B>(
    engine: Engine,
    request: &mut Request<B>,
    id: ContainerId,
    wanted: Options,
    options: ExecOptions,
) -> Response<Body> {
    let accepted = match remotecommand::accept(request, wanted) {
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

/// Answers a request to join the streams of a running container.
pub fn attach<B>(engine: Engine, request: &mut Request<B>, id: ContainerId, wanted: Options) -> Response<Body> {
    let accepted = match remotecommand::accept(request, wanted) {
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

/// Answers a request to join connections to ports of a sandbox.
pub fn port_forward<B>(engine: Engine, request: &mut Request<B>, sandbox: SandboxId) -> Response<Body> {
    let accepted = match portforward::accept(request) {
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

/// Copies between a client and a process until the process ends or the client goes.
async fn join(session: Session, started: Result<SessionParts, Error>, attached: bool) {
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
