//! `restore`.

use super::options::{self, Places};
use super::outside::{self, find_namespaces, inherit, is_bind, is_cgroup};
use super::service::{Criu, FIRST_PASSED, Notice, kind};
use super::wire::Message;
use super::{DESCRIPTORS, ask, check_version};
use crate::cli::flags::{Arguments, Flag};
use crate::cli::make::{self, Site};
use crate::cli::store::CRIU_ROOT;
use crate::cli::{Global, console, life};
use alloc::{format, string::String, vec::Vec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::mount::UnmountFlags;
use strata_runtime::cgroup::Cgroup;
use strata_runtime::spec::{NamespaceKind, Spec};
use strata_runtime::{Context, Created, Error, Result, hooks};
use strata_sys::mount::{self, Propagation};
use strata_sys::process::{self, Child};
use strata_sys::{Errno, file, file::Missing, namespace};

pub(in crate::cli) const FLAGS: &[Flag] = &[
    make::BUNDLE,
    make::CONSOLE_SOCKET,
    make::PID_FILE,
    options::IMAGE_PATH,
    options::WORK_PATH,
    options::TCP_ESTABLISHED,
    options::EXT_UNIX_SK,
    options::SHELL_JOB,
    options::FILE_LOCKS,
    options::MANAGE_CGROUPS,
    Flag::switch("detach", "d", "do not wait for the end"),
    Flag::switch("no-subreaper", "", "accepted, no effect"),
    Flag::switch("no-pivot", "", "accepted, no effect"),
    options::EMPTY_NS,
    options::AUTO_DEDUP,
    options::LAZY_PAGES,
    Flag::value("lsm-profile", "", "TYPE:NAME of another security profile"),
    Flag::value("lsm-mount-context", "", "another security context of mounts"),
];

/// Fields of CRIU's options.
const EVASIVE_DEVICES: u32 = 6;
const ROOT: u32 = 13;
const CGROUP_ROOT: u32 = 25;
const SIBLING: u32 = 26;
const SECURITY_PROFILE: u32 = 53;
const SECURITY_CONTEXT: u32 = 63;

pub(in crate::cli) fn restore(global: &Global, arguments: &Arguments) -> Result<i32> {
    let detached = arguments.has("detach");
    if !detached {
        process::become_subreaper().context(|| "become subreaper")?;
    }
    check_version(global)?;
    // What is mounted from here on is gone with this process, however it ends. CRIU mounts below what is opened here.
    namespace::unshare(libc::CLONE_NEWNS as u64).context(|| "make a mount namespace")?;
    mount::set_propagation_at("/", Propagation::Slave, true).context(|| "cannot make the mounts slaves")?;
    let places = Places::open(arguments, "restore.log", false)?;
    let site = Site::reserve(global, arguments, detached)?;
    let mut made = site.fill(arguments, |site, cgroup| {
        revive(global, site, arguments, cgroup, &places)
    })?;
    if detached {
        return Ok(0);
    }
    let master = made.created.terminal.take();
    let code = console::supervise(&made.created.child, master, None)?;
    life::destroy(global, &made.container)?;
    Ok(code)
}

/// Has CRIU make the processes again, as children of this one.
fn revive(
    global: &Global,
    site: &Site<'_>,
    arguments: &Arguments,
    cgroup: &Cgroup,
    places: &Places,
) -> Result<Created> {
    let spec = &site.spec;
    if let Some(resources) = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        cgroup.restrict_devices(resources)?;
        cgroup.apply(resources)?;
    }
    let root = Root::mount(site)?;
    let mut options = places
        .options(arguments, &spec.annotations)?
        .switch(EVASIVE_DEVICES, true)
        .switch(SIBLING, true)
        .text(ROOT, &root.path);
    for (field, name) in [
        (SECURITY_PROFILE, "lsm-profile"),
        (SECURITY_CONTEXT, "lsm-mount-context"),
    ] {
        if let Some(value) = arguments.value(name).filter(|value| !value.is_empty()) {
            options = options.text(field, value);
        }
    }
    options = outside::find(options, spec, &site.bundle, cgroup, root.directory.as_fd());
    options = streams(options, places)?;
    let (mut options, passed) = find_namespaces(options, spec, FIRST_PASSED)?;
    let passed: Vec<BorrowedFd<'_>> = passed.iter().map(OwnedFd::as_fd).collect();
    let criu = Criu::start(global, &passed)?;
    cgroup.adopt(criu.pid())?;
    for (controller, path) in cgroups_of(criu.pid())? {
        options = options.message(CGROUP_ROOT, &Message::default().text(1, &controller).text(2, &path));
    }
    let (mut child, mut terminal) = (None, None);
    let hear = |mut notice: Notice| {
        match &*notice.event {
            "setup-namespaces" => set_up_namespaces(site, notice.pid)?,
            "post-restore" => {
                let pidfd = process::open(notice.pid).context(|| "open the restored process")?;
                child = Some(Child { pid: notice.pid, pidfd });
            }
            "orphan-pts-master" => terminal = notice.descriptors.pop(),
            _ => {}
        }
        Ok(())
    };
    ask(global, criu, ("RESTORE", kind::RESTORE), &options, places, hear)?;
    let child = child.ok_or_else(|| Error::State("criu did not say which process it restored".into()))?;
    Ok(Created::begun(child, terminal))
}

/// The streams that were pipes when the container was made are this command's now.
fn streams(mut options: Message, places: &Places) -> Result<Message> {
    let text = file::read_at(&places.images, DESCRIPTORS, 64 << 10)
        .context(|| format!("read {}/{DESCRIPTORS}", places.images_path))?;
    let names: Vec<String> =
        serde_json::from_slice(&text).map_err(|error| Error::Invalid(format!("{DESCRIPTORS}: {error}")))?;
    for (number, name) in names
        .iter()
        .take(3)
        .enumerate()
        .filter(|(_, name)| name.starts_with("pipe:"))
    {
        options = inherit(options, name, number as i32);
    }
    Ok(options)
}

/// The namespaces are there and empty: what the configuration wants in them is done by others, and here.
fn set_up_namespaces(site: &Site<'_>, pid: i32) -> Result<()> {
    let new_network = |spec: &Spec| {
        let all = spec.linux.iter().flat_map(|linux| &linux.namespaces);
        all.into_iter()
            .any(|entry| entry.kind == NamespaceKind::Network && entry.path.is_empty())
    };
    if new_network(&site.spec) {
        let network = namespace::open(&format!("/proc/{pid}/ns/net")).context(|| "open the network namespace")?;
        namespace::within_network(network, namespace::loopback_up).context(|| "set the loopback link up")?;
    }
    let Some(hooks) = &site.spec.hooks else { return Ok(()) };
    let state = hooks::state_json(&site.spec, site.id, "creating", pid, &site.bundle);
    hooks::run("prestart", &hooks.prestart, &state)?;
    hooks::run("createRuntime", &hooks.create_runtime, &state)
}

/// proc_pid_cgroup(5), one entry a controller.
fn cgroups_of(pid: i32) -> Result<Vec<(String, String)>> {
    let text = file::read_text(&*format!("/proc/{pid}/cgroup"), 64 << 10).context(|| "read the cgroup of criu")?;
    let mut list = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            list.extend(controllers.split(',').map(|name| (name.into(), path.into())));
        }
    }
    Ok(list)
}

/// The root file system at a mount point of its own, which CRIU wants, with the places of all mounts in it.
struct Root {
    path: String,
    directory: OwnedFd,
}

impl Root {
    fn mount(site: &Site<'_>) -> Result<Self> {
        let path = format!("{}/{CRIU_ROOT}", make::absolute(&site.path)?);
        let what = || format!("mount the root file system at {path}");
        rustix::fs::mkdir(&*path, Mode::from_raw_mode(0o755)).context(what)?;
        let place = file::open_directory(&*path).context(what)?;
        let rootfs = make::rootfs(&site.spec, &site.bundle);
        let directory =
            mount::clone_tree(CWD, &rootfs, true).context(|| format!("open the root file system {rootfs}"))?;
        mount::set_propagation(&directory, Propagation::Private, true).context(what)?;
        mount::attach(&directory, &place).context(what)?;
        let root = Root { path, directory };
        root.make_places(&site.spec, &site.bundle)?;
        Ok(root)
    }

    /// Makes what is missing for mounts to stand on. Binds are there meanwhile, because others may stand in them.
    fn make_places(&self, spec: &Spec, bundle: &str) -> Result<()> {
        let mut binds = Vec::new();
        let mut file_systems: Vec<&str> = Vec::new();
        for entry in &spec.mounts {
            let place = entry.destination.trim_end_matches('/');
            let inside = |other: &&str| place.strip_prefix(*other).is_some_and(|rest| rest.starts_with('/'));
            // What stands in a file system of the container's own comes back with it.
            if is_cgroup(entry) || file_systems.iter().any(inside) {
                continue;
            }
            let what = || format!("create the mount point {:?}", entry.destination);
            if !is_bind(entry) {
                file::make_in_root(self.directory.as_fd(), place, Missing::Directory).context(what)?;
                file_systems.push(place);
                continue;
            }
            let tree = mount::clone_tree(CWD, &outside::source(entry, bundle), true).context(what)?;
            let stat = rustix::fs::fstat(&tree).context(what)?;
            let missing = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::Directory => Missing::Directory,
                _ => Missing::File,
            };
            let target = file::make_in_root(self.directory.as_fd(), place, missing).context(what)?;
            mount::attach(&tree, &target).context(what)?;
            binds.push(tree);
        }
        for tree in binds.iter().rev() {
            detach(tree).context(|| "unmount a bind")?;
        }
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&*self.path, UnmountFlags::DETACH);
        let _ = rustix::fs::unlinkat(CWD, &*self.path, AtFlags::REMOVEDIR);
    }
}

/// Takes a mount away by its descriptor, so that no path is followed.
fn detach(mount: &OwnedFd) -> core::result::Result<(), Errno> {
    use rustix::fd::AsRawFd;
    rustix::mount::unmount(format!("/proc/self/fd/{}", mount.as_raw_fd()), UnmountFlags::DETACH)
}
