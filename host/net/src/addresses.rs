//! Allocation of pod addresses: one file per address, so that allocations survive a restart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Cidr, Error};

/// How long a released address stays unused, so that nobody's open connection reaches its next owner.
pub const REUSE_DELAY: Duration = Duration::from_secs(30);

/// The last address that was handed out: allocation goes on from there after a restart.
const CURSOR: &str = "last";

/// The addresses of one range and who has them.
#[derive(Debug)]
pub(crate) struct AddressPool {
    dir: PathBuf,
    range: Cidr,
    first: u32,
    last: u32,
    cursor: u32,
    owners: BTreeMap<u32, String>,
    addresses: HashMap<String, u32>,
    /// Released addresses, oldest first.
    released: VecDeque<(Instant, u32)>,
}

impl AddressPool {
    /// Opens the pool kept in `dir`. The range's first address is the gateway's.
    pub(crate) fn open(dir: &Path, range: Cidr) -> Result<Self, Error> {
        let (first, last) = bounds(range)?;
        fs::create_dir_all(dir).map_err(|source| Error::file(dir, source))?;
        let mut pool = Self {
            dir: dir.to_owned(),
            range,
            first,
            last,
            cursor: first - 1,
            owners: BTreeMap::new(),
            addresses: HashMap::new(),
            released: VecDeque::new(),
        };
        pool.load()?;
        Ok(pool)
    }

    /// Takes addresses from another range from now on; who has one keeps it.
    pub(crate) fn change_range(&mut self, range: Cidr) -> Result<(), Error> {
        (self.first, self.last) = bounds(range)?;
        (self.range, self.cursor) = (range, self.first - 1);
        Ok(())
    }

    /// Whether somebody has an address of a range.
    pub(crate) fn has_of(&self, range: &Cidr) -> bool {
        self.owners.keys().any(|address| range.contains(ip(*address)))
    }

    /// Small ranges with the addresses that sandboxes have of other ranges than this pool's.
    pub(crate) fn others(&self) -> Result<Vec<Cidr>, Error> {
        const PREFIX: u8 = 24;
        let outside = self.owners.keys().filter(|address| !self.range.contains(ip(**address)));
        let mut ranges: Vec<Cidr> = outside
            .map(|address| Cidr::new(ip(*address), PREFIX))
            .collect::<Result<_, _>>()?;
        ranges.dedup();
        Ok(ranges)
    }

    /// The range that addresses are taken from.
    pub(crate) fn range(&self) -> Cidr {
        self.range
    }

    /// The sandbox's address; the one it has already, if it has one.
    pub(crate) fn allocate(&mut self, owner: &str, now: Instant) -> Result<IpAddr, Error> {
        if let Some(address) = self.addresses.get(owner) {
            return Ok(ip(*address));
        }
        let address = self.choose(now).ok_or(Error::Exhausted(self.range))?;
        self.write(&ip(address).to_string(), owner)?;
        self.write(CURSOR, &ip(address).to_string())?;
        self.cursor = address;
        self.released.retain(|(_, released)| *released != address);
        self.owners.insert(address, owner.to_owned());
        self.addresses.insert(owner.to_owned(), address);
        Ok(ip(address))
    }

    /// Gives the sandbox's address back.
    pub(crate) fn release(&mut self, owner: &str, now: Instant) -> Result<(), Error> {
        let Some(address) = self.addresses.get(owner).copied() else {
            return Ok(());
        };
        let path = self.dir.join(ip(address).to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(Error::file(path, source)),
            _ => {}
        }
        self.addresses.remove(owner);
        self.owners.remove(&address);
        self.released.push_back((now, address));
        Ok(())
    }

    pub(crate) fn address(&self, owner: &str) -> Option<IpAddr> {
        self.addresses.get(owner).copied().map(ip)
    }

    pub(crate) fn owners(&self) -> Vec<String> {
        self.owners.values().cloned().collect()
    }

    /// The next free address after the cursor; failing that, the one released the longest ago.
    fn choose(&self, now: Instant) -> Option<u32> {
        let resting: Vec<u32> = self
            .released
            .iter()
            .filter(|(since, _)| now.saturating_duration_since(*since) < REUSE_DELAY)
            .map(|(_, address)| *address)
            .collect();
        let free = |address: &u32| !self.owners.contains_key(address) && !resting.contains(address);
        let start = if (self.first..self.last).contains(&self.cursor) {
            self.cursor + 1
        } else {
            self.first
        };
        (start..=self.last)
            .chain(self.first..start)
            .find(free)
            .or_else(|| resting.first().copied())
    }

    fn load(&mut self) -> Result<(), Error> {
        let dir = self.dir.clone();
        for entry in fs::read_dir(&dir).map_err(|source| Error::file(&dir, source))? {
            let entry = entry.map_err(|source| Error::file(&dir, source))?;
            let name = entry.file_name();
            let text = fs::read_to_string(entry.path()).map_err(|source| Error::file(entry.path(), source))?;
            if name == CURSOR {
                self.cursor = text.parse().map_or(self.cursor, Ipv4Addr::to_bits);
            } else if let Some(Ok(address)) = name.to_str().map(str::parse::<Ipv4Addr>) {
                self.adopt(address.to_bits(), text, &entry.path())?;
            }
        }
        Ok(())
    }

    /// An empty file is an allocation that was cut short: nobody has the address.
    fn adopt(&mut self, address: u32, owner: String, path: &Path) -> Result<(), Error> {
        if owner.is_empty() || self.addresses.contains_key(&owner) {
            return fs::remove_file(path).map_err(|source| Error::file(path, source));
        }
        self.addresses.insert(owner.clone(), address);
        self.owners.insert(address, owner);
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        let written = fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| Error::file(path, source))
    }
}

/// The first and the last address of a range that sandboxes get: its first is the gateway's.
fn bounds(range: Cidr) -> Result<(u32, u32), Error> {
    let network = range.network4()?.to_bits();
    if range.prefix() < 8 || range.prefix() > 29 {
        return Err(Error::BadRange(range, "the prefix must be between 8 and 29 bits"));
    }
    Ok((network + 2, (network | !range.mask4().to_bits()) - 1))
}

fn ip(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(dir: &Path) -> AddressPool {
        AddressPool::open(dir, "10.9.0.0/29".parse().unwrap()).unwrap()
    }

    #[test]
    fn addresses_are_distinct_and_survive_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut first = pool(dir.path());
        let a = first.allocate("a", now).unwrap();
        let b = first.allocate("b", now).unwrap();
        assert_eq!((a.to_string(), b.to_string()), ("10.9.0.2".into(), "10.9.0.3".into()));
        assert_eq!(first.allocate("a", now).unwrap(), a);
        let mut again = pool(dir.path());
        assert_eq!(again.address("b"), Some(b));
        assert_eq!(again.allocate("c", now).unwrap().to_string(), "10.9.0.4");
        assert_eq!(again.owners(), ["a", "b", "c"]);
    }

    #[test]
    fn a_released_address_rests_unless_it_is_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let mut pool = pool(dir.path());
        for owner in ["a", "b", "c", "d"] {
            pool.allocate(owner, start).unwrap();
        }
        pool.release("b", start).unwrap();
        pool.release("unknown", start).unwrap();
        assert_eq!(pool.allocate("e", start).unwrap().to_string(), "10.9.0.6");
        assert_eq!(
            pool.allocate("f", start).unwrap().to_string(),
            "10.9.0.3",
            "nothing else is left"
        );
        assert!(matches!(pool.allocate("g", start), Err(Error::Exhausted(_))));
        pool.release("a", start).unwrap();
        pool.release("f", start + REUSE_DELAY).unwrap();
        assert_eq!(pool.allocate("h", start + REUSE_DELAY).unwrap().to_string(), "10.9.0.2");
    }

    #[test]
    fn another_range_is_for_those_that_come() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut pool = pool(dir.path());
        let old = pool.allocate("a", now).unwrap();
        pool.change_range("10.10.0.0/24".parse().unwrap()).unwrap();
        assert_eq!(pool.allocate("b", now).unwrap().to_string(), "10.10.0.2");
        assert_eq!(pool.allocate("a", now).unwrap(), old);
        assert!(pool.change_range("fd00::/64".parse().unwrap()).is_err());
        assert!(pool.change_range("10.10.0.0/31".parse().unwrap()).is_err());
        assert_eq!(pool.allocate("c", now).unwrap().to_string(), "10.10.0.3");
    }

    #[test]
    fn a_half_written_allocation_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.9.0.2"), "").unwrap();
        assert_eq!(
            pool(dir.path()).allocate("a", Instant::now()).unwrap().to_string(),
            "10.9.0.2"
        );
    }
}
