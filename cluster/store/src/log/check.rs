//! What is wrong with a directory.

use super::{
    disk::{Directory, Disk},
    recover,
    segment::{SEGMENT, SNAPSHOT, Segment, number_of},
};
use crate::Error;
use std::{fmt, path::Path, time::Duration};
use strata_meta::Revision;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The format of the files, 0 if unknown.
    pub format: u32,
    /// The latest revision, if the store can be opened.
    pub revision: Option<Revision>,
    /// Keys that have a value.
    pub keys: u64,
    /// Bytes of their keys and values.
    pub live_bytes: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Batches in the log.
    pub batches: u64,
    /// Where a crash left an unfinished batch; opening drops it, nobody was told of it.
    pub torn: Option<(String, u64)>,
    /// Why the store cannot be opened; empty if it can.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.file, self.offset, self.why)
    }
}

/// Reads every file of a store that is not open and says what is wrong; changes nothing.
/// Errors: `Held`, `Io`, `NewerFormat`; damage is in the report.
pub fn check(directory: &Path) -> Result<Report, Error> {
    check_disk(&Directory::take(directory, false)?)
}

pub(super) fn check_disk(disk: &dyn Disk) -> Result<Report, Error> {
    let mut report = Report::default();
    let files = disk
        .list()
        .map_err(|error| Error::io("listing the store's files", error))?;
    report.disk_bytes = files.iter().map(|(_, size)| size).sum();
    let Some(identity) = report.note(recover::identify(disk))? else {
        return Ok(report);
    };
    let Some(identity) = identity else {
        return Ok(report);
    };
    report.format = identity.format;
    for (name, _) in &files {
        if let Some(sequence) = number_of(name, SNAPSHOT) {
            report.note(recover::load_snapshot(disk, sequence, identity.store, Duration::ZERO))?;
        } else if number_of(name, SEGMENT).is_some() {
            let mut batches = 0;
            let scanned = Segment::open(disk, name, identity.store).and_then(|segment| {
                segment.scan(&mut |_, _, _| {
                    batches += 1;
                    Ok(())
                })
            });
            report.note(scanned)?;
            report.batches += batches;
        }
    }
    if let Some(loaded) = report.note(recover::load(disk, identity.store, Duration::ZERO))? {
        report.revision = Some(loaded.state.revision());
        report.keys = loaded.state.live_keys();
        report.live_bytes = loaded.state.live_bytes();
        report.torn = loaded.end.torn.then_some((loaded.active.name, loaded.end.offset));
    }
    Ok(report)
}

impl Report {
    /// Takes damage into the report and hands on everything else.
    fn note<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Damaged { file, offset, why }) => {
                let problem = Problem { file, offset, why };
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}
