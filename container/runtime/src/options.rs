//! Mount options of the specification: flags of the mount, of the file system, propagation, and data.

use alloc::{string::String, vec::Vec};
use strata_sys::mount::{Propagation, attribute};

/// Parsed options.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Attributes to set and to clear on the mount.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// Attributes to set and to clear on the mount and all below it.
    pub(crate) set_recursive: u64,
    pub(crate) clear_recursive: u64,
    pub(crate) bind: bool,
    pub(crate) recursive: bool,
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// A new file system begins with what the root has at its place.
    pub(crate) copy_up: bool,
    /// Ids are mapped; whether on the mounts below too.
    pub(crate) mapped: Option<bool>,
    /// For the file system: `key` or `key=value`.
    pub(crate) data: Vec<String>,
}

use attribute::*;

/// `(name, set, clear)`; with an `r` before it, it holds for the mounts below too.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", READ_ONLY, 0),
    ("rw", 0, READ_ONLY),
    ("nosuid", NO_SUID, 0),
    ("suid", 0, NO_SUID),
    ("nodev", NO_DEVICES, 0),
    ("dev", 0, NO_DEVICES),
    ("noexec", NO_EXEC, 0),
    ("exec", 0, NO_EXEC),
    ("noatime", NO_ACCESS_TIME, ACCESS_TIME),
    ("atime", RELATIVE_ACCESS_TIME, ACCESS_TIME),
    ("relatime", RELATIVE_ACCESS_TIME, ACCESS_TIME),
    ("norelatime", RELATIVE_ACCESS_TIME, ACCESS_TIME),
    ("strictatime", STRICT_ACCESS_TIME, ACCESS_TIME),
    ("nostrictatime", RELATIVE_ACCESS_TIME, ACCESS_TIME),
    ("nodiratime", NO_DIRECTORY_ACCESS_TIME, 0),
    ("diratime", 0, NO_DIRECTORY_ACCESS_TIME),
    ("nosymfollow", NO_SYMLINKS, 0),
    ("symfollow", 0, NO_SYMLINKS),
];

const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("private", Propagation::Private),
    ("unbindable", Propagation::Unbindable),
];

pub(crate) fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        apply(&mut parsed, option);
    }
    parsed
}

fn apply(parsed: &mut Options, option: &str) {
    if let Some(&(_, set, clear)) = ATTRIBUTES.iter().find(|row| row.0 == option) {
        parsed.set = parsed.set & !clear | set;
        // Changing how access times are kept means clearing the whole field first.
        parsed.clear = (parsed.clear | clear) & if clear == ACCESS_TIME { u64::MAX } else { !set };
        return;
    }
    let plain = option.strip_prefix('r');
    if let Some(&(_, set, clear)) = plain.and_then(|plain| ATTRIBUTES.iter().find(|row| row.0 == plain)) {
        parsed.set_recursive |= set;
        parsed.clear_recursive |= clear;
        return;
    }
    if let Some((propagation, recursive)) = propagation(option) {
        parsed.propagation = Some((propagation, recursive));
        return;
    }
    match option {
        "" | "defaults" | "async" | "nomand" | "noiversion" | "silent" | "loud" | "remount" => {}
        "bind" => parsed.bind = true,
        "rbind" => (parsed.bind, parsed.recursive) = (true, true),
        "tmpcopyup" => parsed.copy_up = true,
        "idmap" => parsed.mapped = Some(false),
        "ridmap" => parsed.mapped = Some(true),
        _ => parsed.data.push(option.into()),
    }
}

/// A propagation by name, and whether it goes for the mounts below too.
pub(crate) fn propagation(name: &str) -> Option<(Propagation, bool)> {
    let find = |name: &str| PROPAGATIONS.iter().find(|row| row.0 == name).map(|row| row.1);
    match find(name) {
        Some(propagation) => Some((propagation, false)),
        None => Some((find(name.strip_prefix('r')?)?, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec;

    fn of(text: &str) -> Options {
        parse(&text.split(',').map(|option| option.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_told_apart() {
        let parsed = of("rbind,ro,nosuid,rslave,mode=755,rro");
        assert!(parsed.bind && parsed.recursive);
        assert_eq!(parsed.set, READ_ONLY | NO_SUID);
        assert_eq!(parsed.set_recursive, READ_ONLY);
        assert_eq!(parsed.propagation, Some((Propagation::Slave, true)));
        assert_eq!(parsed.data, vec!["mode=755".to_string()]);
    }

    #[test]
    fn the_last_of_two_opposite_options_counts() {
        assert_eq!(of("ro,rw").set, 0);
        assert_eq!(of("ro,rw").clear, READ_ONLY);
        assert_eq!(of("rw,ro").clear, 0);
        assert_eq!(of("noatime").clear, ACCESS_TIME);
        assert_eq!(of("relatime").data.len(), 0);
    }
}
