//! Pods on real links in real network namespaces: addresses, reachability, masquerade, foreign
//! FORWARD chains, and nothing left behind. Needs root.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use strata_net::netlink::route::{LOOPBACK, Route, RouteSocket, VethEnd};
use strata_net::nft::{Batch, ChainHook, ChainKind, Family, Hook, NftSocket};
use strata_net::{Cidr, NetworkNamespace, NodeRoutes, PodNetwork, PodNetworkOptions, Uplink, cleanup};

const DEADLINE: Duration = Duration::from_secs(5);

fn options(dir: &Path, instance: &str, cidr: &str) -> PodNetworkOptions {
    PodNetworkOptions {
        state_dir: dir.to_owned(),
        cidr: cidr.parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        instance: instance.to_owned(),
        mtu: 0,
    }
}

/// Answers one connection with the address it came from.
fn serve_once(namespace: &NetworkNamespace, address: &str) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let local = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
    });
    (local, thread)
}

fn ask(namespace: &NetworkNamespace, address: SocketAddr) -> std::io::Result<String> {
    namespace
        .run(|| {
            let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
        .unwrap()
}

/// A chain that drops what is forwarded, as Docker's does.
fn drop_forward() {
    let mut batch = Batch::new(Family::Ipv4, "filter");
    let hook = ChainHook {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
        drops: true,
    };
    batch
        .add_table()
        .add_chain("FORWARD", Some(hook))
        .flush_chain("FORWARD");
    NftSocket::open().unwrap().apply(batch).unwrap();
}

/// Joins two namespaces by a link with these addresses of a /24.
fn join(left: &NetworkNamespace, right: &NetworkNamespace, left_ip: [u8; 4], right_ip: [u8; 4]) {
    join_by("up0", left, right, left_ip, right_ip);
}

/// The same by a link of that name.
fn join_by(name: &str, left: &NetworkNamespace, right: &NetworkNamespace, left_ip: [u8; 4], right_ip: [u8; 4]) {
    let ends = (
        VethEnd {
            name,
            mac: None,
            netns: None,
        },
        VethEnd {
            name,
            mac: None,
            netns: Some(right.as_fd()),
        },
    );
    let configure = |ip: [u8; 4]| {
        let mut socket = RouteSocket::open()?;
        let index = socket.link_index(name)?.unwrap();
        socket
            .requests()
            .set_up(LOOPBACK)
            .set_up(index)
            .add_address(index, IpAddr::from(ip), 24, None)
            .run()
    };
    left.run(|| RouteSocket::open()?.requests().add_veth(ends.0, ends.1, 1500, 0).run())
        .unwrap()
        .unwrap();
    left.run(|| configure(left_ip)).unwrap().unwrap();
    right.run(|| configure(right_ip)).unwrap().unwrap();
    left.run(|| RouteSocket::open()?.await_running(name)).unwrap().unwrap();
}

#[test]
fn what_is_behind_a_link_reaches_beyond_its_host_under_the_hosts_address() {
    let spaces = [(); 3].map(|()| NetworkNamespace::create().unwrap());
    let [inner, host, outer] = &spaces;
    join(host, outer, [192, 0, 2, 1], [192, 0, 2, 2]);
    join_by("bridge7", host, inner, [172, 30, 7, 1], [172, 30, 7, 10]);
    let default = || {
        let mut socket = RouteSocket::open()?;
        let route = Route::via("0.0.0.0/0".parse().unwrap(), IpAddr::from([172, 30, 7, 1]));
        socket.requests().replace_route(&route).run()
    };
    inner.run(default).unwrap().unwrap();
    let range: Cidr = "172.30.7.0/24".parse().unwrap();
    let open = || {
        drop_forward();
        Uplink::open("bridge-7", "bridge7", range)
    };
    let uplink = host.run(open).unwrap().unwrap();
    let (address, server) = serve_once(outer, "192.0.2.2:0");
    assert_eq!(
        ask(inner, address).unwrap(),
        "192.0.2.1",
        "the way back is the host's affair"
    );
    server.join().unwrap();
    drop(uplink);
    host.run(|| {
        cleanup("bridge-7").unwrap();
        let mut socket = NftSocket::open().unwrap();
        assert!(
            !socket
                .tables(Family::Ipv4)
                .unwrap()
                .iter()
                .any(|table| table.contains("bridge-7"))
        );
        assert!(socket.rules(Family::Ipv4, "filter", "FORWARD").unwrap().is_empty());
    })
    .unwrap();
}

#[test]
fn pods_reach_each_other_their_host_and_come_back_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let node = NetworkNamespace::create().unwrap();
    let (one, two) = (NetworkNamespace::create().unwrap(), NetworkNamespace::create().unwrap());
    node.run(|| {
        let network = PodNetwork::open(options(dir.path(), "reach", "10.244.1.0/24")).unwrap();
        let a = network.attach("one", one.as_fd()).unwrap();
        let b = network.attach("two", two.as_fd()).unwrap();
        assert_eq!(a.ip.to_string(), "10.244.1.2");
        assert_eq!(b.gateway.to_string(), "10.244.1.1");

        let (address, server) = serve_once(&two, &format!("{}:0", b.ip));
        assert_eq!(
            ask(&one, address).unwrap(),
            "10.244.1.2",
            "pods see each other's own address"
        );
        server.join().unwrap();

        let host = NetworkNamespace::current().unwrap();
        let (address, server) = serve_once(&host, "10.244.1.1:0");
        assert_eq!(ask(&one, address).unwrap(), "10.244.1.2");
        server.join().unwrap();
        let (address, server) = serve_once(&one, &format!("{}:0", a.ip));
        assert_eq!(ask(&host, address).unwrap(), "10.244.1.1");
        server.join().unwrap();
        let (address, server) = serve_once(&one, "127.0.0.1:0");
        assert_eq!(ask(&one, address).unwrap(), "127.0.0.1", "loopback is up");
        server.join().unwrap();

        drop(network);
        let network = PodNetwork::open(options(dir.path(), "reach", "10.244.1.0/24")).unwrap();
        assert_eq!(network.address("two").unwrap(), b);
        let (address, server) = serve_once(&two, &format!("{}:0", b.ip));
        assert_eq!(ask(&one, address).unwrap(), "10.244.1.2", "links survive a restart");
        server.join().unwrap();

        network.retain(&["two"]).unwrap();
        assert_eq!(network.address("one"), None);
        network.detach("two").unwrap();
        let mut socket = RouteSocket::open().unwrap();
        assert!(
            !socket
                .routes()
                .unwrap()
                .iter()
                .any(|route| route.destination == Cidr::host(b.ip))
        );
        network.detach("two").unwrap();
        let again = network.attach("two", two.as_fd()).unwrap();
        assert_eq!(
            again.host_link, b.host_link,
            "even while the old link of that name goes away"
        );
        network.detach("two").unwrap();
        // Dropping waits for links that are on their way out.
        drop(network);
        assert!(socket.link_index(&b.host_link).unwrap().is_none());
    })
    .unwrap();
}

#[test]
fn attaching_twice_keeps_the_address_and_a_failed_attach_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = NetworkNamespace::create().unwrap();
    let pod = NetworkNamespace::create().unwrap();
    node.run(|| {
        let network = PodNetwork::open(options(dir.path(), "twice", "10.244.1.0/24")).unwrap();
        let first = network.attach("pod", pod.as_fd()).unwrap();
        assert_eq!(network.attach("pod", pod.as_fd()).unwrap(), first);
        let not_a_namespace = std::fs::File::open("/dev/null").unwrap();
        network.attach("other", not_a_namespace.as_fd()).unwrap_err();
        assert_eq!(network.address("other"), None);
    })
    .unwrap();
}

#[test]
fn nodes_route_to_each_other_and_leaving_traffic_is_masqueraded() {
    let (one, two) = (NetworkNamespace::create().unwrap(), NetworkNamespace::create().unwrap());
    join(&one, &two, [172, 30, 0, 1], [172, 30, 0, 2]);
    let dir = tempfile::tempdir().unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let (pod_one, pod_two) = (NetworkNamespace::create().unwrap(), NetworkNamespace::create().unwrap());
    let attach = |node: &NetworkNamespace, dir: &Path, cidr: &str, pod: &NetworkNamespace, other: (Cidr, IpAddr)| {
        node.run(|| {
            let network = PodNetwork::open(options(dir, "route", cidr)).unwrap();
            let routes = NodeRoutes::new("route").unwrap();
            let unreachable = ("10.244.9.0/24".parse().unwrap(), "192.0.2.1".parse().unwrap());
            routes.sync(&[unreachable, other]).unwrap_err();
            routes.sync(&[other]).unwrap();
            routes.sync(&[other]).unwrap();
            (network.attach("pod", pod.as_fd()).unwrap().ip, network)
        })
        .unwrap()
    };
    let to_two = ("10.244.2.0/24".parse().unwrap(), "172.30.0.2".parse().unwrap());
    let to_one = ("10.244.1.0/24".parse().unwrap(), "172.30.0.1".parse().unwrap());
    let (ip_one, _network_one) = attach(&one, dir.path(), "10.244.1.0/24", &pod_one, to_two);
    let (ip_two, _network_two) = attach(&two, other_dir.path(), "10.244.2.0/24", &pod_two, to_one);

    let (address, server) = serve_once(&pod_two, &format!("{ip_two}:0"));
    assert_eq!(
        ask(&pod_one, address).unwrap(),
        ip_one.to_string(),
        "no masquerade between pods"
    );
    server.join().unwrap();
    let (address, server) = serve_once(&two, "172.30.0.2:0");
    assert_eq!(ask(&pod_one, address).unwrap(), "172.30.0.1", "masquerade to a node");
    server.join().unwrap();
    one.run(|| NodeRoutes::new("route").unwrap().sync(&[]))
        .unwrap()
        .unwrap();
    let left = one.run(|| RouteSocket::open().unwrap().routes().unwrap()).unwrap();
    assert!(!left.iter().any(|route| route.destination == to_two.0), "{left:?}");
}

#[test]
fn another_range_is_for_pods_that_come_and_both_reach_each_other_and_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let spaces = [(); 4].map(|()| NetworkNamespace::create().unwrap());
    let [host, old, new, outer] = &spaces;
    join(host, outer, [192, 0, 2, 1], [192, 0, 2, 2]);
    let network = host
        .run(|| PodNetwork::open(options(dir.path(), "range", "10.244.1.0/24")))
        .unwrap()
        .unwrap();
    let attach = |id: &str, space: &NetworkNamespace| host.run(|| network.attach(id, space.as_fd())).unwrap();
    let change = |range: &str| host.run(|| network.change_range(range.parse().unwrap())).unwrap();
    let first = attach("old", old).unwrap();
    change("10.99.0.0/24").unwrap();
    let second = attach("new", new).unwrap();
    assert_eq!(second.ip.to_string(), "10.99.0.2");
    assert_eq!(second.gateway, first.gateway, "who was there before keeps its gateway");
    for (from, to, at) in [(old, new, second.ip), (new, old, first.ip)] {
        let (address, server) = serve_once(to, &format!("{at}:0"));
        let seen = ask(from, address).unwrap();
        server.join().unwrap();
        assert!(
            seen == first.ip.to_string() || seen == second.ip.to_string(),
            "{seen} is no pod's"
        );
    }
    for from in [old, new] {
        let (address, server) = serve_once(outer, "192.0.2.2:0");
        assert_eq!(
            ask(from, address).unwrap(),
            "192.0.2.1",
            "leaving traffic has the host's address"
        );
        server.join().unwrap();
    }
    assert!(change("fd00::/64").is_err() && change("10.99.0.0/31").is_err());
    // The next process knows the one address in a range that is not its own.
    drop(network);
    let again = host
        .run(|| PodNetwork::open(options(dir.path(), "range", "10.99.0.0/24")))
        .unwrap()
        .unwrap();
    assert_eq!(again.address("old").map(|place| place.ip), Some(first.ip));
    assert_eq!(again.address("new").map(|place| place.ip), Some(second.ip));
    for from in [old, new] {
        let (address, server) = serve_once(outer, "192.0.2.2:0");
        assert_eq!(ask(from, address).unwrap(), "192.0.2.1");
        server.join().unwrap();
    }
    drop(again);
    host.run(|| cleanup("range")).unwrap().unwrap();
}

#[test]
fn a_foreign_forward_drop_is_answered_even_when_it_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let node = NetworkNamespace::create().unwrap();
    let (one, two) = (NetworkNamespace::create().unwrap(), NetworkNamespace::create().unwrap());
    node.run(|| {
        let rules = || {
            NftSocket::open()
                .unwrap()
                .rules(Family::Ipv4, "filter", "FORWARD")
                .unwrap()
                .len()
        };
        drop_forward();
        let network = PodNetwork::open(options(dir.path(), "foreign", "10.244.1.0/24")).unwrap();
        assert_eq!(rules(), 2);
        network.attach("one", one.as_fd()).unwrap();
        let b = network.attach("two", two.as_fd()).unwrap();
        let (address, server) = serve_once(&two, &format!("{}:0", b.ip));
        ask(&one, address).unwrap();
        server.join().unwrap();

        drop_forward();
        let start = Instant::now();
        while rules() != 2 {
            assert!(start.elapsed() < DEADLINE, "the rules were not put back");
            std::thread::yield_now();
        }
        drop(network);
        cleanup("foreign").unwrap();
        assert_eq!(rules(), 0, "the rules are withdrawn");
    })
    .unwrap();
}

#[test]
fn cleanup_removes_one_instance_and_leaves_the_other() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = NetworkNamespace::create().unwrap();
    let (one, two) = (NetworkNamespace::create().unwrap(), NetworkNamespace::create().unwrap());
    node.run(|| {
        let mine = PodNetwork::open(options(dir.path(), "mine", "10.244.1.0/24")).unwrap();
        let theirs = PodNetwork::open(options(other_dir.path(), "theirs", "10.244.2.0/24")).unwrap();
        mine.attach("pod", one.as_fd()).unwrap();
        theirs.attach("pod", two.as_fd()).unwrap();
        strata_net::route_virtual("mine", "10.96.0.0/16".parse().unwrap(), None).unwrap();
        drop(mine);
        cleanup("mine").unwrap();
        cleanup("mine").unwrap();
        let mut socket = RouteSocket::open().unwrap();
        let links: Vec<_> = socket.links().unwrap().into_iter().map(|link| link.name).collect();
        let kept = theirs.address("pod").unwrap();
        assert_eq!(links, ["lo".to_owned(), kept.host_link]);
        let addresses: Vec<_> = socket
            .addresses()
            .unwrap()
            .into_iter()
            .map(|(_, ip, ..)| ip.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1", "10.244.2.1"]);
        assert_eq!(socket.routes().unwrap().len(), 1);
        assert_eq!(
            NftSocket::open().unwrap().tables(Family::Ipv4).unwrap(),
            ["strata-theirs"]
        );
        drop(theirs);
        cleanup("theirs").unwrap();
        assert!(NftSocket::open().unwrap().tables(Family::Ipv4).unwrap().is_empty());
    })
    .unwrap();
}
