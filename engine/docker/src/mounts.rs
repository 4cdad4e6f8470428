//! What of this machine appears inside a container: binds, volumes, tmpfs.

use crate::config::{Config, HostConfig, MountSpec};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::record::{Below, MountPoint, Record};
use crate::rootfs;
use std::path::{Component, Path, PathBuf};
use strata_runtime::spec::Mount;

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// All mounts a record asks for; volumes that do not exist are made.
pub(crate) fn resolve(inner: &Inner, record: &Record) -> Answer<Vec<MountPoint>> {
    let (config, host) = (record.typed_config()?, record.typed_host()?);
    let mut all: Vec<MountPoint> = Vec::new();
    for name in &host.volumes_from {
        let (name, mode) = name.split_once(':').unwrap_or((name, "rw"));
        let read_write = match mode {
            "rw" => true,
            "ro" => false,
            other => return Err(ApiError::invalid(format!("invalid mode: {other}"))),
        };
        let other = inner.find(name)?;
        for mut mount in other.record().mounts {
            mount.read_write &= read_write;
            mount.anonymous = false;
            put(&mut all, mount, true)?;
        }
    }
    let mut own = Vec::new();
    for bind in &host.binds {
        put(&mut own, parse_bind(inner, bind, &host)?, false)?;
    }
    for spec in &host.mounts {
        put(&mut own, from_spec(inner, spec)?, false)?;
    }
    for (destination, options) in &host.tmpfs {
        let mount = MountPoint {
            kind: "tmpfs".into(),
            destination: clean(destination)?,
            options: options
                .split(',')
                .filter(|o| !o.is_empty())
                .map(str::to_owned)
                .collect(),
            read_write: true,
            hidden: true,
            ..MountPoint::default()
        };
        put(&mut own, mount, false)?;
    }
    for mount in own {
        put(&mut all, mount, true)?;
    }
    anonymous(inner, &config, &mut all)?;
    Ok(all)
}

/// Volumes that the image or the user wants somewhere, whatever they are.
fn anonymous(inner: &Inner, config: &Config, all: &mut Vec<MountPoint>) -> Answer<()> {
    for destination in config.volumes.keys() {
        let destination = clean(destination)?;
        if all.iter().any(|mount| mount.destination == destination) {
            continue;
        }
        let mut mount = volume(inner, "", destination, Default::default())?;
        mount.anonymous = true;
        all.push(mount);
    }
    Ok(())
}

fn put(all: &mut Vec<MountPoint>, mount: MountPoint, replace: bool) -> Answer<()> {
    match all.iter_mut().find(|known| known.destination == mount.destination) {
        Some(known) if replace => *known = mount,
        Some(_) => {
            return Err(ApiError::invalid(format!(
                "Duplicate mount point: {}",
                mount.destination
            )));
        }
        None => all.push(mount),
    }
    Ok(())
}

/// `SOURCE:DESTINATION[:OPTIONS]`
fn parse_bind(inner: &Inner, text: &str, host: &HostConfig) -> Answer<MountPoint> {
    let invalid = || ApiError::invalid(format!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (first, second, mode) = (parts.next().unwrap_or(""), parts.next(), parts.next().unwrap_or(""));
    if parts.next().is_some() || first.is_empty() {
        return Err(invalid());
    }
    let Some(destination) = second else {
        let mut mount = volume(inner, "", clean(first)?, Default::default())?;
        mount.anonymous = true;
        return Ok(mount);
    };
    let destination = clean(destination)?;
    let mut mount = if first.starts_with('/') {
        MountPoint {
            kind: "bind".into(),
            source: first.into(),
            destination,
            read_write: true,
            propagation: "rprivate".into(),
            make_source: true,
            ..MountPoint::default()
        }
    } else {
        if !matches!(host.volume_driver.as_str(), "" | "local") {
            return Err(ApiError::not_found(format!(
                "plugin \"{}\" not found",
                host.volume_driver
            )));
        }
        volume(inner, first, destination, Default::default())?
    };
    mode.clone_into(&mut mount.mode);
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_write = false,
            "rw" => mount.read_write = true,
            "nocopy" => mount.copy = false,
            // Labels of systems that this machine need not have; the way osxfs looks at files.
            "z" | "Z" | "copy" | "consistent" | "cached" | "delegated" => {}
            option if PROPAGATIONS.contains(&option) => option.clone_into(&mut mount.propagation),
            other => return Err(ApiError::invalid(format!("invalid mode: {other}"))),
        }
    }
    Ok(mount)
}

fn from_spec(inner: &Inner, spec: &MountSpec) -> Answer<MountPoint> {
    let destination = clean(&spec.target)?;
    let invalid = |why: &str| ApiError::invalid(format!("invalid mount config for type \"{}\": {why}", spec.kind));
    let read_write = !spec.read_only;
    match spec.kind.as_str() {
        "bind" => {
            let source = PathBuf::from(&spec.source);
            if !source.is_absolute() {
                return Err(invalid(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    spec.source
                )));
            }
            let make_source = spec.bind_options.create_mountpoint;
            if !make_source && !source.exists() {
                return Err(invalid(&format!("bind source path does not exist: {}", spec.source)));
            }
            let below = below(spec).map_err(invalid)?;
            let propagation = match spec.bind_options.propagation.as_str() {
                "" => "rprivate",
                known if PROPAGATIONS.contains(&known) => known,
                other => return Err(invalid(&format!("invalid propagation mode: {other}"))),
            };
            Ok(MountPoint {
                kind: "bind".into(),
                source,
                destination,
                read_write,
                propagation: propagation.into(),
                make_source,
                below,
                ..MountPoint::default()
            })
        }
        "volume" => {
            if !spec.volume_options.subpath.is_empty() {
                return Err(invalid("a subpath of a volume is not supported"));
            }
            let mut mount = volume(inner, &spec.source, destination, spec.volume_options.labels.clone())?;
            mount.anonymous = spec.source.is_empty();
            mount.read_write = read_write;
            mount.copy = !spec.volume_options.no_copy;
            "z".clone_into(&mut mount.mode);
            Ok(mount)
        }
        "tmpfs" => {
            let mut options = Vec::new();
            if spec.tmpfs_options.size_bytes > 0 {
                options.push(format!("size={}", spec.tmpfs_options.size_bytes));
            }
            if spec.tmpfs_options.mode != 0 {
                options.push(format!("mode={:o}", spec.tmpfs_options.mode));
            }
            Ok(MountPoint {
                kind: "tmpfs".into(),
                destination,
                read_write,
                options,
                ..MountPoint::default()
            })
        }
        other => Err(ApiError::invalid(format!("mount type unknown: {other:?}"))),
    }
}

/// What is asked for about mounts below a bind's source.
fn below(spec: &MountSpec) -> Result<Below, &'static str> {
    let options = &spec.bind_options;
    match (
        options.non_recursive,
        options.read_only_non_recursive,
        options.read_only_force_recursive,
    ) {
        (false, false, false) => Ok(Below::Usual),
        (true, false, false) => Ok(Below::Hidden),
        (false, true, false) if spec.read_only => Ok(Below::Writable),
        (false, true, false) => Err("ReadOnlyNonRecursive requires ReadOnly"),
        (false, false, true) if !spec.read_only => Err("ReadOnlyForceRecursive requires ReadOnly"),
        (false, false, true) if options.propagation != "rprivate" => {
            Err("ReadOnlyForceRecursive requires the propagation rprivate")
        }
        (false, false, true) => Ok(Below::ReadOnly),
        _ => Err("NonRecursive, ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other"),
    }
}

fn volume(
    inner: &Inner,
    name: &str,
    destination: String,
    labels: std::collections::BTreeMap<String, String>,
) -> Answer<MountPoint> {
    let known = !name.is_empty() && inner.volumes.get(name).is_some();
    let volume = inner.volumes.ensure(name, labels)?;
    if !known {
        let attributes = [("driver".to_owned(), "local".to_owned())].into();
        inner.events.tell("volume", "create", &volume.name, attributes);
    }
    Ok(MountPoint {
        kind: "volume".into(),
        source: inner.volumes.data(&volume.name),
        name: volume.name,
        destination,
        mode: String::new(),
        read_write: true,
        driver: "local".into(),
        copy: true,
        ..MountPoint::default()
    })
}

/// An absolute path inside, without detours.
fn clean(path: &str) -> Answer<String> {
    let invalid = |why: &str| ApiError::invalid(format!("invalid volume specification: '{path}': {why}"));
    if !path.starts_with('/') {
        return Err(invalid("invalid mount path: mount path must be absolute"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().unwrap_or("")),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    match parts.is_empty() {
        true => Err(invalid("invalid specification: destination can't be '/'")),
        false => Ok(format!("/{}", parts.join("/"))),
    }
}

/// Removes volumes that nobody named and nobody else uses.
pub(crate) fn forget_anonymous(inner: &Inner, record: &Record) {
    for mount in record.mounts.iter().filter(|mount| mount.anonymous) {
        let used = inner.all().iter().any(|other| {
            let other = other.lock();
            other.id != record.id && other.mounts.iter().any(|m| m.kind == "volume" && m.name == mount.name)
        });
        if !used && let Err(error) = inner.volumes.remove(&mount.name) {
            tracing::warn!(volume = mount.name, %error, "could not remove an anonymous volume");
        }
    }
}

/// Makes the sources that are missing, and fills empty volumes from the image.
pub(crate) fn prepare(inner: &Inner, record: &Record) -> Answer<()> {
    for mount in &record.mounts {
        if mount.kind == "bind" && !mount.source.exists() {
            if !mount.make_source {
                return Err(ApiError::invalid(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    mount.source.display()
                )));
            }
            std::fs::create_dir_all(&mount.source).map_err(ApiError::io("mkdir", &mount.source))?;
        }
        if mount.kind == "volume" {
            inner.volumes.ensure(&mount.name, Default::default())?;
            if mount.copy && is_empty(&mount.source)? {
                rootfs::fill_volume(inner, record, &mount.destination, &mount.source)?;
            }
        }
    }
    Ok(())
}

fn is_empty(folder: &Path) -> Answer<bool> {
    let mut items = std::fs::read_dir(folder).map_err(ApiError::io("read", folder))?;
    Ok(items.next().is_none())
}

/// The mounts as the runtime takes them, parents before children.
pub(crate) fn for_runtime(mounts: &[MountPoint]) -> Vec<Mount> {
    let mut all: Vec<Mount> = mounts.iter().map(for_runtime_one).collect();
    all.sort_by_key(|mount| mount.destination.matches('/').count());
    all
}

fn for_runtime_one(mount: &MountPoint) -> Mount {
    let access = if mount.read_write { "rw" } else { "ro" };
    let options: Vec<String> = if mount.kind == "tmpfs" {
        let usual = ["noexec", "nosuid", "nodev"].map(str::to_owned);
        let said = |word: &str| mount.options.iter().any(|own| *own == word);
        let usual = usual
            .into_iter()
            .filter(|option| !said(option.trim_start_matches("no")));
        usual
            .chain(mount.options.iter().cloned())
            .chain([access.to_owned()])
            .collect()
    } else {
        let propagation = match mount.propagation.as_str() {
            "" => "rprivate",
            own => own,
        };
        let bind = if mount.below == Below::Hidden { "bind" } else { "rbind" };
        let mut options = vec![bind, propagation, access];
        match mount.below {
            Below::ReadOnly => options.push("rro"),
            Below::Usual if !mount.read_write && can_be_read_only_below() => options.push("rro"),
            _ => {}
        }
        options.into_iter().map(str::to_owned).collect()
    };
    Mount {
        destination: mount.destination.clone(),
        kind: if mount.kind == "tmpfs" { "tmpfs" } else { "bind" }.into(),
        source: if mount.kind == "tmpfs" {
            "tmpfs".into()
        } else {
            mount.source.to_string_lossy().into_owned()
        },
        options,
        ..Mount::default()
    }
}

/// Whether the kernel changes mounts below another with it (mount_setattr(2), 5.12).
fn can_be_read_only_below() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 12),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_absolute_and_not_the_root() {
        assert_eq!(clean("/a//b/../c/").expect("valid"), "/a/c");
        for bad in ["a", "/", "/..", ""] {
            assert!(clean(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tmpfs_is_confined_unless_told_otherwise() {
        let mount = MountPoint {
            kind: "tmpfs".into(),
            destination: "/t".into(),
            options: vec!["exec".into(), "size=1m".into()],
            read_write: true,
            ..MountPoint::default()
        };
        assert_eq!(
            for_runtime_one(&mount).options,
            ["nosuid", "nodev", "exec", "size=1m", "rw"]
        );
    }
}
