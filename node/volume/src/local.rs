//! Volumes that the node makes on its own disk: a file system of a given size in a file, or a plain folder.
//!
//! `ROOT/NAME/image` is mounted on `ROOT/NAME/mount`; what pods see is `ROOT/NAME/mount/volume`, so that nothing of the
//! file system's own lies in it. A volume appears by a rename once it is complete.

use crate::{VolumeError, manager::blocking};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::Mutex;

/// Names of volumes that are not complete begin so, which no volume's does.
const UNFINISHED: &str = ".";
/// A file system below this size is not worth its own records.
const SMALLEST: u64 = 1 << 20;
/// For the program that writes an empty file system.
const FORMAT_DEADLINE: Duration = Duration::from_secs(120);

/// What a volume is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKind {
    /// A file system in a file: its size is kept.
    Image,
    /// A folder: its size is a wish.
    Folder,
}

/// The volumes below one folder.
pub struct LocalVolumes {
    root: PathBuf,
    /// One change at a time.
    changing: Mutex<()>,
}

impl LocalVolumes {
    /// `root` is made when the first volume is.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            changing: Mutex::default(),
        }
    }

    /// Mounts again what was mounted before the machine went down, and removes what was never completed.
    pub async fn restore(&self) {
        let _changing = self.changing.lock().await;
        let root = self.root.clone();
        let done = blocking(move || {
            for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
                let folder = entry.path();
                let restored = match entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    true => discard(&folder),
                    false => mount(&folder),
                };
                if let Err(error) = restored {
                    tracing::error!(volume = %folder.display(), %error, "a local volume cannot be restored");
                }
            }
            Ok(())
        });
        let _ = done.await;
    }

    /// Makes a volume, or lets one grow that is there and smaller; tells the path that pods are to see.
    ///
    /// Errors: a name that is none; too little space; what the system or the formatting program says.
    pub async fn provide(&self, name: &str, size: u64, kind: LocalKind) -> Result<PathBuf, VolumeError> {
        let folder = self.folder(name)?;
        let size = size.max(SMALLEST);
        let _changing = self.changing.lock().await;
        if !fs::exists(&folder).map_err(VolumeError::io("looking for", &folder))? {
            self.make(&folder, name, size, kind).await?;
        }
        blocking(move || {
            mount(&folder)?;
            grow(&folder, size)?;
            Ok(folder.join("mount/volume"))
        })
        .await
    }

    async fn make(&self, folder: &Path, name: &str, size: u64, kind: LocalKind) -> Result<(), VolumeError> {
        let unfinished = self.root.join(format!("{UNFINISHED}{name}"));
        let made = self.fill(&unfinished, size, kind).await;
        let made =
            made.and_then(|()| fs::rename(&unfinished, folder).map_err(VolumeError::io("naming the volume", folder)));
        if made.is_err() {
            let _ = fs::remove_dir_all(&unfinished);
        }
        made
    }

    async fn fill(&self, folder: &Path, size: u64, kind: LocalKind) -> Result<(), VolumeError> {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private
            .create(&self.root)
            .map_err(VolumeError::io("creating", &self.root))?;
        if fs::exists(folder).map_err(VolumeError::io("looking for", folder))? {
            discard(folder)?;
        }
        let mount = folder.join("mount");
        private.create(&mount).map_err(VolumeError::io("creating", &mount))?;
        match kind {
            LocalKind::Folder => make_visible(&mount),
            LocalKind::Image => {
                let image = folder.join("image");
                self.check_space(size)?;
                let file = fs::File::create_new(&image).map_err(VolumeError::io("creating", &image))?;
                file.set_len(size).map_err(VolumeError::io("sizing", &image))?;
                format(&image).await?;
                file.sync_all().map_err(VolumeError::io("writing", &image))
            }
        }
    }

    /// The file is only as large as what was written into it; a volume that could never be filled is refused.
    fn check_space(&self, size: u64) -> Result<(), VolumeError> {
        let disk = rustix::fs::statvfs(&self.root);
        let disk = disk.map_err(|e| VolumeError::io("looking at the disk of", &self.root)(e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if size > free {
            return Err(VolumeError::Persistent(format!(
                "not enough free space: {size} bytes are asked for and {free} are free"
            )));
        }
        Ok(())
    }

    /// Removes a volume with all that is in it; one that is not there is removed already.
    pub async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let folder = self.folder(name)?;
        let _changing = self.changing.lock().await;
        let unfinished = self.root.join(format!("{UNFINISHED}{name}"));
        blocking(move || {
            if !fs::exists(&folder).map_err(VolumeError::io("looking for", &folder))? {
                return Ok(());
            }
            // From here on it is no volume, whenever this ends.
            fs::rename(&folder, &unfinished).map_err(VolumeError::io("taking away the name of", &folder))?;
            discard(&unfinished)
        })
        .await
    }

    fn folder(&self, name: &str) -> Result<PathBuf, VolumeError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        let fits = !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(plain);
        match fits {
            true => Ok(self.root.join(name)),
            false => Err(VolumeError::Path(name.to_owned())),
        }
    }
}

/// Writes an empty file system with the program of the system: it is upstream's own, and only run here.
async fn format(image: &Path) -> Result<(), VolumeError> {
    let mut command = tokio::process::Command::new("mkfs.ext4");
    command.args(["-q", "-F", "-m", "0"]).arg(image).kill_on_drop(true);
    let ended = tokio::time::timeout(FORMAT_DEADLINE, command.output()).await;
    let failed = |why: String| VolumeError::Persistent(format!("mkfs.ext4: {why}"));
    let output = match ended {
        Err(_) => return Err(failed(format!("not done in {FORMAT_DEADLINE:?}"))),
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Ok(Ok(output)) => output,
    };
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// Brings an image to where it belongs, if it is not there.
fn mount(folder: &Path) -> Result<(), VolumeError> {
    let (image, on) = (folder.join("image"), folder.join("mount"));
    if !fs::exists(&image).map_err(VolumeError::io("looking for", &image))? {
        return Ok(());
    }
    if !strata_mount::is_mount_point(&on).map_err(VolumeError::io("looking at", &on))? {
        strata_mount::mount_image(&image, &on).map_err(VolumeError::io("mounting", &image))?;
    }
    make_visible(&on)
}

/// Any user may write a new volume, as one that is provisioned elsewhere.
fn make_visible(mount: &Path) -> Result<(), VolumeError> {
    let volume = mount.join("volume");
    match fs::create_dir(&volume) {
        Ok(()) => fs::set_permissions(&volume, fs::Permissions::from_mode(0o777))
            .map_err(VolumeError::io("setting mode of", &volume)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(VolumeError::io("creating", &volume)(error)),
    }
}

fn grow(folder: &Path, size: u64) -> Result<(), VolumeError> {
    let (image, on) = (folder.join("image"), folder.join("mount"));
    let file = match fs::OpenOptions::new().write(true).open(&image) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(VolumeError::io("opening", &image)(error)),
    };
    let before = file.metadata().map_err(VolumeError::io("looking at", &image))?.len();
    if before >= size {
        return Ok(());
    }
    file.set_len(size).map_err(VolumeError::io("sizing", &image))?;
    if let Err(error) = strata_mount::grow_image(&image, &on) {
        // The file system is as large as it was, and so is its file.
        file.set_len(before).map_err(VolumeError::io("sizing", &image))?;
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            let why = "the kernel lets nobody grow a mounted file system without CAP_SYS_RESOURCE";
            return Err(VolumeError::Persistent(why.to_owned()));
        }
        return Err(VolumeError::io("growing", &image)(error));
    }
    file.sync_all().map_err(VolumeError::io("writing", &image))
}

fn discard(folder: &Path) -> Result<(), VolumeError> {
    strata_mount::unmount_below(folder).map_err(VolumeError::io("unmounting below", folder))?;
    fs::remove_dir_all(folder).map_err(VolumeError::io("removing", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A folder below which nothing stays mounted.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = strata_mount::unmount_below(self.path());
        }
    }

    #[tokio::test]
    async fn a_volume_keeps_its_size_grows_and_goes() {
        let dir = Folder::new();
        let volumes = LocalVolumes::new(dir.path().join("volumes"));
        let path = volumes.provide("pvc-1", 16 * MIB, LocalKind::Image).await.unwrap();
        fs::write(path.join("kept"), b"data").unwrap();
        let block = vec![0u8; 24 << 20];
        let full = fs::write(path.join("big"), &block).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        fs::remove_file(path.join("big")).unwrap();

        // A machine that went down: nothing is mounted, and one volume was being made.
        fs::create_dir(dir.path().join("volumes/.pvc-2")).unwrap();
        strata_mount::unmount_below(dir.path()).unwrap();
        assert!(!path.exists());
        let volumes = LocalVolumes::new(dir.path().join("volumes"));
        volumes.restore().await;
        assert_eq!(fs::read(path.join("kept")).unwrap(), b"data");
        assert!(!dir.path().join("volumes/.pvc-2").exists());

        match volumes.provide("pvc-1", 64 * MIB, LocalKind::Image).await {
            Ok(same) => {
                assert_eq!(same, path);
                fs::write(path.join("big"), &block).unwrap();
            }
            Err(error) => {
                assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
                eprintln!("skipped: growing, which this machine forbids");
                assert_eq!(
                    fs::metadata(dir.path().join("volumes/pvc-1/image")).unwrap().len(),
                    16 * MIB
                );
            }
        }
        volumes.remove("pvc-1").await.unwrap();
        volumes.remove("pvc-1").await.unwrap();
        assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().count(), 0);
        assert!(
            !strata_mount::mount_points()
                .unwrap()
                .iter()
                .any(|p| p.starts_with(dir.path()))
        );
    }

    #[tokio::test]
    async fn folders_have_no_size_and_names_no_way_out() {
        let dir = Folder::new();
        let volumes = LocalVolumes::new(dir.path().to_owned());
        let path = volumes.provide("pvc-3", u64::MAX, LocalKind::Folder).await.unwrap();
        assert!(path.is_dir());
        for name in ["", "..", "../x", "a/b", ".x", "A"] {
            assert!(volumes.provide(name, MIB, LocalKind::Folder).await.is_err(), "{name}");
        }
        let much = volumes.provide("pvc-4", u64::MAX, LocalKind::Image).await.unwrap_err();
        assert!(much.to_string().contains("not enough free space"), "{much}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
