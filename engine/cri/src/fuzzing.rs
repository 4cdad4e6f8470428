//! Entry points for fuzzing: a request of any method, from its bytes to what the engine is asked. Nothing is made.

use crate::generated::v1 as api;
use crate::memo::{ContainerMemo, encoded};
use crate::sandbox_config::host_ports;
use crate::{container, container_config, networking, sandbox_config};
use prost::Message;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::path::Path;
use strata_engine::{Network, SandboxId, fuzzing as engine};
use strata_image::{Digest, Image, ImageConfig, ImageStore};

/// The first byte chooses the method, the rest is its request.
pub fn request(bytes: &[u8], images: &ImageStore) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 8 {
        0 => sandbox(bytes),
        1 | 2 => create(bytes, images, which & 8 != 0),
        3 => {
            let Some(request) = decoded::<api::UpdateContainerResourcesRequest>(bytes) else {
                return;
            };
            let Some(limits) = request.linux else { return };
            engine::resources(&sandbox_config::resources(&limits));
            let mut memo = ContainerMemo::default();
            container::merge(&mut memo, limits.clone());
            container::merge(&mut memo, limits);
            encoded(&memo);
        }
        4 => {
            let Some(request) = decoded::<api::UpdateRuntimeConfigRequest>(bytes) else {
                return;
            };
            let network = request.runtime_config.and_then(|config| config.network_config);
            if let Some(Ok(ranges)) = network.map(|network| networking::parse_ranges(&network.pod_cidr)) {
                assert!(!ranges.is_empty());
            }
        }
        5 => {
            let Some(request) = decoded::<api::PullImageRequest>(bytes) else {
                return;
            };
            let name = request.image.unwrap_or_default().image;
            let secret = request
                .auth
                .as_ref()
                .map(|auth| auth.password.clone())
                .unwrap_or_default();
            if let Some(auth) = request.auth {
                let told = format!("{auth:?}");
                assert!(
                    secret.len() < 16
                        || !told.contains(&secret)
                        || auth.username.contains(&secret)
                        || auth.server_address.contains(&secret)
                );
                let _ = crate::images::credentials(&name, auth);
            }
        }
        6 => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = container_config::signal_of(text);
            }
        }
        _ => others(bytes),
    }
}

fn sandbox(bytes: &[u8]) {
    let Some(request) = decoded::<api::RunPodSandboxRequest>(bytes) else {
        return;
    };
    let Some(config) = request.config else { return };
    let _ = host_ports(&config, Ipv4Addr::new(10, 0, 0, 2));
    let _ = networking::wish(&SandboxId::from("a"), &config, &[]);
    if let Ok(wanted) =
        sandbox_config::engine_config(&config, Network::None, "/own".into(), crate::CgroupDriver::Cgroupfs)
    {
        engine::sandbox(wanted);
    }
}

fn create(bytes: &[u8], images: &ImageStore, unified: bool) {
    let Some(request) = decoded::<api::CreateContainerRequest>(bytes) else {
        return;
    };
    let Some(mut config) = request.config else { return };
    // What lies on this machine would make one input do different things.
    for mount in &mut config.mounts {
        mount.image_sub_path.truncate(64);
    }
    let image = Image {
        id: Digest::of(b""),
        repo_tags: Vec::new(),
        repo_digests: Vec::new(),
        config: ImageConfig {
            cmd: vec!["sh".into()],
            ..ImageConfig::default()
        },
        layers: Vec::new(),
        size: 0,
        created: None,
    };
    let Ok(wanted) = container_config::engine_config(&config, image, images) else {
        return;
    };
    for mount in &wanted.mounts {
        assert!(mount.host_path.is_absolute() && mount.container_path.is_absolute());
    }
    let pod = request.sandbox_config.unwrap_or_default();
    let pod = api::PodSandboxConfig {
        metadata: Some(api::PodSandboxMetadata {
            name: "p".into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 0,
        }),
        ..pod
    };
    let pod = sandbox_config::engine_config(&pod, Network::None, "/own".into(), crate::CgroupDriver::Cgroupfs).ok();
    if let Some(pod) = pod.and_then(engine::sandbox) {
        engine::container(&pod, &wanted, unified);
    }
    assert!(Path::new(&wanted.log_path).as_os_str().len() <= bytes.len());
}

/// The requests of which nothing is translated: they are read, and written again to the same.
fn others(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 8 {
        0 => drop(decoded::<api::ListContainersRequest>(bytes)),
        1 => drop(decoded::<api::ListPodSandboxStatsRequest>(bytes)),
        2 => drop(decoded::<api::ExecRequest>(bytes)),
        3 => drop(decoded::<api::CheckpointContainerRequest>(bytes)),
        4 => drop(decoded::<api::UpdatePodSandboxResourcesRequest>(bytes)),
        5 => drop(decoded::<api::ListImagesRequest>(bytes)),
        6 => drop(decoded::<api::StreamContainersRequest>(bytes)),
        _ => drop(decoded::<ContainerMemo>(bytes)),
    }
}

fn decoded<T: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message = T::decode(bytes).ok()?;
    let again = T::decode(message.encode_to_vec().as_slice()).expect("what was written is read");
    assert_eq!(message, again);
    Some(message)
}
