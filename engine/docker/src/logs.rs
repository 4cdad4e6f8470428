//! What a container wrote: read back from its log files, followed as it grows.

use crate::call::{Call, stream};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::{Container, Status};
use crate::streams::frame;
use bytes::Bytes;
use http::Response;
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strata_http::{Body, BodySender};
use tokio::io::AsyncWrite;
use tokio::io::unix::AsyncFd;

/// Longest line of a log file: the writer cuts earlier.
const MAX_LINE: u64 = 1 << 20;
/// Most files of one log.
const MAX_FILES: usize = 1000;

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    since: Option<i128>,
    until: Option<i128>,
    /// Lines at the end; all if none.
    tail: Option<usize>,
    /// Whether output is cut into frames.
    framed: bool,
}

/// One line as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a str,
    stderr: bool,
    /// The line goes on in the next.
    partial: bool,
    text: &'a [u8],
}

/// `TIME STREAM F|P TEXT` without the newline.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = parts.next()? == b"stderr";
    let partial = parts.next()? == b"P";
    Some(Line {
        time,
        stderr,
        partial,
        text: parts.next().unwrap_or(b""),
    })
}

impl Wanted {
    /// The line as it is sent; nothing if it is not wanted.
    fn render(&self, line: &[u8]) -> Option<Vec<u8>> {
        let line = parse(line)?;
        if (line.stderr && !self.stderr) || (!line.stderr && !self.stdout) {
            return None;
        }
        if self.since.is_some() || self.until.is_some() {
            let at = line.time.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
            if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at > until) {
                return None;
            }
        }
        let mut text = Vec::with_capacity(line.text.len() + 40);
        if self.timestamps {
            text.extend_from_slice(line.time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
        let number = if line.stderr { 2 } else { 1 };
        Some(if self.framed { frame(number, &text) } else { text })
    }
}

/// Files of a log, the oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let rotated = (1..MAX_FILES).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    let mut all: Vec<PathBuf> = rotated.take_while(|path| path.exists()).collect();
    all.reverse();
    all.push(path.to_owned());
    all
}

/// `GET /containers/{name}/logs`
pub(crate) async fn logs(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    if !call.flag("stdout") && !call.flag("stderr") {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let record = container.record();
    if record.host["LogConfig"]["Type"] == serde_json::json!("none") {
        return Err(ApiError::unsupported(
            "configured logging driver does not support reading: it",
        ));
    }
    let tty = record.typed_config()?.tty;
    let wanted = Wanted {
        stdout: call.flag("stdout"),
        stderr: call.flag("stderr"),
        timestamps: call.flag("timestamps"),
        since: crate::time::parse(call.query("since"))?.filter(|at| *at != 0),
        until: crate::time::parse(call.query("until"))?.filter(|at| *at != 0),
        tail: match call.query("tail") {
            "" | "all" => None,
            text => text.parse::<i64>().ok().and_then(|lines| usize::try_from(lines).ok()),
        },
        framed: !tty,
    };
    let follow = call.flag("follow");
    let (sender, body) = Body::channel(16);
    let (busy, stop) = (inner.activity.begin(), inner.stop.clone());
    tokio::spawn(async move {
        let _busy = busy;
        let work = send(&container, wanted, follow, &sender);
        tokio::select! {
            result = work => if let Err(error) = result {
                tracing::warn!(container = %container.id, %error, "could not read a container's log");
            },
            () = sender.closed() => {}
            () = stop.cancelled() => {}
        }
    });
    let kind = if tty {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    Ok(stream(kind, body))
}

/// What was written so far, for somebody who attaches.
pub(crate) async fn dump(
    container: &Container,
    stdout: bool,
    stderr: bool,
    framed: bool,
    target: &mut (impl AsyncWrite + Unpin),
) -> Answer<()> {
    use tokio::io::AsyncWriteExt;
    let wanted = Wanted {
        stdout,
        stderr,
        framed,
        ..Wanted::default()
    };
    let path = container.log_path();
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<Bytes>(16);
    let reading = tokio::task::spawn_blocking(move || {
        past(&path, &wanted, |piece| sender.blocking_send(piece.into()).is_ok()).map(drop)
    });
    while let Some(piece) = pieces.recv().await {
        target
            .write_all(&piece)
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
    }
    reading
        .await
        .map_err(|_| ApiError::internal("the engine is shutting down"))?
}

async fn send(container: &Arc<Container>, wanted: Wanted, follow: bool, sender: &BodySender) -> Answer<()> {
    let path = container.log_path();
    // Watched first, so that nothing falls between reading and watching.
    let watch = if follow {
        Some(Watch::new(&container.folder)?)
    } else {
        None
    };
    let (pieces, mut received) = tokio::sync::mpsc::channel::<Bytes>(16);
    let (wants, log) = (wanted.clone(), path.clone());
    let reading =
        tokio::task::spawn_blocking(move || past(&log, &wants, |piece| pieces.blocking_send(piece.into()).is_ok()));
    while let Some(piece) = received.recv().await {
        if sender.send(piece).await.is_err() {
            return Ok(());
        }
    }
    let tail = reading
        .await
        .map_err(|_| ApiError::internal("the engine is shutting down"))??;
    let Some(watch) = watch else { return Ok(()) };
    follow_on(container, &wanted, tail, watch, sender).await
}

/// Goes on from a place in the log until the container has ended.
async fn follow_on(
    container: &Arc<Container>,
    wanted: &Wanted,
    mut tail: Tail,
    watch: Watch,
    sender: &BodySender,
) -> Answer<()> {
    let mut phase = container.phase.subscribe();
    let deadline = async {
        match wanted.until {
            Some(until) => tokio::time::sleep(crate::time::until(until)).await,
            None => std::future::pending().await,
        }
    };
    let mut deadline = std::pin::pin!(deadline);
    loop {
        let over = {
            let phase = phase.borrow_and_update();
            let alive = phase.status.is_alive() || phase.status == Status::Restarting;
            phase.removed || !alive
        };
        let wants = wanted.clone();
        let (pieces, back) = blocking(move || {
            let pieces = tail.read_on(&wants)?;
            Ok((pieces, tail))
        })
        .await?;
        tail = back;
        for piece in pieces {
            if sender.send(piece).await.is_err() {
                return Ok(());
            }
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            _ = phase.changed() => {}
            () = &mut deadline => return Ok(()),
        }
    }
}

/// A place in a log from which to go on.
struct Tail {
    path: PathBuf,
    file: Option<(File, u64)>,
    rest: Vec<u8>,
}

/// Reads what there is, in order, and gives the place it came to. `put` says whether to go on.
fn past(path: &Path, wanted: &Wanted, mut put: impl FnMut(Vec<u8>) -> bool) -> Answer<Tail> {
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    let mut tail = Tail {
        path: path.to_owned(),
        file: None,
        rest: Vec::new(),
    };
    for path in files(path) {
        let file = match File::open(&path) {
            Ok(file) => file,
            // Nothing was written yet, or it was rotated away in this moment.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ApiError::io("open", &path)(error)),
        };
        let mut reader = BufReader::new(file);
        let mut offset = 0;
        tail.rest.clear();
        loop {
            let mut line = Vec::new();
            let count = reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .map_err(ApiError::io("read", &path))?;
            offset += count as u64;
            if line.pop_if(|last| *last == b'\n').is_none() {
                tail.rest = line;
                break;
            }
            let Some(piece) = wanted.render(&line) else { continue };
            match wanted.tail {
                None => {
                    if !put(piece) {
                        return Ok(tail);
                    }
                }
                Some(0) => {}
                Some(lines) => {
                    if last.len() == lines {
                        last.pop_front();
                    }
                    last.push_back(piece);
                }
            }
        }
        tail.file = Some((reader.into_inner(), offset));
    }
    for piece in last {
        if !put(piece) {
            break;
        }
    }
    Ok(tail)
}

impl Tail {
    /// Lines that came since, over rotations.
    fn read_on(&mut self, wanted: &Wanted) -> Answer<Vec<Bytes>> {
        let mut pieces = Vec::new();
        self.drain(wanted, &mut pieces)?;
        if self.is_rotated() {
            // What was written before the rotation is all there now.
            self.drain(wanted, &mut pieces)?;
            self.rest.clear();
            self.file = None;
        }
        if self.file.is_none()
            && let Ok(file) = File::open(&self.path)
        {
            self.file = Some((file, 0));
            self.drain(wanted, &mut pieces)?;
        }
        Ok(pieces)
    }

    fn is_rotated(&self) -> bool {
        let own = self.file.as_ref().and_then(|(file, _)| file.metadata().ok());
        let there = std::fs::metadata(&self.path).ok();
        match (own, there) {
            (Some(own), Some(there)) => own.ino() != there.ino(),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    fn drain(&mut self, wanted: &Wanted, pieces: &mut Vec<Bytes>) -> Answer<()> {
        let Some((file, offset)) = &mut self.file else {
            return Ok(());
        };
        let failed = || ApiError::io("read", &self.path);
        file.seek(SeekFrom::Start(*offset)).map_err(failed())?;
        let mut reader = BufReader::new(&*file);
        loop {
            let mut line = std::mem::take(&mut self.rest);
            let room = MAX_LINE.saturating_sub(line.len() as u64).max(1);
            let count = reader
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut line)
                .map_err(failed())?;
            *offset += count as u64;
            if line.pop_if(|last| *last == b'\n').is_none() {
                self.rest = line;
                return Ok(());
            }
            pieces.extend(wanted.render(&line).map(Bytes::from));
        }
    }
}

/// Hears of changes in a folder.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new(folder: &Path) -> Answer<Self> {
        let make = || -> std::io::Result<Self> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&fd, folder, flags)?;
            Ok(Self(watched(fd)?))
        };
        make().map_err(ApiError::io("watch", folder))
    }

    /// Resolves when something changed.
    async fn changed(&self) -> Answer<()> {
        let failed = |error: std::io::Error| ApiError::internal(format!("watch a log: {error}"));
        let mut buffer = [0; 4096];
        loop {
            let mut guard = self.0.readable().await.map_err(failed)?;
            let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref().as_fd(), &mut buffer)?));
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(failed(error)),
                Err(_would_block) => {}
            }
        }
    }
}

fn watched(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and the same for as long as it lives, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Wanted {
        Wanted {
            stdout: true,
            stderr: true,
            ..Wanted::default()
        }
    }

    #[test]
    fn lines_are_rendered_as_they_are_wanted() {
        let line = b"2026-01-01T00:00:00.5Z stderr F a b";
        assert_eq!(all().render(line).expect("wanted"), b"a b\n");
        let out = Wanted { stderr: false, ..all() };
        assert!(out.render(line).is_none());
        let stamped = Wanted {
            timestamps: true,
            framed: true,
            ..all()
        };
        let expected = frame(2, b"2026-01-01T00:00:00.5Z a b\n");
        assert_eq!(stamped.render(line).expect("wanted"), expected);
        let late = Wanted {
            since: Some(i128::MAX),
            ..all()
        };
        assert!(late.render(line).is_none());
        assert_eq!(all().render(b"2026-01-01T00:00:00Z stdout P x").expect("wanted"), b"x");
    }

    #[test]
    fn a_log_is_read_over_rotations_and_on() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("log");
        let rotated = dir.path().join("log.1");
        std::fs::write(&rotated, "T stdout F 1\nT stdout F 2\n").expect("write");
        std::fs::write(&path, "T stdout F 3\nT stdout F").expect("write");
        let read = |wanted: &Wanted| {
            let mut text = Vec::new();
            let tail = past(&path, wanted, |piece| {
                text.extend(piece);
                true
            });
            (String::from_utf8(text).expect("text"), tail.expect("readable"))
        };
        let (text, mut tail) = read(&all());
        assert_eq!(text, "1\n2\n3\n");
        let two = Wanted { tail: Some(2), ..all() };
        assert_eq!(read(&two).0, "2\n3\n");
        let append = |text: &str| {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
            file.write_all(text.as_bytes()).expect("write");
        };
        append(" 4\nT stdout F 5\n");
        std::fs::rename(&path, dir.path().join("log.2")).expect("rotate");
        std::fs::write(&path, "T stdout F 6\n").expect("write");
        let more = tail.read_on(&all()).expect("readable").concat();
        assert_eq!(more, b"4\n5\n6\n");
    }
}
