//! File systems in files: what is written into one stays within its size.

use rustix::{
    fs::{Mode, OFlags},
    mount::{MountFlags, mount},
};
use std::{io, path::Path};
use strata_sys::block::{LoopDevice, grow_ext4};

/// Mounts the ext4 file system in a file. Blocks that are freed are given back to the file's file system.
///
/// Errors: the kernel's.
pub fn mount_image(image: &Path, on: &Path) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(image, flags, Mode::empty())?;
    // The device stays for as long as it is mounted.
    let device = LoopDevice::attach(&file)?;
    mount(device.path().as_str(), on, "ext4", MountFlags::NODEV, c"discard")?;
    Ok(())
}

/// Lets a mounted image fill its file, which has grown.
///
/// Errors: the kernel's; `InvalidInput` if nothing of a loop device is mounted there.
pub fn grow_image(image: &Path, on: &Path) -> io::Result<()> {
    let root = rustix::fs::open(on, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let number = loop_number(rustix::fs::fstat(&root)?.st_dev)?;
    LoopDevice::of_number(number)?.follow_size()?;
    let block = rustix::fs::fstatvfs(&root)?.f_bsize;
    let size = std::fs::metadata(image)?.len();
    grow_ext4(&root, size / block.max(1))?;
    Ok(())
}

/// The number of the loop device that a file system is on.
fn loop_number(device: u64) -> io::Result<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"))?;
    let name = link.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.strip_prefix("loop")?.parse().ok());
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not on a loop device"))
}
