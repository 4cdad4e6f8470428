//! Where device plugins say that they are there.

use super::{Devices, Plugin, messages::RegisterRequest};
use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use std::{io, path::Path, sync::Arc};
use strata_http::{GrpcAnswer, GrpcService, GrpcStatus};
use strata_task::CancellationToken;
use tokio::net::UnixListener;

/// The protocol's only version.
const VERSION: &str = "v1beta1";

struct Registration {
    devices: Arc<Devices>,
    cancel: CancellationToken,
}

/// Serves until cancelled. The socket is made anew, by which plugins notice that they must register again.
pub async fn serve(devices: Arc<Devices>, cancel: CancellationToken) -> io::Result<()> {
    let listener = listen(&devices.folder.join("kubelet.sock"))?;
    let service = Registration {
        devices,
        cancel: cancel.clone(),
    };
    strata_http::serve_grpc(listener, cancel, Arc::new(service)).await
}

/// A socket for root alone in place of one of an earlier process.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

impl GrpcService for Registration {
    fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Result<GrpcAnswer, GrpcStatus>> {
        Box::pin(async move {
            if method != "/v1beta1.Registration/Register" {
                return Err(GrpcStatus::new(
                    GrpcStatus::UNIMPLEMENTED,
                    format!("unknown method {method}"),
                ));
            }
            let asked = RegisterRequest::decode(message)
                .map_err(|error| GrpcStatus::new(GrpcStatus::INVALID_ARGUMENT, error))?;
            self.register(asked)
                .map_err(|why| GrpcStatus::new(GrpcStatus::INVALID_ARGUMENT, why))?;
            Ok(GrpcAnswer::One(Bytes::new()))
        })
    }
}

impl Registration {
    fn register(&self, asked: RegisterRequest) -> Result<(), String> {
        check(&asked)?;
        let socket = self.devices.folder.join(&asked.endpoint);
        let plugin = Plugin::new(asked.resource_name, &socket, asked.options.unwrap_or_default());
        let plugin = Arc::new(plugin);
        self.devices.begin(&plugin)?;
        tracing::info!(
            resource = plugin.resource,
            endpoint = asked.endpoint,
            "a device plugin is there"
        );
        tokio::spawn(plugin.follow(self.devices.clone(), self.cancel.child_token()));
        Ok(())
    }
}

fn check(asked: &RegisterRequest) -> Result<(), String> {
    if asked.version != VERSION {
        return Err(format!(
            "requested API version {:?} is not supported by kubelet. Supported version is {VERSION:?}",
            asked.version
        ));
    }
    let plain = !asked.endpoint.is_empty() && !asked.endpoint.contains(['/', '\0']) && asked.endpoint != "kubelet.sock";
    if !plain || matches!(asked.endpoint.as_str(), "." | "..") {
        return Err(format!("the endpoint {:?} is not the name of a socket", asked.endpoint));
    }
    if !is_extended(&asked.resource_name) {
        return Err(format!("the ResourceName {:?} is invalid", asked.resource_name));
    }
    Ok(())
}

/// Whether a name is that of an extended resource (upstream `IsExtendedResourceName`).
fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else {
        return false;
    };
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let native = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || name.starts_with("requests.");
    !native
        && !domain.is_empty()
        && !rest.is_empty()
        && name.len() <= 253
        && domain.chars().all(label)
        && rest.chars().all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_registers_names_a_socket_beside_and_a_resource_of_its_own() {
        let asked = |endpoint: &str, resource: &str| RegisterRequest {
            version: VERSION.into(),
            endpoint: endpoint.into(),
            resource_name: resource.into(),
            options: None,
        };
        assert!(check(&asked("a.sock", "example.com/device")).is_ok());
        for (endpoint, resource) in [
            ("../a.sock", "example.com/device"),
            ("", "example.com/device"),
            ("kubelet.sock", "example.com/device"),
            ("a.sock", "device"),
            ("a.sock", "node.kubernetes.io/device"),
            ("a.sock", "example.com/a\nb"),
        ] {
            assert!(check(&asked(endpoint, resource)).is_err(), "{endpoint} {resource}");
        }
    }
}
