//! System call filters: OCI profiles compiled to classic BPF.
//!
//! A filter tests the architecture, then finds the call's number in a binary tree of number ranges.
//! The rules of one call behave as libseccomp's: an unconditional rule beats conditional ones.

mod compile;
mod default;
mod table;

pub use compile::compile;
pub use default::default_profile;

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
}

impl Filter {
    /// Compiles a profile. Errors: `Invalid` for what is unknown or unsupported.
    pub fn new(profile: &Seccomp) -> Result<Self> {
        Ok(Filter {
            instructions: compile(profile)?,
            flags: flags(profile)?,
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

    /// Installs it on the calling thread.
    pub fn install(&self) -> Result<()> {
        strata_sys::seccomp::install(&self.instructions, self.flags)
            .map(drop)
            .context(|| "cannot install the seccomp filter")
    }

    /// The program.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// seccomp(2): the flags that a profile may name.
fn flags(profile: &Seccomp) -> Result<u32> {
    let mut flags = 0;
    for flag in &profile.flags {
        flags |= match &**flag {
            "SECCOMP_FILTER_FLAG_TSYNC" => 1,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            // Only of use together with a listener.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => return Err(Error::Invalid(format!("unknown seccomp flag {other}"))),
        };
    }
    Ok(flags)
}
