//! exec, attach and port-forward: what the API server asks, told to the engine.

use crate::{context::Context, pod::Container, query::Query};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use strata_engine::{ContainerId, ExecOptions, SandboxId, streaming};
use strata_http::{Body, remotecommand::Options};

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
    let options = ExecOptions {
        command,
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        ..ExecOptions::default()
    };
    streaming::exec(context.options.engine.clone(), &mut request, id, wanted, options)
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
    streaming::attach(context.options.engine.clone(), &mut request, id, wanted)
}

/// Joins connections to ports of a pod.
pub fn port_forward(context: &Arc<Context>, mut request: Request<Incoming>, sandbox: SandboxId) -> Response<Body> {
    streaming::port_forward(context.options.engine.clone(), &mut request, sandbox)
}
