//! `cp`, `export` and `commit`.

use crate::client::Ask;
use crate::commands::{CommitArgs, CopyArgs, ExportArgs};
use crate::{Console, Failure, terminal, text};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use strata_image::{pack_tree, unpack_tree};
use tokio::sync::mpsc;

/// Pieces of an archive on their way.
const QUEUE: usize = 16;
const CHUNK: usize = 64 << 10;
/// The bit of a file's mode that says folder, as Go has it.
const GO_DIRECTORY: u64 = 1 << 31;
const GO_SYMLINK: u64 = 1 << 27;
/// Links that are followed inside.
const MAX_LINKS: usize = 16;

/// One end of a copy.
enum Place<'a> {
    Inside(&'a str, &'a str),
    Here(&'a str),
    /// Standard input or output.
    Stream,
}

fn place(text: &str) -> Place<'_> {
    if text == "-" {
        return Place::Stream;
    }
    match text.split_once(':') {
        // A path of ours may hold a colon if it begins like a path.
        Some((container, path)) if !text.starts_with(['.', '/']) => Place::Inside(container, path),
        _ => Place::Here(text),
    }
}

/// `cp`
pub(crate) async fn copy(console: &Console, args: CopyArgs) -> Result<u8, Failure> {
    match (place(&args.source), place(&args.target)) {
        (Place::Inside(container, path), Place::Here(target)) => from(console, container, path, target, &args).await,
        (Place::Inside(container, path), Place::Stream) => {
            let response = console.client.send(archive(container, path)).await?;
            print_body(response).await?;
            Ok(0)
        }
        (Place::Here(source), Place::Inside(container, path)) => into(console, source, container, path, &args).await,
        (Place::Stream, Place::Inside(container, path)) => {
            let body = sent(|sink| std::io::copy(&mut std::io::stdin().lock(), sink).map(drop));
            upload(console, container, path, &args, body).await?;
            Ok(0)
        }
        (Place::Inside(..), Place::Inside(..)) => Err(Failure::new("copying between containers is not supported")),
        _ => Err(Failure::new("must specify at least one container source")),
    }
}

fn archive<'a>(container: &str, path: &str) -> Ask<'a> {
    Ask::get(format!("/containers/{container}/archive")).query("path", path)
}

/// What is at a path inside: whether a folder, a link and whereto; nothing if nothing is there.
async fn look(console: &Console, container: &str, path: &str) -> Result<Option<Value>, Failure> {
    let ask = Ask::new(http::Method::HEAD, format!("/containers/{container}/archive")).query("path", path);
    let response = match console.client.send(ask).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    // What cannot be read is not nothing: a copy would be written beside what is there.
    let broken = |why: &str| Failure::new(format!("the daemon's description of {path} cannot be read: {why}"));
    let header = response.headers().get("x-docker-container-path-stat");
    let header = header.ok_or_else(|| broken("it is missing"))?;
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, header.as_bytes());
    let bytes = bytes.map_err(|error| broken(&error.to_string()))?;
    let known = serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?;
    Ok(Some(known))
}

fn has(stat: &Value, bit: u64) -> bool {
    stat["mode"].as_u64().unwrap_or(0) & bit != 0
}

/// Out of a container.
async fn from(console: &Console, container: &str, path: &str, target: &str, args: &CopyArgs) -> Result<u8, Failure> {
    let mut path = path.to_owned();
    if args.follow_link {
        for _ in 0..MAX_LINKS {
            match look(console, container, &path).await? {
                Some(stat) if has(&stat, GO_SYMLINK) => stat["linkTarget"].as_str().unwrap_or("").clone_into(&mut path),
                _ => break,
            }
        }
    }
    let Some(stat) = look(console, container, &path).await? else {
        return Err(Failure::new(format!(
            "Error response from daemon: Could not find the file {path} in container {container}"
        )));
    };
    let is_folder = has(&stat, GO_DIRECTORY);
    let name = stat["name"].as_str().unwrap_or("").to_owned();
    let here = Path::new(target);
    let contents = path.ends_with("/.");
    let (folder, renamed) = match here.is_dir() {
        true => (here.to_owned(), None),
        false if here.exists() && is_folder => {
            return Err(Failure::new("cannot copy directory to file"));
        }
        false if target.ends_with('/') && !is_folder => {
            return Err(Failure::new(format!("no such directory: {target}")));
        }
        false => {
            let parent = here.parent().filter(|parent| !parent.as_os_str().is_empty());
            let own = here.file_name().map(|name| name.as_bytes().to_vec());
            (parent.unwrap_or(Path::new(".")).to_owned(), own)
        }
    };
    // Into a folder of its own first: what a container sends is not let loose among our files by name.
    let draft = folder.join(format!(".strata-cp-{}", std::process::id()));
    if !folder.is_dir() {
        return Err(Failure::new(format!(
            "invalid output path: directory {:?} does not exist",
            folder.display().to_string()
        )));
    }
    std::fs::create_dir(&draft).map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let moved = fetch(console, container, &path, &draft).await.and_then(|()| {
        let got = draft.join(&name);
        let root = name.is_empty() || name == "/";
        let got = if root || contents && !got.exists() {
            draft.clone()
        } else {
            got
        };
        match &renamed {
            None if contents || root => merge_contents(&got, &folder),
            None => merge(&got, &folder.join(&name)),
            Some(own) => merge(&got, &folder.join(std::ffi::OsStr::from_bytes(own))),
        }
        .map_err(|error| Failure::new(error.to_string()))
    });
    let removed = std::fs::remove_dir_all(&draft);
    moved?;
    removed.map_err(|error| Failure::new(format!("{}: {error}", draft.display())))?;
    tell(args, &format!("Successfully copied to {target}"));
    Ok(0)
}

fn tell(args: &CopyArgs, text: &str) {
    if !args.quiet && terminal::stderr_is_terminal() {
        // Nobody to read it is fine.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

async fn fetch(console: &Console, container: &str, path: &str, folder: &Path) -> Result<(), Failure> {
    let mut body = console.client.send(archive(container, path)).await?.into_body();
    let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
    let folder = std::fs::File::open(folder).map_err(|error| Failure::new(error.to_string()))?;
    let work = tokio::task::spawn_blocking(move || {
        let pieces = Pieces {
            receiver,
            current: Bytes::new(),
        };
        unpack_tree(pieces, folder.as_fd(), true)
    });
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(error.to_string()))?;
        if let Ok(bytes) = frame.into_data()
            && sender.send(bytes).await.is_err()
        {
            break;
        }
    }
    drop(sender);
    let done = work.await.map_err(|error| Failure::new(error.to_string()))?;
    done.map_err(|error| Failure::new(error.to_string()))
}

/// Moves a file or folder to its place; into a folder that is there already.
fn merge(from: &Path, to: &Path) -> std::io::Result<()> {
    let is_folder = from.symlink_metadata()?.is_dir();
    match to.symlink_metadata() {
        Ok(there) if is_folder && there.is_dir() => merge_contents(from, to),
        Ok(there) if is_folder || there.is_dir() => Err(std::io::Error::other(format!(
            "cannot overwrite {} with another kind of file",
            to.display()
        ))),
        _ => std::fs::rename(from, to),
    }
}

fn merge_contents(from: &Path, to: &Path) -> std::io::Result<()> {
    for item in std::fs::read_dir(from)? {
        let item = item?;
        merge(&item.path(), &to.join(item.file_name()))?;
    }
    Ok(())
}

/// Into a container.
async fn into(console: &Console, source: &str, container: &str, path: &str, args: &CopyArgs) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| Failure::new(error.to_string());
    let contents = source == "." || source.ends_with("/.") || source.ends_with("/..") || source == "..";
    let mut here = PathBuf::from(source);
    if contents || args.follow_link || source.ends_with('/') {
        here = here
            .canonicalize()
            .map_err(|error| Failure::new(format!("{source}: {error}")))?;
    }
    let metadata = here
        .symlink_metadata()
        .map_err(|error| Failure::new(format!("lstat {source}: {}", text::errno(&error))))?;
    let mut target = path.to_owned();
    let mut there = look(console, container, &target).await?;
    for _ in 0..MAX_LINKS {
        match &there {
            Some(stat) if has(stat, GO_SYMLINK) => {
                stat["linkTarget"].as_str().unwrap_or("").clone_into(&mut target);
                there = look(console, container, &target).await?;
            }
            _ => break,
        }
    }
    let is_folder = there.as_ref().is_some_and(|stat| has(stat, GO_DIRECTORY));
    if metadata.is_dir() && there.is_some() && !is_folder {
        return Err(Failure::new("cannot copy directory to file"));
    }
    if there.is_none() && target.ends_with('/') && !metadata.is_dir() {
        return Err(Failure::new(format!("no such directory: {container}:{path}")));
    }
    let full = Path::new("/").join(target.trim_end_matches('/'));
    let (folder, name) = if is_folder {
        (full, None)
    } else {
        let parent = full.parent().unwrap_or(Path::new("/")).to_owned();
        (parent, full.file_name().map(|name| name.as_bytes().to_vec()))
    };
    // The archive has the names that things are to have inside.
    let stage = stage(&here, contents && metadata.is_dir(), name).map_err(failed)?;
    let body = sent(move |sink| stage.write(sink));
    let folder = folder.to_string_lossy().into_owned();
    upload(console, container, &folder, args, body).await?;
    tell(args, &format!("Successfully copied to {container}:{path}"));
    Ok(0)
}

/// What is sent, under which name.
struct Stage {
    parent: std::fs::File,
    name: Vec<u8>,
    renamed: Option<Vec<u8>>,
}

fn stage(here: &Path, contents: bool, renamed: Option<Vec<u8>>) -> std::io::Result<Stage> {
    let whole = here.canonicalize().unwrap_or_else(|_| here.to_owned());
    let here = if here.file_name().is_some() { here } else { &whole };
    let parent = here.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = here
        .file_name()
        .map(|name| name.as_bytes().to_vec())
        .unwrap_or_default();
    let renamed = match (contents, renamed) {
        // The contents go where the folder would.
        (true, None) => Some(Vec::new()),
        (_, renamed) => renamed,
    };
    Ok(Stage {
        parent: std::fs::File::open(parent.unwrap_or(Path::new(".")))?,
        name,
        renamed,
    })
}

impl Stage {
    fn write(&self, sink: &mut dyn Write) -> std::io::Result<()> {
        let name = self.renamed.as_deref().unwrap_or(&self.name);
        pack_tree(self.parent.as_fd(), &self.name, name, sink).map(drop)
    }
}

type Archive = mpsc::Receiver<Result<Bytes, std::io::Error>>;

/// An archive that a blocking thread writes.
fn sent(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static) -> Archive {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut sink = std::io::BufWriter::with_capacity(CHUNK, Sink(sender.clone()));
        if let Err(error) = write(&mut sink).and_then(|()| sink.flush()) {
            // The other end may have gone, which is why.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

struct Sink(mpsc::Sender<Result<Bytes, std::io::Error>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        match self.0.blocking_send(Ok(piece)) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn upload(console: &Console, container: &str, path: &str, args: &CopyArgs, body: Archive) -> Result<(), Failure> {
    let ask = Ask::new(http::Method::PUT, format!("/containers/{container}/archive"))
        .query("path", path)
        .query("noOverwriteDirNonDir", true)
        .flag("copyUIDGID", args.archive)
        .stream(body);
    console.client.ask(ask).await?;
    Ok(())
}

/// Reads an answer's body from a blocking thread.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

async fn print_body(response: http::Response<hyper::body::Incoming>) -> Result<(), Failure> {
    write_body(response, std::io::stdout()).await
}

async fn write_body(response: http::Response<hyper::body::Incoming>, mut target: impl Write) -> Result<(), Failure> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(error.to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            let written = tokio::task::block_in_place(|| target.write_all(&bytes));
            written.map_err(|error| Failure::new(error.to_string()))?;
        }
    }
    target.flush().map_err(|error| Failure::new(error.to_string()))
}

/// `export`
pub(crate) async fn export(console: &Console, args: ExportArgs) -> Result<u8, Failure> {
    if args.output.is_empty() && terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let ask = Ask::get(format!("/containers/{}/export", args.container));
    let response = console.client.send(ask).await?;
    if args.output.is_empty() {
        print_body(response).await?;
    } else {
        let file = std::fs::File::create(&args.output)
            .map_err(|error| Failure::new(format!("failed to export container: {}: {error}", args.output)))?;
        write_body(response, file).await?;
    }
    Ok(0)
}

/// `commit`
pub(crate) async fn commit(console: &Console, args: CommitArgs) -> Result<u8, Failure> {
    let name = args.image.clone().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or(&name);
    let (repository, tag) = match last.split_once(':') {
        Some((_, tag)) => (name[..name.len() - tag.len() - 1].to_owned(), tag.to_owned()),
        None => (name.clone(), String::new()),
    };
    let mut ask = Ask::post("/commit")
        .query("container", &args.container)
        .query("repo", repository)
        .query("tag", tag)
        .query("comment", &args.message)
        .query("author", &args.author)
        .query("pause", args.pause)
        .body(json!({}));
    for change in &args.change {
        ask = ask.query("changes", change);
    }
    let made = console.client.ask(ask).await?;
    println!("{}", made["Id"].as_str().unwrap_or(""));
    Ok(0)
}
