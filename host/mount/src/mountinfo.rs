//! /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::{fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

/// The mount points of this process's mount namespace, in the order they were made.
pub fn mount_points() -> io::Result<Vec<PathBuf>> {
    Ok(parse_mount_points(&fs::read("/proc/self/mountinfo")?))
}

/// The mount points in the text of a mountinfo file; lines that have none are passed over.
pub fn parse_mount_points(text: &[u8]) -> Vec<PathBuf> {
    let point = |line: &[u8]| line.split(|b| *b == b' ').nth(4).map(unescape);
    text.split(|b| *b == b'\n').filter_map(point).collect()
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = (byte == b'\\').then(|| after.get(..3)).flatten();
        let value = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        let text = b"36 35 98:0 /a /mnt/with\\040space rw - ext4 /dev/x rw\n\nbad\n37 35 0:1 / /b\\134c rw - t t rw\n";
        assert_eq!(
            parse_mount_points(text),
            [PathBuf::from("/mnt/with space"), PathBuf::from("/b\\c")]
        );
    }
}
