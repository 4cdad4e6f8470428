//! Ingress, IngressClass, NetworkPolicy.

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field, NameRule,
        formats::{
            cidr, domain_prefixed_path, label_selector, port_name, port_number, port_number_or_name, wildcard_subdomain,
        },
    },
};
use serde_json::Value;
use std::net::IpAddr;
use strata_meta::names;

pub(super) static INGRESSES: Row = Row {
    validate_status: |new, _, causes| {
        let balancer = Field::root(new).at("status.loadBalancer");
        crate::validate::status::load_balancer(&balancer, false, causes);
    },
    counts: true,
    warnings: |new, old| {
        const ANNOTATION: &str = "kubernetes.io/ingress.class";
        let root = Field::root(new);
        let set = root.at("metadata.annotations").key(ANNOTATION).is_set();
        match old.is_none() && set && !root.at("spec.ingressClassName").is_set() {
            true => vec![format!(
                "annotation {ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            )],
            false => Vec::new(),
        }
    },
    columns: &[
        columns::NAME,
        columns::column("Class", "string", "Which controller serves it", |cx| {
            columns::or_none(json::text(cx.object, "spec.ingressClassName"))
        }),
        columns::column("Hosts", "string", "The hosts it is about", hosts),
        columns::column("Address", "string", "Where it is served", |cx| {
            let points = json::list(cx.object, "status.loadBalancer.ingress").iter();
            let shown = points.map(|p| match json::text(p, "ip") {
                "" => json::text(p, "hostname"),
                ip => ip,
            });
            let texts: Vec<&str> = shown.filter(|t| !t.is_empty()).collect();
            texts.join(",").into()
        }),
        columns::column("Ports", "string", "The ports it opens", |cx| {
            let tls = !json::list(cx.object, "spec.tls").is_empty();
            if tls { "80, 443" } else { "80" }.into()
        }),
        columns::AGE,
    ],
    validate: ingress,
    ..ROW
};

pub(super) static INGRESS_CLASSES: Row = Row {
    counts: true,
    columns: &[
        super::Column {
            format: "name",
            ..columns::column("Name", "string", "Name must be unique within a namespace.", |cx| {
                columns::name_or_default(cx, "ingressclass.kubernetes.io/is-default-class")
            })
        },
        columns::column("Controller", "string", "Who serves the class", |cx| {
            columns::text(cx, "spec.controller")
        }),
        columns::column("Parameters", "string", "An object with more settings", |cx| {
            let Some(parameters) = json::get(cx.object, "spec.parameters") else {
                return "<none>".into();
            };
            let group = json::text(parameters, "apiGroup");
            let dot = if group.is_empty() { "" } else { "." };
            format!(
                "{}{dot}{group}/{}",
                json::text(parameters, "kind"),
                json::text(parameters, "name")
            )
            .into()
        }),
        columns::AGE,
    ],
    validate: ingress_class,
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new), Field::root(old));
        now.at("spec.controller").unchanged(causes, &was.at("spec.controller"));
    },
    ..ROW
};

pub(super) static NETWORK_POLICIES: Row = Row {
    counts: true,
    columns: &[
        columns::NAME,
        columns::column("Pod-Selector", "string", "The pods it is about.", |cx| {
            columns::selector_text(json::get(cx.object, "spec.podSelector"))
        }),
        columns::AGE,
    ],
    validate: network_policy,
    ..ROW
};

pub(super) static SERVICE_CIDRS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("CIDRs", "string", "The ranges.", |cx| columns::joined(cx, "spec.cidrs")),
        columns::AGE,
    ],
    validate_create: |object, causes| service_ranges(&Field::root(object).at("spec.cidrs"), causes),
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new).at("spec.cidrs"), Field::root(old).at("spec.cidrs"));
        let grows = was.len() == 1 && now.len() == 2;
        if now.len() != was.len() && !grows {
            causes.push(now.invalid("field is immutable"));
            return;
        }
        for (range, before) in now.items().zip(was.items()) {
            if range.text() != before.text() {
                causes.push(range.invalid("field is immutable"));
            }
        }
        if grows {
            service_ranges(&now, causes);
        }
    },
    ..ROW
};

pub(super) static ADDRESSES: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("ParentRef", "string", "What has the address.", |cx| {
            let part = |name: &str| json::text(cx.object, &format!("spec.parentRef.{name}"));
            let dot = if part("group").is_empty() { "" } else { "." };
            let slash = if part("namespace").is_empty() { "" } else { "/" };
            format!(
                "{}{dot}{}{slash}{}/{}",
                part("resource"),
                part("group"),
                part("namespace"),
                part("name")
            )
            .into()
        }),
    ],
    rule: NameRule::IpAddress,
    validate_create: |object, causes| {
        let parent = Field::root(object).at("spec.parentRef");
        if !parent.is_set() {
            causes.push(parent.required(""));
            return;
        }
        parent.at("group").if_text(causes, names::dns1123_subdomain);
        for name in ["resource", "name"] {
            parent.at(name).needs_text(causes, names::path_segment);
        }
        parent.at("namespace").if_text(causes, names::path_segment);
    },
    validate_update: |new, old, causes| {
        let (now, was) = (
            Field::root(new).at("spec.parentRef"),
            Field::root(old).at("spec.parentRef"),
        );
        if !json::equal(Some(now.value()), Some(was.value())) {
            let text = |name: &str| Value::from(now.at(name).text());
            let shown = format!(
                "{{\"Group\":{},\"Resource\":{},\"Namespace\":{},\"Name\":{}}}",
                text("group"),
                text("resource"),
                text("namespace"),
                text("name")
            );
            causes.push(now.invalid_shown(shown, "field is immutable"));
        }
        if !now.is_set() {
            causes.push(now.required(""));
        } else {
            ["resource", "name"].iter().for_each(|name| now.at(name).needs(causes));
        }
    },
    ..ROW
};

fn ingress_class(object: &Value, causes: &mut Causes) {
    const LONGEST: usize = 250;
    let spec = Field::root(object).at("spec");
    let (controller, parameters) = (spec.at("controller"), spec.at("parameters"));
    if controller.text().len() > LONGEST {
        causes.push(controller.too_long(LONGEST));
    }
    domain_prefixed_path(&controller, causes);
    if !parameters.is_set() {
        return;
    }
    parameters.at("apiGroup").where_set(causes, names::dns1123_subdomain);
    for name in ["kind", "name"] {
        parameters.at(name).needs_text(causes, names::path_segment);
    }
    let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
    match scope.text() {
        _ if !scope.is_set() => causes.push(scope.required("")),
        "Namespace" if !namespace.is_set() => {
            causes.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => namespace.problems(causes, names::dns1123_label(namespace.text())),
        "Cluster" if namespace.is_set() => {
            causes.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        _ => scope.if_one_of(causes, &["Cluster", "Namespace"]),
    }
}

/// `spec.cidrs` of a ServiceCIDR: one of each family.
fn service_ranges(list: &Field<'_>, causes: &mut Causes) {
    let families: Vec<bool> = list.items().map(|range| range.text().contains(':')).collect();
    match families.as_slice() {
        [] => {
            causes.push(list.required("at least one CIDR required"));
            return;
        }
        [_] => {}
        [first, second] if first != second => {}
        more => {
            let both = "i.e 192.168.0.0/24 and 2001:db8::/64";
            if more.len() > 2 {
                causes.push(list.invalid(format_args!("may only hold up to 2 values, {both}")));
            } else {
                let why = format!("may specify no more than one IP for each IP family, {both}");
                causes.push(list.invalid(why));
            }
        }
    }
    for range in list.items() {
        range.problems(causes, cidr(range.text()));
    }
}

fn hosts(cx: &CellContext<'_>) -> Value {
    let rules = json::list(cx.object, "spec.rules").iter();
    let texts: Vec<String> = rules
        .map(|r| json::text(r, "host"))
        .filter(|h| !h.is_empty())
        .map(str::to_owned)
        .collect();
    if texts.is_empty() {
        "*".into()
    } else {
        columns::first_of(&texts, 3)
    }
}

fn host_name(field: &Field<'_>, causes: &mut Causes) {
    if field.text().contains('*') {
        field.problems(causes, wildcard_subdomain(field.text()));
    } else {
        field.problems(causes, names::dns1123_subdomain(field.text()));
    }
}

fn ingress(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    let (rules, default) = (spec.at("rules"), spec.at("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        causes.push(spec.invalid_as(
            rules.value().clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if default.is_set() {
        backend(&default, causes);
    }
    for rule in rules.items() {
        let host = rule.at("host");
        if !host.is_empty() {
            if host.text().parse::<IpAddr>().is_ok() {
                causes.push(host.invalid("must be a DNS name, not an IP address"));
            }
            host_name(&host, causes);
        }
        let http = rule.at("http");
        if http.is_set() {
            http.at("paths").needs(causes);
        }
        for path in http.at("paths").items() {
            ingress_path(&path, causes);
        }
    }
    for tls in spec.at("tls").items() {
        for host in tls.at("hosts").items() {
            host_name(&host, causes);
        }
        tls.at("secretName").if_text(causes, names::dns1123_subdomain);
    }
    spec.at("ingressClassName").where_set(causes, names::dns1123_subdomain);
}

fn ingress_path(entry: &Field<'_>, causes: &mut Causes) {
    let (kind, path) = (entry.at("pathType"), entry.at("path"));
    if !kind.is_set() {
        causes.push(kind.required("pathType must be specified"));
        return;
    }
    let text = path.text();
    let relative = !text.starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if relative {
                causes.push(path.invalid("must be an absolute path"));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"]
                .iter()
                .filter(|p| text.contains(**p))
            {
                causes.push(path.invalid(format_args!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].iter().filter(|e| text.ends_with(**e)) {
                causes.push(path.invalid(format_args!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" if !text.is_empty() && relative => {
            causes.push(path.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => causes.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&entry.at("backend"), causes);
}

fn backend(field: &Field<'_>, causes: &mut Causes) {
    let (resource, service) = (field.at("resource"), field.at("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => causes.push(field.invalid_as("", "cannot set both resource and service backends")),
        (true, false) => {
            resource.at("apiGroup").where_set(causes, names::dns1123_subdomain);
            resource.at("kind").needs(causes);
            resource.at("name").needs(causes);
        }
        (false, true) => {
            service.at("name").needs_text(causes, names::dns1123_label);
            let (name, number) = (service.at("port.name"), service.at("port.number"));
            match (name.is_empty(), number.int().unwrap_or(0) == 0) {
                (false, false) => causes.push(field.invalid_as("", "cannot set both port name & port number")),
                (false, true) => name.problems(causes, port_name(name.text())),
                (true, false) => port_number(&number, causes),
                (true, true) => causes.push(field.required("port name or number is required")),
            }
        }
        (false, false) => causes.push(field.invalid_as("", "resource or service backend is required")),
    }
}

fn network_policy(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    label_selector(&spec.at("podSelector"), causes);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.at(direction).items() {
            for port in rule.at("ports").items() {
                policy_port(&port, causes);
            }
            for peer in rule.at(peers).items() {
                policy_peer(&peer, causes);
            }
        }
    }
    let types = spec.at("policyTypes");
    if types.len() > 2 {
        causes.push(types.invalid("may not specify more than two policyTypes"));
    }
    for kind in types.items() {
        kind.if_one_of(causes, &["Ingress", "Egress"]);
    }
}

fn policy_port(port: &Field<'_>, causes: &mut Causes) {
    port.at("protocol").if_one_of(causes, &["TCP", "UDP", "SCTP"]);
    let (first, last) = (port.at("port"), port.at("endPort"));
    if first.is_set() {
        port_number_or_name(&first, causes);
    }
    if !last.is_set() {
        return;
    }
    match (first.is_set(), first.int()) {
        (false, _) => causes.push(last.invalid("may not be specified when `port` is not specified")),
        (true, None) => causes.push(last.invalid("may not be specified when `port` is non-numeric")),
        (true, Some(number)) => {
            if last.int().is_some_and(|n| n < number) {
                causes.push(last.invalid_as(number, "must be greater than or equal to `port`"));
            }
            port_number(&last, causes);
        }
    }
}

fn policy_peer(peer: &Field<'_>, causes: &mut Causes) {
    let selectors = ["podSelector", "namespaceSelector"].map(|name| peer.at(name));
    let selected = selectors.iter().any(Field::is_set);
    for selector in &selectors {
        label_selector(selector, causes);
    }
    let block = peer.at("ipBlock");
    match (selected, block.is_set()) {
        (false, false) => causes.push(peer.required("must specify a peer")),
        (true, true) => causes.push(peer.forbidden("may not specify both ipBlock and another peer")),
        _ => {}
    }
    if !block.is_set() {
        return;
    }
    let range = block.at("cidr");
    range.needs_text(causes, cidr);
    for except in block.at("except").items() {
        let problems = cidr(except.text());
        if problems.is_empty() && !is_inside(except.text(), range.text()) {
            causes.push(except.invalid("must be a strict subset of `cidr`"));
        }
        except.problems(causes, problems);
    }
}

/// Whether a network is a smaller part of another; true when the other cannot be read.
fn is_inside(inner: &str, outer: &str) -> bool {
    let read = |text: &str| -> Option<(u128, u32, u32)> {
        let (address, length) = text.split_once('/')?;
        let length: u32 = length.parse().ok()?;
        Some(match address.parse().ok()? {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), length, 32),
            IpAddr::V6(v6) => (u128::from(v6), length, 128),
        })
    };
    let (Some(inner), Some(outer)) = (read(inner), read(outer)) else {
        return true;
    };
    let shift = outer.2.saturating_sub(outer.1);
    let prefix = |address: u128| address.checked_shr(shift).unwrap_or(0);
    inner.2 == outer.2 && inner.1 > outer.1 && prefix(inner.0) == prefix(outer.0)
}

#[cfg(test)]
mod tests {
    use super::is_inside;

    #[test]
    fn exceptions_are_smaller_parts() {
        assert!(is_inside("10.1.0.0/16", "10.0.0.0/8"));
        assert!(!is_inside("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!is_inside("11.0.0.0/16", "10.0.0.0/8"));
        assert!(is_inside("2001:db8::/64", "::/0"));
    }
}
