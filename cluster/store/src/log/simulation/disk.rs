//! The simulated disk.

use super::Random;
use crate::log::disk::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    random: Random,
    /// The directory as the process sees it, and as it is on the platters.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Operations that change something until the machine dies.
    fuse: Option<u64>,
    dead: bool,
    /// Bytes that files may take.
    capacity: u64,
    /// Syncs of files whose names begin so fail.
    failing: Option<&'static str>,
    syncs: u64,
}

enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String),
}

#[derive(Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    Resize(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Resize(size) => content.resize(*size, 0),
            Self::Write(offset, bytes) => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl SimulatedDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            fuse: None,
            dead: false,
            capacity: u64::MAX,
            failing: None,
            syncs: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    pub fn set_fuse(&self, operations: Option<u64>) {
        self.state().fuse = operations;
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        self.state().used()
    }

    pub fn fail_syncs_of(&self, prefix: &'static str) {
        self.state().failing = Some(prefix);
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The process died; the machine did not.
    pub fn kill(&self) {
        let mut state = self.state();
        state.dead = false;
        state.fuse = None;
    }

    /// The machine lost power: of what was not synced, any part may be there.
    pub fn lose_power(&self) {
        let mut state = self.state();
        let State {
            random,
            inodes,
            durable_names,
            unsynced_names,
            ..
        } = &mut *state;
        for inode in inodes.values_mut() {
            for change in std::mem::take(&mut inode.unsynced) {
                match (random.below(3), change) {
                    (0, _) => {}
                    (1, change) | (_, change @ Change::Resize(_)) => change.apply(&mut inode.durable),
                    (_, Change::Write(offset, bytes)) => tear(random, offset, &bytes, &mut inode.durable),
                }
            }
            inode.seen = inode.durable.clone();
        }
        for change in std::mem::take(unsynced_names) {
            if random.one_in(2) {
                change.apply(durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let State { names, inodes, .. } = &mut *state;
        inodes.retain(|inode, _| names.values().any(|named| named == inode));
        state.dead = false;
        state.fuse = None;
    }

    /// Changes one byte of a file, as a failing disk does.
    pub fn damage(&self, name: &str, offset: usize) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = state.inodes.get_mut(&inode).expect("named files exist");
        inode.seen[offset] ^= 0x20;
        inode.durable = inode.seen.clone();
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[&state.names[name]].seen.clone()
    }
}

/// Keeps some sectors of a write.
fn tear(random: &mut Random, offset: usize, bytes: &[u8], durable: &mut Vec<u8>) {
    let mut at = 0;
    while at < bytes.len() {
        let end = ((offset + at + 1).next_multiple_of(SECTOR) - offset).min(bytes.len());
        if random.one_in(2) {
            Change::Write(offset + at, bytes[at..end].to_vec()).apply(durable);
        }
        at = end;
    }
}

impl State {
    /// Counts an operation that changes something; when the fuse has burned it is begun,
    /// but never answered.
    fn burn(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the machine is dead"));
        }
        match &mut self.fuse {
            Some(0) => self.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn answer(&self) -> io::Result<()> {
        if self.dead {
            Err(io::Error::other("the machine died"))
        } else {
            Ok(())
        }
    }

    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.seen.len() as u64).sum()
    }

    fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.entry(number).or_default()
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.burn()?;
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        self.answer()
    }

    fn sync(&mut self, inode: Option<u64>) -> io::Result<()> {
        self.burn()?;
        self.syncs += u64::from(inode.is_some());
        let failing = |name: &String| self.failing.is_some_and(|prefix| name.starts_with(prefix));
        if self.names.iter().any(|(name, at)| Some(*at) == inode && failing(name)) {
            return Err(io::Error::other("the disk failed"));
        }
        self.answer()
    }

    fn change(&mut self, inode: u64, change: Change) -> io::Result<()> {
        self.burn()?;
        let grows = match &change {
            Change::Resize(size) => *size,
            Change::Write(offset, bytes) => offset + bytes.len(),
        };
        let grows = grows.saturating_sub(self.inode(inode).seen.len()) as u64;
        if grows > 0 && self.used() + grows > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.inode(inode);
        change.apply(&mut inode.seen);
        inode.unsynced.push(change);
        self.answer()
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        state.answer()?;
        Ok(state
            .names
            .iter()
            .map(|(name, inode)| (name.clone(), state.inodes[inode].seen.len() as u64))
            .collect())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        let linked = state.change_name(NameChange::Link(name.to_owned(), inode));
        let made = linked.and_then(|()| match size {
            0 => Ok(()),
            size => state.change(inode, Change::Resize(size as usize)),
        });
        if let Err(error) = made {
            if !state.dead {
                state.change_name(NameChange::Unlink(name.to_owned()))?;
                state.inodes.remove(&inode);
            }
            return Err(error);
        }
        let disk = self.clone();
        Ok(Arc::new(SimulatedFile { disk, inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.answer()?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let disk = self.clone();
        Ok(Arc::new(SimulatedFile { disk, inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Unlink(name.to_owned()))?;
        if !state.durable_names.values().any(|durable| *durable == inode) {
            state.inodes.remove(&inode);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.sync(None)?;
        let State {
            durable_names,
            unsynced_names,
            inodes,
            ..
        } = &mut *state;
        for change in std::mem::take(unsynced_names) {
            change.apply(durable_names);
        }
        inodes.retain(|inode, _| durable_names.values().any(|named| named == inode));
        Ok(())
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.answer()?;
        Ok(state.inode(self.inode).seen.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.answer()?;
        let content = &state.inode(self.inode).seen;
        let from = content.len().min(offset as usize);
        let count = bytes.len().min(content.len() - from);
        bytes[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk
            .state()
            .change(self.inode, Change::Write(offset as usize, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.sync(Some(self.inode))?;
        let inode = state.inode(self.inode);
        for change in std::mem::take(&mut inode.unsynced) {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }
}
