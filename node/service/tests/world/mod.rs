//! A node with pods, a neighbour outside the cluster, and service tables, all in network
//! namespaces that go with this value.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use strata_meta::ObjectKey;
use strata_net::netlink::conntrack;
use strata_net::netlink::route::{LOOPBACK, Route, RouteSocket, VethEnd};
use strata_net::nft::{Family, NftSocket};
use strata_net::{Cidr, Instance, NetworkNamespace, PodNetwork, PodNetworkOptions};
use strata_service::{Applied, Endpoint, EndpointSlice, Service, Tables, TablesOptions, plan};

const DEADLINE: Duration = Duration::from_secs(5);
/// Waiting for a packet that must not arrive.
const DROPPED: Duration = Duration::from_millis(300);

pub struct World {
    pub node: NetworkNamespace,
    outside: NetworkNamespace,
    pods: BTreeMap<String, (NetworkNamespace, IpAddr)>,
    network: Arc<PodNetwork>,
    tables: Tables,
    _dir: tempfile::TempDir,
}

pub struct Flow(UdpSocket);

impl World {
    pub fn new(instance: &str) -> Self {
        let (node, outside) = (NetworkNamespace::create().unwrap(), NetworkNamespace::create().unwrap());
        connect(&node, &outside);
        let dir = tempfile::tempdir().unwrap();
        let options = PodNetworkOptions {
            state_dir: dir.path().to_owned(),
            cidr: "10.244.1.0/24".parse().unwrap(),
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            instance: instance.to_owned(),
            mtu: 0,
        };
        let service_cidr: Cidr = "10.96.0.0/16".parse().unwrap();
        let (network, tables) = node
            .run(|| {
                let network = PodNetwork::open(options).unwrap();
                let source = Some("172.30.0.1".parse().unwrap());
                strata_net::route_virtual(instance, service_cidr, source).unwrap();
                let (tables, batch) = Tables::new(
                    TablesOptions {
                        table: Instance::new(instance).unwrap().service_table(),
                        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
                        service_cidr: Some(service_cidr),
                        node_port_addresses: Vec::new(),
                    },
                    false,
                )
                .unwrap();
                NftSocket::open().unwrap().apply(batch).unwrap();
                (network, tables)
            })
            .unwrap();
        Self {
            node,
            outside,
            pods: BTreeMap::new(),
            network,
            tables,
            _dir: dir,
        }
    }

    /// Gives the node a default route, through its neighbour.
    pub fn default_route(&self) {
        let all = Cidr::new([0, 0, 0, 0].into(), 0).unwrap();
        let route = Route::via(all, [172, 30, 0, 2].into());
        self.node
            .run(|| {
                RouteSocket::open()
                    .unwrap()
                    .requests()
                    .replace_route(&route)
                    .run()
                    .unwrap()
            })
            .unwrap();
    }

    pub fn pod(&mut self, name: &str) {
        let namespace = NetworkNamespace::create().unwrap();
        let place = self
            .node
            .run(|| self.network.attach(name, namespace.as_fd()).unwrap())
            .unwrap();
        self.pods.insert(name.to_owned(), (namespace, place.ip));
    }

    pub fn ip(&self, pod: &str) -> IpAddr {
        self.pods[pod].1
    }

    pub fn endpoint(&self, pod: &str, ready: bool) -> Endpoint {
        let mut endpoint = Endpoint {
            addresses: vec![self.ip(pod).to_string()],
            node_name: Some("node".into()),
            ..Endpoint::default()
        };
        endpoint.conditions.ready = Some(ready);
        endpoint
    }

    /// Changes one service; returns the bytes of the transaction.
    pub fn set(&mut self, name: &str, service: Option<Service>, slices: Vec<EndpointSlice>) -> usize {
        let slices: Vec<_> = slices.into_iter().map(Arc::new).collect();
        let plan = service
            .map(|service| plan("node", &service, &slices))
            .unwrap_or_default();
        let tables = &mut self.tables;
        let node = &self.node;
        node.run(|| {
            let batch = tables.batch();
            let update = tables
                .change(vec![(ObjectKey::new("default", name), plan)], batch)
                .unwrap();
            let length = update.encoded_length();
            let mut socket = NftSocket::open().unwrap();
            let applied = update.commit(&mut socket).unwrap();
            look_after(&mut socket, tables.table(), &applied);
            length
        })
        .unwrap()
    }

    /// A server that says its name and who asked.
    pub fn serve(&self, pod: &str, port: u16) {
        let (namespace, ip) = &self.pods[pod];
        let listener = namespace.run(|| TcpListener::bind((*ip, port)).unwrap()).unwrap();
        let name = pod.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                // The client may be gone already.
                let _ = stream.write_all(format!("{name} {peer}").as_bytes());
            }
        });
    }

    pub fn serve_udp(&self, pod: &str, port: u16) {
        let (namespace, ip) = &self.pods[pod];
        let socket = namespace.run(|| UdpSocket::bind((*ip, port)).unwrap()).unwrap();
        let name = pod.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                let (_, peer) = socket.recv_from(&mut buffer).unwrap();
                socket
                    .send_to(format!("{name} {}", peer.ip()).as_bytes(), peer)
                    .unwrap();
            }
        });
    }

    pub fn ask(&self, from: &str, to: &str) -> std::io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&to, DROPPED)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        self.place(from).run(ask).unwrap()
    }

    pub fn udp_socket(&self, from: &str, to: &str) -> Flow {
        let to: SocketAddr = to.parse().unwrap();
        let open = || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            Flow(socket)
        };
        self.place(from).run(open).unwrap()
    }

    pub fn ask_udp(&self, from: &str, to: &str) -> std::io::Result<String> {
        self.udp_socket(from, to).ask()
    }

    fn place(&self, name: &str) -> &NetworkNamespace {
        match name {
            "host" => &self.node,
            "outside" => &self.outside,
            pod => &self.pods[pod].0,
        }
    }
}

impl Flow {
    pub fn ask(&self) -> std::io::Result<String> {
        self.0.send(b"?")?;
        let mut buffer = [0; 64];
        let length = self.0.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

/// What the executor does after a transaction.
fn look_after(socket: &mut NftSocket, table: &str, applied: &Applied) {
    if applied.touches_udp() {
        conntrack::forget(|connection| applied.outdated(connection, &["172.30.0.1".parse().unwrap()])).unwrap();
    }
    if applied.touches_affinity() {
        let elements = socket.elements(Family::Ipv4, table, "affinity").unwrap();
        let gone: Vec<_> = elements
            .into_iter()
            .filter(|element| applied.forgotten(element))
            .collect();
        let mut batch = strata_net::nft::Batch::new(Family::Ipv4, table);
        batch.delete_elements("affinity", &gone);
        socket.apply(batch).unwrap();
    }
}

/// The node is 172.30.0.1, its neighbour 172.30.0.2 and routes everything through the node.
fn connect(node: &NetworkNamespace, outside: &NetworkNamespace) {
    let configure = |ip: [u8; 4], default: bool| {
        let mut socket = RouteSocket::open().unwrap();
        let index = socket.link_index("up0").unwrap().unwrap();
        let mut requests = socket.requests();
        requests
            .set_up(LOOPBACK)
            .set_up(index)
            .add_address(index, IpAddr::from(ip), 24, None);
        if default {
            let all = Cidr::new([0, 0, 0, 0].into(), 0).unwrap();
            requests.replace_route(&Route::via(all, [172, 30, 0, 1].into()));
        }
        requests.run().unwrap();
    };
    let end = VethEnd {
        name: "up0",
        mac: None,
        netns: None,
    };
    let peer = VethEnd {
        netns: Some(outside.as_fd()),
        ..end
    };
    node.run(|| {
        RouteSocket::open()
            .unwrap()
            .requests()
            .add_veth(end, peer, 1500, 0)
            .run()
            .unwrap()
    })
    .unwrap();
    node.run(|| configure([172, 30, 0, 1], false)).unwrap();
    outside.run(|| configure([172, 30, 0, 2], true)).unwrap();
    node.run(|| RouteSocket::open().unwrap().await_running("up0").unwrap())
        .unwrap();
}

pub fn service(spec: &str) -> Service {
    serde_json::from_str(&format!(r#"{{"metadata": {{}}, "spec": {spec}}}"#)).unwrap()
}

pub fn ingress(ip: &str) -> strata_service::LoadBalancerIngress {
    strata_service::LoadBalancerIngress {
        ip: ip.to_owned(),
        ip_mode: String::new(),
    }
}

/// A slice of TCP endpoints of an unnamed port.
pub fn slice(endpoints: &[Endpoint], port: u16) -> EndpointSlice {
    let mut slice: EndpointSlice =
        serde_json::from_str(&format!(r#"{{"addressType": "IPv4", "ports": [{{"port": {port}}}]}}"#)).unwrap();
    slice.endpoints = endpoints.to_vec();
    slice
}

pub fn udp(mut slice: EndpointSlice) -> EndpointSlice {
    slice
        .ports
        .iter_mut()
        .for_each(|port| port.protocol = Some("UDP".into()));
    slice
}
