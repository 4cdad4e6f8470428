//! The static policy of the CPU manager: containers of guaranteed pods that ask for whole processors get them for
//! themselves, everybody else shares the rest. Pure but for reading the topology.

use super::CpuSet;
use crate::{
    pod::{Container, Pod},
    resources::{self, Qos},
};
use std::{collections::BTreeMap, fs, io, path::Path};

/// Where processors sit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Socket and core of each processor.
    places: BTreeMap<u32, (u32, u32)>,
}

/// The policy with what it was told.
#[derive(Clone, Debug)]
pub struct StaticCpus {
    topology: Topology,
    /// Those that nobody gets for itself.
    reserved: CpuSet,
    /// Only whole cores are given.
    full_cores: bool,
}

impl Topology {
    /// Of the machine: the processors that are online.
    pub fn read(root: &Path) -> io::Result<Self> {
        let online = fs::read_to_string(root.join("online"))?;
        let online = CpuSet::parse(&online).map_err(io::Error::other)?;
        let number = |cpu: u32, name: &str| {
            let text = fs::read_to_string(root.join(format!("cpu{cpu}/topology/{name}"))).ok()?;
            text.trim().parse::<u32>().ok()
        };
        // A machine that does not say is one socket of cores with one thread each.
        let place = |cpu| {
            (
                cpu,
                (
                    number(cpu, "physical_package_id").unwrap_or(0),
                    number(cpu, "core_id").unwrap_or(cpu),
                ),
            )
        };
        Ok(Self {
            places: online.iter().map(place).collect(),
        })
    }

    /// All processors.
    pub fn all(&self) -> CpuSet {
        self.places.keys().copied().collect()
    }

    fn groups(&self, free: &CpuSet, by: impl Fn(&(u32, u32)) -> (u32, u32)) -> Vec<CpuSet> {
        let mut groups: BTreeMap<(u32, u32), CpuSet> = BTreeMap::new();
        for (cpu, place) in self.places.iter().filter(|(cpu, _)| free.contains(**cpu)) {
            let group = groups.entry(by(place)).or_default();
            *group = group.union(&[*cpu].into_iter().collect());
        }
        groups.into_values().collect()
    }

    fn size_of(&self, by: impl Fn(&(u32, u32)) -> (u32, u32)) -> usize {
        self.groups(&self.all(), by).iter().map(CpuSet::len).max().unwrap_or(1)
    }

    /// So many of the free processors: whole sockets, then whole cores, then what is left of cores that are in use.
    fn take(&self, free: &CpuSet, count: usize) -> Option<CpuSet> {
        if free.len() < count {
            return None;
        }
        let mut taken = CpuSet::default();
        let socket: fn(&(u32, u32)) -> (u32, u32) = |place| (place.0, 0);
        let core: fn(&(u32, u32)) -> (u32, u32) = |place| *place;
        for by in [socket, core] {
            let size = self.size_of(by);
            for group in self.groups(&free.difference(&taken), by) {
                if group.len() == size && taken.len() + size <= count {
                    taken = taken.union(&group);
                }
            }
        }
        // Single threads come from the cores with the fewest free ones.
        let mut rest = self.groups(&free.difference(&taken), core);
        rest.sort_by_key(CpuSet::len);
        let missing = count - taken.len();
        let single = rest.iter().flat_map(CpuSet::iter).take(missing).collect();
        Some(taken.union(&single))
    }
}

impl StaticCpus {
    /// `count` processors are kept for the system unless they are named.
    pub fn new(topology: Topology, named: CpuSet, count: usize, full_cores: bool) -> Result<Self, String> {
        let all = topology.all();
        let reserved = if named.is_empty() {
            topology
                .take(&all, count)
                .ok_or("more processors are reserved than there are")?
        } else if named.is_subset(&all) {
            named
        } else {
            return Err(format!("reserved processors {named} are not all there: {all}"));
        };
        Ok(Self {
            topology,
            reserved,
            full_cores,
        })
    }

    /// How many processors a container gets for itself.
    pub fn wanted(pod: &Pod, container: &Container) -> usize {
        let request = container
            .resources
            .requests
            .get("cpu")
            .or_else(|| container.resources.limits.get("cpu"));
        let milli = request.map_or(0, |q| q.milli_value());
        if resources::qos_class(pod) != Qos::Guaranteed || milli % 1000 != 0 {
            return 0;
        }
        usize::try_from(milli / 1000).unwrap_or(0)
    }

    /// Processors for a container beside those that are taken; `reusable` first. Errors: reason and sentence.
    pub fn give(&self, count: usize, taken: &CpuSet, reusable: &CpuSet) -> Result<CpuSet, (&'static str, String)> {
        let threads = self.topology.size_of(|place| *place);
        if self.full_cores && !count.is_multiple_of(threads) {
            let why = format!("SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}");
            return Err(("SMTAlignmentError", why));
        }
        let reused: CpuSet = reusable.iter().take(count).collect();
        let free = self
            .topology
            .all()
            .difference(&self.reserved)
            .difference(taken)
            .difference(reusable);
        let fresh = self.topology.take(&free, count - reused.len()).ok_or_else(|| {
            let why = format!(
                "Allocate failed due to not enough cpus available to satisfy request: requested={count}, available={}, which is unexpected",
                free.len() + reusable.len()
            );
            ("UnexpectedAdmissionError", why)
        })?;
        Ok(fresh.union(&reused))
    }

    /// What everybody else shares.
    pub fn shared(&self, taken: &CpuSet) -> CpuSet {
        self.topology.all().difference(taken)
    }

    /// What can be given away.
    pub fn allocatable(&self) -> CpuSet {
        self.topology.all().difference(&self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two cores with two threads each: 0-3 are first threads, 4-7 the others.
    fn topology() -> Topology {
        let place = |cpu: u32| (cpu, ((cpu % 4) / 2, cpu % 4));
        Topology {
            places: (0..8).map(place).collect(),
        }
    }

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).expect(text)
    }

    #[test]
    fn whole_sockets_go_before_whole_cores_before_single_threads() {
        let t = topology();
        assert_eq!(t.take(&t.all(), 4), Some(set("0-1,4-5")));
        assert_eq!(t.take(&t.all(), 2), Some(set("0,4")));
        assert_eq!(t.take(&t.all(), 5), Some(set("0-2,4-5")));
        assert_eq!(
            t.take(&set("1-7"), 1),
            Some(set("4")),
            "the other thread of a core in use"
        );
        assert_eq!(t.take(&set("1-2"), 3), None);
    }

    #[test]
    fn what_is_reserved_is_shared_and_never_given() {
        let policy = StaticCpus::new(topology(), CpuSet::default(), 1, false).expect("a policy");
        assert_eq!(policy.reserved, set("0"));
        let none = CpuSet::default();
        let given = policy.give(7, &none, &none).expect("all but one");
        assert_eq!((given.clone(), policy.shared(&given)), (set("1-7"), set("0")));
        assert_eq!(
            policy.give(1, &given, &none).expect_err("none left").0,
            "UnexpectedAdmissionError"
        );
        assert_eq!(
            policy.give(1, &given, &set("3")),
            Ok(set("3")),
            "an init container's are given on"
        );
        let whole = StaticCpus::new(topology(), set("0,4"), 0, true).expect("a policy");
        assert_eq!(whole.give(3, &none, &none).expect_err("odd").0, "SMTAlignmentError");
        assert_eq!(whole.give(2, &none, &none), Ok(set("1,5")));
        assert!(StaticCpus::new(topology(), set("9"), 0, true).is_err());
    }
}
