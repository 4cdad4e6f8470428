//! Pods of the node's own: manifests in a folder, run whether or not there is an API, which is shown a mirror of each.

mod manifest;
pub mod mirror;

use crate::pod::Pod;
pub use manifest::parse;
use rustix::fs::inotify;
use std::{
    fs, io,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use strata_task::CancellationToken;
use tokio::{io::unix::AsyncFd, sync::mpsc};

/// Bytes of a manifest.
const MANIFEST_MAX: u64 = 1 << 20;
/// Manifests that are heeded, in the order of their names.
const MANIFESTS: usize = 1024;
/// How often the folder is looked at where the kernel grants no watch (upstream's fileCheckFrequency).
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Whoever writes a file writes it in pieces; they are waited for.
const SETTLE: Duration = Duration::from_millis(50);

/// What a pod of this node's own is marked with where its origin is said.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// On a mirror: the identity of the pod that it mirrors.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Tells all pods of a folder, at first and whenever one of them has changed, until cancelled.
pub async fn follow(folder: PathBuf, node: String, pods: mpsc::Sender<Vec<Arc<Pod>>>, cancel: CancellationToken) {
    let work = async {
        // Before the first look, so that nothing falls between the two.
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as the `AsyncFd` owns it.
        let notify = watch(&folder).and_then(|fd| Ok(unsafe { AsyncFd::register(fd) }?));
        if let Err(error) = &notify {
            tracing::warn!(%error, folder = %folder.display(), "no watch on the folder of manifests, looking at it from time to time");
        }
        loop {
            let (folder, node) = (folder.clone(), node.clone());
            let Ok(found) = tokio::task::spawn_blocking(move || read(&folder, &node)).await else {
                return;
            };
            if pods.send(found).await.is_err() {
                return;
            }
            changed(notify.as_ref().ok()).await;
        }
    };
    cancel.run_until_cancelled(work).await;
}

async fn changed(notify: Option<&AsyncFd<OwnedFd>>) {
    let Some(notify) = notify else {
        return tokio::time::sleep(LOOK_EVERY).await;
    };
    let Ok(mut guard) = notify.readable().await else {
        return tokio::time::sleep(LOOK_EVERY).await;
    };
    tokio::time::sleep(SETTLE).await;
    let mut buffer = [0; 4096];
    // What happened does not matter, only that the queue is emptied.
    while rustix::io::read(notify.get_ref(), &mut buffer).is_ok_and(|n| n > 0) {}
    guard.clear_ready();
}

fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let events = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, folder, events)?;
    Ok(fd)
}

/// The pods of a folder. A manifest that cannot be read is said and left out.
fn read(folder: &Path, node: &str) -> Vec<Arc<Pod>> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(%error, folder = %folder.display(), "manifests of pods cannot be listed");
            return Vec::new();
        }
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    for entry in entries {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden || !fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let path = entry.path();
        match load(&path, node) {
            Ok(pod) if pods.iter().any(|other| other.full_name() == pod.full_name()) => {
                tracing::error!(path = %path.display(), pod = pod.full_name(), "another manifest is of a pod of that name");
            }
            Ok(pod) => pods.push(Arc::new(pod)),
            Err(why) => tracing::error!(path = %path.display(), why, "a manifest is not that of a pod"),
        }
        if pods.len() == MANIFESTS {
            tracing::error!(folder = %folder.display(), "only the first {MANIFESTS} manifests are heeded");
            break;
        }
    }
    pods
}

fn load(path: &Path, node: &str) -> Result<Pod, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    let read = file.take(MANIFEST_MAX + 1).read_to_string(&mut text);
    read.map_err(|e| e.to_string())?;
    if text.len() as u64 > MANIFEST_MAX {
        return Err(format!("it is longer than {MANIFEST_MAX} bytes"));
    }
    parse(&text, &path.to_string_lossy(), node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = |name: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
            )
        };
        fs::write(folder.path().join("a.yaml"), manifest("a")).expect("written");
        fs::write(folder.path().join(".hidden.yaml"), manifest("h")).expect("written");
        fs::write(folder.path().join("bad.yaml"), "x: [").expect("written");
        let (sender, mut pods) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let _guard = cancel.clone().drop_guard();
        let task = tokio::spawn(follow(folder.path().to_owned(), "node".into(), sender, cancel));
        let names = |pods: Vec<Arc<Pod>>| -> Vec<String> { pods.iter().map(|pod| pod.metadata.name.clone()).collect() };
        assert_eq!(names(pods.recv().await.expect("a first look")), ["a-node"]);
        fs::write(folder.path().join("b.json"), r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}"#).expect("written");
        assert_eq!(names(pods.recv().await.expect("a change")), ["a-node", "b-node"]);
        fs::remove_file(folder.path().join("a.yaml")).expect("removed");
        assert_eq!(names(pods.recv().await.expect("a change")), ["b-node"]);
        task.abort();
    }
}
