//! What containers use and may use, under cAdvisor's names: /metrics/cadvisor.
//!
//! Of cAdvisor's families those that cost no walk over a disk and that the engine knows; a container has the labels
//! the kubelet gives it, a pod's network those of the pod.

use crate::{
    container::cgroup_parent,
    context::Context,
    pod::Pod,
    resources::{CPU_PERIOD, Cgroup, container_cgroup},
    server::pod_name,
    usage::{Sample, samples, seconds},
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};
use strata_client::Informer;
use strata_engine::{ContainerStatus, Stats};
use strata_meta::ObjectKey;

/// The text of /metrics/cadvisor.
pub async fn exposition(context: &Context, pods: &Informer<Pod>) -> String {
    let samples = samples(context).await;
    let root = &context.options.cgroup_root;
    let containers: Vec<Seen> = samples
        .iter()
        .map(|sample| {
            let (namespace, name) = pod_name(&sample.container);
            let pod = pods.get(&ObjectKey::new(namespace, name));
            Seen::new(root, sample, pod.as_deref())
        })
        .collect();
    let mut out = String::new();
    for family in &FAMILIES {
        let mut lines = containers.iter().flat_map(|seen| (family.read)(seen)).peekable();
        if lines.peek().is_none() {
            continue;
        }
        head(&mut out, family.name, family.kind, family.help);
        for line in lines {
            let at = line.at.map(|at| format!(" {at}")).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}{{{}}} {}{at}", family.name, line.labels, line.value);
        }
    }
    network(&mut out, context, pods, &samples);
    machine(&mut out, context);
    out
}

/// A container, with what is worked out once for all its lines.
struct Seen<'s> {
    sample: &'s Sample,
    labels: Labels,
    limits: Option<Cgroup>,
}

/// The labels that every line has.
struct Labels {
    container: String,
    id: String,
    image: String,
    name: String,
    namespace: String,
    pod: String,
}

/// One line of a family.
struct Line {
    labels: String,
    value: f64,
    /// Milliseconds since 1970, when what is read has a moment of its own.
    at: Option<u128>,
}

/// Name, type, help and lines of a family.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&Seen<'_>) -> Vec<Line>,
}

impl<'s> Seen<'s> {
    fn new(root: &str, sample: &'s Sample, pod: Option<&Pod>) -> Self {
        let status = &sample.container;
        let (namespace, name) = pod_name(status);
        let parent = pod.map(|pod| cgroup_parent(root, pod)).unwrap_or_default();
        let container = pod.and_then(|pod| pod.all_containers().find(|c| c.name == status.name));
        Self {
            sample,
            labels: Labels {
                container: status.name.clone(),
                id: format!("{parent}/{}", status.id),
                image: status.image_id.clone(),
                name: status.id.to_string(),
                namespace: namespace.to_owned(),
                pod: name.to_owned(),
            },
            limits: container.map(container_cgroup),
        }
    }

    fn used(&self, more: &[(&str, &str)], value: impl Fn(&Stats) -> f64) -> Line {
        Line {
            labels: self.labels.write(more),
            value: value(&self.sample.stats),
            at: Some(self.sample.at),
        }
    }

    fn fact(&self, value: impl Fn(&ContainerStatus) -> Option<f64>) -> Vec<Line> {
        let line = |value| Line {
            labels: self.labels.write(&[]),
            value,
            at: None,
        };
        value(&self.sample.container).map(line).into_iter().collect()
    }

    fn limit(&self, value: impl Fn(&Cgroup) -> Option<f64>) -> Vec<Line> {
        let limits = self.limits.as_ref();
        self.fact(|_| limits.and_then(&value))
    }
}

impl Labels {
    /// The labels in the order of their names, with a few more.
    fn write(&self, more: &[(&str, &str)]) -> String {
        let mut all = vec![
            ("container", self.container.as_str()),
            ("id", &self.id),
            ("image", &self.image),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("pod", &self.pod),
        ];
        all.extend_from_slice(more);
        all.sort_unstable();
        let each: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        each.join(",")
    }
}

/// A kind of page fault, and how many there were.
type Fault = (&'static str, fn(&Stats) -> u64);
const FAULTS: [Fault; 2] = [("pgfault", |s| s.page_faults), ("pgmajfault", |s| s.major_page_faults)];

const FAMILIES: [Family; 12] = [
    Family {
        name: "container_cpu_usage_seconds_total",
        kind: "counter",
        help: "Seconds of processor time used.",
        read: |seen| vec![seen.used(&[("cpu", "total")], |s| seconds(s.cpu_usage_nanos))],
    },
    Family {
        name: "container_last_seen",
        kind: "gauge",
        help: "When the container was last measured, in seconds since 1970.",
        read: |seen| {
            let at = seen.sample.at;
            vec![seen.used(&[], |_| (at / 1000) as f64)]
        },
    },
    Family {
        name: "container_memory_failures_total",
        kind: "counter",
        help: "Page faults, by kind and by what is counted.",
        read: |seen| {
            let line = |scope, (fault, read): &Fault| {
                seen.used(&[("failure_type", fault), ("scope", scope)], |s| read(s) as f64)
            };
            let both = ["container", "hierarchy"].into_iter();
            both.flat_map(|scope| FAULTS.iter().map(move |fault| line(scope, fault)))
                .collect()
        },
    },
    Family {
        name: "container_memory_rss",
        kind: "gauge",
        help: "Resident memory that is nobody else's and no file's, in bytes.",
        read: |seen| vec![seen.used(&[], |s| s.memory_rss as f64)],
    },
    Family {
        name: "container_memory_usage_bytes",
        kind: "gauge",
        help: "All memory that is accounted to the container, in bytes.",
        read: |seen| vec![seen.used(&[], |s| s.memory_usage as f64)],
    },
    Family {
        name: "container_memory_working_set_bytes",
        kind: "gauge",
        help: "Memory that cannot be given back, in bytes.",
        read: |seen| vec![seen.used(&[], |s| s.memory_working_set as f64)],
    },
    Family {
        name: "container_threads",
        kind: "gauge",
        help: "Threads of the container.",
        read: |seen| vec![seen.used(&[], |s| s.pids as f64)],
    },
    Family {
        name: "container_start_time_seconds",
        kind: "gauge",
        help: "When the container started, in seconds since 1970.",
        read: |seen| {
            seen.fact(|container| {
                let since = container.created_at.duration_since(UNIX_EPOCH).ok()?;
                Some(since.as_secs() as f64)
            })
        },
    },
    Family {
        name: "container_spec_cpu_period",
        kind: "gauge",
        help: "Microseconds over which the processor quota holds.",
        read: |seen| seen.limit(|_| Some(CPU_PERIOD as f64)),
    },
    Family {
        name: "container_spec_cpu_quota",
        kind: "gauge",
        help: "Microseconds of processor time in each period.",
        read: |seen| seen.limit(|limits| Some(limits.cpu_quota? as f64)),
    },
    Family {
        name: "container_spec_cpu_shares",
        kind: "gauge",
        help: "Weight when the processor is short.",
        read: |seen| seen.limit(|limits| Some(limits.cpu_shares as f64)),
    },
    Family {
        name: "container_spec_memory_limit_bytes",
        kind: "gauge",
        help: "Most memory that the container may have, in bytes.",
        read: |seen| seen.limit(|limits| Some(limits.memory_limit.unwrap_or(0) as f64)),
    },
];

/// Families of a network link, each with its column of `/proc/net/dev`.
const LINKS: [(&str, usize, &str); 8] = [
    ("receive_bytes_total", 0, "Bytes received."),
    ("receive_packets_total", 1, "Packets received."),
    ("receive_errors_total", 2, "Errors while receiving."),
    (
        "receive_packets_dropped_total",
        3,
        "Received packets that were dropped.",
    ),
    ("transmit_bytes_total", 8, "Bytes sent."),
    ("transmit_packets_total", 9, "Packets sent."),
    ("transmit_errors_total", 10, "Errors while sending."),
    (
        "transmit_packets_dropped_total",
        11,
        "Packets to be sent that were dropped.",
    ),
];

/// What went through the links of each pod, asked through any process that lives in its network namespace.
fn network(out: &mut String, context: &Context, pods: &Informer<Pod>, samples: &[Sample]) {
    let mut links: BTreeMap<(String, String), ([u64; 16], u128)> = BTreeMap::new();
    for sample in samples {
        let (namespace, name) = pod_name(&sample.container);
        let Some(pid) = sample.container.pid else { continue };
        let Some(pod) = pods.get(&ObjectKey::new(namespace, name)) else {
            continue;
        };
        let parent = cgroup_parent(&context.options.cgroup_root, &pod);
        let labels = Labels {
            container: String::new(),
            id: parent,
            image: String::new(),
            name: String::new(),
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
        };
        // A process that has ended meanwhile simply has no figures.
        if pod.spec.host_network || links.keys().any(|(id, _)| *id == labels.id) {
            continue;
        }
        let Ok(counters) = strata_net::link_counters(pid) else {
            continue;
        };
        for link in counters {
            let key = (labels.id.clone(), labels.write(&[("interface", &link.name)]));
            links.insert(key, (link.columns, sample.at));
        }
    }
    if links.is_empty() {
        return;
    }
    for (name, column, help) in LINKS {
        let name = format!("container_network_{name}");
        head(out, &name, "counter", help);
        for ((_, labels), (counters, at)) in &links {
            let value = counters[column];
            let _ = writeln!(out, "{name}{{{labels}}} {value} {at}");
        }
    }
}

fn machine(out: &mut String, context: &Context) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let at = now.map_or(0, |since| since.as_millis());
    let facts = &context.facts;
    for (name, help, value) in [
        (
            "machine_cpu_cores",
            "Processors of the machine.",
            facts.cpu_milli / 1000,
        ),
        (
            "machine_memory_bytes",
            "Memory of the machine, in bytes.",
            facts.memory_bytes,
        ),
    ] {
        head(out, name, "gauge", help);
        let _ = writeln!(
            out,
            "{name}{{boot_id=\"\",machine_id=\"\",system_uuid=\"\"}} {value} {at}"
        );
    }
    head(
        out,
        "container_scrape_error",
        "gauge",
        "Whether containers could not be measured.",
    );
    let _ = writeln!(out, "container_scrape_error 0");
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_in_the_order_of_their_names() {
        let labels = Labels {
            container: "c".into(),
            id: "/a/b".into(),
            image: String::new(),
            name: "n".into(),
            namespace: "ns".into(),
            pod: "p".into(),
        };
        let expected = r#"container="c",cpu="total",id="/a/b",image="",name="n",namespace="ns",pod="p""#;
        assert_eq!(labels.write(&[("cpu", "total")]), expected);
    }
}
