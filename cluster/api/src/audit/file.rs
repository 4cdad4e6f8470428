//! The file of events, begun anew when it is full; the old ones are kept, compressed and forgotten as upstream does.

use super::{
    AuditLog,
    sink::{Counters, Letter},
};
use flate2::{Compression, write::GzEncoder};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use strata_meta::MicroTime;
use strata_task::CancellationToken;
use tokio::sync::mpsc;

/// Lines written together.
const TOGETHER: usize = 1024;
const COMPRESSED: &str = ".gz";

/// Writes until the server stops, and then what is left.
pub(super) async fn write_lines(
    cancel: &CancellationToken,
    mut writer: Writer,
    mut letters: mpsc::Receiver<Letter>,
    counters: &Counters,
) {
    let mut batch = Vec::new();
    loop {
        let stopping = tokio::select! {
            n = letters.recv_many(&mut batch, TOGETHER) => n == 0,
            () = cancel.cancelled() => {
                letters.close();
                while let Some(letter) = letters.recv().await {
                    batch.push(letter);
                }
                true
            }
        };
        let taken = std::mem::take(&mut batch);
        let lines = taken.len() as u64;
        let written = tokio::task::spawn_blocking(move || {
            let lines = taken.iter().try_for_each(|letter| writer.line(&letter.line));
            let result = lines.and_then(|()| writer.flush());
            for letter in taken {
                letter.answer(result.is_ok());
            }
            (writer, result)
        });
        match written.await {
            Ok((back, result)) => {
                writer = back;
                if let Err(error) = result {
                    counters.failed("log", lines);
                    tracing::error!(%error, "the audit log cannot be written");
                }
            }
            Err(error) => return tracing::error!(%error, "the audit log has ended"),
        }
        if stopping {
            return;
        }
    }
}

/// The file.
pub(super) struct Writer {
    log: AuditLog,
    file: Option<io::BufWriter<File>>,
    size: u64,
}

impl Writer {
    pub(super) fn open(log: AuditLog) -> io::Result<Self> {
        let mut writer = Self {
            log,
            file: None,
            size: 0,
        };
        if writer.log.path != Path::new("-") {
            fs::create_dir_all(writer.folder())?;
            writer.reopen()?;
            writer.tidy()?;
        }
        Ok(writer)
    }

    fn folder(&self) -> PathBuf {
        let parent = self.log.path.parent().filter(|p| !p.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.log.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(io::BufWriter::new(file));
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let (length, most) = (line.len() as u64 + 1, self.log.megabytes << 20);
        if self.file.is_some() && most > 0 && self.size > 0 && self.size + length > most {
            self.rotate()?;
        }
        self.size += length;
        match &mut self.file {
            Some(file) => {
                file.write_all(line)?;
                file.write_all(b"\n")
            }
            None => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.write_all(b"\n")
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }

    /// `audit.log` becomes `audit-TIME.log`.
    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        let path = &self.log.path;
        let free = loop {
            let named = path.with_file_name(self.backup_name(&stamp(MicroTime::now())));
            if !named.exists() && !with_suffix(&named).exists() {
                break named;
            }
            // One has the name of this millisecond.
            std::thread::sleep(Duration::from_millis(1));
        };
        fs::rename(path, free)?;
        self.reopen()?;
        self.tidy()
    }

    fn backup_name(&self, stamp: &str) -> String {
        let text = |part: Option<&OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = text(self.log.path.file_stem());
        match text(self.log.path.extension()) {
            extension if extension.is_empty() => format!("{stem}-{stamp}"),
            extension => format!("{stem}-{stamp}.{extension}"),
        }
    }

    /// Forgets the old files that are too many or too old, and compresses the others if that is wanted.
    fn tidy(&self) -> io::Result<()> {
        if self.log.megabytes == 0 {
            return Ok(());
        }
        let age = Duration::from_secs(self.log.days * 24 * 3600);
        let mut kept = BTreeSet::new();
        for (stamp, time, path) in self.backups()? {
            let many = !kept.contains(&stamp) && self.log.backups > 0 && kept.len() >= self.log.backups;
            let old = self.log.days > 0 && MicroTime::now().duration_since(time) > age;
            if many || old {
                fs::remove_file(path)?;
                continue;
            }
            kept.insert(stamp);
            if self.log.compress && path.extension() != Some(OsStr::new("gz")) {
                compress(&path)?;
            }
        }
        Ok(())
    }

    /// The old files, newest first: their stamps and moments.
    fn backups(&self) -> io::Result<Vec<(String, MicroTime, PathBuf)>> {
        let pattern = self.backup_name("\0");
        let (prefix, suffix) = pattern.split_once('\0').unwrap_or((&pattern, ""));
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let plain = name.strip_suffix(COMPRESSED).unwrap_or(&name);
            let stamp = plain.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
            if let Some((stamp, time)) = stamp.and_then(|stamp| Some((stamp, moment(stamp)?))) {
                found.push((stamp.to_owned(), time, entry.path()));
            }
        }
        found.sort_by(|a, b| b.0.cmp(&a.0));
        Ok(found)
    }
}

/// A moment in a file's name: to the millisecond, without colons.
fn stamp(time: MicroTime) -> String {
    let text = time.to_string().replace(':', "-");
    text.get(..23).unwrap_or(&text).to_owned()
}

fn moment(stamp: &str) -> Option<MicroTime> {
    let (day, time) = stamp.split_once('T')?;
    let text = format!("{day}T{}000Z", time.replace('-', ":"));
    MicroTime::parse(&text).filter(|_| stamp.len() == 23)
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut named = path.as_os_str().to_owned();
    named.push(COMPRESSED);
    named.into()
}

fn compress(path: &Path) -> io::Result<()> {
    let target = with_suffix(path);
    let mut from = File::open(path)?;
    let to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&target)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditBatch, AuditDelivery, AuditMode};

    fn log(path: PathBuf) -> AuditLog {
        AuditLog {
            path,
            megabytes: 1,
            backups: 2,
            days: 0,
            compress: false,
            legacy: false,
            delivery: AuditDelivery {
                mode: AuditMode::Blocking,
                batch: AuditBatch {
                    buffer: 1,
                    size: 1,
                    wait: Duration::ZERO,
                    throttle: None,
                },
                truncate: None,
            },
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        for compress in [false, true] {
            let log = AuditLog {
                compress,
                ..log(folder.path().join("audit.log"))
            };
            let mut writer = Writer::open(log).unwrap();
            let line = vec![b'x'; 600 << 10];
            for _ in 0..5 {
                writer.line(&line).unwrap();
            }
            writer.flush().unwrap();
            let names = names(folder.path());
            assert_eq!(names.len(), 3, "{names:?}");
            let suffix = if compress { ".log.gz" } else { ".log" };
            assert!(names[..2].iter().all(|n| n.ends_with(suffix)), "{names:?}");
            assert_eq!(names[2], "audit.log");
        }
    }

    #[test]
    fn files_go_by_the_time_in_their_names_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let old = [
            "audit-2020-01-01T00-00-00.000.log",
            "audit-2020-01-01T00-00-00.000.log.gz",
            "audit-2020-01-01.log",
            "other-2020-01-01T00-00-00.000.log",
        ];
        for name in old {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let log = AuditLog {
            days: 1,
            backups: 0,
            ..log(folder.path().join("audit.log"))
        };
        Writer::open(log).unwrap();
        assert_eq!(names(folder.path()), ["audit-2020-01-01.log", "audit.log", old[3]]);
    }

    #[test]
    fn without_a_size_the_file_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog {
            megabytes: 0,
            ..log(folder.path().join("a/audit.log"))
        };
        let mut writer = Writer::open(log).unwrap();
        for _ in 0..3 {
            writer.line(&vec![b'x'; 600 << 10]).unwrap();
        }
        writer.flush().unwrap();
        assert_eq!(names(&folder.path().join("a")), ["audit.log"]);
    }
}
