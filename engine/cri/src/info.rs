//! What the runtime says of itself.

use crate::error::Answer;
use crate::generated::v1::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigRequest, RuntimeConfigResponse,
    RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusRequest, StatusResponse,
    VersionRequest, VersionResponse,
};
use crate::service::Service;
use serde_json::json;

/// Names a pod may ask for its runtime by; the first is for pods that do not care.
pub(crate) const HANDLERS: [&str; 2] = ["", "strata"];

impl Service {
    pub(crate) fn version(&self, _: VersionRequest) -> Answer<VersionResponse> {
        Ok(VersionResponse {
            // Of the kubelet's own, which never changed.
            version: "0.1.0".into(),
            runtime_name: "strata".into(),
            runtime_version: self.version.clone(),
            runtime_api_version: "v1".into(),
        })
    }

    pub(crate) async fn runtime_status(&self, request: StatusRequest) -> Answer<StatusResponse> {
        let ready = |kind: &str| RuntimeCondition {
            r#type: kind.into(),
            status: true,
            ..RuntimeCondition::default()
        };
        let mut network = ready("NetworkReady");
        if let Some((reason, message)) = self.networking.trouble().await {
            network = RuntimeCondition {
                status: false,
                reason,
                message,
                ..network
            };
        }
        let mut response = StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![ready("RuntimeReady"), network],
            }),
            runtime_handlers: HANDLERS
                .map(|name| RuntimeHandler {
                    name: name.into(),
                    features: Some(RuntimeHandlerFeatures {
                        recursive_read_only_mounts: true,
                        user_namespaces: crate::sandbox_config::USER_NAMESPACES,
                    }),
                })
                .into(),
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
            }),
            ..StatusResponse::default()
        };
        if request.verbose {
            let config = json!({
                "stateDir": self.data_dir.join("engine"),
                "streamServer": self.streaming.base_url(),
                "podGateway": self.networking.gateway(),
                "podRanges": self.ranges.told().iter().map(ToString::to_string).collect::<Vec<_>>(),
            });
            response.info.insert("config".into(), config.to_string());
        }
        Ok(response)
    }

    pub(crate) fn runtime_config(&self, _: RuntimeConfigRequest) -> Answer<RuntimeConfigResponse> {
        Ok(RuntimeConfigResponse {
            linux: Some(LinuxRuntimeConfiguration {
                cgroup_driver: match self.cgroup_driver {
                    crate::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
                    crate::CgroupDriver::Systemd => CgroupDriver::Systemd,
                }
                .into(),
            }),
        })
    }
}
