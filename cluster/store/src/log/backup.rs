//! A snapshot out of a directory, and into an empty one.

use super::{
    LogOptions,
    disk::{Directory, Disk},
    files::Files,
    journal::begin_segment,
    recover::{self, Identity},
};
use crate::{
    Error,
    command::Pinned,
    service::Core,
    snapshot::{self, frame::FORMAT, random_u64},
};
use std::{
    io::{Read, Write},
    path::Path,
    sync::Arc,
};
use strata_meta::Revision;

/// Added to the revision of what is restored, so that it lies above everything that clients
/// saw after the backup was made: a thousand million writes.
const RESTORE_RAISE: u64 = 1_000_000_000;

/// Writes the state of a store that is not open; tells its revision.
/// Errors: `Held`, `Damaged`, `NewerFormat`, `Io`.
pub fn backup(directory: &Path, out: &mut dyn Write) -> Result<Revision, Error> {
    let disk = Directory::take(directory, false)?;
    let Some(identity) = recover::identify(&disk)? else {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no store is there");
        return Err(Error::io(format!("reading {}", directory.display()), missing));
    };
    let options = LogOptions::default();
    let mut loaded = recover::load(&disk, identity.store, (options.clock)())?;
    loaded.state.publish();
    let core = Arc::new(Core::new(loaded.state, options.limits, options.clock));
    snapshot::write(&pin(core, loaded.end.sequence), identity.store, out)
}

/// Makes a store of a snapshot in a new or empty directory; tells the revision it begins
/// with, which is far above the snapshot's. Errors: `NotEmpty`, `Damaged`, `NewerFormat`, `Io`.
pub fn restore(input: &mut dyn Read, directory: &Path) -> Result<Revision, Error> {
    let disk = Arc::new(Directory::take(directory, true)?);
    let present = disk
        .list()
        .map_err(|error| Error::io("listing the store's files", error))?;
    if !present.is_empty() {
        return Err(Error::NotEmpty {
            directory: directory.to_owned(),
        });
    }
    let options = LogOptions::default();
    let (_, mut state) = snapshot::read(input, "the backup", (options.clock)())?;
    state.raise(RESTORE_RAISE);
    state.publish();
    let store = random_u64()?;
    let files = Files::new(disk.clone(), store, &options);
    let core = Arc::new(Core::new(state, options.limits, options.clock));
    let pinned = pin(core, 0);
    files.snapshot(&pinned)?;
    begin_segment(&files, files.create_segment(files.next_size(None))?, 0)?;
    recover::write_identity(&*disk, Identity { format: FORMAT, store })?;
    Ok(pinned.revision)
}

fn pin(core: Arc<Core>, sequence: u64) -> Pinned {
    let (revision, leases) = {
        let mut state = core.write();
        (state.pin(), state.leases.list())
    };
    Pinned {
        core,
        revision,
        sequence,
        leases,
    }
}
