//! Container logs in the CRI format, read back: tail, since, timestamps, follow.

use crate::watcher::LogWatcher;
use bytes::{Bytes, BytesMut};
use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};
use strata_http::BodySender;
use strata_meta::MicroTime;
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader},
};

/// Longest line that is kept in memory; the runtime writes at most 16 KiB a piece.
const LINE_MAX: usize = 64 << 10;
/// Bytes read at a time while looking for the tail.
const CHUNK: u64 = 64 << 10;

/// What of a log is wanted: core/v1 PodLogOptions.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Go on as lines are written.
    pub follow: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only lines from this moment on.
    pub since: Option<MicroTime>,
    /// At most so many bytes.
    pub limit: Option<u64>,
    /// `Stdout`, `Stderr` or (empty) both.
    pub stream: String,
}

/// One line of a log file.
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let partial = parts.next()? == b"P";
    Some(Line {
        time,
        stream,
        partial,
        text: parts.next().unwrap_or_default(),
    })
}

/// Sends a log to a client. `ended` says whether more can come, asked when the end is reached;
/// the watcher tells when something may have been written.
pub async fn send(
    path: PathBuf,
    options: LogOptions,
    out: &BodySender,
    ended: impl Fn() -> bool,
    watcher: &LogWatcher,
) -> std::io::Result<()> {
    let mut file = File::open(&path).await?;
    if let Some(lines) = options.tail {
        seek_to_tail(&mut file, lines).await?;
    }
    // Who does not follow gets what there is now, however fast more is written.
    let mut budget = match options.follow {
        true => None,
        false => Some(
            file.metadata()
                .await?
                .len()
                .saturating_sub(file.stream_position().await?),
        ),
    };
    let mut reader = BufReader::new(file);
    let mut writer = Writer {
        options: &options,
        left: options.limit,
        line_began: true,
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let whole = read_line(&mut reader, &mut line, &mut budget, &path, &ended, watcher, out).await?;
        if !whole && line.is_empty() {
            return Ok(());
        }
        if let Some(bytes) = writer.render(&line)
            && out.send(bytes).await.is_err()
        {
            return Ok(());
        }
        if writer.left == Some(0) {
            return Ok(());
        }
    }
}

/// Reads up to a line end; at the end of the file waits for more, unless there is a budget of bytes.
async fn read_line(
    reader: &mut BufReader<File>,
    line: &mut Vec<u8>,
    budget: &mut Option<u64>,
    path: &Path,
    ended: &impl Fn() -> bool,
    watcher: &LogWatcher,
    out: &BodySender,
) -> std::io::Result<bool> {
    loop {
        let over = ended();
        let limit = u64::try_from(LINE_MAX.saturating_sub(line.len())).unwrap_or(0);
        let limit = limit.min(budget.unwrap_or(u64::MAX));
        let read = (&mut *reader).take(limit).read_until(b'\n', line).await?;
        if let Some(budget) = budget {
            *budget -= u64::try_from(read).unwrap_or(*budget).min(*budget);
        }
        if line.last() == Some(&b'\n') || line.len() >= LINE_MAX {
            return Ok(true);
        }
        if budget.is_some() {
            return Ok(false);
        }
        if rotated(reader.get_ref(), path).await && line.is_empty() {
            *reader = BufReader::new(File::open(path).await?);
            continue;
        }
        if over {
            return Ok(false);
        }
        tokio::select! {
            () = watcher.changed() => {}
            () = out.closed() => return Ok(false),
        }
    }
}

/// Whether the path now names another file than the one being read.
async fn rotated(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata().await, tokio::fs::metadata(path).await) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) != (b.dev(), b.ino()),
        _ => false,
    }
}

struct Writer<'a> {
    options: &'a LogOptions,
    left: Option<u64>,
    line_began: bool,
}

impl Writer<'_> {
    fn render(&mut self, raw: &[u8]) -> Option<Bytes> {
        let line = parse(raw.strip_suffix(b"\n").unwrap_or(raw))?;
        if !self.options.stream.is_empty() && !self.options.stream.eq_ignore_ascii_case(line.stream) {
            return None;
        }
        if let (Some(since), Some(at)) = (self.options.since, MicroTime::parse(line.time))
            && at < since
        {
            return None;
        }
        let mut out = BytesMut::with_capacity(line.text.len() + 40);
        if self.options.timestamps && self.line_began {
            out.extend_from_slice(line.time.as_bytes());
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.extend_from_slice(b"\n");
        }
        self.line_began = !line.partial;
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= u64::try_from(out.len()).unwrap_or(*left).min(*left);
        }
        Some(out.freeze())
    }
}

/// Moves to where the last `lines` lines begin. Pieces of one line count as one.
async fn seek_to_tail(file: &mut File, lines: u64) -> std::io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(());
    }
    let mut tail: Vec<u8> = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let size = usize::try_from(end - start).unwrap_or(0);
        let mut chunk = vec![0; size];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut chunk).await?;
        chunk.extend_from_slice(&tail);
        tail = chunk;
        end = start;
        if let Some(offset) = tail_offset(&tail, lines, start == 0) {
            file.seek(SeekFrom::Start(start + offset)).await?;
            return Ok(());
        }
    }
    file.seek(SeekFrom::Start(0)).await?;
    Ok(())
}

/// Where in `bytes` the last `lines` lines begin, if they lie wholly within it.
fn tail_offset(bytes: &[u8], lines: u64, from_start: bool) -> Option<u64> {
    let mut found = 0;
    let mut end = bytes.strip_suffix(b"\n").unwrap_or(bytes).len();
    let mut begin_of_last = bytes.len();
    loop {
        let begin = bytes[..end].iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        let start = match begin {
            Some(start) => start,
            None if from_start => 0,
            None => return None,
        };
        if parse(&bytes[start..end]).is_some_and(|line| !line.partial) {
            if found == lines {
                return Some(u64::try_from(begin_of_last).unwrap_or(0));
            }
            found += 1;
        }
        begin_of_last = start;
        if start == 0 {
            return from_start.then_some(0);
        }
        end = start - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.1Z stdout F one\n2026-01-01T00:00:01.1Z stderr P tw\n\
                       2026-01-01T00:00:01.2Z stderr F o\n2026-01-01T00:00:02.1Z stdout F three\n";

    fn render(options: &LogOptions, from: usize) -> String {
        let mut writer = Writer {
            options,
            left: options.limit,
            line_began: true,
        };
        let lines = LOG[from..]
            .split_inclusive('\n')
            .filter_map(|l| writer.render(l.as_bytes()));
        lines.map(|b| String::from_utf8_lossy(&b).into_owned()).collect()
    }

    #[test]
    fn lines_are_joined_filtered_and_cut_as_asked() {
        assert_eq!(render(&LogOptions::default(), 0), "one\ntwo\nthree\n");
        let errors = LogOptions {
            stream: "Stderr".into(),
            timestamps: true,
            ..LogOptions::default()
        };
        assert_eq!(render(&errors, 0), "2026-01-01T00:00:01.1Z two\n");
        let limited = LogOptions {
            limit: Some(5),
            since: MicroTime::parse("2026-01-01T00:00:01Z"),
            ..LogOptions::default()
        };
        assert_eq!(render(&limited, 0), "two\nt");
    }

    #[test]
    fn the_tail_counts_whole_lines() {
        for (lines, expected) in [
            (1, "three\n"),
            (2, "two\nthree\n"),
            (3, "one\ntwo\nthree\n"),
            (9, "one\ntwo\nthree\n"),
        ] {
            let offset = tail_offset(LOG.as_bytes(), lines, true).expect("within");
            assert_eq!(render(&LogOptions::default(), offset as usize), expected, "{lines}");
        }
        assert_eq!(tail_offset(LOG.as_bytes(), 9, false), None);
    }
}
