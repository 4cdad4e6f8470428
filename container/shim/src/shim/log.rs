//! A container's log in CRI format.
//!
//! `TIME STREAM F|P TEXT`: a line longer than 16 KiB is written in parts, all but the last marked P; so is
//! text that the container's end left without a newline.

use crate::protocol::LogSpec;
use alloc::{format, string::String, vec::Vec};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use strata_runtime::{Context, Result};
use strata_sys::{Errno, file, time};

/// Longest text of one entry.
const PART_LIMIT: usize = 16 << 10;

/// Rotated files kept at most, whatever was asked for.
const FILES_LIMIT: u32 = 1000;

pub(super) struct Log {
    spec: LogSpec,
    file: Option<OwnedFd>,
    size: u64,
    buffer: Vec<u8>,
}

/// A line that has not ended yet, a stream each.
#[derive(Default)]
pub(super) struct Unfinished(Vec<u8>);

impl Log {
    pub(super) fn open(spec: LogSpec) -> Result<Self> {
        let mut log = Log {
            spec,
            file: None,
            size: 0,
            buffer: Vec::new(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again, after somebody has renamed the file.
    pub(super) fn reopen(&mut self) -> Result<()> {
        let path = &*self.spec.path;
        let what = || format!("open the log {path}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640)).context(what)?;
        self.size = rustix::fs::fstat(&file).context(what)?.st_size as u64;
        self.file = Some(file);
        Ok(())
    }

    /// Writes output of the stream `name`, keeping an unfinished last line.
    pub(super) fn write(&mut self, name: &str, unfinished: &mut Unfinished, mut text: &[u8]) {
        let stamp = time::rfc3339(time::now());
        self.buffer.clear();
        while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
            self.line(&stamp, name, unfinished, &text[..end]);
            text = &text[end + 1..];
        }
        let pending = &mut unfinished.0;
        while pending.len() + text.len() > PART_LIMIT {
            let (head, tail) = text.split_at(PART_LIMIT - pending.len());
            pending.extend_from_slice(head);
            entry(&mut self.buffer, &stamp, name, b'P', &[pending]);
            pending.clear();
            text = tail;
        }
        pending.extend_from_slice(text);
        self.flush();
    }

    /// Writes what the stream's end left without a newline.
    pub(super) fn finish(&mut self, name: &str, unfinished: &mut Unfinished) {
        if unfinished.0.is_empty() {
            return;
        }
        let stamp = time::rfc3339(time::now());
        self.buffer.clear();
        entry(&mut self.buffer, &stamp, name, b'P', &[&unfinished.0]);
        unfinished.0 = Vec::new();
        self.flush();
    }

    fn line(&mut self, stamp: &[u8], name: &str, unfinished: &mut Unfinished, mut text: &[u8]) {
        let pending = &mut unfinished.0;
        while pending.len() + text.len() > PART_LIMIT {
            let (head, tail) = text.split_at(PART_LIMIT - pending.len());
            entry(&mut self.buffer, stamp, name, b'P', &[pending, head]);
            pending.clear();
            text = tail;
        }
        entry(&mut self.buffer, stamp, name, b'F', &[pending, text]);
        pending.clear();
        // Each file takes as many whole entries as fit.
        if self.spec.max_bytes > 0 && self.size + self.buffer.len() as u64 >= self.spec.max_bytes {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let length = self.buffer.len() as u64;
        if self.spec.max_bytes > 0 && self.size > 0 && self.size + length > self.spec.max_bytes {
            self.rotate();
        }
        let written = match &self.file {
            Some(file) => file::write_all(file, &self.buffer),
            None => Err(Errno::BADF),
        };
        // A full disk loses output, as it must: the container goes on.
        if written.is_ok() {
            self.size += length;
        }
        self.buffer.clear();
    }

    /// `PATH.1` becomes `PATH.2` and so on, `PATH` becomes `PATH.1`; what is beyond the number is removed.
    fn rotate(&mut self) {
        let keep = self.spec.max_files.clamp(1, FILES_LIMIT);
        let path = &self.spec.path;
        let numbered = |number: u32| -> String {
            if number == 0 {
                path.clone()
            } else {
                format!("{path}.{number}")
            }
        };
        let _ = rustix::fs::unlink(&*numbered(keep - 1));
        for number in (1..keep).rev() {
            let _ = rustix::fs::renameat(CWD, &*numbered(number - 1), CWD, &*numbered(number));
        }
        if self.reopen().is_err() {
            self.file = None;
        }
    }
}

fn entry(buffer: &mut Vec<u8>, stamp: &[u8], name: &str, tag: u8, parts: &[&[u8]]) {
    buffer.extend_from_slice(stamp);
    buffer.push(b' ');
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(&[b' ', tag, b' ']);
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::string::ToString;

    fn log(name: &str, max_bytes: u64, max_files: u32) -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name).to_str().unwrap().to_string();
        let log = Log::open(LogSpec {
            path,
            max_bytes,
            max_files,
        })
        .unwrap();
        (directory, log)
    }

    fn entries(log: &Log) -> Vec<(String, String)> {
        let text = fs::read_to_string(&log.spec.path).unwrap();
        text.lines()
            .map(|line| {
                let mut fields = line.splitn(4, ' ');
                assert_eq!(fields.next().unwrap().len(), 30);
                let stream = fields.next().unwrap();
                (
                    std::format!("{stream} {}", fields.next().unwrap()),
                    fields.next().unwrap().to_string(),
                )
            })
            .collect()
    }

    #[test]
    fn lines_come_out_whole_however_they_came_in() {
        let (_directory, mut log) = log("a", 0, 1);
        let mut rest = Unfinished::default();
        for piece in ["on", "e\ntwo\n\nthr", "ee"] {
            log.write("stdout", &mut rest, piece.as_bytes());
        }
        log.finish("stdout", &mut rest);
        let found = entries(&log);
        let expected = [
            ("stdout F", "one"),
            ("stdout F", "two"),
            ("stdout F", ""),
            ("stdout P", "three"),
        ];
        assert_eq!(found.iter().map(|(a, b)| (&**a, &**b)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_lines_are_written_in_parts_and_lose_nothing() {
        let (_directory, mut log) = log("a", 0, 1);
        let mut rest = Unfinished::default();
        let long = "x".repeat(PART_LIMIT * 2 + 5);
        for piece in long.as_bytes().chunks(7000) {
            log.write("stderr", &mut rest, piece);
            assert!(rest.0.len() <= PART_LIMIT);
        }
        log.write("stderr", &mut rest, b"\nend\n");
        let found = entries(&log);
        let tags: Vec<&str> = found.iter().map(|(tag, _)| &**tag).collect();
        assert_eq!(tags, ["stderr P", "stderr P", "stderr F", "stderr F"]);
        assert_eq!(found[..3].iter().map(|(_, text)| &**text).collect::<String>(), long);
    }

    #[test]
    fn the_file_is_rotated_by_size_and_old_ones_are_dropped() {
        let (directory, mut log) = log("a", 200, 3);
        let mut rest = Unfinished::default();
        for number in 0..20 {
            log.write(
                "stdout",
                &mut rest,
                std::format!("line {number} {}\n", "y".repeat(40)).as_bytes(),
            );
        }
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "a.1", "a.2"]);
        assert!(fs::read_to_string(&log.spec.path).unwrap().contains("line 19"));
        assert!(fs::metadata(&log.spec.path).unwrap().len() <= 200);
    }
}
