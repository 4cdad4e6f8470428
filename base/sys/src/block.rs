//! Loop devices, and file systems that grow while they are mounted.

use crate::{Errno, Result, arch::syscall};
use alloc::format;
use core::mem::size_of;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};

const LOOP_CONFIGURE: usize = 0x4C0A;
const LOOP_SET_CAPACITY: usize = 0x4C07;
const LOOP_CTL_GET_FREE: usize = 0x4C82;
const LOOP_MAJOR: u32 = 7;
/// The device goes with its last user.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// `_IOW('f', 16, u64)`
const EXT4_IOC_RESIZE_FS: usize = 0x4008_6610;
/// Others may take a free device first, so often at most.
const ATTEMPTS: usize = 64;

/// linux/loop.h `struct loop_config` with its `struct loop_info64` laid out flat.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// A loop device over a file; it ends when nobody holds or mounts it any longer.
pub struct LoopDevice {
    file: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// Takes a free device for a file that is open for reading and writing.
    pub fn attach(backing: impl AsFd) -> Result<Self> {
        let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        for _ in 0..ATTEMPTS {
            let number = u32::try_from(ioctl(&control, LOOP_CTL_GET_FREE, 0)?).map_err(|_| Errno::OVERFLOW)?;
            let file = open(number)?;
            let config = Config {
                fd: u32::try_from(backing.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?,
                block_size: 0,
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_AUTOCLEAR,
                names: [0; 160],
                init: [0; 2],
                reserved: [0; 8],
            };
            match ioctl(&file, LOOP_CONFIGURE, &raw const config as usize) {
                Ok(_) => return Ok(Self { file, number }),
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::BUSY)
    }

    /// The device of this number, which is in use.
    pub fn of_number(number: u32) -> Result<Self> {
        Ok(Self {
            file: open(number)?,
            number,
        })
    }

    /// Where it is.
    pub fn path(&self) -> alloc::string::String {
        format!("/dev/loop{}", self.number)
    }

    /// Takes the present size of its file.
    pub fn follow_size(&self) -> Result<()> {
        ioctl(&self.file, LOOP_SET_CAPACITY, 0).map(drop)
    }
}

fn open(number: u32) -> Result<OwnedFd> {
    let path = format!("/dev/loop{number}");
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(path.as_str(), flags, Mode::empty()) {
        // Where /dev is not the kernel's, nobody makes the node.
        Err(Errno::NOENT) => {
            let device = rustix::fs::makedev(LOOP_MAJOR, number);
            match rustix::fs::mknodat(
                CWD,
                path.as_str(),
                FileType::BlockDevice,
                Mode::from_raw_mode(0o600),
                device,
            ) {
                Ok(()) | Err(Errno::EXIST) => rustix::fs::open(path.as_str(), flags, Mode::empty()),
                Err(errno) => Err(errno),
            }
        }
        opened => opened,
    }
}

/// Grows the mounted ext4 file system that holds an open file to so many blocks.
pub fn grow_ext4(held: impl AsFd, blocks: u64) -> Result<()> {
    ioctl(held, EXT4_IOC_RESIZE_FS, &raw const blocks as usize).map(drop)
}

fn ioctl(file: impl AsFd, request: usize, argument: usize) -> Result<usize> {
    // SAFETY: private; each caller passes what its request reads, alive until the call returns.
    unsafe {
        syscall(
            libc::SYS_ioctl,
            [file.as_fd().as_raw_fd() as usize, request, argument, 0, 0, 0],
        )
    }
}
