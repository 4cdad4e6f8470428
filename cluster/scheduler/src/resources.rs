//! Amounts of what nodes have and pods ask for.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};
use strata_meta::Quantity;

/// A resource list as the API writes it.
pub(crate) type ResourceList = BTreeMap<String, Quantity>;

/// What a container without a request is taken to use when nodes are scored (upstream's figures).
const USUAL_MILLI_CPU: i64 = 100;
const USUAL_MEMORY: i64 = 200 << 20;

/// Amounts in the units decisions are made in: thousandths of a CPU, bytes, pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of local storage.
    pub ephemeral_storage: i64,
    /// Number of pods; only in what a node has.
    pub pods: i64,
    /// Everything else by name, sorted.
    pub scalars: Vec<(Arc<str>, i64)>,
}

impl Resources {
    pub(crate) fn from_list(list: &ResourceList) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => all.milli_cpu = quantity.milli_value(),
                "memory" => all.memory = quantity.value(),
                "ephemeral-storage" => all.ephemeral_storage = quantity.value(),
                "pods" => all.pods = quantity.value(),
                // The list is sorted by name, so this is too.
                other if is_scalar(other) => all.scalars.push((Arc::from(other), quantity.value())),
                _ => {}
            }
        }
        all
    }

    /// The amount of a named extended resource.
    pub fn scalar(&self, name: &str) -> i64 {
        let at = self.scalars.binary_search_by(|(held, _)| held.as_ref().cmp(name));
        at.map_or(0, |at| self.scalars[at].1)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
        self.scalars.retain(|(_, amount)| *amount != 0);
    }

    pub(crate) fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(held, _)| held.cmp(name)) {
                Ok(at) => self.scalars[at].1 = with(self.scalars[at].1, *amount),
                Err(at) => self.scalars.insert(at, (name.clone(), with(0, *amount))),
            }
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.milli_cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.scalars.is_empty()
    }

    /// With the usual amounts where nothing is asked for.
    fn or_usual(mut self, list: &ResourceList, usual: Usual) -> Self {
        if usual.cpu && !list.contains_key("cpu") {
            self.milli_cpu = USUAL_MILLI_CPU;
        }
        if usual.memory && !list.contains_key("memory") {
            self.memory = USUAL_MEMORY;
        }
        self
    }

    /// The amount of any resource by its name.
    pub(crate) fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            other => self.scalar(other),
        }
    }
}

/// Whether a resource is counted in pieces: extended ones, huge pages, attachable volumes.
pub(crate) fn is_scalar(name: &str) -> bool {
    let extended = name.contains('/') && !name.starts_with("requests.");
    extended || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

/// For which resources a container that asks for nothing is taken to use the usual amount.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual {
    pub cpu: bool,
    pub memory: bool,
}

impl Usual {
    pub const ALL: Self = Self {
        cpu: true,
        memory: true,
    };
}

/// What counts while a container or pod is being resized: the most of what is asked for, what is
/// in force and what was promised; not what is asked for if that is infeasible.
pub(crate) fn effective(asked: &ResourceList, actual: &Actual, infeasible: bool) -> ResourceList {
    let mut most = if infeasible { ResourceList::new() } else { asked.clone() };
    for (name, amount) in actual.in_force.iter().chain(&actual.promised) {
        let held = most.entry(name.clone()).or_insert(*amount);
        if amount.nano_value() > held.nano_value() {
            *held = *amount;
        }
    }
    most
}

/// What a status tells of a container's or pod's requests.
#[derive(Default)]
pub(crate) struct Actual {
    pub in_force: ResourceList,
    pub promised: ResourceList,
}

/// What one container asks for.
pub(crate) struct ContainerRequest<'a> {
    pub requests: Cow<'a, ResourceList>,
    /// An init container that runs on beside the containers (KEP-753).
    pub restartable: bool,
}

/// What a pod needs at its peak: all containers together, or an init container together with
/// the restartable ones before it, whichever is more; then the pod's own figures and overhead.
pub(crate) fn pod_request(
    init: &[ContainerRequest<'_>],
    containers: &[ContainerRequest<'_>],
    own: &ResourceList,
    overhead: &ResourceList,
    usual: Usual,
) -> Resources {
    let amount = |container: &ContainerRequest<'_>| {
        Resources::from_list(&container.requests).or_usual(&container.requests, usual)
    };
    let mut total = Resources::default();
    containers.iter().for_each(|container| total.add(&amount(container)));
    let (mut beside, mut peak) = (Resources::default(), Resources::default());
    for container in init {
        let asked = amount(container);
        if container.restartable {
            total.add(&asked);
            beside.add(&asked);
            peak.raise_to(&beside);
        } else {
            let mut together = beside.clone();
            together.add(&asked);
            peak.raise_to(&together);
        }
    }
    total.raise_to(&peak);
    // KEP-2837: a pod's own request stands for the sum of its containers'.
    let level = Resources::from_list(own);
    if own.contains_key("cpu") {
        total.milli_cpu = level.milli_cpu;
    }
    if own.contains_key("memory") {
        total.memory = level.memory;
    }
    for (name, amount) in level.scalars.iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        total.scalars.retain(|(held, _)| held != name);
        let at = total.scalars.partition_point(|(held, _)| held < name);
        total.scalars.insert(at, (name.clone(), *amount));
    }
    total.add(&Resources::from_list(overhead));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, &str)]) -> ResourceList {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), amount.parse().expect("quantity")))
            .collect()
    }

    #[test]
    fn a_pod_needs_its_peak() {
        let one = list(&[("cpu", "100m"), ("memory", "1Gi")]);
        let big = list(&[("cpu", "1"), ("example.com/gpu", "2")]);
        let side = list(&[("cpu", "300m")]);
        let none = list(&[]);
        let container = |requests, restartable| ContainerRequest {
            requests: Cow::Borrowed(requests),
            restartable,
        };
        let cases = [
            (
                "containers add up",
                vec![],
                vec![&one, &one],
                &none,
                &none,
                (200, 2 << 30, 0),
            ),
            (
                "a large init container is the peak",
                vec![(&big, false)],
                vec![&one],
                &none,
                &none,
                (1000, 1 << 30, 2),
            ),
            (
                "a sidecar counts beside both",
                vec![(&side, true), (&big, false)],
                vec![&one],
                &none,
                &none,
                (1300, 1 << 30, 2),
            ),
            (
                "a sidecar after the init container",
                vec![(&big, false), (&side, true)],
                vec![&one],
                &none,
                &none,
                (1000, 1 << 30, 2),
            ),
            (
                "overhead comes on top",
                vec![],
                vec![&one],
                &none,
                &side,
                (400, 1 << 30, 0),
            ),
            (
                "the pod's own figure stands for the sum",
                vec![],
                vec![&one, &big],
                &side,
                &none,
                (300, 1 << 30, 2),
            ),
        ];
        for (name, init, containers, own, overhead, expected) in cases {
            let init: Vec<_> = init
                .into_iter()
                .map(|(requests, restartable)| container(requests, restartable))
                .collect();
            let containers: Vec<_> = containers
                .into_iter()
                .map(|requests| container(requests, false))
                .collect();
            let total = pod_request(&init, &containers, own, overhead, Usual::default());
            assert_eq!(
                (total.milli_cpu, total.memory, total.scalar("example.com/gpu")),
                expected,
                "{name}"
            );
        }
        let usual = pod_request(&[], &[container(&none, false)], &none, &none, Usual::ALL);
        assert_eq!((usual.milli_cpu, usual.memory), (100, 200 << 20));
    }
}
