//! The flags that checkpoint and restore have in common, and what they mean to CRIU.

use super::wire::Message;
use crate::cli::flags::{Arguments, Flag};
use alloc::{format, string::String};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, file};

pub(super) const IMAGE_PATH: Flag = Flag::value("image-path", "", "directory of the images (default ./checkpoint)");
pub(super) const WORK_PATH: Flag = Flag::value("work-path", "", "directory of CRIU's other files and logs");
pub(super) const TCP_ESTABLISHED: Flag = Flag::switch("tcp-established", "", "keep open TCP connections");
pub(super) const EXT_UNIX_SK: Flag = Flag::switch("ext-unix-sk", "", "keep Unix sockets that lead outside");
pub(super) const SHELL_JOB: Flag = Flag::switch("shell-job", "", "the terminal is somebody else's");
pub(super) const LAZY_PAGES: Flag = Flag::switch("lazy-pages", "", "restore memory when it is needed");
pub(super) const FILE_LOCKS: Flag = Flag::switch("file-locks", "", "keep file locks");
pub(super) const MANAGE_CGROUPS: Flag = Flag::value("manage-cgroups-mode", "", "soft, full, strict or ignore");
pub(super) const EMPTY_NS: Flag = Flag::value("empty-ns", "", "network: make it, and restore nothing in it");
pub(super) const AUTO_DEDUP: Flag = Flag::switch("auto-dedup", "", "drop pages that a later image has");

/// Fields of CRIU's options that both commands set.
const IMAGES_DIRECTORY: u32 = 1;
const UNIX_SOCKETS: u32 = 4;
const TCP: u32 = 5;
const JOB: u32 = 7;
const LOCKS: u32 = 8;
const LOG_LEVEL: u32 = 9;
const LOG_FILE: u32 = 10;
const NOTIFY_SCRIPTS: u32 = 12;
const DEDUP: u32 = 16;
const WORK_DIRECTORY: u32 = 17;
const CGROUPS: u32 = 24;
const CGROUPS_MODE: u32 = 34;
const EMPTY_NAMESPACES: u32 = 38;
const LAZY: u32 = 48;
const ORPHAN_TERMINALS: u32 = 50;
const CONFIGURATION: u32 = 51;

/// Where an administrator tells CRIU more than the flags do; an annotation of the container may name another.
const CONFIGURATION_FILE: &str = "/etc/criu/runc.conf";
const CONFIGURATION_ANNOTATION: &str = "org.criu.config";

/// The directories of one run of CRIU, and its log.
pub(super) struct Places {
    /// Where the images are.
    pub(super) images: OwnedFd,
    pub(super) images_path: String,
    work: Option<OwnedFd>,
    log: &'static str,
}

impl Places {
    /// Opens them; `make` makes what is missing.
    pub(super) fn open(arguments: &Arguments, log: &'static str, make: bool) -> Result<Self> {
        let path = arguments.value("image-path").filter(|path| !path.is_empty());
        let images_path = String::from(path.unwrap_or("checkpoint"));
        let images = directory(&images_path, make)?;
        let work = arguments.value("work-path").filter(|path| !path.is_empty());
        Ok(Places {
            images,
            images_path,
            work: work.map(|path| directory(path, true)).transpose()?,
            log,
        })
    }

    /// The options that say so, and what both commands want of CRIU.
    pub(super) fn options(&self, arguments: &Arguments, annotations: &Annotations) -> Result<Message> {
        let mut options = Message::default()
            .signed(IMAGES_DIRECTORY, self.images.as_raw_fd())
            .signed(LOG_LEVEL, 4)
            .text(LOG_FILE, self.log)
            .switch(NOTIFY_SCRIPTS, true)
            .switch(CGROUPS, true)
            .number(CGROUPS_MODE, cgroup_mode(arguments)?)
            // What a network namespace holds is its owner's to make.
            .number(EMPTY_NAMESPACES, empty_namespaces(arguments)?)
            .switch(ORPHAN_TERMINALS, true);
        for (field, name) in [
            (UNIX_SOCKETS, "ext-unix-sk"),
            (TCP, "tcp-established"),
            (JOB, "shell-job"),
            (LOCKS, "file-locks"),
            (DEDUP, "auto-dedup"),
            (LAZY, "lazy-pages"),
        ] {
            options = options.switch(field, arguments.has(name));
        }
        if let Some(work) = &self.work {
            options = options.signed(WORK_DIRECTORY, work.as_raw_fd());
        }
        let configuration = annotations
            .get(CONFIGURATION_ANNOTATION)
            .map_or(CONFIGURATION_FILE, String::as_str);
        if !configuration.is_empty() {
            options = options.text(CONFIGURATION, configuration);
        }
        Ok(options)
    }

    /// What CRIU's log says went wrong: its errors in order.
    pub(super) fn errors(&self) -> alloc::vec::Vec<String> {
        /// Longest log that is looked into, and how many errors are told of.
        const LIMIT: usize = 16 << 20;
        const MOST: usize = 8;
        let text = file::read_at(self.work.as_ref().unwrap_or(&self.images), self.log, LIMIT);
        let text = text.unwrap_or_else(|_| alloc::vec::Vec::new());
        let text = String::from_utf8_lossy(&text);
        let lines = text
            .lines()
            .filter_map(|line| line.split_once("Error ").map(|(_, error)| error.into()));
        lines.take(MOST).collect()
    }
}

/// Annotations of a container.
pub(super) type Annotations = alloc::collections::BTreeMap<String, String>;

fn directory(path: &str, make: bool) -> Result<OwnedFd> {
    if make {
        file::make_directories(path, 0o700).context(|| format!("make {path}"))?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))
}

/// `criu_cg_mode`.
fn cgroup_mode(arguments: &Arguments) -> Result<u64> {
    match arguments.value("manage-cgroups-mode").unwrap_or("") {
        "ignore" => Ok(0),
        "soft" => Ok(3),
        "full" => Ok(4),
        "strict" => Ok(5),
        "" => Ok(6),
        _ => Err(Error::Invalid("invalid manage-cgroups-mode value".into())),
    }
}

fn empty_namespaces(arguments: &Arguments) -> Result<u64> {
    match arguments.values("empty-ns").find(|name| *name != "network") {
        Some(other) => Err(Error::Invalid(format!("namespace {other:?} is not supported"))),
        None => Ok(libc::CLONE_NEWNET as u64),
    }
}

/// Checks `--parent-path`, which is relative to the images.
pub(super) fn parent<'a>(arguments: &'a Arguments, places: &Places) -> Result<Option<&'a str>> {
    let Some(parent) = arguments.value("parent-path").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    if parent.starts_with('/') {
        return Err(Error::Invalid("--parent-path must be relative".into()));
    }
    let stat = rustix::fs::statat(&places.images, parent, rustix::fs::AtFlags::empty());
    let is_directory = stat.and_then(|stat| {
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        if kind == rustix::fs::FileType::Directory {
            Ok(())
        } else {
            Err(Errno::NOTDIR)
        }
    });
    is_directory.context(|| format!("invalid --parent-path: {}/{parent}", places.images_path))?;
    Ok(Some(parent))
}

/// The address and port of `--page-server`.
pub(super) fn page_server(arguments: &Arguments) -> Result<Option<(&str, u16)>> {
    let Some(text) = arguments.value("page-server").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let (address, port) = text
        .rsplit_once(':')
        .filter(|(address, port)| !address.is_empty() && !port.is_empty())
        .ok_or_else(|| Error::Invalid("Use --page-server ADDRESS:PORT to specify page server".into()))?;
    let port = port.parse().map_err(|_| Error::Invalid("Invalid port number".into()))?;
    let address = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    Ok(Some((address, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const FLAGS: &[Flag] = &[MANAGE_CGROUPS, EMPTY_NS, Flag::value("page-server", "", "")];

    fn parse(words: &[&str]) -> Arguments {
        let words: std::vec::Vec<String> = words.iter().map(ToString::to_string).collect();
        Arguments::parse(FLAGS, &words, false).unwrap()
    }

    #[test]
    fn modes_and_addresses_are_read_and_nonsense_refused() {
        assert_eq!(cgroup_mode(&parse(&["--manage-cgroups-mode", "full"])).unwrap(), 4);
        assert!(cgroup_mode(&parse(&["--manage-cgroups-mode", "x"])).is_err());
        assert!(empty_namespaces(&parse(&["--empty-ns", "network"])).is_ok());
        assert!(empty_namespaces(&parse(&["--empty-ns", "pid"])).is_err());
        let parsed = parse(&["--page-server", "[::1]:70"]);
        assert_eq!(page_server(&parsed).unwrap(), Some(("::1", 70)));
        for bad in ["x", ":7", "a:", "a:b"] {
            assert!(page_server(&parse(&["--page-server", bad])).is_err(), "{bad}");
        }
    }
}
