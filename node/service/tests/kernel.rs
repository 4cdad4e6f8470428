//! Services through real tables: real pods on real links, real TCP and UDP. Needs root.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod world;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use world::{World, service, slice};

const TRIES: usize = 80;

#[test]
fn a_cluster_address_spreads_over_endpoints_for_pods_the_host_and_an_endpoint_itself() {
    let mut world = World::new("spread");
    for pod in ["a", "b", "client"] {
        world.pod(pod);
    }
    world.serve("a", 8080);
    world.serve("b", 8080);
    let web = service(r#"{"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}"#);
    world.set(
        "web",
        Some(web),
        vec![slice(&[world.endpoint("a", true), world.endpoint("b", true)], 8080)],
    );

    let seen: HashSet<String> = (0..TRIES)
        .map(|_| world.ask("client", "10.96.0.7:80").unwrap())
        .collect();
    let client = world.ip("client");
    assert_eq!(
        seen,
        HashSet::from([format!("a {client}"), format!("b {client}")]),
        "both, with the client's address"
    );
    let seen: HashSet<String> = (0..TRIES).map(|_| world.ask("host", "10.96.0.7:80").unwrap()).collect();
    assert_eq!(seen.len(), 2, "from the host, which has no default route: {seen:?}");
    let seen: HashSet<String> = (0..TRIES).map(|_| world.ask("a", "10.96.0.7:80").unwrap()).collect();
    let gateway = "10.244.1.1";
    assert_eq!(
        seen,
        HashSet::from([format!("a {gateway}"), format!("b {}", world.ip("a"))]),
        "also itself"
    );
}

#[test]
fn a_service_without_endpoints_and_an_unknown_address_are_refused_at_once() {
    let mut world = World::new("refuse");
    world.pod("client");
    let ports = r#""ports": [{"port": 80, "nodePort": 30080}, {"name": "u", "port": 53, "protocol": "UDP"}]"#;
    let web = format!(r#"{{"type": "NodePort", "clusterIP": "10.96.0.7", {ports}}}"#);
    world.set("web", Some(service(&web)), Vec::new());
    for (from, to) in [
        ("client", "10.96.0.7:80"),
        ("host", "10.96.0.7:80"),
        ("outside", "172.30.0.1:30080"),
        ("client", "172.30.0.1:30080"),
        ("client", "10.96.0.99:80"),
        ("host", "10.96.0.7:81"),
    ] {
        let start = Instant::now();
        let error = world.ask(from, to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{from} to {to}");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(
        world.ask_udp("client", "10.96.0.7:53").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );

    world.serve("client", 8080);
    let (client, host) = (world.endpoint("client", true), service(&web));
    world.set("web", Some(host), vec![slice(&[client], 8080)]);
    world.ask("host", "10.96.0.7:80").unwrap();
    world.set("web", None, Vec::new());
    assert_eq!(
        world.ask("host", "10.96.0.7:80").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn outside_traffic_is_masqueraded_unless_the_policy_is_local() {
    let mut world = World::new("outside");
    world.default_route();
    world.pod("a");
    world.pod("client");
    world.serve("a", 8080);
    let spec = |policy: &str| {
        service(&format!(
            r#"{{"type": "LoadBalancer", "clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.7"],
                 "externalTrafficPolicy": "{policy}", "ports": [{{"port": 80, "nodePort": 30080}}]}}"#
        ))
    };
    let mut cluster = spec("Cluster");
    cluster.status.load_balancer.ingress = vec![world::ingress("172.30.0.1")];
    let here = vec![slice(&[world.endpoint("a", true)], 8080)];
    world.set("web", Some(cluster), here.clone());
    for to in ["172.30.0.1:30080", "172.30.0.1:80", "192.0.2.7:80"] {
        assert_eq!(world.ask("outside", to).unwrap(), "a 10.244.1.1", "{to}");
        world.ask("client", to).unwrap();
        world.ask("host", to).unwrap();
    }
    world.set("web", Some(spec("Local")), here);
    for to in ["172.30.0.1:30080", "192.0.2.7:80"] {
        assert_eq!(world.ask("outside", to).unwrap(), "a 172.30.0.2", "{to}");
    }
    // The endpoint is elsewhere now: outside is dropped, inside is served all the same.
    let mut elsewhere = world.endpoint("a", true);
    elsewhere.node_name = Some("other".into());
    world.set("web", Some(spec("Local")), vec![slice(&[elsewhere], 8080)]);
    for to in ["172.30.0.1:30080", "192.0.2.7:80"] {
        assert_eq!(
            world.ask("outside", to).unwrap_err().kind(),
            ErrorKind::TimedOut,
            "{to}"
        );
        assert_eq!(
            world.ask("client", to).unwrap(),
            format!("a {}", world.ip("client")),
            "{to}"
        );
        world.ask("host", to).unwrap();
    }
}

#[test]
fn a_load_balancer_admits_only_its_source_ranges() {
    let mut world = World::new("ranges");
    world.pod("a");
    world.serve("a", 8080);
    let mut spec = |ranges: &str| {
        let mut web = service(&format!(
            r#"{{"type": "LoadBalancer", "clusterIP": "10.96.0.7", "ports": [{{"port": 80}}],
                 "loadBalancerSourceRanges": {ranges}}}"#
        ));
        web.status.load_balancer.ingress = vec![world::ingress("192.0.2.7")];
        let endpoints = vec![slice(&[world.endpoint("a", true)], 8080)];
        world.set("web", Some(web), endpoints);
        world.ask("outside", "192.0.2.7:80")
    };
    spec(r#"["172.30.0.0/16", "172.30.0.2/32", "10.0.0.0/8"]"#).unwrap();
    assert_eq!(spec(r#"["10.0.0.0/8"]"#).unwrap_err().kind(), ErrorKind::TimedOut);
    spec("[]").unwrap();
}

#[test]
fn a_client_keeps_its_endpoint_until_that_endpoint_goes() {
    let mut world = World::new("sticky");
    for pod in ["a", "b", "c", "client"] {
        world.pod(pod);
        world.serve(pod, 8080);
    }
    let spec = r#"{"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP", "ports": [{"port": 80}],
                   "type": "NodePort", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}"#;
    let mut pods = vec!["a", "b", "c"];
    while !pods.is_empty() {
        let endpoints: Vec<_> = pods.iter().map(|pod| world.endpoint(pod, true)).collect();
        world.set("web", Some(service(spec)), vec![slice(&endpoints, 8080)]);
        let seen: HashSet<String> = (0..TRIES)
            .map(|_| world.ask("client", "10.96.0.7:80").unwrap())
            .collect();
        assert_eq!(seen.len(), 1, "{seen:?}");
        let kept = seen.iter().next().unwrap()[..1].to_owned();
        assert!(pods.contains(&kept.as_str()));
        pods.retain(|pod| *pod != kept);
    }
}

#[test]
fn datagrams_go_to_the_new_endpoint_when_theirs_is_gone() {
    let mut world = World::new("udp");
    for pod in ["a", "b", "client"] {
        world.pod(pod);
        world.serve_udp(pod, 5353);
    }
    let spec = service(
        r#"{"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 53, "nodePort": 30053, "protocol": "UDP"}]}"#,
    );
    let udp = |endpoint| vec![world::udp(slice(&[endpoint], 5353))];
    let (inside, outside) = (
        world.udp_socket("client", "10.96.0.7:53"),
        world.udp_socket("outside", "172.30.0.1:30053"),
    );
    for pod in ["a", "b", "a"] {
        world.set("dns", Some(spec.clone()), udp(world.endpoint(pod, true)));
        assert_eq!(&inside.ask().unwrap()[..1], pod, "one socket, so one flow");
        assert_eq!(&outside.ask().unwrap()[..1], pod);
    }
}

#[test]
fn terminating_endpoints_serve_only_when_nothing_else_does() {
    let mut world = World::new("ending");
    for pod in ["a", "b", "client"] {
        world.pod(pod);
        world.serve(pod, 8080);
    }
    let spec = service(r#"{"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}"#);
    let mut ending = world.endpoint("a", false);
    ending.conditions.serving = Some(true);
    ending.conditions.terminating = Some(true);
    let fresh = world.endpoint("b", true);
    world.set("web", Some(spec.clone()), vec![slice(&[ending.clone(), fresh], 8080)]);
    assert!((0..TRIES).all(|_| world.ask("client", "10.96.0.7:80").unwrap().starts_with('b')));
    world.set("web", Some(spec), vec![slice(&[ending], 8080)]);
    assert!(world.ask("client", "10.96.0.7:80").unwrap().starts_with('a'));
}

#[test]
fn a_change_costs_the_same_with_a_thousand_services_and_none() {
    let mut world = World::new("cost");
    world.pod("a");
    let endpoint = world.endpoint("a", true);
    let web = |n: usize| {
        service(&format!(
            r#"{{"clusterIP": "10.96.{}.{}", "ports": [{{"port": 80}}]}}"#,
            n / 250,
            n % 250 + 1
        ))
    };
    let slices = vec![slice(&[endpoint], 8080)];
    let mut lengths = Vec::new();
    for n in 0..1001 {
        lengths.push(world.set(&format!("web-{n}"), Some(web(n)), slices.clone()));
    }
    assert_eq!(lengths[1], lengths[1000], "{:?}", &lengths[..3]);
}

#[test]
fn two_services_that_want_one_address_do_not_disturb_each_other() {
    let mut world = World::new("claims");
    for pod in ["a", "b", "client"] {
        world.pod(pod);
        world.serve(pod, 8080);
    }
    let spec = |ip: &str| {
        service(&format!(
            r#"{{"clusterIP": "{ip}", "externalIPs": ["192.0.2.7"], "ports": [{{"port": 80}}]}}"#
        ))
    };
    world.set(
        "one",
        Some(spec("10.96.0.1")),
        vec![slice(&[world.endpoint("a", true)], 8080)],
    );
    world.set(
        "two",
        Some(spec("10.96.0.2")),
        vec![slice(&[world.endpoint("b", true)], 8080)],
    );
    assert!(world.ask("client", "192.0.2.7:80").unwrap().starts_with('a'));
    assert!(world.ask("client", "10.96.0.2:80").unwrap().starts_with('b'));
    world.set("one", None, Vec::new());
    assert!(world.ask("client", "192.0.2.7:80").unwrap().starts_with('b'));
}

#[test]
fn debians_nft_lists_the_tables_of_every_kind_of_service() {
    let Ok(version) = std::process::Command::new("nft").arg("--version").output() else {
        return;
    };
    assert!(version.status.success());
    let mut world = World::new("listed");
    world.pod("a");
    let list = |world: &World, what: &str| {
        let ran = world
            .node
            .run(|| std::process::Command::new("nft").args(["list", what]).output().unwrap());
        let ran = ran.unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            ran.status.success(),
            "{what}: {:?} {}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr)
        );
        text
    };
    list(&world, "tables");
    list(&world, "ruleset");
    for (n, spec) in [
        r#""type": "ClusterIP""#,
        r#""type": "NodePort""#,
        r#""type": "ClusterIP", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}"#,
        r#""type": "NodePort", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
           "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}"#,
        r#""type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalIPs": ["192.0.2.7"]"#,
    ]
    .iter()
    .enumerate()
    {
        let web = format!(r#"{{{spec}, "clusterIP": "10.96.0.{}", "ports": [{{"port": 80, "nodePort": 3000{n}}}]}}"#, n + 7);
        let mut web = service(&web);
        web.status.load_balancer.ingress = vec![world::ingress("192.0.2.8")];
        let endpoint = world.endpoint("a", true);
        world.set(&format!("web-{n}"), Some(web.clone()), vec![slice(&[endpoint], 8080)]);
        list(&world, "ruleset");
        web.spec.ports.iter_mut().for_each(|port| port.port = 81);
        world.set(&format!("refused-{n}"), Some(web), Vec::new());
    }
    let text = list(&world, "ruleset");
    for chain in ["address-outside-1", "sticky-600", "inside-1"] {
        assert!(text.contains(chain), "{text}");
    }
}
