//! Answers to somebody else's `FORWARD` chain that drops by default (Docker with iptables-nft,
//! firewalld): a verdict in our own table cannot undo a drop in theirs, so the two rules that
//! let pod traffic pass stand at the head of their chain, and are put back when they vanish.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::netlink::NETFILTER;

use crate::netlink::Socket;
use crate::nft::{Batch, Expression, Family, Hook, MetaKey, NftSocket, Verdict};
use crate::rules::meta_equals;
use crate::{Error, Instance, NetworkNamespace};

/// Both families whose forward hook IPv4 packets pass.
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Inet];
/// NFNLGRP_NFTABLES, as a bit mask.
const TABLE_EVENTS: u32 = 1 << (7 - 1);
/// Our own service updates make events too; looking once a second is soon enough for a person
/// who starts Docker and cheap enough under load.
const INTERVAL: Duration = Duration::from_secs(1);

/// Puts the two rules into every dropping foreign chain that lacks them. Returns how many chains were changed.
pub(crate) fn answer(instance: &Instance) -> Result<usize, Error> {
    let mut socket = NftSocket::open()?;
    let mut changed = 0;
    for (family, table, chain) in foreign_chains(&mut socket, instance, true)? {
        if ours(&mut socket, instance, family, &table, &chain)?.len() == 2 {
            continue;
        }
        let mut batch = Batch::new(family, &table);
        for key in [MetaKey::InputName, MetaKey::OutputName] {
            // Exactly the expressions that iptables-nft writes itself (`-i PREFIX+ -j ACCEPT`):
            // it refuses a table in which it finds any other.
            let mut rule = meta_equals(key, instance.link_prefix().as_bytes()).to_vec();
            rule.extend([Expression::Counter, Expression::Verdict(Verdict::Accept)]);
            batch.insert_rule(&chain, &rule, &instance.pod_table());
        }
        match socket.apply(batch) {
            // The chain went away between listing and now: nothing to answer.
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT.raw_os_error()) => {}
            other => {
                other?;
                tracing::info!(
                    table,
                    chain,
                    "let pod traffic pass a forward chain that drops by default"
                );
                changed += 1;
            }
        }
    }
    Ok(changed)
}

/// Takes the rules out of foreign chains.
pub(crate) fn withdraw(instance: &Instance) -> Result<(), Error> {
    let mut socket = NftSocket::open()?;
    for (family, table, chain) in foreign_chains(&mut socket, instance, false)? {
        let handles = ours(&mut socket, instance, family, &table, &chain)?;
        let mut batch = Batch::new(family, &table);
        for handle in handles {
            batch.delete_rule(&chain, handle);
        }
        match socket.apply(batch) {
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT.raw_os_error()) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Follows changes of tables, and answers, until dropped.
#[derive(Debug)]
pub(crate) struct ForwardWatch {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl ForwardWatch {
    /// Starts in the calling thread's network namespace.
    pub(crate) fn start(instance: Instance) -> Result<Self, Error> {
        let failed = |source: rustix::io::Errno| Error::kernel("make an eventfd", source);
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
        let stopped = stop
            .try_clone()
            .map_err(|source| Error::kernel("make an eventfd", source))?;
        let events = Socket::open(Some(NETFILTER), TABLE_EVENTS)?;
        let namespace = NetworkNamespace::current()?;
        let builder = std::thread::Builder::new()
            .name("forward-watch".into())
            .stack_size(256 << 10);
        let thread = builder.spawn(move || {
            if let Err(error) = namespace.enter().and_then(|()| follow(&instance, events, &stopped)) {
                tracing::error!(%error, "stopped watching for foreign forward chains");
            }
        });
        let thread = thread.map_err(|source| Error::kernel("start a thread", source))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for ForwardWatch {
    fn drop(&mut self) {
        // An eventfd that already counts to its limit is readable as well.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(instance: &Instance, mut events: Socket, stop: &OwnedFd) -> Result<(), Error> {
    let mut last: Option<Instant> = None;
    loop {
        if wait(&[stop.as_fd(), events.as_fd()], None)?[0] {
            return Ok(());
        }
        if let Some(rest) = last.and_then(|last| INTERVAL.checked_sub(last.elapsed()))
            && wait(&[stop.as_fd()], Some(rest))?[0]
        {
            return Ok(());
        }
        if events.drain_events()? {
            last = Some(Instant::now());
            if let Err(error) = answer(instance) {
                tracing::warn!(%error, "could not answer a foreign forward chain");
            }
            // Our own rules made events as well.
            events.drain_events()?;
        }
    }
}

/// Which of the descriptors are readable, after at most `timeout`.
fn wait(fds: &[std::os::fd::BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<bool>, Error> {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(source) => Err(Error::kernel("wait for table events", source)),
    }
}

fn foreign_chains(
    socket: &mut NftSocket,
    instance: &Instance,
    dropping: bool,
) -> Result<Vec<(Family, String, String)>, Error> {
    let own = instance.pod_table();
    let mut found = Vec::new();
    for family in FAMILIES {
        for chain in socket.chains(family)? {
            let forwards = chain.hook.is_some_and(|(hook, _)| hook == Hook::Forward as u32);
            // firewalld's chain accepts by policy and ends with a rule that rejects.
            let drops = chain.drops || chain.table == "firewalld";
            if forwards && (drops || !dropping) && !chain.table.starts_with(&own) {
                found.push((family, chain.table, chain.name));
            }
        }
    }
    Ok(found)
}

fn ours(
    socket: &mut NftSocket,
    instance: &Instance,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<Vec<u64>, Error> {
    let comment = instance.pod_table();
    let rules = socket.rules(family, table, chain)?;
    Ok(rules
        .iter()
        .filter(|rule| rule.comment.as_ref() == Some(&comment))
        .map(|rule| rule.handle)
        .collect())
}
