//! What names lead to: the Kubernetes DNS specification as a table.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::Arc;

use strata_dns::{Answer, DnsService, DnsSlice, Index, Zone};
use strata_meta::ObjectKey;
use strata_net::dns::{Message, Question, RecordData, class, kind, rcode};

const SERVICES: &[(&str, &str, &str)] = &[
    (
        "default",
        "kubernetes",
        r#"{"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}"#,
    ),
    (
        "shop",
        "web",
        r#"{"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 9}]}"#,
    ),
    (
        "shop",
        "db",
        r#"{"clusterIP": "None", "ports": [{"name": "sql", "port": 1}]}"#,
    ),
    ("shop", "empty", r#"{"clusterIP": "None"}"#),
    (
        "shop",
        "away",
        r#"{"type": "ExternalName", "externalName": "example.org"}"#,
    ),
    (
        "shop",
        "near",
        r#"{"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}"#,
    ),
    (
        "shop",
        "circle",
        r#"{"type": "ExternalName", "externalName": "circle.shop.svc.cluster.local"}"#,
    ),
];

const SLICES: &[(&str, &str, &str)] = &[
    (
        "shop",
        "db",
        r#"[{"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.1.6"], "conditions": {}},
            {"addresses": ["10.244.1.7"], "hostname": "db-2", "conditions": {"ready": false}}]"#,
    ),
    ("shop", "web", r#"[{"addresses": ["10.244.1.8"]}]"#),
];

fn index() -> Index {
    let mut index = Index::default();
    for (namespace, name, spec) in SERVICES {
        let service: DnsService = serde_json::from_str(&format!(r#"{{"spec": {spec}}}"#)).unwrap();
        index.set_service(&ObjectKey::new(namespace, name), Some(Arc::new(service)));
    }
    for (namespace, service, endpoints) in SLICES {
        let slice = slice(service, endpoints);
        index.set_slice(&ObjectKey::new(namespace, &format!("{service}-x")), None, Some(&slice));
    }
    index
}

fn slice(service: &str, endpoints: &str) -> Arc<DnsSlice> {
    let text = format!(
        r#"{{"metadata": {{"labels": {{"kubernetes.io/service-name": "{service}"}}}},
             "endpoints": {endpoints}, "ports": [{{"name": "sql", "port": 5432, "protocol": "TCP"}}]}}"#
    );
    Arc::new(serde_json::from_str::<DnsSlice>(&text).unwrap())
}

/// The answer in one line.
fn ask(index: &Index, name: &str, kind: u16) -> String {
    let zone = Zone::new("cluster.local").unwrap();
    let question = Question {
        name: name.parse().unwrap(),
        kind,
        class: class::IN,
    };
    let answer = zone.answer(index, &question);
    let reply = zone.reply(&Message::query(1, question), &answer);
    let reply = Message::parse(&reply.encode(65_535)).unwrap();
    match &answer {
        Answer::Forward => return "forward".into(),
        Answer::Elsewhere { target, .. } => return format!("elsewhere {target}"),
        Answer::NoSuchName => assert_eq!(reply.rcode, rcode::NXDOMAIN),
        Answer::Records { .. } => assert_eq!(reply.rcode, rcode::NOERROR),
    }
    assert!(reply.authoritative);
    if reply.answers.is_empty() {
        assert!(
            matches!(reply.authorities[0].data, RecordData::Soa { .. }),
            "absence comes with the zone's SOA"
        );
    }
    if answer == Answer::NoSuchName {
        return "no such name".into();
    }
    let mut texts: Vec<String> = reply.answers.iter().map(|record| text(&record.data)).collect();
    texts.sort();
    texts.join(", ")
}

fn text(data: &RecordData) -> String {
    match data {
        RecordData::A(ip) => ip.to_string(),
        RecordData::Aaaa(ip) => ip.to_string(),
        RecordData::Ptr(name) | RecordData::Ns(name) => name.to_string(),
        RecordData::Cname(name) => format!("alias {name}"),
        RecordData::Srv {
            priority,
            weight,
            port,
            target,
        } => format!("{priority} {weight} {port} {target}"),
        RecordData::Txt(text) => String::from_utf8(text.clone()).unwrap(),
        RecordData::Soa { primary, .. } => format!("soa {primary}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn names_of_services_endpoints_and_pods_lead_where_the_specification_says() {
    let index = index();
    let cases = [
        ("kubernetes.default.svc.cluster.local", kind::A, "10.96.0.1"),
        ("KUBERNETES.Default.svc.CLUSTER.local", kind::A, "10.96.0.1"),
        ("kubernetes.default.svc.cluster.local", kind::AAAA, ""),
        ("web.shop.svc.cluster.local", kind::AAAA, "fd00::7"),
        ("web.default.svc.cluster.local", kind::A, "no such name"),
        ("web.shop", kind::A, "forward"),
        ("web.shop.svc.cluster.local.example.org", kind::A, "forward"),
        (
            "_https._tcp.kubernetes.default.svc.cluster.local",
            kind::SRV,
            "0 100 443 kubernetes.default.svc.cluster.local.",
        ),
        (
            "_dns._udp.web.shop.svc.cluster.local",
            kind::SRV,
            "0 100 53 web.shop.svc.cluster.local.",
        ),
        ("_dns._tcp.web.shop.svc.cluster.local", kind::SRV, "no such name"),
        ("_http._tcp.web.shop.svc.cluster.local", kind::A, ""),
        ("http.tcp.web.shop.svc.cluster.local", kind::SRV, "no such name"),
        ("db.shop.svc.cluster.local", kind::A, "10.244.1.5, 10.244.1.6"),
        ("db.shop.svc.cluster.local", kind::AAAA, ""),
        ("db-0.db.shop.svc.cluster.local", kind::A, "10.244.1.5"),
        ("10-244-1-6.db.shop.svc.cluster.local", kind::A, "10.244.1.6"),
        ("db-2.db.shop.svc.cluster.local", kind::A, "no such name"),
        ("10-244-1-8.web.shop.svc.cluster.local", kind::A, "10.244.1.8"),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            kind::SRV,
            "0 50 5432 10-244-1-6.db.shop.svc.cluster.local., 0 50 5432 db-0.db.shop.svc.cluster.local.",
        ),
        ("empty.shop.svc.cluster.local", kind::A, "no such name"),
        ("away.shop.svc.cluster.local", kind::CNAME, "alias example.org."),
        ("away.shop.svc.cluster.local", kind::A, "elsewhere example.org."),
        (
            "near.shop.svc.cluster.local",
            kind::A,
            "10.96.0.7, alias web.shop.svc.cluster.local.",
        ),
        (
            "circle.shop.svc.cluster.local",
            kind::A,
            "alias circle.shop.svc.cluster.local.",
        ),
        ("10-244-3-9.shop.pod.cluster.local", kind::A, "10.244.3.9"),
        ("10-244-3-9.shop.pod.cluster.local", kind::AAAA, ""),
        ("10-244-3.shop.pod.cluster.local", kind::A, "no such name"),
        ("name.shop.pod.cluster.local", kind::A, "no such name"),
        ("cluster.local", kind::SOA, "soa ns.dns.cluster.local."),
        ("cluster.local", kind::NS, "ns.dns.cluster.local."),
        ("svc.cluster.local", kind::A, ""),
        ("shop.svc.cluster.local", kind::A, ""),
        ("nowhere.svc.cluster.local", kind::A, "no such name"),
        ("example.cluster.local", kind::A, "no such name"),
        ("dns-version.cluster.local", kind::TXT, "1.1.0"),
        ("7.0.96.10.in-addr.arpa", kind::PTR, "web.shop.svc.cluster.local."),
        ("5.1.244.10.in-addr.arpa", kind::PTR, "db-0.db.shop.svc.cluster.local."),
        ("7.1.244.10.in-addr.arpa", kind::PTR, "forward"),
        ("1.2.0.192.in-addr.arpa", kind::PTR, "forward"),
        ("0.96.10.in-addr.arpa", kind::PTR, "forward"),
        (
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            kind::PTR,
            "web.shop.svc.cluster.local.",
        ),
        ("example.org", kind::A, "forward"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(&index, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn changes_of_objects_change_every_way_to_them() {
    let mut index = index();
    let key = ObjectKey::new("shop", "web");
    let moved = r#"{"spec": {"clusterIP": "10.96.0.8"}}"#;
    index.set_service(&key, Some(Arc::new(serde_json::from_str::<DnsService>(moved).unwrap())));
    assert_eq!(ask(&index, "web.shop.svc.cluster.local", kind::A), "10.96.0.8");
    assert_eq!(ask(&index, "7.0.96.10.in-addr.arpa", kind::PTR), "forward");
    assert_eq!(
        ask(&index, "8.0.96.10.in-addr.arpa", kind::PTR),
        "web.shop.svc.cluster.local."
    );
    index.set_service(&key, None);
    assert_eq!(ask(&index, "web.shop.svc.cluster.local", kind::A), "no such name");

    let (name, old) = (ObjectKey::new("shop", "db-x"), slice("db", SLICES[0].2));
    let new = slice("db", r#"[{"addresses": ["10.244.2.2"]}]"#);
    index.set_slice(&name, Some(&old), Some(&new));
    assert_eq!(ask(&index, "db.shop.svc.cluster.local", kind::A), "10.244.2.2");
    assert_eq!(ask(&index, "5.1.244.10.in-addr.arpa", kind::PTR), "forward");
    index.set_slice(&name, Some(&new), None);
    assert_eq!(ask(&index, "db.shop.svc.cluster.local", kind::A), "no such name");

    for (namespace, name, _) in SERVICES {
        index.set_service(&ObjectKey::new(namespace, name), None);
    }
    assert_eq!(ask(&index, "shop.svc.cluster.local", kind::A), "no such name");
}
