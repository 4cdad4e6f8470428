//! System call filters: OCI profiles compiled to classic BPF.
//!
//! A filter tests the architecture, then finds the call's number in a binary tree of number ranges.
//! The rules of one call behave as libseccomp's: an unconditional rule beats conditional ones.

mod compile;
mod default;
mod notify;
mod table;

pub use compile::compile;
pub use default::default_profile;
pub(crate) use notify::Listener;

use crate::error::{Context, Error, Result};
use crate::spec::{Seccomp, Spec};
use alloc::format;
use alloc::vec::Vec;
use strata_sys::seccomp::Instruction;

/// A filter ready to be installed.
#[derive(Clone, Debug)]
pub struct Filter {
    instructions: Vec<Instruction>,
    flags: u32,
    listener: Option<notify::Address>,
}

impl Filter {
    /// Compiles a profile. Errors: `Invalid` for what is unknown or unsupported.
    pub fn new(profile: &Seccomp) -> Result<Self> {
        let notifies = compile::notifies(profile)?;
        let listener = notify::Address::of(profile, notifies)?;
        Ok(Filter {
            instructions: compile(profile)?,
            flags: flags(profile, listener.is_some())?,
            listener,
        })
    }

    /// The filter of a container, if it has one: an empty profile is how "unconfined" is written.
    pub fn of(spec: &Spec) -> Result<Option<Self>> {
        let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let open = |profile: &&Seccomp| {
            profile.default_action.is_empty()
                || profile.default_action == "SCMP_ACT_ALLOW" && profile.syscalls.is_empty()
        };
        profile.filter(|profile| !open(profile)).map(Self::new).transpose()
    }

    /// Installs it on the calling thread; its listener, if calls are to be notified.
    pub fn install(&self) -> Result<Option<rustix::fd::OwnedFd>> {
        strata_sys::seccomp::install(&self.instructions, self.flags).context(|| "cannot install the seccomp filter")
    }

    /// Connects to who decides about notified calls; to be called where the host's files are seen.
    pub(crate) fn connect(&self) -> Result<Option<Listener>> {
        self.listener.as_ref().map(notify::Address::connect).transpose()
    }

    /// The program.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// seccomp(2): the flags that a profile may name.
fn flags(profile: &Seccomp, listener: bool) -> Result<u32> {
    const NEW_LISTENER: u32 = 8;
    const TSYNC: u32 = 1;
    const TSYNC_ESRCH: u32 = 16;
    let mut flags = if listener { NEW_LISTENER } else { 0 };
    for flag in &profile.flags {
        flags |= match &**flag {
            // The two tell of failure differently, so the kernel wants this one with a listener.
            "SECCOMP_FILTER_FLAG_TSYNC" if listener => TSYNC | TSYNC_ESRCH,
            "SECCOMP_FILTER_FLAG_TSYNC" => TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if listener => 32,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => return Err(Error::Invalid(format!("unknown seccomp flag {other}"))),
        };
    }
    Ok(flags)
}
