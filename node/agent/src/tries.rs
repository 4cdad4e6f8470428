//! How often probes were tried and how that ended: /metrics/probes. A container's figures go when its probes end.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// The kinds of probes, and the ends of a try.
const KINDS: [&str; 3] = ["Startup", "Liveness", "Readiness"];
const RESULTS: [&str; 2] = ["successful", "failed"];
const NAME: &str = "prober_probe_total";

/// Namespace, pod, its uid, and the container.
type Key = [String; 4];
/// Tries by kind and end.
type Counts = [[AtomicU64; RESULTS.len()]; KINDS.len()];

/// The tries of every container that is probed now.
#[derive(Clone, Default)]
pub struct Tries(Arc<Mutex<BTreeMap<Key, Arc<Counts>>>>);

/// The tries of one container; forgotten when dropped.
pub struct Tried {
    all: Tries,
    key: Key,
    counts: Arc<Counts>,
}

impl Tries {
    /// Begins to count for a container.
    pub fn begin(&self, namespace: &str, pod: &str, uid: &str, container: &str) -> Tried {
        let key = [namespace, pod, uid, container].map(str::to_owned);
        let counts: Arc<Counts> = Arc::default();
        let mut all = self.0.lock().expect("no panic under this lock");
        all.insert(key.clone(), counts.clone());
        Tried {
            all: self.clone(),
            key,
            counts,
        }
    }

    /// Prometheus' text, under the kubelet's name.
    pub fn exposition(&self) -> String {
        let mut out = format!("# HELP {NAME} Probes of containers by their result.\n# TYPE {NAME} counter\n");
        let all = self.0.lock().expect("no panic under this lock");
        for ([namespace, pod, uid, container], counts) in all.iter() {
            for (kind, counts) in KINDS.iter().zip(counts.iter()) {
                for (result, count) in RESULTS.iter().zip(counts) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        // Writing to a String cannot fail.
                        let _ = writeln!(
                            out,
                            "{NAME}{{container={container:?},namespace={namespace:?},pod={pod:?},pod_uid={uid:?},probe_type={kind:?},result={result:?}}} {count}"
                        );
                    }
                }
            }
        }
        out
    }
}

impl Tried {
    /// A try of a kind of probe has ended.
    pub fn count(&self, kind: &str, success: bool) {
        if let Some(at) = KINDS.iter().position(|known| *known == kind) {
            self.counts[at][usize::from(!success)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().expect("no panic under this lock");
        // A container that was started again counts anew under the same names.
        if all
            .get(&self.key)
            .is_some_and(|counts| Arc::ptr_eq(counts, &self.counts))
        {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_counted_until_its_probes_end() {
        let tries = Tries::default();
        let one = tries.begin("ns", "p", "u", "c");
        one.count("Readiness", true);
        one.count("Readiness", true);
        one.count("Liveness", false);
        let line = "prober_probe_total{container=\"c\",namespace=\"ns\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\",result=\"successful\"} 2\n";
        assert!(tries.exposition().contains(line), "{}", tries.exposition());
        let again = tries.begin("ns", "p", "u", "c");
        again.count("Startup", true);
        drop(one);
        assert!(tries.exposition().contains("Startup"));
        drop(again);
        assert!(!tries.exposition().contains("container="));
    }
}
