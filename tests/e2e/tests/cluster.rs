//! Throwaway clusters of several nodes.

use strata_e2e::{Cluster, Registry, build_busybox};

#[test]
fn three_nodes_share_services_and_leave_nothing_behind() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    // Mount points that nodes need on the machine; another cluster may hold them now.
    let shared = ["/var/lib/kubelet", "/var/log/pods"].map(std::path::Path::new);
    let shared: Vec<_> = shared.into_iter().filter(|path| !path.exists()).collect();
    let cluster = Cluster::create("trio", 3, &["--forward", &registry.port().to_string()]);
    let k = cluster.kubectl();
    let nodes = k.ok("get nodes -o wide");
    assert_eq!(nodes.matches(" Ready ").count(), 3, "{nodes}");
    k.until("get nodes", |out| out.matches(" control-plane ").count() == 1);
    k.ok("create deployment web --image=strata.local/hello:latest --replicas=6");
    k.ok("expose deployment web --port=80 --target-port=8080");
    k.ok("rollout status deployment web --timeout=60s");
    let spread = k.ok("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
    for node in ["trio-1", "trio-2", "trio-3"] {
        assert!(spread.contains(node), "{spread}");
    }
    k.ok(&format!("run client --image={image} --restart=Never --command -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do wget -qO- http://web.default.svc.cluster.local; done'"));
    k.until("get pod client -o jsonpath={.status.phase}", |out| {
        out == "Succeeded" || out == "Failed"
    });
    let logs = k.ok("logs client");
    assert_eq!(logs.matches("hello from web").count(), 12, "{logs}");
    let traces = cluster.traces();
    assert!(!traces.left().is_empty(), "a running cluster is seen");
    cluster.delete();
    traces.assert_gone();
    let left: Vec<_> = shared.iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn clusters_made_at_once_do_not_meet_and_one_without_its_supervisor_is_removed() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| Cluster::create("one", 2, &[]));
        let two = scope.spawn(|| Cluster::create("two", 1, &[]));
        (one.join().expect("a cluster"), two.join().expect("a cluster"))
    });
    let again = one.strata().args(["cluster", "create", "one"]).output();
    let again = again.expect("the binary runs");
    assert!(!again.status.success(), "the name is taken");
    let k = one.kubectl();
    k.ok("create deployment web --image=strata.local/hello --replicas=2");
    k.ok("rollout status deployment web --timeout=60s");
    let supervisor = std::fs::read_to_string(one.path().join("supervisor.lock")).expect("the supervisor's pid");
    let supervisor = supervisor.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    let supervisor = supervisor.expect("a pid");
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).expect("it runs");
    let traces = one.traces();
    one.delete();
    traces.assert_gone();
    assert_eq!(two.kubectl().ok("get nodes").matches(" Ready ").count(), 1);
}
