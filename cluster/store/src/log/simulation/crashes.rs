//! Thousands of crashes at random points, each followed by a recovery whose result is
//! compared with a model of what was acknowledged.

use super::{Random, disk::SimulatedDisk};
use crate::{
    Error, Expect, LeaseId, Limits, Range,
    command::{Command, Outcome},
    log::{LogOptions, check::check_disk, files::Files, journal::Journal, recover},
    service::Core,
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use strata_meta::Revision;

const CRASHES: u64 = 10_000;
const SEGMENT_BYTES: u64 = 8 << 10;

pub(super) fn options() -> LogOptions {
    LogOptions {
        limits: Limits {
            max_key: 16,
            ..Limits::default()
        },
        clock: Arc::new(|| Duration::ZERO),
        segment_bytes: SEGMENT_BYTES,
        snapshot_after: 2 * SEGMENT_BYTES,
        reserve_bytes: SEGMENT_BYTES,
        fatal: Arc::new(|_| {}),
    }
}

/// What the store must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    items: BTreeMap<Bytes, (Bytes, Option<LeaseId>)>,
    revision: u64,
    leases: Vec<LeaseId>,
    /// Leases granted by the batch whose answer never came.
    unknown_leases: usize,
}

impl Model {
    fn apply(&mut self, command: &Command) {
        match command {
            Command::Put { key, value, lease, .. } => {
                self.items.insert(key.clone(), (value.clone(), *lease));
                self.revision += 1;
            }
            Command::Delete { key, .. } => self.revision += u64::from(self.items.remove(key).is_some()),
            Command::Revoke(lease) => {
                let before = self.items.len();
                self.items.retain(|_, (_, held)| *held != Some(*lease));
                self.revision += (before - self.items.len()) as u64;
                self.leases.retain(|known| known != lease);
            }
            Command::Grant(_) => self.unknown_leases += 1,
            Command::Compact(_) | Command::Pin => {}
        }
    }

    /// Whether the store holds exactly this; learns the identities of leases.
    fn matches(&self, core: &Core) -> Option<Model> {
        let state = core.read();
        let items = state
            .range(&Range::default())
            .expect("the latest revision is readable")
            .items;
        let leases: Vec<_> = state.leases.list().into_iter().map(|(id, _)| id).collect();
        let same_items = items.iter().map(|item| (&item.key, &item.value, item.lease));
        let same = state.durable().0 == self.revision
            && leases.len() == self.leases.len() + self.unknown_leases
            && self.leases.iter().all(|lease| leases.contains(lease))
            && same_items.eq(self.items.iter().map(|(key, (value, lease))| (key, value, *lease)));
        same.then(|| Model {
            leases,
            unknown_leases: 0,
            ..self.clone()
        })
    }
}

struct Machine {
    disk: SimulatedDisk,
    random: Random,
    acknowledged: Model,
    /// The state if the batch that was being written when the machine died is there.
    in_flight: Option<Model>,
}

struct Running {
    core: Arc<Core>,
    journal: Journal,
    files: Arc<Files>,
}

impl Machine {
    fn start(&self) -> Result<Running, Error> {
        let options = options();
        let opened = recover::open(Arc::new(self.disk.clone()), &options, &[])?;
        Ok(Running {
            core: Arc::new(Core::new(opened.state, options.limits, options.clock)),
            journal: opened.journal,
            files: opened.files,
        })
    }

    fn crash(&mut self) {
        if self.random.one_in(4) {
            self.disk.kill()
        } else {
            self.disk.lose_power()
        }
    }

    /// Recovers, through further crashes if need be, and compares.
    fn recover(&mut self) -> Running {
        loop {
            let fuse = self.random.one_in(4).then(|| self.random.below(12));
            self.disk.set_fuse(fuse);
            match self.start() {
                Ok(running) => {
                    self.compare(&running.core);
                    self.disk.set_fuse(None);
                    return running;
                }
                Err(Error::Io { .. }) if fuse.is_some() => self.crash(),
                Err(error) => panic!("recovery refused: {error}; {:?}", check_disk(&self.disk)),
            }
        }
    }

    fn compare(&mut self, core: &Core) {
        let candidates = [Some(self.acknowledged.clone()), self.in_flight.take()];
        let found = candidates.iter().flatten().find_map(|model| model.matches(core));
        let Some(found) = found else {
            let state = core.read();
            let held = (state.durable(), state.range(&Range::default()).map(|range| range.items));
            panic!("the store holds {held:?}, which is neither of {candidates:?}");
        };
        assert!(found.revision >= self.acknowledged.revision, "revisions never go back");
        let state = core.read();
        let (events, reached) = state.events(b"", b"", state.compacted(), usize::MAX);
        assert_eq!(reached, state.durable());
        assert_eq!(
            events.len() as u64,
            reached.0 - state.compacted().0,
            "history has no gap"
        );
        drop(state);
        self.acknowledged = found;
    }

    /// Works until the machine dies.
    fn work(&mut self, mut running: Running) {
        self.disk.set_fuse(Some(self.random.below(80)));
        loop {
            let done = if self.random.one_in(12) {
                self.keep(&mut running)
            } else {
                self.write(&mut running)
            };
            match done {
                Ok(()) => {}
                Err(Error::Io { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn write(&mut self, running: &mut Running) -> Result<(), Error> {
        let count = 1 + self.random.below(6);
        let commands: Vec<_> = (0..count).map(|_| self.command(running)).collect();
        let mut after = self.acknowledged.clone();
        commands.iter().for_each(|command| after.apply(command));
        self.in_flight = Some(after.clone());
        let answers = running.core.commit(Some(&mut running.journal), commands)?;
        for answer in answers {
            match answer {
                Ok(Outcome::Granted(lease)) => after.leases.push(lease),
                Ok(Outcome::Again(_)) => panic!("leases are small here"),
                // Two compactions or revocations in one batch.
                Ok(_) | Err(Error::Compacted { .. } | Error::LeaseNotFound(_)) => {}
                Err(other) => panic!("every command is valid, but {other}"),
            }
        }
        after.unknown_leases = 0;
        assert_eq!(running.core.read().durable().0, after.revision);
        self.acknowledged = after;
        self.in_flight = None;
        Ok(())
    }

    fn command(&mut self, running: &Running) -> Command {
        let random = &mut self.random;
        let key = Bytes::from(format!("k{}", random.below(24)));
        let leases = &self.acknowledged.leases;
        match random.below(16) {
            0..=9 => {
                let size = if random.one_in(20) { 6000 } else { random.below(400) };
                let lease = if leases.is_empty() || !random.one_in(4) {
                    None
                } else {
                    leases.first().copied()
                };
                Command::Put {
                    key,
                    value: Bytes::from(vec![random.below(256) as u8; size as usize]),
                    expect: Expect::Any,
                    lease: lease.filter(|_| leases.len() < 3),
                }
            }
            10 if leases.len() < 3 => Command::Grant(Duration::from_secs(60)),
            11 if leases.len() >= 3 => {
                // The last, which no put of this batch uses, so that all of it is valid.
                let id = leases.last().copied().expect("there are three");
                if random.one_in(3) {
                    Command::Revoke(id)
                } else {
                    Command::Delete {
                        key,
                        expect: Expect::Any,
                    }
                }
            }
            12 if random.one_in(8) => {
                let state = running.core.read();
                if state.durable() > state.compacted() {
                    Command::Compact(state.durable())
                } else {
                    Command::Pin
                }
            }
            _ => Command::Delete {
                key,
                expect: Expect::Any,
            },
        }
    }

    /// What the keeper does beside the writer.
    fn keep(&mut self, running: &mut Running) -> Result<(), Error> {
        if self.random.one_in(2) {
            return running.files.prepare(SEGMENT_BYTES);
        }
        let answers = running.core.commit(Some(&mut running.journal), vec![Command::Pin])?;
        for answer in answers {
            let Ok(Outcome::Pinned(pinned)) = answer else {
                panic!("a pin cannot fail")
            };
            running.files.snapshot(&pinned)?;
        }
        Ok(())
    }
}

#[test]
fn acknowledged_writes_survive_ten_thousand_crashes_whole_and_nothing_else_does() {
    let run = |seed: u64, crashes: u64| {
        let mut machine = Machine {
            disk: SimulatedDisk::new(seed),
            random: Random::new(seed + 1000),
            acknowledged: Model {
                revision: 1,
                ..Model::default()
            },
            in_flight: None,
        };
        for _ in 0..crashes {
            let running = machine.recover();
            machine.work(running);
            machine.crash();
        }
        machine.acknowledged.revision
    };
    let seeds = 20;
    let threads: Vec<_> = (0..2)
        .map(|half| {
            std::thread::spawn(move || {
                (0..seeds / 2)
                    .map(|seed| run(seed * 2 + half, CRASHES / seeds))
                    .sum::<u64>()
            })
        })
        .collect();
    let written: u64 = threads
        .into_iter()
        .map(|thread| thread.join().expect("no crash loses anything"))
        .sum();
    assert!(
        written > 10 * CRASHES,
        "crashes come in the middle of real work, not {written} writes"
    );
}

#[test]
fn history_is_kept_across_a_restart_back_to_the_snapshot() {
    let machine = Machine {
        disk: SimulatedDisk::new(1),
        random: Random::new(1),
        acknowledged: Model::default(),
        in_flight: None,
    };
    let mut running = machine.start().expect("new store");
    let put = |value: &'static str| Command::Put {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(value.as_bytes()),
        expect: Expect::Any,
        lease: None,
    };
    let commit = |running: &mut Running, command| {
        running
            .core
            .commit(Some(&mut running.journal), vec![command])
            .expect("disk works")
            .pop()
    };
    commit(&mut running, put("1"));
    let Some(Ok(Outcome::Pinned(pinned))) = commit(&mut running, Command::Pin) else {
        panic!("a pin cannot fail")
    };
    running.files.snapshot(&pinned).expect("snapshot");
    drop(pinned);
    commit(&mut running, put("2"));
    commit(&mut running, put("3"));
    let again = machine.start().expect("restart");
    let state = again.core.read();
    let at = |revision| {
        state
            .get(b"a", Some(Revision(revision)))
            .map(|item| item.map(|item| item.value))
    };
    assert_eq!(at(3).expect("kept"), Some(Bytes::from_static(b"2")));
    assert_eq!(at(4).expect("kept"), Some(Bytes::from_static(b"3")));
    assert!(matches!(at(1), Err(Error::Compacted { .. })));
}
