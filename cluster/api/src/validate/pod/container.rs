//! Containers, init containers and ephemeral containers.

use super::{Causes, environment, handlers, mounts, resources, security, volumes::Volumes};
use crate::validate::{
    Field,
    formats::{port_name, port_number},
};
use strata_meta::names;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];

/// `spec.containers`.
pub(super) fn containers(spec: &Field<'_>, volumes: &Volumes<'_>, causes: &mut Causes) {
    let list = spec.at("containers");
    if list.is_empty() {
        causes.push(list.required(""));
        return;
    }
    let mut seen = Vec::new();
    for container in list.items() {
        common(spec, &container, volumes, causes);
        let name = container.at("name");
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        }
        seen.push(name.text());
        handlers::lifecycle_and_probes(spec, &container, causes);
        restart_policy(&container, causes);
    }
    host_port_conflicts(list.items(), causes);
}

/// `spec.initContainers`.
pub(super) fn init_containers(spec: &Field<'_>, volumes: &Volumes<'_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = spec.at("containers").items().map(|c| c.at("name").text()).collect();
    for container in spec.at("initContainers").items() {
        common(spec, &container, volumes, causes);
        restart_policy(&container, causes);
        let name = container.at("name");
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        } else if !name.is_empty() {
            seen.push(name.text());
        }
        host_port_conflicts(std::iter::once(container.clone()), causes);
        if container.at("restartPolicy").text() == "Always" {
            handlers::lifecycle_and_probes(spec, &container, causes);
            continue;
        }
        for member in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            let field = container.at(member);
            if field.is_set() {
                causes.push(field.forbidden("may not be set for init containers without restartPolicy=Always"));
            }
        }
        for policy in container.at("resizePolicy").items() {
            let restart = policy.at("restartPolicy");
            if restart.text() == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                causes.push(restart.invalid(why));
            }
        }
    }
}

/// What an ephemeral container may not have.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// `spec.ephemeralContainers`.
pub(super) fn ephemeral_containers(spec: &Field<'_>, volumes: &Volumes<'_>, causes: &mut Causes) {
    let others: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.at(list).items())
        .map(|c| c.at("name").text())
        .collect();
    let mut seen = others.clone();
    for container in spec.at("ephemeralContainers").items() {
        common(spec, &container, volumes, causes);
        let image = container.at("image");
        if image.text().trim() != image.text() {
            causes.push(image.invalid("must not have leading or trailing whitespace"));
        }
        let name = container.at("name");
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        }
        seen.push(name.text());
        let target = container.at("targetContainerName");
        if !target.is_empty() && !others.contains(&target.text()) {
            causes.push(target.not_found());
        }
        let ephemeral = "cannot be set for an Ephemeral Container";
        let forbidden = NOT_EPHEMERAL.iter().map(|member| container.at(member));
        causes.extend(forbidden.filter(|f| !f.is_empty()).map(|f| f.forbidden(ephemeral)));
        for mount in container.at("volumeMounts").items() {
            let paths = ["subPath", "subPathExpr"].map(|p| mount.at(p));
            causes.extend(paths.iter().filter(|p| !p.is_empty()).map(|p| p.forbidden(ephemeral)));
        }
    }
}

fn common(spec: &Field<'_>, container: &Field<'_>, volumes: &Volumes<'_>, causes: &mut Causes) {
    container.at("name").needs_text(causes, names::dns1123_label);
    container.at("image").needs(causes);
    let policies = ["File", "FallbackToLogsOnError"];
    container.at("terminationMessagePolicy").needs_one_of(causes, &policies);
    ports(&container.at("ports"), causes);
    environment::variables(&container.at("env"), causes);
    environment::sources(&container.at("envFrom"), causes);
    mounts::mounts(container, volumes, causes);
    mounts::devices(container, volumes, causes);
    let pull = ["Always", "IfNotPresent", "Never"];
    container.at("imagePullPolicy").needs_one_of(causes, &pull);
    resources::container(spec, &container.at("resources"), causes);
    resize_policy(spec, &container.at("resizePolicy"), causes);
    security::container(spec, &container.at("securityContext"), causes);
}

fn ports(list: &Field<'_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.at("name");
        if !name.is_empty() {
            let problems = port_name(name.text());
            if problems.is_empty() && seen.contains(&name.text()) {
                causes.push(name.duplicate());
            }
            name.problems(causes, problems);
            seen.push(name.text());
        }
        let number = port.at("containerPort");
        if number.int().unwrap_or(0) == 0 {
            causes.push(number.required(""));
        } else {
            port_number(&number, causes);
        }
        if port.at("hostPort").int().unwrap_or(0) != 0 {
            port_number(&port.at("hostPort"), causes);
        }
        port.at("protocol").needs_one_of(causes, PROTOCOLS);
    }
}

fn host_port_conflicts<'v>(containers: impl Iterator<Item = Field<'v>>, causes: &mut Causes) {
    let mut seen: Vec<String> = Vec::new();
    for container in containers {
        for port in container.at("ports").items() {
            let host = port.at("hostPort");
            let number = host.int().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.at("protocol").text(), port.at("hostIP").text());
            if seen.contains(&key) {
                causes.push(host.duplicate_as(key));
            } else {
                seen.push(key);
            }
        }
    }
}

/// KEP-5307.
fn restart_policy(container: &Field<'_>, causes: &mut Causes) {
    let (policy, rules) = (container.at("restartPolicy"), container.at("restartPolicyRules"));
    if policy.is_set() {
        policy.if_one_of(causes, RESTART_POLICIES);
    } else if !rules.is_empty() {
        causes.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.len() > 20 {
        causes.push(rules.too_many(20));
    }
    for rule in rules.items() {
        rule.at("action")
            .if_one_of(causes, &["Restart", "RestartAllContainers"]);
        let codes = rule.at("exitCodes");
        if codes.is_set() {
            codes.at("operator").if_one_of(causes, &["In", "NotIn"]);
            if codes.at("values").len() > 255 {
                causes.push(codes.at("values").too_many(255));
            }
        } else {
            causes.push(codes.required("must be specified"));
        }
    }
}

fn resize_policy(spec: &Field<'_>, list: &Field<'_>, causes: &mut Causes) {
    let never = spec.at("restartPolicy").text() == "Never";
    let mut seen = Vec::new();
    for policy in list.items() {
        let (resource, restart) = (policy.at("resourceName"), policy.at("restartPolicy"));
        if seen.contains(&resource.text()) {
            causes.push(policy.duplicate_as(resource.text()));
        }
        seen.push(resource.text());
        resource.named(list.path()).needs_one_of(causes, &["cpu", "memory"]);
        let known = ["NotRequired", "RestartContainer"];
        restart.named(list.path()).needs_one_of(causes, &known);
        if never && restart.text() != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            causes.push(restart.named(list.path()).invalid(why));
        }
    }
}
