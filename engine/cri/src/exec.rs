//! Commands in containers and ports of sandboxes: at once, or by a URL of the streaming server.

use crate::error::{Answer, OrStatus, invalid};
use crate::generated::v1 as api;
use crate::service::Service;
use crate::streaming::Stream;
use std::time::Duration;
use strata_engine::{ContainerState, ContainerStatus, SandboxState};
use strata_http::GrpcStatus;
use strata_http::remotecommand::Options;

impl Service {
    pub(crate) async fn exec_sync(&self, request: api::ExecSyncRequest) -> Answer<api::ExecSyncResponse> {
        let container = self.running(&request.container_id)?;
        let timeout = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        let result = self
            .engine
            .exec_sync(&container.id, request.cmd, timeout)
            .await
            .status()?;
        Ok(api::ExecSyncResponse {
            stdout: result.stdout,
            stderr: result.stderr,
            exit_code: result.exit_code,
        })
    }

    pub(crate) fn exec(&self, request: api::ExecRequest) -> Answer<api::ExecResponse> {
        let container = self.running(&request.container_id)?;
        if request.cmd.is_empty() {
            return Err(invalid("exec needs a command"));
        }
        let wanted = streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let url = self.streaming.admit(Stream::Exec {
            container: container.id,
            command: request.cmd,
            wanted,
        })?;
        Ok(api::ExecResponse { url })
    }

    pub(crate) fn attach(&self, request: api::AttachRequest) -> Answer<api::AttachResponse> {
        let container = self.running(&request.container_id)?;
        let wanted = streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let url = self.streaming.admit(Stream::Attach {
            container: container.id,
            wanted,
        })?;
        Ok(api::AttachResponse { url })
    }

    pub(crate) fn port_forward(&self, request: api::PortForwardRequest) -> Answer<api::PortForwardResponse> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id)?;
        if sandbox.state != SandboxState::Ready {
            let why = format!("sandbox {} is not running", sandbox.id);
            return Err(GrpcStatus::new(GrpcStatus::FAILED_PRECONDITION, why));
        }
        let url = self.streaming.admit(Stream::PortForward { sandbox: sandbox.id })?;
        Ok(api::PortForwardResponse { url })
    }

    fn running(&self, id: &str) -> Answer<ContainerStatus> {
        let container = self.find_container(id)?;
        if container.state == ContainerState::Running {
            return Ok(container);
        }
        let why = format!("container {} is not running", container.id);
        Err(GrpcStatus::new(GrpcStatus::FAILED_PRECONDITION, why))
    }
}

fn streams(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Answer<Options> {
    if tty && stderr {
        return Err(invalid("tty and stderr cannot both be true"));
    }
    if !(stdin || stdout || stderr) {
        return Err(invalid("one of stdin, stdout and stderr must be true"));
    }
    Ok(Options {
        stdin,
        stdout,
        stderr,
        tty,
    })
}
