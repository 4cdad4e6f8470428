//! Endpoints and EndpointSlice.

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field,
        formats::{endpoint_ip, ip, labels, port_number},
    },
};
use serde_json::Value;
use strata_meta::names;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub(super) static ENDPOINTS: Row = Row {
    create_on_update: true,
    columns: &[
        columns::NAME,
        columns::column(
            "Endpoints",
            "string",
            "Addresses and ports behind the service.",
            endpoints_text,
        ),
        columns::AGE,
    ],
    validate: |object, causes| {
        for subset in Field::root(object).at("subsets").items() {
            let lists = ["addresses", "notReadyAddresses"].map(|name| subset.at(name));
            if lists.iter().all(Field::is_empty) {
                causes.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
            }
            for address in lists.iter().flat_map(Field::items) {
                let ip_field = address.at("ip");
                ip_field.problems(causes, ip(ip_field.text()));
                address.at("hostname").if_text(causes, names::dns1123_label);
                address.at("nodeName").where_set(causes, names::dns1123_subdomain);
                ip_field.problems(causes, endpoint_ip(ip_field.text()));
            }
            let ports = subset.at("ports");
            for port in ports.items() {
                let name = port.at("name");
                if ports.len() > 1 || !name.is_empty() {
                    name.needs_text(causes, names::dns1123_label);
                }
                port_number(&port.at("port"), causes);
                port.at("protocol").needs_one_of(causes, PROTOCOLS);
                port.at("appProtocol").where_set(causes, names::qualified_name);
            }
        }
    },
    ..ROW
};

pub(super) static ENDPOINT_SLICES: Row = Row {
    counts_labels: true,
    counts: true,
    columns: &[
        columns::NAME,
        columns::column("AddressType", "string", "IPv4, IPv6 or FQDN.", |cx| {
            columns::text(cx, "addressType")
        }),
        columns::column("Ports", "string", "The ports of the endpoints.", slice_ports),
        columns::column("Endpoints", "string", "The addresses of the endpoints.", |cx| {
            let endpoints = json::list(cx.object, "endpoints").iter();
            let addresses = endpoints.flat_map(|e| json::list(e, "addresses"));
            let texts: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
            columns::first_of(&texts, 3)
        }),
        columns::AGE,
    ],
    validate: slice,
    validate_update: |new, old, causes| {
        Field::root(new)
            .at("addressType")
            .unchanged(causes, &Field::root(old).at("addressType"));
    },
    ..ROW
};

fn endpoints_text(cx: &CellContext<'_>) -> Value {
    const MOST: usize = 3;
    let subsets = json::list(cx.object, "subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut texts = Vec::new();
    for subset in subsets {
        let addresses = || json::list(subset, "addresses").iter().map(|a| json::text(a, "ip"));
        let ports = json::list(subset, "ports");
        if ports.is_empty() {
            texts.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let number = json::int(port, "port").unwrap_or(0);
            texts.extend(addresses().map(|a| match a.contains(':') {
                true => format!("[{a}]:{number}"),
                false => format!("{a}:{number}"),
            }));
        }
    }
    if texts.is_empty() {
        "".into()
    } else {
        columns::first_of(&texts, MOST)
    }
}

fn slice_ports(cx: &CellContext<'_>) -> Value {
    let shown = |port: &Value| match (json::int(port, "port"), json::get(port, "name").and_then(Value::as_str)) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    let texts: Vec<String> = json::list(cx.object, "ports").iter().map(shown).collect();
    columns::first_of(&texts, 3)
}

fn slice(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let kind = root.at("addressType");
    kind.needs_one_of(causes, &["FQDN", "IPv4", "IPv6"]);
    let ports = root.at("ports");
    if ports.len() > 20_000 {
        causes.push(ports.too_many(20_000));
    }
    let mut seen = Vec::new();
    for port in ports.items() {
        let name = port.at("name");
        name.if_text(causes, names::dns1123_label);
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        }
        seen.push(name.text());
        if port.at("protocol").is_set() {
            port.at("protocol").if_one_of(causes, PROTOCOLS);
        } else {
            causes.push(port.at("protocol").required(""));
        }
        port.at("appProtocol").where_set(causes, names::qualified_name);
    }
    let endpoints = root.at("endpoints");
    if endpoints.len() > 1000 {
        causes.push(endpoints.too_many(1000));
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.at("addresses");
        if addresses.is_empty() {
            causes.push(addresses.required("must contain at least 1 address"));
        } else if addresses.len() > 100 {
            causes.push(addresses.too_many(100));
        }
        for address in addresses.items() {
            slice_address(kind.text(), &addresses, &address, causes);
        }
        endpoint.at("nodeName").where_set(causes, names::dns1123_subdomain);
        labels(&endpoint.at("deprecatedTopology"), causes);
        endpoint.at("hostname").where_set(causes, names::dns1123_label);
        hints(&endpoint.at("hints"), causes);
    }
}

/// `hints`: zones are label values, nodes are names of nodes.
fn hints(hints: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 8;
    for (list, rule) in [
        ("forZones", names::label_value as fn(&str) -> Vec<String>),
        ("forNodes", names::dns1123_subdomain),
    ] {
        let list = hints.at(list);
        if list.len() > MOST {
            causes.push(list.too_many(MOST));
            continue;
        }
        let mut seen = Vec::new();
        for name in list.items().map(|hint| hint.at("name")) {
            if seen.contains(&name.text()) {
                causes.push(name.duplicate());
            } else {
                name.fits(causes, rule);
            }
            seen.push(name.text());
        }
    }
}

fn slice_address(kind: &str, list: &Field<'_>, address: &Field<'_>, causes: &mut Causes) {
    let text = address.text();
    if kind == "FQDN" {
        address.problems(causes, names::dns1123_subdomain(text));
        return;
    }
    let problems = ip(text);
    if !problems.is_empty() {
        address.problems(causes, problems);
        return;
    }
    if text.contains(':') != (kind == "IPv6") {
        causes.push(list.invalid_as(text, format_args!("must be an {kind} address")));
    }
    address.problems(causes, endpoint_ip(text));
}
