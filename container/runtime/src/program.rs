//! Finding the program to run, with the messages that users of container tools know.

use crate::error::{Error, Result};
use alloc::{collections::BTreeMap, ffi::CString, format, string::String, vec::Vec};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use strata_sys::{Errno, describe};

/// What a shell without PATH searches.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path of `name` as execvp would find it with this environment, seen by the calling process.
pub fn find(name: &str, environment: &[String]) -> Result<CString> {
    let failure = |why: &str| Error::Command(format!("exec: \"{name}\": {why}"));
    if name.is_empty() {
        return Err(failure("executable file not found in $PATH"));
    }
    let path = |text: &str| CString::new(text).map_err(|_| failure("invalid argument"));
    if name.contains('/') {
        return match check(name) {
            Ok(()) => path(name),
            Err(Errno::ISDIR) => Err(failure("is a directory")),
            Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => Err(failure(&format!("stat {name}: {}", describe(errno)))),
            Err(errno) => Err(failure(describe(errno))),
        };
    }
    let search = environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for directory in search.split(':') {
        let candidate = if directory.is_empty() {
            format!("./{name}")
        } else {
            format!("{directory}/{name}")
        };
        match check(&candidate) {
            Ok(()) => return path(&candidate),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    Err(failure(if denied {
        "permission denied"
    } else {
        "executable file not found in $PATH"
    }))
}

fn check(path: &str) -> strata_sys::Result<()> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    // The kernel wants some execute bit even of root, and faccessat says so.
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// Strings for exec. Errors: a NUL byte inside.
pub(crate) fn c_strings(list: &[String]) -> Result<Vec<CString>> {
    list.iter()
        .map(|text| CString::new(text.as_bytes()))
        .collect::<core::result::Result<_, _>>()
        .map_err(|_| Error::Invalid("an argument or variable holds a NUL byte".into()))
}

/// Errors: an entry without a name or value, which programs would not find.
pub(crate) fn check_environment(variables: &[String]) -> Result<()> {
    match variables.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        Some(entry) => Err(Error::Invalid(format!("invalid environment variable: {entry:?}"))),
        None => Ok(()),
    }
}

/// The environment with HOME added when it is missing. Of a name given twice the last value counts, which is the one
/// that programs would not find.
pub(crate) fn environment(variables: &[String], home: &str) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().map_or(0, str::len);
    let mut last = BTreeMap::new();
    for (at, entry) in variables.iter().enumerate() {
        last.insert(&entry[..name(entry)], at);
    }
    let counts = |(at, entry): &(usize, &String)| last.get(&entry[..name(entry)]) == Some(at);
    let kept = variables.iter().enumerate().filter(counts);
    let mut variables: Vec<String> = kept.map(|(_, entry)| entry.clone()).collect();
    if !variables.iter().any(|variable| variable.starts_with("HOME=")) {
        variables.push(format!("HOME={}", if home.is_empty() { "/" } else { home }));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).into()).collect()
    }

    #[test]
    fn the_last_value_of_a_name_counts_and_home_is_there() {
        let found = environment(&list(&["A=1", "B=2", "A=3", "AB=4"]), "/root");
        assert_eq!(found, list(&["B=2", "A=3", "AB=4", "HOME=/root"]));
        assert_eq!(environment(&list(&["HOME=/x"]), "/root"), list(&["HOME=/x"]));
    }

    #[test]
    fn entries_without_a_name_or_value_are_refused() {
        assert!(check_environment(&list(&["A=", "B=x=y"])).is_ok());
        for bad in ["A", "=x", ""] {
            assert!(check_environment(&list(&[bad])).is_err(), "{bad:?}");
        }
    }
}
