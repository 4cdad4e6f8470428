//! `checkpoint` and `restore`: CRIU does the work, told by its own protocol.
//!
//! What CRIU cannot know is which of a container's mounts, namespaces and streams belong to the host: those are named
//! to it ([`outside`]), and named again when the container comes back.

mod checkpoint;
mod options;
mod outside;
mod restore;
mod service;
mod wire;

pub(super) use checkpoint::{FLAGS as CHECKPOINT_FLAGS, checkpoint};
pub(super) use restore::{FLAGS as RESTORE_FLAGS, restore};

use super::Global;
use alloc::{format, string::ToString};
use options::Places;
use service::{Answer, Criu, Notice, kind};
use strata_runtime::{Error, Result};
use wire::Message;

/// The oldest CRIU that has all that is asked of it: 3.15, which has pid namespaces of others.
const OLDEST: u64 = 31_500;

/// Where the container's streams led when it was made, beside CRIU's images.
const DESCRIPTORS: &str = "descriptors.json";

/// Errors: there is no CRIU, or one that is too old.
fn check_version(global: &Global) -> Result<()> {
    let answer = Criu::start(global, &[])?.ask(("VERSION", kind::VERSION), &Message::default(), |_| Ok(()))?;
    let fields = answer.fields()?;
    let version = fields.message(10);
    let part = |field| version.as_ref().and_then(|version| version.number(field)).unwrap_or(0);
    // What is built between versions counts as the next.
    let next = u64::from(version.as_ref().and_then(|version| version.text(3)).is_some());
    let version = part(1) * 10_000 + (part(2) + next) * 100 + part(4);
    if version < OLDEST {
        return Err(Error::State(format!(
            "CRIU version {version} must be {OLDEST} or higher"
        )));
    }
    Ok(())
}

/// Errors: CRIU or the kernel lacks it. `field` is that of `criu_features`.
fn check_feature(global: &Global, field: u32, name: &str) -> Result<()> {
    let wanted = Message::default().switch(field, true);
    let answer = Criu::start(global, &[])?.ask(("FEATURE_CHECK", kind::FEATURE_CHECK), &wanted, |_| Ok(()))?;
    let has = answer
        .fields()?
        .message(8)
        .and_then(|features| features.number(field.into()));
    if has != Some(1) {
        return Err(Error::State(format!("CRIU is missing features: [{name}]")));
    }
    Ok(())
}

/// Asks; when that fails the error says what CRIU's log says, and the log of the command has all of it.
fn ask(
    global: &Global,
    criu: Criu,
    request: (&str, u64),
    options: &Message,
    places: &Places,
    hear: impl FnMut(Notice) -> Result<()>,
) -> Result<Answer> {
    criu.ask(request, options, hear).map_err(|error| {
        let errors = places.errors();
        for line in &errors {
            global.log.write("warning", &format!("criu: {line}"));
        }
        // CRIU may have told the first itself.
        let first = errors.first().filter(|first| !error.to_string().contains(&***first));
        match first {
            Some(first) => Error::State(format!("{error}: {first}")),
            None => error,
        }
    })
}
