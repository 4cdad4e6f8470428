//! `checkpoint`.

use super::options::{self, Places};
use super::service::{Criu, Notice, kind};
use super::{DESCRIPTORS, ask, check_feature, check_version, outside};
use crate::cli::flags::{Arguments, Flag};
use crate::cli::store::{Container, Status};
use crate::cli::{Global, life};
use alloc::{format, string::ToString};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use strata_runtime::{Context, Error, Result};
use strata_sys::file;

pub(in crate::cli) const FLAGS: &[Flag] = &[
    options::IMAGE_PATH,
    options::WORK_PATH,
    Flag::value(
        "parent-path",
        "",
        "images of an earlier --pre-dump, relative to --image-path",
    ),
    Flag::switch("leave-running", "", "go on afterwards"),
    options::TCP_ESTABLISHED,
    Flag::switch("tcp-skip-in-flight", "", "leave out connections that are being made"),
    Flag::switch("link-remap", "", "link files without a name back while it takes"),
    options::EXT_UNIX_SK,
    options::SHELL_JOB,
    options::LAZY_PAGES,
    Flag::value(
        "status-fd",
        "",
        "descriptor that a byte is written to once pages can be asked for",
    ),
    Flag::value("page-server", "", "ADDRESS:PORT that memory is sent to"),
    options::FILE_LOCKS,
    Flag::switch("pre-dump", "", "memory alone, and go on"),
    options::MANAGE_CGROUPS,
    options::EMPTY_NS,
    options::AUTO_DEDUP,
];

/// Fields of CRIU's options.
const PID: u32 = 2;
const LEAVE_RUNNING: u32 = 3;
const PAGE_SERVER: u32 = 11;
const ROOT: u32 = 13;
const PARENT: u32 = 14;
const TRACK_MEMORY: u32 = 15;
const LINK_REMAP: u32 = 18;
const FREEZER: u32 = 44;
const SKIP_IN_FLIGHT: u32 = 46;

/// Fields of `criu_features`.
const MEMORY_TRACKING: u32 = 1;
const LAZY_PAGES: u32 = 2;

pub(in crate::cli) fn checkpoint(global: &Global, arguments: &Arguments) -> Result<i32> {
    let container = Container::load(global, arguments.id()?)?;
    let status = container.status()?;
    if matches!(status, Status::Created | Status::Stopped) {
        let text = format!("Container cannot be checkpointed in {} state", status.name());
        return Err(Error::State(text));
    }
    check_version(global)?;
    let places = Places::open(arguments, "dump.log", true)?;
    let pre_dump = arguments.has("pre-dump");
    let options = describe(&container, arguments, &places, pre_dump)?;
    if pre_dump {
        check_feature(global, MEMORY_TRACKING, "MemTrack")?;
    }
    let mut ready = status_descriptor(arguments)?;
    if arguments.has("lazy-pages") {
        check_feature(global, LAZY_PAGES, "LazyPages")?;
    }
    if !pre_dump {
        let descriptors =
            serde_json::to_vec(&container.record.descriptors).map_err(|error| Error::State(error.to_string()))?;
        file::replace(&places.images, DESCRIPTORS, &descriptors, 0o600).context(|| format!("write {DESCRIPTORS}"))?;
    }
    let request = if pre_dump {
        ("PRE_DUMP", kind::PRE_DUMP)
    } else {
        ("DUMP", kind::DUMP)
    };
    let hear = |notice: Notice| {
        if notice.event == "status-ready"
            && let Some(descriptor) = ready.take()
        {
            rustix::io::write(descriptor, &[0]).context(|| "write to --status-fd")?;
        }
        Ok(())
    };
    ask(global, Criu::start(global, &[])?, request, &options, &places, hear)?;
    if !pre_dump
        && !arguments.has("leave-running")
        && let Err(error) = life::destroy(global, &container)
    {
        global.log.write("warning", &error.to_string());
    }
    Ok(0)
}

fn describe(
    container: &Container,
    arguments: &Arguments,
    places: &Places,
    pre_dump: bool,
) -> Result<super::wire::Message> {
    let spec = container.config()?;
    let record = &container.record;
    let mut options = places
        .options(arguments, &spec.annotations)?
        .signed(PID, record.pid)
        .text(ROOT, &record.rootfs)
        .switch(LEAVE_RUNNING, arguments.has("leave-running"))
        .switch(LINK_REMAP, arguments.has("link-remap"))
        .switch(SKIP_IN_FLIGHT, arguments.has("tcp-skip-in-flight"));
    let cgroup = container.cgroup()?;
    if let Some(freezer) = cgroup.directory("freezer") {
        options = options.text(FREEZER, &freezer);
    }
    if let Some((address, port)) = options::page_server(arguments)? {
        let server = super::wire::Message::default().text(1, address).number(2, port.into());
        options = options.message(PAGE_SERVER, &server);
    }
    if let Some(parent) = options::parent(arguments, places)? {
        options = options.text(PARENT, parent).switch(TRACK_MEMORY, true);
    } else if pre_dump {
        // What is written from now on is what the next image has to hold.
        options = options.switch(TRACK_MEMORY, true);
    }
    options = outside::name_namespaces(options, &spec)?;
    if pre_dump {
        return Ok(options);
    }
    // Its pid is still the init's: the container was found alive, and CRIU stops at one that is not.
    outside::name(options, &spec, &record.bundle, &cgroup, record.pid)
}

/// The descriptor of `--status-fd`, as a copy. Errors: it is none, or cannot be written to.
fn status_descriptor(arguments: &Arguments) -> Result<Option<OwnedFd>> {
    let Some(number) = arguments.number("status-fd")?.filter(|&number| number != -1) else {
        return Ok(None);
    };
    let bad = |why: &str| Error::Invalid(format!("invalid --status-fd argument {number}: {why}"));
    let raw = i32::try_from(number)
        .ok()
        .filter(|&raw| raw >= 0)
        .ok_or_else(|| bad("no descriptor"))?;
    // SAFETY: only looked at and copied; the kernel says whether it is one.
    let given = unsafe { BorrowedFd::borrow_raw(raw) };
    let flags = rustix::fs::fcntl_getfl(given).map_err(|errno| bad(strata_sys::describe(errno)))?;
    if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Err(bad("not writable"));
    }
    let copy = rustix::io::fcntl_dupfd_cloexec(given.as_fd(), 0).map_err(|errno| bad(strata_sys::describe(errno)))?;
    Ok(Some(copy))
}
