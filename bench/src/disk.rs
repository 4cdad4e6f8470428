//! A file system of its own for rows that write many files.
//!
//! ext4 keeps away from inodes that were removed in the last five minutes, and stepping over
//! many of them makes every new file ten times slower, whoever asks. What was measured before
//! must not decide what is measured next.

use crate::failure::{Outcome, fail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// What it holds at most; the file has holes.
const BYTES: u64 = 16 << 30;

/// A fresh ext4 in a file, mounted until this is dropped.
pub struct Disk {
    place: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes one below `folder`.
    pub fn make(folder: &Path) -> Outcome<Self> {
        let disk = Self {
            place: folder.join("disk"),
            image: folder.join("disk.ext4"),
        };
        File::create_new(&disk.image)?.set_len(BYTES)?;
        fs::create_dir(&disk.place)?;
        // Tables are written now, not while something is measured.
        let no_lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-E", no_lazy]).arg(&disk.image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&disk.image, &disk.place]))?;
        run(&mut Command::new("sync"))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.place));
        // Not mounted if making it failed half way.
        if unmounted.is_ok()
            && let Err(error) = fs::remove_file(&self.image)
        {
            eprintln!("{}: {error}", self.image.display());
        }
    }
}

fn run(command: &mut Command) -> Outcome {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => fail(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
