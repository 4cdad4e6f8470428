//! Pods and pod templates (k8s.io/kubernetes/pkg/apis/core/validation `ValidatePodSpec`).
//!
//! Every function adds causes for one part of the spec, in upstream's order, under upstream's paths.

mod container;
mod environment;
mod handlers;
mod mounts;
mod resize;
mod resources;
mod scheduling;
mod security;
mod update;
mod volumes;
mod warnings;

pub(crate) use resize::{keep_resizable, resize};
pub(crate) use resources::{
    amount, container_resource_name, is_extended_resource, is_standard_quota_resource, resource_name,
};
pub(crate) use scheduling::{node_selector, taint_effect, tolerations};
pub(crate) use update::{ephemeral_containers_update, pod_update, status_update};

use super::{
    Field,
    formats::{annotations, ip, labels},
};
use strata_meta::{StatusCause, names};
use volumes::Volumes;
pub(crate) use warnings::pod_warnings;

/// What a problem list is called here.
type Causes = Vec<StatusCause>;

/// A pod that is made or changed.
pub(crate) fn pod(root: &Field<'_>, causes: &mut Causes) {
    let spec = root.at("spec");
    let name = root.at("metadata.name");
    pod_spec(&spec, name.text(), true, causes);
    if spec.at("serviceAccountName").is_empty() {
        for volume in spec.at("volumes").items() {
            for source in volume.at("projected").at("sources").items() {
                let token = source.at("serviceAccountToken");
                if token.is_set() {
                    causes.push(token.forbidden("must not be specified when serviceAccountName is not set"));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec.at(list).items() {
            let image = container.at("image");
            if image.text().trim() != image.text() {
                causes.push(image.invalid("must not have leading or trailing whitespace"));
            }
        }
    }
}

/// What a new pod may not have yet.
pub(crate) fn pod_create(root: &Field<'_>, causes: &mut Causes) {
    let spec = root.at("spec");
    if !spec.at("ephemeralContainers").is_empty() {
        causes.push(spec.at("ephemeralContainers").forbidden("cannot be set on create"));
    }
    if !spec.at("nodeName").is_empty() && !spec.at("schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        causes.push(spec.at("nodeName").forbidden(why));
    }
}

/// A pod template of a workload.
pub(crate) fn pod_template(template: &Field<'_>, causes: &mut Causes) {
    let path = template.path().to_owned();
    // Upstream leaves `metadata` out of these two paths.
    labels(&template.at("metadata.labels").named(format!("{path}.labels")), causes);
    annotations(
        &template.at("metadata.annotations").named(format!("{path}.annotations")),
        causes,
    );
    let spec = template.at("spec");
    pod_spec(&spec, "", false, causes);
    if !spec.at("ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        causes.push(spec.at("ephemeralContainers").forbidden(why));
    }
}

fn pod_spec(spec: &Field<'_>, pod_name: &str, is_pod: bool, causes: &mut Causes) {
    let volumes = Volumes::check(&spec.at("volumes"), pod_name, causes);
    resource_claims(&spec.at("resourceClaims"), causes);
    container::containers(spec, &volumes, causes);
    container::init_containers(spec, &volumes, causes);
    container::ephemeral_containers(spec, &volumes, causes);
    resources::pod_level(spec, causes);
    if spec.at("hostNetwork").flag() {
        host_network_ports(spec, is_pod, causes);
    }
    let restart = ["Always", "OnFailure", "Never"];
    spec.at("restartPolicy").needs_one_of(causes, &restart);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    spec.at("dnsPolicy").needs_one_of(causes, &dns);
    labels(&spec.at("nodeSelector"), causes);
    security::pod(spec, causes);
    scheduling::affinity(&spec.at("affinity"), causes);
    dns_config(spec, causes);
    for gate in spec.at("readinessGates").items() {
        let kind = gate.at("conditionType");
        kind.problems(causes, names::qualified_name(kind.text()));
    }
    scheduling::gates(&spec.at("schedulingGates"), causes);
    scheduling::spread(&spec.at("topologySpreadConstraints"), causes);
    security::user_namespace(spec, causes);
    naming(spec, causes);
    scheduling::tolerations(&spec.at("tolerations"), causes);
    host_aliases(&spec.at("hostAliases"), causes);
    for class in ["priorityClassName", "runtimeClassName"] {
        spec.at(class).if_text(causes, names::dns1123_subdomain);
    }
    let preemption = ["PreemptLowerPriority", "Never"];
    spec.at("preemptionPolicy").if_one_of(causes, &preemption);
    let overhead = spec.at("overhead");
    for (name, value) in overhead.entries() {
        resources::container_resource_name(name, &value, causes);
        resources::amount(name, &value, causes);
    }
    operating_system(spec, causes);
    environment::files(spec, causes);
}

fn naming(spec: &Field<'_>, causes: &mut Causes) {
    hostname_override(spec, causes);
    spec.at("serviceAccountName").if_text(causes, names::dns1123_subdomain);
    spec.at("nodeName").if_text(causes, names::dns1123_subdomain);
    let deadline = spec.at("activeDeadlineSeconds");
    deadline.within(causes, 1, i64::from(i32::MAX));
    spec.at("hostname").if_text(causes, names::dns1123_label);
    spec.at("subdomain").if_text(causes, names::dns1123_label);
}

fn hostname_override(spec: &Field<'_>, causes: &mut Causes) {
    let hostname = spec.at("hostnameOverride");
    if !hostname.is_set() {
        return;
    }
    if spec.at("setHostnameAsFQDN").flag() {
        causes.push(hostname.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.at("hostNetwork").flag() {
        causes.push(hostname.forbidden("may not be specified when hostNetwork is true"));
    }
    if hostname.text().len() > 64 {
        causes.push(hostname.too_long(64));
    }
    hostname.problems(causes, names::dns1123_subdomain(hostname.text()));
}

fn operating_system(spec: &Field<'_>, causes: &mut Causes) {
    let os = spec.at("os");
    if !os.is_set() {
        return;
    }
    let name = os.at("name");
    if name.is_empty() {
        causes.push(name.required(""));
    } else {
        // Upstream names the struct.
        name.named(os.path()).if_one_of(causes, &["linux", "windows"]);
    }
}

fn host_network_ports(spec: &Field<'_>, is_pod: bool, causes: &mut Causes) {
    for container in spec.at("containers").items() {
        for port in container.at("ports").items() {
            let (host, inner) = (port.at("hostPort"), port.at("containerPort"));
            let number = host.int().unwrap_or(0);
            if (is_pod || number != 0) && number != inner.int().unwrap_or(0) {
                let why = "must match `containerPort` when `hostNetwork` is true";
                causes.push(host.invalid_as(number, why));
            }
        }
    }
}

fn host_aliases(aliases: &Field<'_>, causes: &mut Causes) {
    for alias in aliases.items() {
        let address = alias.at("ip");
        address.problems(causes, ip(address.text()));
        for hostname in alias.at("hostnames").items() {
            hostname.problems(causes, names::dns1123_subdomain(hostname.text()));
        }
    }
}

fn dns_config(spec: &Field<'_>, causes: &mut Causes) {
    let config = spec.at("dnsConfig");
    let servers = config.at("nameservers");
    if spec.at("dnsPolicy").text() == "None" {
        if !config.is_set() {
            causes.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            causes.push(servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
            return;
        }
    }
    if servers.len() > 3 {
        causes.push(servers.invalid("must not have more than 3 nameservers"));
    }
    for server in servers.items() {
        server.problems(causes, ip(server.text()));
    }
    let searches = config.at("searches");
    if searches.len() > 32 {
        causes.push(searches.invalid("must not have more than 32 search paths"));
    }
    let characters: usize = searches.items().map(|s| s.text().len() + 1).sum();
    if characters > 2049 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        causes.push(searches.invalid(why));
    }
    for search in searches.items().filter(|s| s.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        search.problems(causes, names::dns1123_subdomain_with_underscore(name));
    }
    for option in config.at("options").items() {
        if option.at("name").is_empty() {
            causes.push(option.required("must not be empty"));
        }
    }
}

fn resource_claims(claims: &Field<'_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for claim in claims.items() {
        let name = claim.at("name");
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        } else {
            name.needs_text(causes, names::dns1123_label);
            seen.push(name.text());
        }
        let (claim_name, template) = (claim.at("resourceClaimName"), claim.at("resourceClaimTemplateName"));
        let shown = || {
            let (name, claim, template) = (name.text(), claim_name.value(), template.value());
            format!("{{\"Name\":{name:?},\"ResourceClaimName\":{claim},\"ResourceClaimTemplateName\":{template}}}")
        };
        match (claim_name.is_set(), template.is_set()) {
            (true, true) => causes.push(claim.invalid_shown(
                shown(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
            (false, false) => causes.push(claim.invalid_shown(
                shown(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )),
            _ => {}
        }
        for reference in [claim_name, template].into_iter().filter(Field::is_set) {
            reference.problems(causes, names::dns1123_subdomain(reference.text()));
        }
    }
}

#[cfg(test)]
mod tests;
