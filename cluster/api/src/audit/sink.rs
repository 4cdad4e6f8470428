//! Where events go: lines of a file that is rotated, batches to a webhook.

use crate::{
    core::Core,
    webhook::{ClientConfig, from_kubeconfig},
};
use bytes::Bytes;
use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

/// Events held for the webhook; more are lost, and counted (upstream's batch mode).
const BUFFERED: usize = 10_000;
/// Events of a batch, and how long the first waits for others.
const BATCH: usize = 400;
const BATCH_WAIT: Duration = Duration::from_secs(30);
/// One post to the webhook, and how often it is tried.
const POST_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;
/// Lines that may wait for the disk before requests do.
const LINES: usize = 1024;

/// What is audited, and where to.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// An audit.k8s.io/v1 Policy in YAML.
    pub policy: String,
    /// The file.
    pub log: Option<AuditLog>,
    /// A kubeconfig that says where the webhook is.
    pub webhook: Option<String>,
}

/// A file of events, one a line.
#[derive(Clone, Debug)]
pub struct AuditLog {
    /// The file; `-` is the standard output.
    pub path: PathBuf,
    /// It is begun anew at this many megabytes.
    pub megabytes: u64,
    /// Files kept beside it; 0: all.
    pub backups: usize,
    /// Days that they are kept; 0: for ever.
    pub days: u64,
}

/// The ways out.
#[derive(Clone)]
pub(super) struct Sinks {
    log: Option<mpsc::Sender<Bytes>>,
    webhook: Option<mpsc::Sender<Bytes>>,
    receivers: Arc<Mutex<Receivers>>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    events: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct Receivers {
    log: Option<(Writer, mpsc::Receiver<Bytes>)>,
    webhook: Option<(ClientConfig, mpsc::Receiver<Bytes>)>,
}

impl Sinks {
    /// Opens the file and reads the kubeconfig. Errors: what cannot be.
    pub(super) fn open(options: &AuditOptions) -> Result<Self, crate::Error> {
        let mut receivers = Receivers::default();
        let mut sinks = Self {
            log: None,
            webhook: None,
            receivers: Arc::default(),
            counters: Arc::default(),
        };
        if let Some(log) = &options.log {
            let (sender, receiver) = mpsc::channel(LINES);
            let writer = Writer::open(log.clone()).map_err(|e| crate::Error::Setting {
                setting: "audit-log-path",
                why: format!("{}: {e}", log.path.display()),
            })?;
            receivers.log = Some((writer, receiver));
            sinks.log = Some(sender);
        }
        if let Some(kubeconfig) = &options.webhook {
            let (sender, receiver) = mpsc::channel(BUFFERED);
            let config = from_kubeconfig(kubeconfig).map_err(|why| crate::Error::Setting {
                setting: "audit-webhook-config-file",
                why,
            })?;
            receivers.webhook = Some((config, receiver));
            sinks.webhook = Some(sender);
        }
        sinks.receivers = Arc::new(Mutex::new(receivers));
        Ok(sinks)
    }

    /// One event. The file makes a request wait rather than miss it; the webhook does not.
    pub(super) async fn send(&self, line: Bytes) {
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        if let Some(log) = &self.log
            && log.send(line.clone()).await.is_err()
        {
            self.lost();
        }
        self.post(line);
    }

    /// One event of somebody who cannot wait.
    pub(super) fn send_now(&self, line: Bytes) {
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        if let Some(log) = &self.log
            && log.try_send(line.clone()).is_err()
        {
            self.lost();
        }
        self.post(line);
    }

    fn post(&self, line: Bytes) {
        if let Some(webhook) = &self.webhook
            && webhook.try_send(line).is_err()
        {
            self.lost();
        }
    }

    fn lost(&self) {
        self.counters.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Prometheus text under upstream's names.
    pub(super) fn render(&self, out: &mut String) {
        let events = self.counters.events.load(Ordering::Relaxed);
        let lost = self.counters.lost.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# TYPE apiserver_audit_event_total counter\napiserver_audit_event_total {events}"
        );
        let _ = writeln!(
            out,
            "# TYPE apiserver_audit_error_total counter\napiserver_audit_error_total {lost}"
        );
    }

    /// Writes until the server stops, and then what is left.
    pub(super) async fn run(&self, core: &Arc<Core>) {
        let (log, webhook) = {
            let mut receivers = self.receivers.lock().expect("no panic under this lock");
            (receivers.log.take(), receivers.webhook.take())
        };
        let file = async {
            if let Some((writer, lines)) = log {
                write_lines(core, writer, lines).await;
            }
        };
        let hook = async {
            if let Some((config, lines)) = webhook {
                post_batches(core, &config, lines, &self.counters).await;
            }
        };
        tokio::join!(file, hook);
    }
}

async fn write_lines(core: &Core, mut writer: Writer, mut lines: mpsc::Receiver<Bytes>) {
    let mut batch = Vec::new();
    loop {
        let stopping = tokio::select! {
            n = lines.recv_many(&mut batch, LINES) => n == 0,
            () = core.cancel.cancelled() => {
                lines.close();
                while let Some(line) = lines.recv().await {
                    batch.push(line);
                }
                true
            }
        };
        let taken = std::mem::take(&mut batch);
        let written = tokio::task::spawn_blocking(move || {
            let result = taken
                .iter()
                .try_for_each(|line| writer.line(line))
                .and_then(|()| writer.flush());
            (writer, result)
        });
        match written.await {
            Ok((back, result)) => {
                writer = back;
                if let Err(error) = result {
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

async fn post_batches(core: &Core, config: &ClientConfig, mut lines: mpsc::Receiver<Bytes>, counters: &Counters) {
    let mut stopping = false;
    while !stopping {
        let mut batch = Vec::new();
        tokio::select! {
            first = lines.recv() => match first {
                Some(line) => batch.push(line),
                None => return,
            },
            () = core.cancel.cancelled() => stopping = true,
        }
        if !stopping {
            tokio::select! {
                () = gather(&mut lines, &mut batch) => {}
                () = tokio::time::sleep(BATCH_WAIT) => {}
                () = core.cancel.cancelled() => stopping = true,
            }
        }
        while stopping && let Ok(line) = lines.try_recv() {
            batch.push(line);
        }
        for part in batch.chunks(BATCH) {
            if let Err(why) = post(core, config, part).await {
                counters.lost.fetch_add(part.len() as u64, Ordering::Relaxed);
                tracing::error!(why, events = part.len(), "the audit webhook did not take events");
            }
        }
    }
}

async fn gather(lines: &mut mpsc::Receiver<Bytes>, batch: &mut Vec<Bytes>) {
    while batch.len() < BATCH
        && let Some(line) = lines.recv().await
    {
        batch.push(line);
    }
}

async fn post(core: &Core, config: &ClientConfig, events: &[Bytes]) -> Result<(), String> {
    let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(b"]}");
    let body = Bytes::from(body);
    let mut attempt = 1;
    loop {
        match core.webhooks.post(core, config, "", body.clone(), POST_TIMEOUT).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS || core.cancel.is_cancelled() => return Err(error.to_string()),
            Err(_) => tokio::time::sleep(Duration::from_millis(500 << attempt)).await,
        }
        attempt += 1;
    }
}

/// The file, begun anew when it is full.
struct Writer {
    log: AuditLog,
    file: Option<io::BufWriter<File>>,
    size: u64,
}

impl Writer {
    fn open(log: AuditLog) -> io::Result<Self> {
        let mut writer = Self {
            log,
            file: None,
            size: 0,
        };
        if writer.log.path != Path::new("-") {
            writer.reopen()?;
        }
        Ok(writer)
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
        let length = line.len() as u64 + 1;
        if self.file.is_some() && self.size > 0 && self.size + length > self.log.megabytes << 20 {
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

    /// `audit.log` becomes `audit-TIME.log`; the oldest of these go.
    fn rotate(&mut self) -> io::Result<()> {
        self.flush()?;
        let path = &self.log.path;
        let stamp = strata_meta::MicroTime::now().to_string().replace(':', "-");
        fs::rename(path, path.with_file_name(self.backup_name(&stamp)))?;
        self.reopen()?;
        self.forget()
    }

    fn backup_name(&self, stamp: &str) -> String {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = text(self.log.path.file_stem());
        match text(self.log.path.extension()) {
            extension if extension.is_empty() => format!("{stem}-{stamp}"),
            extension => format!("{stem}-{stamp}.{extension}"),
        }
    }

    fn forget(&self) -> io::Result<()> {
        let folder = self
            .log
            .path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let pattern = self.backup_name("\0");
        let (prefix, suffix) = pattern.split_once('\0').unwrap_or((&pattern, ""));
        let mut backups: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamped = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
            if stamped.is_some_and(|stamp| stamp.starts_with(|c: char| c.is_ascii_digit())) {
                backups.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        backups.sort();
        backups.reverse();
        let oldest = Duration::from_secs(self.log.days * 24 * 3600);
        for (at, (time, path)) in backups.iter().enumerate() {
            let many = self.log.backups > 0 && at >= self.log.backups;
            let old = self.log.days > 0 && time.elapsed().is_ok_and(|age| age > oldest);
            if many || old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog {
            path: folder.path().join("audit.log"),
            megabytes: 1,
            backups: 2,
            days: 0,
        };
        let mut writer = Writer::open(log).unwrap();
        let line = vec![b'x'; 600 << 10];
        for _ in 0..5 {
            writer.line(&line).unwrap();
        }
        writer.flush().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().all(|n| n.starts_with("audit") && n.ends_with(".log")));
    }
}
