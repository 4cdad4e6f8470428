//! Where errors and warnings go: a file that engines read, and the standard error that people read.

use alloc::{format, string::String};
use rustix::fs::{CWD, Mode, OFlags};
use strata_sys::file;

/// The file of `--log`, in the lines of logrus.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) path: String,
    pub(super) json: bool,
}

impl Log {
    /// Tells of something in the file, and without one on the standard error.
    pub(super) fn write(&self, level: &str, text: &str) {
        let stamp = strata_sys::time::rfc3339(strata_sys::time::now());
        let time = core::str::from_utf8(&stamp).unwrap_or_default();
        // A string alone: cannot fail.
        let quoted = serde_json::to_string(text).unwrap_or_default();
        let line = if self.json {
            format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n")
        } else {
            format!("time=\"{time}\" level={level} msg={quoted}\n")
        };
        if self.path.is_empty() {
            let _ = file::write_all(strata_sys::stream::error(), line.as_bytes());
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        if let Ok(log) = rustix::fs::openat(CWD, &*self.path, flags, Mode::from_raw_mode(0o644)) {
            let _ = file::write_all(log, line.as_bytes());
        }
    }

    /// Tells of what ended the command: in both.
    pub(super) fn report(&self, text: &str) {
        let _ = file::write_all(
            strata_sys::stream::error(),
            format!("strata-runtime: {text}\n").as_bytes(),
        );
        if !self.path.is_empty() {
            self.write("error", text);
        }
    }
}
