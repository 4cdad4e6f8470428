//! The files that containerd names for a process's standard streams: pipes with names, files, or a program that logs.

use super::logger;
use alloc::{format, string::String, vec::Vec};
use core::mem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use strata_runtime::{Context, Error, Result};
use strata_sys::file;

/// The names. None is an empty one.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) terminal: bool,
}

/// Opened: where input comes from, where output goes.
pub(super) struct Opened {
    pub(super) input: Option<OwnedFd>,
    pub(super) outputs: [Option<OwnedFd>; 2],
    pub(super) held: Held,
}

/// What keeps pipes open that containerd leaves for a while.
#[derive(Default)]
pub(super) struct Held {
    /// Our end of the input: it has no end until this is gone.
    input: Option<OwnedFd>,
    /// Reading ends of the outputs: who writes waits for a reader to come back, instead of being told there is none.
    readers: Vec<OwnedFd>,
    /// Writing ends of pipes with output that nobody has read.
    unread: Vec<OwnedFd>,
    released: bool,
}

/// Who the streams are of.
pub(super) struct Owner<'a> {
    pub(super) id: &'a str,
    pub(super) namespace: &'a str,
}

pub(super) fn open(names: &Names, owner: &Owner<'_>) -> Result<Opened> {
    let mut held = Held::default();
    let input = match &*names.stdin {
        "" => None,
        path => {
            let path = path.strip_prefix("fifo://").unwrap_or(path);
            let input = open_file(path, OFlags::RDONLY)?;
            if is_fifo(path)? {
                held.input = Some(open_file(path, OFlags::WRONLY)?);
            }
            Some(input)
        }
    };
    let outputs = match names.stdout.split_once("://") {
        Some(("binary", rest)) => logger::start(rest, owner)?,
        _ => {
            let stdout = output(&names.stdout, &mut held)?;
            // A terminal has one output.
            let stderr = match &*names.stderr {
                _ if names.terminal => None,
                name => output(name, &mut held)?,
            };
            [stdout, stderr]
        }
    };
    Ok(Opened { input, outputs, held })
}

fn output(name: &str, held: &mut Held) -> Result<Option<OwnedFd>> {
    let path = match name.split_once("://") {
        _ if name.is_empty() => return Ok(None),
        Some(("fifo", path)) => path,
        Some(("file", path)) => return log_file(path).map(Some),
        Some((scheme, _)) => return Err(Error::Invalid(format!("unknown STDIO scheme {scheme}"))),
        None => name,
    };
    if !is_fifo(path)? {
        return open_file(path, OFlags::WRONLY | OFlags::APPEND).map(Some);
    }
    // Without a reader there would be nothing to write to.
    let reader = open_file(path, OFlags::RDONLY)?;
    let writer = open_file(path, OFlags::WRONLY)?;
    held.readers.push(reader);
    Ok(Some(writer))
}

fn log_file(path: &str) -> Result<OwnedFd> {
    if let Some((parent, _)) = path.rsplit_once('/')
        && !parent.is_empty()
    {
        file::make_directories(parent, 0o755).context(|| format!("make {parent}"))?;
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).context(|| format!("open {path}"))
}

fn is_fifo(path: &str) -> Result<bool> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty()).context(|| format!("open {path}"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

fn open_file(path: &str, how: OFlags) -> Result<OwnedFd> {
    let flags = how | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))
}

impl Held {
    /// The client says that there is no more input.
    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    /// Lets go of the pipes of a process that has ended and whose output has been handed over.
    pub(super) fn release(&mut self) {
        if mem::replace(&mut self.released, true) {
            return;
        }
        self.input = None;
        for reader in mem::take(&mut self.readers) {
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let Ok(writer) = open_file(&path, OFlags::WRONLY) else {
                continue;
            };
            drop(reader);
            // Who has not come yet must find it: the kernel drops what is in a pipe that nobody has open.
            if rustix::io::ioctl_fionread(&writer).is_ok_and(|count| count > 0) && !has_reader(&writer) {
                self.unread.push(writer);
            }
        }
    }
}

/// pipe(7): the writing end of a pipe without readers is in error.
fn has_reader(writer: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(writer, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && !polled[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    use std::string::ToString;

    fn fifo(folder: &tempfile::TempDir, name: &str) -> String {
        let path = folder.path().join(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        path.to_str().unwrap().to_string()
    }

    #[test]
    fn output_waits_for_a_reader_that_comes_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names {
            stdout: fifo(&folder, "out"),
            ..Names::default()
        };
        let owner = Owner {
            id: "a",
            namespace: "b",
        };
        let mut opened = open(&names, &owner).unwrap();
        let writer = opened.outputs[0].take().unwrap();
        rustix::io::write(&writer, b"late").unwrap();
        drop(writer);
        opened.held.release();
        let mut reader = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&names.stdout)
            .unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 4);
        drop(opened);
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_reader_that_is_there_sees_the_end_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names {
            stdout: fifo(&folder, "out"),
            stderr: std::format!("file://{}/logs/deep", folder.path().display()),
            ..Names::default()
        };
        let owner = Owner {
            id: "a",
            namespace: "b",
        };
        let mut opened = open(&names, &owner).unwrap();
        let mut reader = std::fs::File::open(&names.stdout).unwrap();
        rustix::io::write(opened.outputs[0].as_ref().unwrap(), b"text").unwrap();
        opened.outputs = [None, None];
        opened.held.release();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(folder.path().join("logs/deep").exists());
    }
}
