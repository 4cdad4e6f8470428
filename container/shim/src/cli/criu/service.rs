//! A conversation with `criu swrk`: one request, what it tells meanwhile, one answer.
//!
//! Numbers of messages and fields are those of CRIU's rpc.proto.

use super::wire::{Fields, Message};
use crate::cli::Global;
use alloc::{ffi::CString, format, string::String, vec::Vec};
use core::mem::ManuallyDrop;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use strata_runtime::{Context, Error, Result};
use strata_sys::process::{self, Child, Fork, ForkOptions};
use strata_sys::{message, signal};

/// Kinds of requests and answers.
pub(super) mod kind {
    pub(in super::super) const DUMP: u64 = 1;
    pub(in super::super) const RESTORE: u64 = 2;
    pub(in super::super) const PRE_DUMP: u64 = 4;
    pub(super) const NOTIFY: u64 = 6;
    pub(in super::super) const FEATURE_CHECK: u64 = 9;
    pub(in super::super) const VERSION: u64 = 10;
}

/// Fields of requests and answers.
const TYPE: u32 = 1;
const OPTIONS: u32 = 2;
const NOTIFY_SUCCESS: u32 = 3;
const FEATURES: u32 = 5;

/// Longest answer that is taken.
const ANSWER_LIMIT: usize = 40 << 10;

/// The first descriptor that CRIU may be handed beside its streams and the conversation's.
pub(super) const FIRST_PASSED: i32 = 4;

/// A running CRIU.
pub(super) struct Criu {
    socket: Option<OwnedFd>,
    child: Child,
}

/// What CRIU tells while it works.
pub(super) struct Notice {
    pub(super) event: String,
    pub(super) pid: i32,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What CRIU answered.
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn fields(&self) -> Result<Fields<'_>> {
        read(&self.0)
    }
}

impl Criu {
    /// Starts it with these descriptors from [`FIRST_PASSED`] on. Errors: it is not installed.
    pub(super) fn start(global: &Global, passed: &[BorrowedFd<'_>]) -> Result<Self> {
        let program = strata_runtime::find_program("criu", &global.environment)
            .map_err(|error| Error::NotFound(format!("checkpoint and restore need CRIU: {error}")))?;
        let what = || "start criu";
        let string = |text: &str| CString::new(text).map_err(|_| Error::Invalid("an argument holds a NUL byte".into()));
        let arguments = ["criu", "swrk", "3"]
            .map(string)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let environment = global
            .environment
            .iter()
            .map(|text| string(text))
            .collect::<Result<Vec<_>>>()?;
        let (ours, theirs) = message::pair().context(what)?;
        // SAFETY: runtime processes have one thread.
        let child = match unsafe { process::fork(ForkOptions::default()) }.context(what)? {
            Fork::Parent(child) => child,
            Fork::Child => {
                signal::reset_all();
                let _ = signal::set_blocked(0);
                let mut given = alloc::vec![rustix::fd::AsFd::as_fd(&theirs)];
                given.extend_from_slice(passed);
                if place(&given).is_ok() {
                    process::execute(&program, &arguments, &environment);
                }
                process::exit(127)
            }
        };
        Ok(Criu {
            socket: Some(ours),
            child,
        })
    }

    /// Its process.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Sends a request, answers notices, and waits for the answer and CRIU's end. Errors: it failed, or `hear` did.
    pub(super) fn ask(
        mut self,
        (name, kind): (&str, u64),
        options: &Message,
        mut hear: impl FnMut(Notice) -> Result<()>,
    ) -> Result<Answer> {
        let what = || "talk to criu";
        let field = if kind == kind::FEATURE_CHECK { FEATURES } else { OPTIONS };
        let mut request = Message::default().number(TYPE, kind);
        if kind != kind::VERSION {
            request = request.message(field, options);
        }
        let socket = self
            .socket
            .take()
            .ok_or_else(|| Error::State("criu has been asked".into()))?;
        message::send(&socket, request.bytes(), &[]).context(what)?;
        let answer = loop {
            let mut buffer = alloc::vec![0; ANSWER_LIMIT];
            let (length, descriptors) = message::receive(&socket, &mut buffer).context(what)?;
            if length == 0 {
                return Err(Error::State(format!("criu ended without an answer to {name}")));
            }
            buffer.truncate(length);
            let fields = read(&buffer)?;
            if fields.number(2) != Some(1) {
                let number = fields.number(7).unwrap_or(0) as i32;
                let text = fields
                    .text(9)
                    .map_or_else(String::new, |text| format!(": {}", text.trim()));
                return Err(Error::State(format!("criu failed: type {name} errno {number}{text}")));
            }
            match fields.number(1) {
                Some(kind::NOTIFY) => {
                    let notify = fields.message(5).ok_or_else(nonsense)?;
                    let heard = hear(Notice {
                        event: notify.text(1).ok_or_else(nonsense)?,
                        pid: notify.number(2).unwrap_or(0) as i32,
                        descriptors,
                    });
                    let reply = Message::default()
                        .number(TYPE, kind::NOTIFY)
                        .switch(NOTIFY_SUCCESS, heard.is_ok());
                    // It may be gone: why not is told by what it answered, or did not.
                    let sent = message::send(&socket, reply.bytes(), &[]).context(what);
                    heard.and(sent)?;
                }
                Some(answered) if answered == kind => break Answer(buffer),
                _ => return Err(nonsense()),
            }
        };
        drop(socket);
        let code = process::reap(self.child.pid).context(what)?.code();
        let answer = Ok(answer);
        core::mem::forget(self);
        // After a first pass it waits for more, until nobody can ask.
        if code != 0 && kind != kind::PRE_DUMP {
            return Err(Error::State(format!("criu failed: exit status {code}")));
        }
        answer
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        // Nobody to talk with is what ends it.
        self.socket = None;
        let _ = process::reap(self.child.pid);
    }
}

fn nonsense() -> Error {
    Error::State("criu: an answer that makes no sense".into())
}

fn read(bytes: &[u8]) -> Result<Fields<'_>> {
    Fields::read(bytes).ok_or_else(nonsense)
}

/// Puts the descriptors at 3 and the numbers after it, open over exec, and nothing else.
fn place(given: &[BorrowedFd<'_>]) -> strata_sys::Result<()> {
    // Out of the way first: one may stand where another is to be.
    let above = 3 + given.len() as i32;
    let copies = given
        .iter()
        .map(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, above))
        .collect::<strata_sys::Result<Vec<_>>>()?;
    for (copy, number) in copies.iter().zip(3..) {
        // SAFETY: whatever it was is not used any more in this process, which is to become another program.
        let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        debug_assert_eq!(target.as_raw_fd(), number);
        rustix::io::dup2(copy, &mut target)?;
    }
    process::close_on_exec_from(above as u32)
}
