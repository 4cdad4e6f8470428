//! Removal of links in the background. Removing a veth pair waits for every CPU to forget it
//! (10 ms and more), during which no other link on the host can be made or changed. Links that are
//! to go are only put into a group at first, and a whole group is removed for the price of one.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::netlink::route::RouteSocket;
use crate::{Error, Instance, NetworkNamespace};

/// Removes what is in the instance's group of condemned links, until dropped.
#[derive(Debug)]
pub(crate) struct LinkReaper {
    /// Holds at most one wish: one removal takes everything that is condemned by then.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LinkReaper {
    /// Starts in the calling thread's network namespace.
    pub(crate) fn start(instance: &Instance) -> Result<Self, Error> {
        let (wake, woken) = sync_channel(1);
        let namespace = NetworkNamespace::current()?;
        let group = instance.condemned_group();
        let builder = std::thread::Builder::new()
            .name("link-reaper".into())
            .stack_size(128 << 10);
        let thread = builder.spawn(move || {
            if let Err(error) = namespace.enter() {
                return tracing::error!(%error, "links are not removed in the background");
            }
            reap(&woken, group);
        });
        let thread = thread.map_err(|source| Error::kernel("start a thread", source))?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// There are condemned links.
    pub(crate) fn wake(&self) {
        // Full means: the next removal has not begun yet, and takes these links as well.
        if let Some(Err(TrySendError::Disconnected(()))) = self.wake.as_ref().map(|wake| wake.try_send(())) {
            tracing::error!("the link reaper has ended");
        }
    }
}

impl Drop for LinkReaper {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was already reported.
            let _ = thread.join();
        }
    }
}

fn reap(woken: &Receiver<()>, group: u32) {
    while woken.recv().is_ok() {
        if let Err(error) = delete_group(group) {
            tracing::warn!(%error, "links of stopped pods were not removed");
        }
    }
}

/// Removes every link of a group; none is fine.
pub(crate) fn delete_group(group: u32) -> Result<(), Error> {
    match RouteSocket::open()?.requests().delete_group(group).run() {
        Err(error) if error.errno() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
        other => other,
    }
}
