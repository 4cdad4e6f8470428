//! What the author of a pod or template should change, though it is accepted
//! (k8s.io/kubernetes/pkg/api/pod/warnings.go).

use crate::validate::Field;
use std::collections::BTreeMap;
use strata_meta::names;

const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Labels of nodes that have another name now.
const OLD_NODE_LABELS: &[(&str, &str)] = &[
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const OLD_VOLUMES: &[(&str, &str, &str)] = &[
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Of a pod, or of a template at its path.
pub(crate) fn pod_warnings(root: &Field<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let (spec, annotations) = (root.at("spec"), root.at("metadata.annotations"));
    node_labels(&spec, &mut out);
    for (key, why) in OLD_ANNOTATIONS {
        let annotation = annotations.key(key);
        if annotation.is_set() {
            out.push(format!("{}: {why}", annotation.path()));
        }
    }
    volumes(&spec.at("volumes"), &mut out);
    repeated(&spec.at("hostAliases"), "ip", &mut out);
    repeated(&spec.at("imagePullSecrets"), "name", &mut out);
    for secret in spec.at("imagePullSecrets").items().map(|s| s.at("name")) {
        if secret.is_empty() {
            out.push(format!("{}: invalid empty name \"\"", secret.path()));
        }
    }
    for name in ["memory", "ephemeral-storage"] {
        fraction(&spec.at("overhead").key(name), &mut out);
    }
    let seccomp = annotations.key("seccomp.security.alpha.kubernetes.io/pod");
    if seccomp.is_set() && !spec.at("securityContext.seccompProfile").is_set() {
        out.push(replaced(&seccomp, "non-functional in v1.27+", "seccompProfile"));
    }
    let containers: Vec<Field<'_>> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| spec.at(list).items())
        .collect();
    for container in &containers {
        of_container(root, container, &annotations, &mut out);
    }
    ports(&containers, &mut out);
    let grace = spec.at("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|n| n < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        out.push(format!("{}: {why}", grace.path()));
    }
    null_selectors(&spec, &mut out);
    out
}

fn replaced(annotation: &Field<'_>, since: &str, field: &str) -> String {
    format!("{}: {since}; use the \"{field}\" field instead", annotation.path())
}

fn old_label(key: &str) -> Option<&'static str> {
    OLD_NODE_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

fn node_labels(spec: &Field<'_>, out: &mut Vec<String>) {
    for (key, field) in spec.at("nodeSelector").entries() {
        out.extend(old_label(key).map(|why| format!("{}: {why}", field.path())));
    }
    let affinity = spec.at("affinity.nodeAffinity");
    let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    for term in required.items() {
        node_term(&term, false, out);
    }
    for term in affinity.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
        node_term(&term.at("preference"), true, out);
    }
    for constraint in spec.at("topologySpreadConstraints").items() {
        let (key, selector) = (constraint.at("topologyKey"), constraint.at("labelSelector"));
        out.extend(old_label(key.text()).map(|why| format!("{}: {} is {why}", key.path(), key.text())));
        if !selector.is_set() {
            out.push(format!("{}: {NULL_SELECTOR}", selector.path()));
        }
    }
}

fn node_term(term: &Field<'_>, checks_values: bool, out: &mut Vec<String>) {
    for expression in term.at("matchExpressions").items() {
        let key = expression.at("key");
        out.extend(old_label(key.text()).map(|why| format!("{}: {} is {why}", key.path(), key.text())));
        for value in expression.at("values").items().filter(|_| checks_values) {
            for why in names::label_value(value.text()) {
                out.push(format!("{}: {} is invalid, {why}", value.path(), value.text()));
            }
        }
    }
}

fn volumes(list: &Field<'_>, out: &mut Vec<String>) {
    for volume in list.items() {
        for (name, shown, why) in OLD_VOLUMES {
            if volume.at(name).is_set() {
                out.push(format!("{}.{shown}: {why}", volume.path()));
            }
        }
    }
    for volume in list.items() {
        let name = volume.at("name").text();
        for (kind, label) in [
            ("configMap", "ConfigMap"),
            ("secret", "Secret"),
            ("downwardAPI", "DownwardAPI"),
        ] {
            let source = volume.at(kind);
            let of = match kind {
                "configMap" => format!("{label} {:?}", source.at("name").text()),
                "secret" => format!("{label} {:?}", source.at("secretName").text()),
                _ => label.to_owned(),
            };
            let paths: Vec<(String, String)> = source
                .at("items")
                .items()
                .map(|i| (path_of(&i), String::new()))
                .collect();
            overlaps(name, &of, &paths, out);
        }
        projected(name, &volume.at("projected.sources"), out);
    }
}

fn path_of(item: &Field<'_>) -> String {
    item.at("path").text().trim_end_matches('/').to_owned()
}

fn projected(volume: &str, sources: &Field<'_>, out: &mut Vec<String>) {
    let mut paths = Vec::new();
    for source in sources.items() {
        if source.is_empty() {
            out.push(format!("volume {volume:?} (Projected) has no sources provided"));
            continue;
        }
        for (kind, label) in [
            ("configMap", "ConfigMap"),
            ("secret", "Secret"),
            ("downwardAPI", "DownwardAPI"),
        ] {
            let given = source.at(kind);
            let of = match kind {
                "downwardAPI" => label.to_owned(),
                _ => format!("{label} {:?}", given.at("name").text()),
            };
            paths.extend(given.at("items").items().map(|item| (path_of(&item), of.clone())));
        }
        let token = source.at("serviceAccountToken");
        if token.is_set() {
            paths.push((path_of(&token), "ServiceAccountToken".to_owned()));
        }
    }
    overlaps(volume, "Projected", &paths, out);
}

fn overlaps(volume: &str, of: &str, paths: &[(String, String)], out: &mut Vec<String>) {
    let shown = |(path, source): &(String, String)| match source.as_str() {
        "" => format!("{path:?}"),
        source => format!("{path:?} ({source})"),
    };
    let inside = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    for (i, one) in paths.iter().enumerate() {
        for other in &paths[..i] {
            if inside(&one.0, &other.0) || inside(&other.0, &one.0) {
                let pair = format!("{} with {}", shown(one), shown(other));
                out.push(format!("volume {volume:?} ({of}): overlapping paths: {pair}"));
            }
        }
    }
}

fn repeated(list: &Field<'_>, member: &str, out: &mut Vec<String>) {
    let mut seen = Vec::new();
    for field in list.items().map(|item| item.at(member)) {
        if seen.contains(&field.text()) {
            out.push(format!("{}: duplicate {member} {:?}", field.path(), field.text()));
        }
        seen.push(field.text());
    }
}

fn fraction(amount: &Field<'_>, out: &mut Vec<String>) {
    if let Some(quantity) = amount.quantity().filter(|q| q.milli_value() % 1000 != 0) {
        let text = quantity.to_string();
        out.push(format!(
            "{}: fractional byte value {text:?} is invalid, must be an integer",
            amount.path()
        ));
    }
}

fn of_container(root: &Field<'_>, container: &Field<'_>, annotations: &Field<'_>, out: &mut Vec<String>) {
    let name = container.at("name").text();
    let seccomp = annotations.key(&format!("container.seccomp.security.alpha.kubernetes.io/{name}"));
    if seccomp.is_set() && !container.at("securityContext.seccompProfile").is_set() {
        out.push(replaced(&seccomp, "non-functional in v1.27+", "seccompProfile"));
    }
    let armor = annotations.key(&format!("container.apparmor.security.beta.kubernetes.io/{name}"));
    // Of pods the field is filled in from the annotation.
    let is_template = !root.path().is_empty();
    if is_template && armor.is_set() && !container.at("securityContext.appArmorProfile").is_set() {
        out.push(replaced(&armor, "deprecated since v1.30", "appArmorProfile"));
    }
    for (name, list) in [
        ("memory", "limits"),
        ("memory", "requests"),
        ("ephemeral-storage", "limits"),
        ("ephemeral-storage", "requests"),
    ] {
        fraction(&container.at("resources").at(list).key(name), out);
    }
    let mut seen = Vec::new();
    for variable in container.at("env").items() {
        let (name, value) = (variable.at("name").text(), variable.at("value").text());
        let reference = format!("$({name})");
        let hides = variable.at("valueFrom").is_set() || value == reference || !value.contains(&reference);
        if seen.contains(&name) && hides {
            let why = "which may be dropped when using apply";
            out.push(format!(
                "{}: hides previous definition of {name:?}, {why}",
                variable.path()
            ));
        }
        seen.push(name);
    }
}

fn ports(containers: &[Field<'_>], out: &mut Vec<String>) {
    let all = || containers.iter().flat_map(|c| c.at("ports").items());
    let mut seen: BTreeMap<(i64, &str), Vec<Field<'_>>> = BTreeMap::new();
    for port in all() {
        let number = |port: &Field<'_>, name: &str| port.at(name).int().unwrap_or(0);
        let (ip, host) = (port.at("hostIP").text(), number(&port, "hostPort"));
        let (inner, protocol) = (number(&port, "containerPort"), port.at("protocol").text());
        if !ip.is_empty() && host == 0 {
            let name = port.at("name").text();
            out.push(format!(
                "{}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{inner} Protocol:{protocol} HostIP:{ip}}}",
                port.path()
            ));
        }
        let others = seen.entry((inner, protocol)).or_default();
        for other in others.iter() {
            let (other_ip, other_host) = (other.at("hostIP").text(), number(other, "hostPort"));
            let what = if ip == other_ip && host == other_host {
                "duplicate"
            } else if host == 0 || other_host == 0 {
                "overlapping"
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            out.push(format!("{}: {what} port definition with {}", port.path(), other.path()));
        }
        others.push(port);
    }
    let mut named: BTreeMap<&str, String> = BTreeMap::new();
    for port in all().filter(|p| !p.at("name").is_empty()) {
        let name = port.at("name").text();
        if let Some(other) = named.get(name) {
            let path = port.path();
            out.push(format!(
                "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
            ));
        } else {
            named.insert(name, port.path().to_owned());
        }
    }
}

fn null_selectors(spec: &Field<'_>, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(kind);
        let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution").items();
        let preferred = affinity.at("preferredDuringSchedulingIgnoredDuringExecution").items();
        for term in required.chain(preferred.map(|term| term.at("podAffinityTerm"))) {
            let selector = term.at("labelSelector");
            if !selector.is_set() {
                out.push(format!("{}: {NULL_SELECTOR}", selector.path()));
            }
        }
    }
}
