//! What a process that is being set up says to the one that made it.

use crate::error::{Context, Error, Result};
use alloc::{string::String, vec::Vec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use strata_sys::{Errno, message};

/// How long one step of setting up may take: hooks have limits of their own, and a mount of a dead
/// server must not hold a shim forever.
const STEP_LIMIT: Timespec = Timespec {
    tv_sec: 240,
    tv_nsec: 0,
};

/// Longest error text.
const TEXT_LIMIT: usize = 16 << 10;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What is said.
#[derive(Debug)]
pub(crate) enum Word {
    /// To the child: go on.
    Go,
    /// The network namespace is there, attached; move links into it and say go.
    Links,
    /// The namespaces are there; run the hooks of the runtime and say go.
    Hooks,
    /// The process was made by a helper process: its id, and its pidfd attached. To the child: its id outside.
    Process(i32),
    /// The terminal's master is attached.
    Terminal,
    /// All is set up; waiting for the gate.
    Ready,
    /// It failed.
    Failed(Error),
}

impl Channel {
    pub(crate) fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = message::pair().context(|| "make a socket pair")?;
        Ok((Channel(a), Channel(b)))
    }

    pub(crate) fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let mut bytes = Vec::new();
        match word {
            Word::Go => bytes.push(b'G'),
            Word::Hooks => bytes.push(b'H'),
            Word::Links => bytes.push(b'L'),
            Word::Terminal => bytes.push(b'T'),
            Word::Ready => bytes.push(b'R'),
            Word::Process(pid) => {
                bytes.push(b'P');
                bytes.extend_from_slice(&pid.to_ne_bytes());
            }
            Word::Failed(error) => {
                bytes.extend_from_slice(&[b'E', error.kind()]);
                let text = alloc::format!("{error}");
                bytes.extend_from_slice(&text.as_bytes()[..text.len().min(TEXT_LIMIT - 2)]);
            }
        }
        message::send(&self.0, &bytes, descriptors).context(|| "send to the parent")
    }

    /// The next word and its descriptors; `None` once the other side has closed, as exec does.
    pub(crate) fn hear(&self) -> Result<Option<(Word, Vec<OwnedFd>)>> {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match poll(&mut ready, Some(&STEP_LIMIT)) {
                Ok(0) => return Err(Error::State("setting the process up took longer than 4 minutes".into())),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::System {
                        what: "wait for the process".into(),
                        errno,
                    });
                }
            }
        }
        let mut buffer = [0; TEXT_LIMIT];
        let (length, descriptors) = match message::receive(&self.0, &mut buffer) {
            Err(Errno::CONNRESET) => return Ok(None),
            other => other.context(|| "hear from the process")?,
        };
        let word = match &buffer[..length] {
            [] => return Ok(None),
            b"G" => Word::Go,
            b"H" => Word::Hooks,
            b"L" => Word::Links,
            b"T" => Word::Terminal,
            b"R" => Word::Ready,
            [b'P', a, b, c, d] => Word::Process(i32::from_ne_bytes([*a, *b, *c, *d])),
            [b'E', kind, text @ ..] => {
                Word::Failed(Error::from_kind(*kind, String::from_utf8_lossy(text).into_owned()))
            }
            _ => return Err(Error::State("the process said something unexpected".into())),
        };
        Ok(Some((word, descriptors)))
    }

    /// Waits to be told which process this is outside.
    pub(crate) fn await_pid(&self) -> Result<i32> {
        match self.hear()? {
            Some((Word::Process(pid), _)) => Ok(pid),
            _ => Err(Error::State("the runtime went away".into())),
        }
    }

    /// Waits for [`Word::Go`].
    pub(crate) fn await_go(&self) -> Result<()> {
        match self.hear()? {
            Some((Word::Go, _)) => Ok(()),
            _ => Err(Error::State("the runtime went away".into())),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
