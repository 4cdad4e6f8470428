//! Files into and out of containers (`cp`), the whole of their files (`export`), what changed in them
//! (`diff`), and an image of that (`commit`).

use crate::call::{Call, created, ok, stream};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::{Container, Record, Status};
use crate::rootfs::{open, open_inside};
use crate::upload::with_body;
use http::{HeaderValue, Response};
use rustix::fs::{FileType, OFlags};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strata_http::{Body, BodySender};
use strata_image::{ChangeKind, CommitOptions, pack_mount, pack_tree, unpack_tree};

/// Pieces of an archive on their way.
const QUEUE: usize = 16;
/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Go's bits of a file mode, beyond the permissions.
const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;

/// A path inside a container, and what is there.
struct Target {
    root: OwnedFd,
    path: PathBuf,
}

fn wanted_path(call: &Call) -> Answer<PathBuf> {
    match call.query("path") {
        "" => Err(ApiError::invalid("bad parameter: path cannot be empty")),
        path => Ok(Path::new("/").join(path)),
    }
}

fn not_there(path: &Path, container: &str) -> ApiError {
    ApiError::not_found(format!(
        "Could not find the file {} in container {container}",
        path.display()
    ))
}

impl Target {
    /// The file itself; a link at the end is not followed.
    fn open(&self, container: &str) -> Answer<(OwnedFd, rustix::fs::Stat)> {
        let opened = open_inside(self.root.as_fd(), &self.path, OFlags::PATH | OFlags::NOFOLLOW);
        let fd = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => not_there(&self.path, container),
            _ => ApiError::io("open", &self.path)(error),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| ApiError::io("stat", &self.path)(errno.into()))?;
        Ok((fd, stat))
    }

    /// Writes it as an archive in which it has its own name.
    fn pack(&self, sink: impl io::Write) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(name) = self.path.file_name() else {
            let folder = open_inside(self.root.as_fd(), &self.path, flags)?;
            return pack_mount(folder.as_fd(), sink)?.flush();
        };
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let folder = open_inside(self.root.as_fd(), parent, flags)?;
        pack_tree(folder.as_fd(), name.as_bytes(), name.as_bytes(), sink)?.flush()
    }
}

/// The header that says what is at a path.
fn described(target: &Target, fd: BorrowedFd<'_>, stat: &rustix::fs::Stat) -> Answer<HeaderValue> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut mode = stat.st_mode & 0o777;
    let mut link = String::new();
    match kind {
        FileType::Directory => mode |= GO_DIRECTORY,
        FileType::Symlink => {
            mode |= GO_SYMLINK;
            let read = rustix::fs::readlinkat(fd, "", Vec::new())
                .map_err(|errno| ApiError::io("read link", &target.path)(errno.into()))?;
            let own = read.to_string_lossy().into_owned();
            let folder = target.path.parent().unwrap_or(Path::new("/"));
            link = folder.join(own).to_string_lossy().into_owned();
        }
        _ => {}
    }
    let name = target
        .path
        .file_name()
        .map_or("/".into(), |name| name.to_string_lossy());
    let time = jiff::Timestamp::from_second(stat.st_mtime).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = json!({"name": name, "size": stat.st_size, "mode": mode, "mtime": time.to_string(), "linkTarget": link});
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text.to_string());
    HeaderValue::from_str(&encoded).map_err(|error| ApiError::internal(error.to_string()))
}

/// `HEAD` and `GET /containers/{name}/archive`
pub(crate) async fn get(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let path = wanted_path(&call)?;
    let only_head = call.request.method() == http::Method::HEAD;
    let turn = Arc::clone(&container).lock_turn().await;
    let (shared, known) = (Arc::clone(&inner), Arc::clone(&container));
    let (target, header) = blocking(move || {
        let target = Target {
            root: open(&shared, &known)?,
            path,
        };
        let (fd, stat) = target.open(&known.id)?;
        let header = described(&target, fd.as_fd(), &stat)?;
        Ok((target, header))
    })
    .await?;
    let body = if only_head {
        Body::empty()
    } else {
        let (sender, body) = Body::channel(QUEUE);
        let busy = inner.activity.begin();
        tokio::task::spawn_blocking(move || {
            let (_busy, _turn) = (busy, turn);
            let sink = io::BufWriter::with_capacity(PIECE, Sink(sender.clone()));
            if let Err(error) = target.pack(sink) {
                cut_short(sender, &target.path, &error);
            }
        });
        body
    };
    let mut response = stream("application/x-tar", body);
    response.headers_mut().insert("x-docker-container-path-stat", header);
    Ok(response)
}

/// Hands pieces to a body from a blocking thread.
pub(crate) struct Sink(pub BodySender);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let handle = tokio::runtime::Handle::current();
        handle.block_on(self.0.send(bytes.to_vec()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `PUT /containers/{name}/archive`
pub(crate) async fn put(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let path = wanted_path(&call)?;
    let keep_kinds = call.flag("noOverwriteDirNonDir");
    if container.lock().host["ReadonlyRootfs"] == json!(true) && !container.status().is_alive() {
        return Err(ApiError::forbidden("container rootfs is marked read-only"));
    }
    let turn = Arc::clone(&container).lock_turn().await;
    let (shared, known) = (Arc::clone(&inner), Arc::clone(&container));
    with_body(call.request.into_body(), move |upload| {
        let _turn = turn;
        let root = open(&shared, &known)?;
        let folder = open_inside(root.as_fd(), &path, OFlags::RDONLY | OFlags::DIRECTORY);
        let folder = folder.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_there(&path, &known.id),
            io::ErrorKind::NotADirectory => ApiError::invalid("extraction point is not a directory"),
            _ => ApiError::io("open", &path)(error),
        })?;
        unpack_tree(upload, folder.as_fd(), keep_kinds)
            .map_err(|error| ApiError::internal(format!("unpack into {}: {error}", path.display())))
    })
    .await?;
    ok(&Value::Null).map(|mut response| {
        *response.body_mut() = Body::empty();
        response
    })
}

/// Breaks an answer off, so that half an archive does not look like a whole one. Blocking.
fn cut_short(sender: BodySender, path: &Path, error: &io::Error) {
    tracing::debug!(path = %path.display(), %error, "an archive was cut short");
    tokio::runtime::Handle::current().block_on(sender.abort(error.to_string()));
}

/// `GET /containers/{name}/export`
pub(crate) async fn export(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let turn = Arc::clone(&container).lock_turn().await;
    let (shared, known) = (Arc::clone(&inner), Arc::clone(&container));
    let root = blocking(move || open(&shared, &known)).await?;
    let (sender, body) = Body::channel(QUEUE);
    let busy = inner.activity.begin();
    tokio::task::spawn_blocking(move || {
        let (_busy, _turn) = (busy, turn);
        let sink = io::BufWriter::with_capacity(PIECE, Sink(sender.clone()));
        let written = open_inside(root.as_fd(), Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|folder| pack_mount(folder.as_fd(), sink))
            .and_then(|mut sink| sink.flush());
        if let Err(error) = written {
            cut_short(sender, Path::new("/"), &error);
        }
    });
    inner.events.container(&container, "export", &[]);
    Ok(stream("application/octet-stream", body))
}

/// `GET /containers/{name}/changes`: what the container's own layer has over the image.
pub(crate) async fn changes(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.name())?;
    let record = container.record();
    let upper = container.folder.join("upper");
    let rows = blocking(move || {
        if !upper.exists() {
            return Ok(Vec::new());
        }
        let image = crate::create::find_image(&inner, &record.image_id)?;
        let hidden = hidden(&record);
        let all = inner.images.diff(&image.layers, &upper)?;
        let below = |path: &str| hidden.iter().any(|place| place.starts_with(&format!("{path}/")));
        let kept: Vec<(String, u8)> = all
            .iter()
            .map(|change| {
                let kind = match change.kind {
                    ChangeKind::Modified => 0,
                    ChangeKind::Added => 1,
                    ChangeKind::Deleted => 2,
                };
                (String::from_utf8_lossy(&change.path).into_owned(), kind)
            })
            .filter(|(path, _)| !hidden.contains(path))
            .collect();
        // A folder in which nothing but the place of a mount was made was not changed by anybody.
        let shown = |(path, _): &&(String, u8)| {
            !below(path) || kept.iter().any(|(other, _)| other.starts_with(&format!("{path}/")))
        };
        Ok(kept.iter().filter(shown).cloned().collect::<Vec<_>>())
    })
    .await?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|(path, kind)| json!({"Path": path, "Kind": kind}))
        .collect();
    ok(&if rows.is_empty() {
        Value::Null
    } else {
        Value::Array(rows)
    })
}

/// Places that the runtime made, not the container.
fn hidden(record: &Record) -> Vec<String> {
    let usual = [
        "/dev",
        "/dev/console",
        "/dev/pts",
        "/dev/shm",
        "/proc",
        "/sys",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
    ];
    let mut all: Vec<String> = usual.map(str::to_owned).into();
    all.extend(record.mounts.iter().map(|mount| mount.destination.clone()));
    if record.host["Init"] == json!(true) {
        all.push(crate::spec::INIT_INSIDE.to_owned());
    }
    all
}

/// `POST /commit`
pub(crate) async fn commit(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let container = inner.find(call.query("container"))?;
    let (repository, tag) = (call.query("repo").to_owned(), call.query("tag").to_owned());
    let (author, comment) = (call.query("author").to_owned(), call.query("comment").to_owned());
    let changes: Vec<String> = call.values("changes").flat_map(str::lines).map(str::to_owned).collect();
    let pause = call.flag_or("pause", true);
    let given = call.value().await?;
    let _turn = container.turn.lock().await;
    let record = container.record();
    let running = crate::life::running(&container).ok();
    let freeze = running.filter(|_| pause && record.state.status == Status::Running);
    if let Some(id) = &freeze {
        inner.engine.pause(id).await?;
    }
    let made = commit_now(
        &inner,
        &container,
        record,
        given,
        [repository, tag, author, comment],
        changes,
    )
    .await;
    if let Some(id) = &freeze {
        inner.engine.resume(id).await?;
    }
    let id = made?;
    inner.events.container(&container, "commit", &[("imageID", id.clone())]);
    created(&json!({"Id": id}))
}

async fn commit_now(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    record: Record,
    given: Value,
    [repository, tag, author, comment]: [String; 4],
    changes: Vec<String>,
) -> Answer<String> {
    let mut config = record.config.as_object().cloned().unwrap_or_default();
    crate::call::overlay_object(&mut config, &given);
    // What belongs to this container alone.
    for key in ["Hostname", "Domainname", "Image"] {
        config.insert(key.into(), json!(""));
    }
    let reference = match (repository.is_empty(), tag.is_empty()) {
        (true, _) => None,
        (false, true) => Some(repository),
        (false, false) => Some(format!("{repository}:{tag}")),
    };
    let upper = container.folder.join("upper");
    let options = CommitOptions {
        reference,
        upper: upper.clone(),
        config: Some(Value::Object(config)),
        changes,
        author,
        comment,
        created_by: record.command().join(" "),
    };
    let shared = Arc::clone(inner);
    blocking(move || {
        if !upper.exists() {
            crate::record::make_folder(&upper)?;
        }
        let image = crate::create::find_image(&shared, &record.image_id)?;
        Ok(shared.images.commit(&image, &options)?.id.to_string())
    })
    .await
}
