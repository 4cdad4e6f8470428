//! Requests about networks.

use crate::call::{Call, created, lenient, ok, reply};
use crate::config::EndpointConfig;
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::ipam::Ipam;
use crate::launch::tell_network;
use crate::networks::{DEFAULT, Network, WITHOUT_BRIDGE, Wanted};
use crate::record::{Container, Endpoint};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use strata_engine::SandboxId;
use strata_http::Body;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CreateBody {
    name: String,
    driver: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConnectBody {
    container: String,
    force: bool,
    endpoint_config: Value,
}

/// `POST /networks/create`
pub(crate) async fn create(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let body: CreateBody = call.json().await?;
    if !matches!(body.driver.as_str(), "" | "bridge" | "default") {
        return Err(ApiError::not_found(format!(
            "error looking up network plugin {0}: plugin \"{0}\" not found",
            body.driver
        )));
    }
    if body.enable_ipv6 || body.ingress || body.config_only {
        return Err(ApiError::invalid(
            "IPv6, ingress and config-only networks are not supported",
        ));
    }
    let wanted = Wanted {
        name: body.name,
        ranges: body.ipam.ranges()?,
        internal: body.internal,
        attachable: body.attachable,
        labels: body.labels,
        options: body.options,
    };
    let shared = Arc::clone(&inner);
    let network = blocking(move || shared.networks.create(wanted)).await?;
    let attributes = [("name", network.name.as_str()), ("type", "bridge")];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    inner.events.tell("network", "create", &network.id, attributes);
    created(&json!({"Id": network.id, "Warning": ""}))
}

impl Inner {
    /// Containers that are on a network, running or not, with their place there.
    fn members(&self, network: &Network) -> Vec<(Arc<Container>, Endpoint)> {
        let all = self.all().into_iter();
        all.filter_map(|container| {
            let place = container.lock().networks.get(&network.name).cloned();
            place.map(|place| (container, place))
        })
        .collect()
    }

    fn network_json(&self, network: &Network, containers: bool) -> Value {
        let mut members = serde_json::Map::new();
        if containers {
            for (container, place) in self.members(network) {
                if let Some(ip) = place.ip {
                    let member = json!({
                        "Name": container.lock().name, "EndpointID": place.endpoint_id, "MacAddress": place.mac,
                        "IPv4Address": format!("{ip}/{}", place.prefix), "IPv6Address": "",
                    });
                    members.insert(container.id.clone(), member);
                }
            }
        }
        let config = match (network.subnet, network.gateway) {
            (Some((base, prefix)), Some(gateway)) => {
                let mut config = json!({"Subnet": format!("{base}/{prefix}"), "Gateway": gateway});
                if let Some((base, prefix)) = network.ip_range {
                    config["IPRange"] = json!(format!("{base}/{prefix}"));
                }
                if !network.reserved.is_empty() {
                    config["AuxiliaryAddresses"] = json!(network.reserved);
                }
                json!([config])
            }
            _ => Value::Null,
        };
        json!({
            "Name": network.name, "Id": network.id, "Created": network.created, "Scope": "local",
            "Driver": network.driver, "EnableIPv4": true, "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Options": if network.is_bridge() { json!({}) } else { Value::Null }, "Config": config},
            "Internal": network.internal, "Attachable": network.attachable, "Ingress": false,
            "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": members,
            "Options": network.options, "Labels": network.labels,
        })
    }
}

/// `GET /networks`
pub(crate) async fn list(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let built_in = |network: &Network| network.name == DEFAULT || WITHOUT_BRIDGE.contains(&network.name.as_str());
    let fits = |network: &Network| {
        filters.fits("name", |name| network.name.contains(name))
            && filters.fits("id", |id| network.id.contains(id))
            && filters.fits("driver", |driver| network.driver == driver)
            && filters.fits("scope", |scope| scope == "local")
            && filters.fits("type", |kind| (kind == "builtin") == built_in(network))
            && filters.fits("dangling", |wanted| {
                crate::call::is_true(wanted) == (!built_in(network) && inner.members(network).is_empty())
            })
            && filters.fits_labels(&network.labels)
    };
    let mut all = inner.networks.list();
    all.sort_by(|a, b| a.created.cmp(&b.created));
    let rows: Vec<Value> = all
        .iter()
        .filter(|network| fits(network))
        .map(|network| inner.network_json(network, false))
        .collect();
    ok(&Value::Array(rows))
}

/// `GET /networks/{name}`
pub(crate) async fn inspect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let network = inner.networks.find(call.name())?;
    ok(&inner.network_json(&network, true))
}

/// `DELETE /networks/{name}`
pub(crate) async fn remove(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let network = inner.networks.find(call.name())?;
    remove_one(&inner, network).await?;
    crate::call::nothing()
}

async fn remove_one(inner: &Arc<Inner>, network: Network) -> Answer<()> {
    let active: Vec<String> = inner
        .members(&network)
        .iter()
        .filter(|(_, place)| place.ip.is_some())
        .map(|(container, place)| {
            format!(
                "name:{:?} id:{:?}",
                container.lock().name,
                place.endpoint_id.get(..12).unwrap_or("")
            )
        })
        .collect();
    if !active.is_empty() {
        return Err(ApiError::forbidden(format!(
            "error while removing network: network {} has active endpoints ({})",
            network.name,
            active.join(", ")
        )));
    }
    let (shared, gone) = (Arc::clone(inner), network.clone());
    blocking(move || shared.networks.remove(&gone)).await?;
    let attributes = [("name", network.name.as_str()), ("type", "bridge")];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    inner.events.tell("network", "destroy", &network.id, attributes);
    Ok(())
}

/// `POST /networks/prune`
pub(crate) async fn prune(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let until = match filters.get("until").first() {
        Some(text) => crate::time::parse_past(text)?,
        None => None,
    };
    let mut deleted = Vec::new();
    for network in inner.networks.list() {
        let old = until.is_none_or(|until| crate::time::parse(&network.created).is_ok_and(|at| at < Some(until)));
        let kept = network.name == DEFAULT || !network.is_bridge() || !inner.members(&network).is_empty();
        if !kept && old && filters.fits_labels(&network.labels) {
            deleted.push(network.name.clone());
            remove_one(&inner, network).await?;
        }
    }
    ok(&json!({"NetworksDeleted": if deleted.is_empty() { Value::Null } else { json!(deleted) }}))
}

/// `POST /networks/{name}/connect`
pub(crate) async fn connect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let network = inner.networks.find(call.name())?;
    let body: ConnectBody = call.json().await?;
    let container = inner.find(&body.container)?;
    let config: EndpointConfig = match body.endpoint_config {
        Value::Null => EndpointConfig::default(),
        given => lenient(&given)?,
    };
    let _turn = container.turn.lock().await;
    let record = container.record();
    if record.networks.contains_key(&network.name) {
        return Err(ApiError::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    let shared_mode = record.network_mode() == "host" || record.network_mode().starts_with("container:");
    if !network.is_bridge() || shared_mode {
        return Err(ApiError::invalid(
            "container cannot be connected to host network or disconnected from it, nor share another container's",
        ));
    }
    let endpoint = Endpoint {
        config,
        ..Endpoint::default()
    };
    inner.networks.check(&network.name, &endpoint)?;
    let place = match &record.run {
        Some(run) if record.state.status.is_alive() => {
            let netns = inner
                .engine
                .network_namespace(&SandboxId::from(run.sandbox.as_str()))
                .await?;
            let prefix = network.bridge_options().link_prefix;
            let used: Vec<String> = record.networks.values().map(|place| place.link.clone()).collect();
            let link = (0..).map(|n| format!("{prefix}{n}")).find(|link| !used.contains(link));
            let link = link.unwrap_or_default();
            let alone = !record.networks.values().any(|place| place.ip.is_some());
            let (shared, net) = (Arc::clone(&inner), network.clone());
            blocking(move || shared.networks.connect(&net, &endpoint, &link, alone, netns.as_fd())).await?
        }
        _ => Endpoint {
            network_id: network.id.clone(),
            ..endpoint
        },
    };
    container.change(|record| {
        record.networks.insert(network.name.clone(), place);
    })?;
    tell_network(&inner, &container, &network.id, &network.name, "connect");
    done()
}

/// `POST /networks/{name}/disconnect`
pub(crate) async fn disconnect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let network = inner.networks.find(call.name())?;
    let body: ConnectBody = call.json().await?;
    let container = match inner.find(&body.container) {
        Err(_) if body.force => return done(),
        other => other?,
    };
    let _turn = container.turn.lock().await;
    let place = container.lock().networks.get(&network.name).cloned();
    let Some(place) = place.filter(|_| network.is_bridge()) else {
        return Err(ApiError::forbidden(format!(
            "container {} is not connected to network {}",
            container.id, network.name
        )));
    };
    let shared = Arc::clone(&inner);
    blocking(move || shared.networks.disconnect(&place)).await?;
    container.change(|record| record.networks.remove(&network.name))?;
    tell_network(&inner, &container, &network.id, &network.name, "disconnect");
    done()
}

fn done() -> Answer<Response<Body>> {
    let mut response = reply(StatusCode::OK, &json!({}));
    *response.body_mut() = Body::empty();
    Ok(response)
}
