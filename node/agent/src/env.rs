//! The environment of a container.

use crate::{
    fields::PodView,
    pod::{Container, EnvSource},
};
use serde::Deserialize;
use std::{collections::BTreeMap, net::IpAddr};
use strata_client::{Resource, resources};
use strata_meta::ObjectMeta;
use strata_volume::{ObjectCache, VolumeError, payload};

/// The agent's projection of a service: what becomes environment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Address and ports.
    pub spec: ServiceSpec,
}

/// The part of core/v1 ServiceSpec that becomes environment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// The address; empty or None for headless services.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// The ports.
    pub ports: Vec<ServicePort>,
}

/// core/v1 ServicePort, as far as it becomes environment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    /// The name.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port.
    pub port: u16,
}

/// Docker-link style variables of services (upstream `envvars.FromServices`).
pub fn service_variables<'a>(services: impl Iterator<Item = &'a Service>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let ip = &service.spec.cluster_ip;
        if ip.parse::<IpAddr>().is_err() || service.spec.ports.is_empty() {
            continue;
        }
        let prefix = variable_name(&service.metadata.name);
        let first = &service.spec.ports[0];
        variables.push((format!("{prefix}_SERVICE_HOST"), ip.clone()));
        variables.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in service.spec.ports.iter().filter(|p| !p.name.is_empty()) {
            let name = format!("{prefix}_SERVICE_PORT_{}", variable_name(&port.name));
            variables.push((name, port.port.to_string()));
        }
        let protocol = |p: &ServicePort| {
            if p.protocol.is_empty() {
                "TCP".to_owned()
            } else {
                p.protocol.to_uppercase()
            }
        };
        let url = |p: &ServicePort| format!("{}://{ip}:{}", protocol(p).to_lowercase(), p.port);
        variables.push((format!("{prefix}_PORT"), url(first)));
        for port in &service.spec.ports {
            let base = format!("{prefix}_PORT_{}_{}", port.port, protocol(port));
            variables.push((base.clone(), url(port)));
            variables.push((format!("{base}_PROTO"), protocol(port).to_lowercase()));
            variables.push((format!("{base}_PORT"), port.port.to_string()));
            variables.push((format!("{base}_ADDR"), ip.clone()));
        }
    }
    variables
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a plain `$`, and references to
/// variables that do not exist stay as they are (upstream `third_party/forked/golang/expansion`).
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Variables in the order they were first set; a later value of a name replaces the earlier.
#[derive(Default)]
pub struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// Name and value, in order.
    pub fn into_pairs(mut self) -> Vec<(String, String)> {
        let take = |name: String| self.values.remove(&name).map(|value| (name, value));
        self.order.into_iter().filter_map(take).collect()
    }
}

/// Makes the environment of a container: service links, then `envFrom`, then `env`.
pub async fn make(
    view: &PodView<'_>,
    container: &Container,
    services: Vec<(String, String)>,
    objects: &ObjectCache,
) -> Result<Environment, VolumeError> {
    let mut environment = Environment::default();
    // Service links are what `$(X)` may refer to, but a container's own value wins.
    for (name, value) in services {
        environment.set(&name, value);
    }
    for source in &container.env_from {
        let (resource, kind, reference) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(r), _) => (resources::CONFIG_MAPS, "configmap", r),
            (None, Some(r)) => (resources::SECRETS, "secret", r),
            (None, None) => continue,
        };
        let optional = reference.optional == Some(true);
        let Some(data) = data(view, objects, resource, kind, &reference.name, optional).await? else {
            continue;
        };
        for (key, value) in data {
            let name = format!("{}{key}", source.prefix);
            environment.set(&name, String::from_utf8_lossy(&value).into_owned());
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &|name| environment.get(name))),
            Some(source) => from_source(view, container, source, objects).await?,
        };
        if let Some(value) = value {
            environment.set(&variable.name, value);
        }
    }
    Ok(environment)
}

async fn from_source(
    view: &PodView<'_>,
    container: &Container,
    source: &EnvSource,
    objects: &ObjectCache,
) -> Result<Option<String>, VolumeError> {
    if let Some(field) = &source.field_ref {
        return view.field_value(&field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return view.resource_value(resource, Some(container)).map(Some);
    }
    let (resource, kind, reference) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(r), _) => (resources::CONFIG_MAPS, "configmap", r),
        (None, Some(r)) => (resources::SECRETS, "secret", r),
        (None, None) => return Ok(Some(String::new())),
    };
    let optional = reference.optional == Some(true);
    let Some(data) = data(view, objects, resource, kind, &reference.name, optional).await? else {
        return Ok(None);
    };
    match data.get(&reference.key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => Err(VolumeError::EnvKey {
            kind,
            key: reference.key.clone(),
            object: format!("{}/{}", view.pod.metadata.namespace, reference.name),
        }),
    }
}

/// The keys of a config map or secret; `None` if it is absent and may be.
async fn data(
    view: &PodView<'_>,
    objects: &ObjectCache,
    resource: Resource,
    kind: &'static str,
    name: &str,
    optional: bool,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, VolumeError> {
    let meta = &view.pod.metadata;
    let Some(object) = objects.get(&meta.uid, resource, &meta.namespace, name).await? else {
        return if optional {
            Ok(None)
        } else {
            Err(VolumeError::NotFound {
                kind,
                name: name.to_owned(),
            })
        };
    };
    if kind == "secret" {
        payload::secret_data(&object).map(Some)
    } else {
        payload::config_map_data(&object).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_expanded_as_upstream() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$$", "$"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    #[test]
    fn services_appear_as_docker_links() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]}}))
        .expect("service");
        let headless: Service = serde_json::from_value(
            json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}),
        )
        .expect("service");
        let variables: BTreeMap<_, _> = service_variables([&service, &headless].into_iter())
            .into_iter()
            .collect();
        assert_eq!(variables["MY_DB_SERVICE_HOST"], "10.96.0.9");
        assert_eq!(variables["MY_DB_SERVICE_PORT_SQL"], "5432");
        assert_eq!(variables["MY_DB_PORT_5432_TCP"], "tcp://10.96.0.9:5432");
        assert_eq!(variables.len(), 8);
    }
}
