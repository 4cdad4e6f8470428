//! Service: addresses and node ports are the allocator's; here is what may be asked and what may change.

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row, field},
};
use crate::{
    json,
    validate::{
        Field, NameRule,
        formats::{cidr, endpoint_ip, ip, labels, port_number, port_number_or_name},
    },
};
use serde_json::Value;
use strata_meta::{StatusCause, names};

pub(super) static SERVICES: Row = Row {
    validate_status: |new, _, causes| {
        let balancer = Field::root(new).at("status.loadBalancer");
        if json::text(new, "spec.type") == "LoadBalancer" {
            crate::validate::status::load_balancer(&balancer, true, causes);
        } else if !balancer.at("ingress").is_empty() {
            let why = "may only be used when `spec.type` is 'LoadBalancer'";
            causes.push(balancer.at("ingress").forbidden(why));
        }
    },
    warnings: |new, _| warnings(new),
    fields: &[field("spec.clusterIP"), field("spec.type")],
    // RelaxedServiceNameValidation is on by default since 1.36.
    rule: NameRule::Label,
    create_on_update: true,
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("Type", "string", "How the service is exposed.", |cx| {
            columns::text(cx, "spec.type")
        }),
        columns::column(
            "Cluster-IP",
            "string",
            "The address of the service in the cluster.",
            |cx| {
                let first = json::list(cx.object, "spec.clusterIPs").first().and_then(Value::as_str);
                columns::or_none(first.unwrap_or(json::text(cx.object, "spec.clusterIP")))
            },
        ),
        columns::column(
            "External-IP",
            "string",
            "The addresses of the service outside the cluster.",
            external,
        ),
        columns::column("Port(s)", "string", "The ports of the service.", ports_text),
        columns::AGE,
        columns::wide("Selector", "string", "Labels of the pods behind the service.", |cx| {
            columns::labels_text(json::get(cx.object, "spec.selector"))
        }),
    ],
    prepare_create: |object| {
        let address = json::text(object, "spec.clusterIP").to_owned();
        if !address.is_empty() && json::get(object, "spec.clusterIPs").is_none() {
            json::set(object, "spec.clusterIPs", serde_json::json!([address]));
        }
    },
    prepare_update: drop_what_the_type_lacks,
    validate,
    validate_update,
    ..ROW
};

fn external(cx: &CellContext<'_>) -> Value {
    let mut addresses: Vec<&str> = Vec::new();
    let kind = json::text(cx.object, "spec.type");
    match kind {
        "ExternalName" => return columns::text(cx, "spec.externalName"),
        "LoadBalancer" => {
            for ingress in json::list(cx.object, "status.loadBalancer.ingress") {
                let (ip, hostname) = (json::text(ingress, "ip"), json::text(ingress, "hostname"));
                let shown = if ip.is_empty() { hostname } else { ip };
                if !shown.is_empty() && !addresses.contains(&shown) {
                    addresses.push(shown);
                }
            }
        }
        "ClusterIP" | "NodePort" => {}
        _ => return "<unknown>".into(),
    }
    addresses.extend(
        json::list(cx.object, "spec.externalIPs")
            .iter()
            .filter_map(Value::as_str),
    );
    match (addresses.is_empty(), kind) {
        (true, "LoadBalancer") => "<pending>".into(),
        _ => columns::or_none(&addresses.join(",")),
    }
}

fn ports_text(cx: &CellContext<'_>) -> Value {
    let shown = |port: &Value| {
        let (number, protocol) = (json::int(port, "port").unwrap_or(0), json::text(port, "protocol"));
        match json::int(port, "nodePort").unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    };
    let texts: Vec<String> = json::list(cx.object, "spec.ports").iter().map(shown).collect();
    columns::or_none(&texts.join(","))
}

fn needs_node_port(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

/// What was allocated stays where the client leaves it out; the two fields of addresses follow each other.
fn keep_allocated(new: &mut Value, old: &Value, now: &str, was: &str) {
    let same = |new: &Value, path: &str| json::same(new, old, path);
    if !same(new, "spec.clusterIP") && same(new, "spec.clusterIPs") {
        match json::text(new, "spec.clusterIP").to_owned() {
            address if address.is_empty() => {
                json::remove(new, "spec.clusterIPs");
            }
            address => json::set(new, "spec.clusterIPs", serde_json::json!([address])),
        }
    }
    if now != "ExternalName" && was != "ExternalName" {
        for (path, absent) in [
            ("spec.clusterIP", json::text(new, "spec.clusterIP").is_empty()),
            ("spec.clusterIPs", json::list(new, "spec.clusterIPs").is_empty()),
        ] {
            if absent {
                json::copy(old, new, path);
            }
        }
    }
    if needs_health_check(old) && needs_health_check(new) && json::int(new, "spec.healthCheckNodePort").is_none() {
        json::copy(old, new, "spec.healthCheckNodePort");
    }
}

/// A change of type wipes what the new type does not have, unless the client has just set it.
fn drop_what_the_type_lacks(new: &mut Value, old: &Value) {
    let (now, was) = (
        json::text(new, "spec.type").to_owned(),
        json::text(old, "spec.type").to_owned(),
    );
    let same = |new: &Value, path: &str| json::same(new, old, path);
    keep_allocated(new, old, &now, &was);
    if now == "ExternalName" && was != "ExternalName" {
        if same(new, "spec.clusterIP") {
            json::remove(new, "spec.clusterIP");
            json::remove(new, "spec.clusterIPs");
        }
        for path in ["spec.ipFamilies", "spec.ipFamilyPolicy"] {
            if same(new, path) {
                json::remove(new, path);
            }
        }
    }
    if needs_node_port(&was) && !needs_node_port(&now) && same_node_ports(new, old) {
        let ports = new
            .get_mut("spec")
            .and_then(|s| s.get_mut("ports"))
            .and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            json::remove(port, "nodePort");
        }
    }
    if needs_health_check(old) && !needs_health_check(new) && same(new, "spec.healthCheckNodePort") {
        json::remove(new, "spec.healthCheckNodePort");
    }
    if was == "LoadBalancer" && now != "LoadBalancer" {
        for path in ["spec.allocateLoadBalancerNodePorts", "spec.loadBalancerClass"] {
            if same(new, path) {
                json::remove(new, path);
            }
        }
        json::remove(new, "status.loadBalancer");
    }
    if is_external(old) && !is_external(new) && same(new, "spec.externalTrafficPolicy") {
        json::remove(new, "spec.externalTrafficPolicy");
    }
}

fn same_node_ports(new: &Value, old: &Value) -> bool {
    let numbers = |object: &Value| {
        let ports = json::list(object, "spec.ports").iter();
        let mut numbers: Vec<i64> = ports
            .filter_map(|p| json::int(p, "nodePort"))
            .filter(|n| *n != 0)
            .collect();
        numbers.sort_unstable();
        numbers
    };
    // A client that leaves them out has not asked for others.
    numbers(new).is_empty() || numbers(new) == numbers(old)
}

fn needs_health_check(object: &Value) -> bool {
    json::text(object, "spec.type") == "LoadBalancer" && json::text(object, "spec.externalTrafficPolicy") == "Local"
}

fn is_external(object: &Value) -> bool {
    let kind = json::text(object, "spec.type");
    needs_node_port(kind) || (kind == "ClusterIP" && !json::list(object, "spec.externalIPs").is_empty())
}

fn validate(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    let kind = spec.at("type").text();
    let addresses = spec.at("clusterIPs");
    let headless = addresses.items().next().is_some_and(|a| a.text() == "None");
    if spec.at("ports").is_empty() && !headless && kind != "ExternalName" {
        causes.push(spec.at("ports").required(""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let first = addresses.items().next();
            let why = format!("may not be set to 'None' for {kind} services");
            causes.extend(first.map(|f| f.invalid(why)));
        }
        "ExternalName" => external_name(&spec, causes),
        _ => {}
    }
    ports(&spec, kind, causes);
    labels(&spec.at("selector"), causes);
    affinity(&spec, causes);
    if kind != "ExternalName" {
        cluster_addresses(&spec, causes);
    }
    for address in spec.at("externalIPs").items() {
        let problems = ip(address.text());
        let problems = if problems.is_empty() {
            endpoint_ip(address.text())
        } else {
            problems
        };
        address.problems(causes, problems);
    }
    spec.at("type")
        .needs_one_of(causes, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    balancing(object, &spec, kind, causes);
    traffic(object, &spec, kind, causes);
}

fn external_name(spec: &Field<'_>, causes: &mut Causes) {
    for member in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let field = spec.at(member);
        if !field.is_empty() {
            causes.push(field.forbidden("may not be set for ExternalName services"));
        }
    }
    let name = spec.at("externalName");
    let bare = name.text().strip_suffix('.').unwrap_or(name.text());
    if bare.is_empty() {
        causes.push(name.required(""));
    } else {
        name.problems(causes, names::dns1123_subdomain(bare));
    }
}

fn ports(spec: &Field<'_>, kind: &str, causes: &mut Causes) {
    let list = spec.at("ports");
    let many = list.len() > 1;
    let mut seen: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.at("name");
        if many || !name.is_empty() {
            name.needs_text(causes, names::dns1123_label);
            if !name.is_empty() && seen.contains(&name.text()) {
                causes.push(name.duplicate());
            }
            seen.push(name.text());
        }
        port_number(&port.at("port"), causes);
        port.at("protocol").needs_one_of(causes, &["SCTP", "TCP", "UDP"]);
        port_number_or_name(&port.at("targetPort"), causes);
        port.at("appProtocol").where_set(causes, names::qualified_name);
    }
    let (mut nodes, mut numbers) = (Vec::new(), Vec::new());
    for port in list.items() {
        let protocol = port.at("protocol").text();
        let node = port.at("nodePort");
        if let Some(number) = node.int().filter(|n| *n != 0) {
            if kind == "ClusterIP" {
                causes.push(node.forbidden("may not be used when `type` is 'ClusterIP'"));
            }
            if nodes.contains(&(number, protocol)) {
                causes.push(node.duplicate());
            }
            nodes.push((number, protocol));
        }
        let number = port.at("port").int().unwrap_or(0);
        if numbers.contains(&(number, protocol)) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{protocol:?},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
            );
            let cause = port.duplicate();
            let message = format!("Duplicate value: {shown}");
            causes.push(StatusCause { message, ..cause });
        }
        numbers.push((number, protocol));
    }
}

/// k8s.io/kubernetes/pkg/api/service/warnings.go.
fn warnings(service: &Value) -> Vec<String> {
    let root = Field::root(service);
    let spec = root.at("spec");
    let (kind, outside) = (spec.at("type").text(), !spec.at("externalIPs").is_empty());
    let headless = kind == "ClusterIP" && spec.at("clusterIP").text() == "None";
    let external = kind == "ExternalName";
    let hints = root
        .at("metadata.annotations")
        .key("service.kubernetes.io/topology-aware-hints");
    let cases = [
        (
            hints.is_set(),
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
        ),
        (
            headless && !spec.at("loadBalancerIP").is_empty(),
            "spec.loadBalancerIP is ignored for headless services",
        ),
        (headless && outside, "spec.externalIPs is ignored for headless services"),
        (
            headless && spec.at("sessionAffinity").text() != "None",
            "spec.SessionAffinity is ignored for headless services",
        ),
        (
            outside && !headless && !external,
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        ),
        (
            outside && external,
            "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
        ),
        (
            !external && !spec.at("externalName").is_empty(),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
        (
            spec.at("trafficDistribution").text() == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
    ];
    let given = cases.iter().filter(|(holds, _)| *holds);
    given.map(|(_, why)| (*why).to_owned()).collect()
}

fn affinity(spec: &Field<'_>, causes: &mut Causes) {
    let (kind, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    kind.needs_one_of(causes, &["ClientIP", "None"]);
    match kind.text() {
        "ClientIP" => {
            let seconds = config.at("clientIP.timeoutSeconds");
            match seconds.int() {
                None => causes.push(seconds.required("when session affinity type is ClientIP")),
                Some(1..=86_400) => {}
                Some(_) => causes.push(seconds.invalid("must be greater than 0 and less than 86400")),
            }
        }
        "None" if config.is_set() => {
            causes.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn cluster_addresses(spec: &Field<'_>, causes: &mut Causes) {
    let (one, all) = (spec.at("clusterIP"), spec.at("clusterIPs"));
    let first = all.items().next();
    match (one.is_empty(), &first) {
        (false, None) => causes.push(all.required("")),
        (false, Some(first)) if first.text() != one.text() => {
            causes.push(all.invalid("first value must match `clusterIP`"));
        }
        (true, Some(_)) => causes.push(all.invalid("must be empty when `clusterIP` is not specified")),
        _ => {}
    }
    let mut seen = Vec::new();
    for family in spec.at("ipFamilies").items() {
        family.if_one_of(causes, &["IPv4", "IPv6"]);
        if seen.contains(&family.text()) {
            causes.push(family.duplicate());
        }
        seen.push(family.text());
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    spec.at("ipFamilyPolicy").if_one_of(causes, &policies);
    if first.is_some_and(|f| f.text() == "None") {
        if all.len() > 1 {
            causes.push(all.invalid("'None' must be the first and only value"));
        }
        return;
    }
    for address in all.items() {
        address.problems(causes, ip(address.text()));
    }
    if all.len() > 2 {
        causes.push(all.invalid("may only hold up to 2 values"));
    }
    for (i, (address, family)) in all.items().zip(spec.at("ipFamilies").items()).enumerate() {
        let is_six = address.text().contains(':');
        if ip(address.text()).is_empty() && is_six != (family.text() == "IPv6") {
            let (article, name) = if is_six { ("an", "IPv4") } else { ("an", "IPv6") };
            causes.push(address.invalid(format_args!(
                "expected {article} {name} value as indicated by `ipFamilies[{i}]`"
            )));
        }
    }
}

fn balancing(object: &Value, spec: &Field<'_>, kind: &str, causes: &mut Causes) {
    let balanced = kind == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec
        .at("loadBalancerSourceRanges")
        .named("spec.LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        causes.push(ranges.forbidden(only));
    }
    for range in ranges.items() {
        range.problems(causes, cidr(range.text().trim()));
    }
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let annotation = Field::root(object).at("metadata.annotations").key(ANNOTATION);
    if ranges.is_empty() && annotation.is_set() {
        if !balanced {
            causes.push(annotation.forbidden(only));
        }
        let parts = annotation.text().split(',').map(str::trim).filter(|p| !p.is_empty());
        for part in parts {
            causes.extend(cidr(part).iter().map(|why| annotation.invalid_as(part, why)));
        }
    }
    let allocate = spec.at("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !balanced {
        causes.push(allocate.forbidden(only));
    }
    let class = spec.at("loadBalancerClass");
    if class.is_set() && !balanced {
        causes.push(class.forbidden(only));
    }
    class.where_set(causes, names::qualified_name);
}

fn traffic(object: &Value, spec: &Field<'_>, kind: &str, causes: &mut Causes) {
    let policies = ["Cluster", "Local"];
    let outer = spec.at("externalTrafficPolicy");
    if is_external(object) {
        outer.needs_one_of(causes, &policies);
    } else if !outer.is_empty() {
        causes.push(outer.invalid("may only be set for externally-accessible services"));
    }
    let check = spec.at("healthCheckNodePort");
    let number = check.int().unwrap_or(0);
    if !needs_health_check(object) {
        if number != 0 {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            causes.push(check.invalid(why));
        }
    } else if number != 0 {
        // The server chooses one where none is given.
        port_number(&check, causes);
    }
    let inner = spec.at("internalTrafficPolicy");
    if !inner.is_set() && matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        causes.push(inner.required(""));
    }
    inner.if_one_of(causes, &policies);
    let spread = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.at("trafficDistribution").if_one_of(causes, &spread);
}

fn validate_update(new: &Value, old: &Value, causes: &mut Causes) {
    let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
    let named = |field: &Field<'_>| field.at("type").text() == "ExternalName";
    if !named(&now) && !named(&was) {
        let (list, before) = (now.at("clusterIPs"), was.at("clusterIPs"));
        let (first, had) = (list.items().next(), before.items().next());
        if let Some(had) = had {
            let path = format!("{}[0]", list.path());
            match first {
                None => causes.push(list.named(path).invalid("primary clusterIP can not be unset")),
                Some(first) if first.text() != had.text() => {
                    causes.push(list.named(path).invalid("may not change once set"));
                }
                Some(_) => {}
            }
        }
        let (family, before) = (now.at("ipFamilies"), was.at("ipFamilies"));
        if let (Some(first), Some(had)) = (family.items().next(), before.items().next())
            && first.text() != had.text()
        {
            causes.push(
                first
                    .named(format!("{}[0]", family.path()))
                    .invalid("may not change once set"),
            );
        }
    }
    let (class, before) = (now.at("loadBalancerClass"), was.at("loadBalancerClass"));
    let balanced = |field: &Field<'_>| field.at("type").text() == "LoadBalancer";
    if balanced(&now) && balanced(&was) && class.value() != before.value() {
        causes.push(class.invalid("may not change once set"));
    }
    let (check, before) = (now.at("healthCheckNodePort"), was.at("healthCheckNodePort"));
    if needs_health_check(new) && needs_health_check(old) && check.value() != before.value() {
        causes.push(check.forbidden("field is immutable"));
    }
}
