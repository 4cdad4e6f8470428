//! Several servers on one machine: each has a name of its own for links, tables and cgroups,
//! and a pair of address ranges that no other uses.

use crate::failure::{During, Failure, Outcome, fail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where servers tell each other which address ranges are taken.
const LOCKS: &str = "/run/strata/ranges";
/// How long a server that has just been killed may take to be gone.
const GOING: Duration = Duration::from_secs(1);
/// Pause between looks at a lock of one that is going.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How many pairs of ranges there are.
const PAIRS: u8 = 16;

/// What a server calls its own on this machine. The ranges are its as long as this lives.
pub struct Instance {
    /// Marks links, tables and cgroups.
    pub name: String,
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// Addresses of services.
    pub service_cidr: String,
    /// Address of the cluster's DNS.
    pub dns: IpAddr,
    /// First address of the services: the API itself.
    pub api: IpAddr,
    _locks: [File; 2],
}

#[derive(Serialize, Deserialize)]
struct Chosen {
    name: String,
    pair: u8,
}

impl Instance {
    /// The instance of a data directory: as chosen at its first start, or the first pair that is free.
    pub fn open(data_dir: &Path) -> Outcome<Self> {
        let own = take_soon(&data_dir.join("lock"))?.ok_or_else(|| {
            Failure(format!(
                "a server is running on {}; stop it, or choose another data directory",
                data_dir.display()
            ))
        })?;
        let path = data_dir.join("instance.json");
        match fs::read(&path) {
            Ok(bytes) => {
                let chosen: Chosen = serde_json::from_slice(&bytes).during(format!("reading {}", path.display()))?;
                let lock = take_soon(&pair_lock(chosen.pair)?)?.ok_or_else(|| {
                    let pods = pods(chosen.pair);
                    Failure(format!("the pod range {pods} of this server is used by another server on this machine; stop that one first"))
                })?;
                Ok(Self::new(chosen, [own, lock]))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                for pair in 0..PAIRS {
                    if let Some(lock) = take(&pair_lock(pair)?)? {
                        let chosen = Chosen {
                            name: random_name(),
                            pair,
                        };
                        let text = serde_json::to_vec(&chosen).during("encoding the instance")?;
                        strata_auth::write_private(&path, &text).during(format!("writing {}", path.display()))?;
                        return Ok(Self::new(chosen, [own, lock]));
                    }
                }
                fail(format!(
                    "all {PAIRS} pairs of address ranges are used by other servers on this machine; stop one"
                ))
            }
            Err(e) => Err(e).during(format!("reading {}", path.display())),
        }
    }

    fn new(chosen: Chosen, locks: [File; 2]) -> Self {
        let service = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 96 + chosen.pair, 0, last));
        Self {
            cluster_cidr: pods(chosen.pair),
            service_cidr: format!("{}/16", service(0)),
            dns: service(10),
            api: service(1),
            name: chosen.name,
            _locks: locks,
        }
    }
}

fn pods(pair: u8) -> String {
    format!("10.{}.0.0/16", 128 + pair)
}

fn random_name() -> String {
    strata_meta::Uid::random().as_str()[..6].to_owned()
}

/// The file whose lock is a pair.
fn pair_lock(pair: u8) -> Outcome<PathBuf> {
    fs::create_dir_all(LOCKS).during(format!("creating {LOCKS}"))?;
    Ok(Path::new(LOCKS).join(pair.to_string()))
}

/// Takes a lock unless another process has it. The kernel gives it back when the holder ends.
fn take(path: &Path) -> Outcome<Option<File>> {
    let file = File::create(path).during(format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e).during(format!("locking {}", path.display())),
    }
}

/// [`take`], but a holder that is about to be gone is waited for.
fn take_soon(path: &Path) -> Outcome<Option<File>> {
    let began = Instant::now();
    loop {
        match take(path)? {
            None if began.elapsed() < GOING => std::thread::sleep(LOOK_AGAIN),
            taken => return Ok(taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once_and_waited_for_while_its_holder_goes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let held = take(&path).expect("no error").expect("it is free");
        assert!(take(&path).expect("no error").is_none());
        let waiting = std::thread::spawn(move || take_soon(&path).expect("no error").is_some());
        drop(held);
        assert!(waiting.join().expect("no panic"));
    }
}
