//! What is audited, where to and how: upstream's flags and their bounds.

use std::{path::PathBuf, time::Duration};

/// What is audited, and where to.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// An audit.k8s.io/v1 Policy in YAML.
    pub policy: String,
    /// The file.
    pub log: Option<AuditLog>,
    /// The webhook.
    pub webhook: Option<AuditWebhook>,
}

/// A file of events, one a line.
#[derive(Clone, Debug)]
pub struct AuditLog {
    /// The file; `-` is the standard output.
    pub path: PathBuf,
    /// It is begun anew at this many megabytes; 0: never.
    pub megabytes: u64,
    /// Files kept beside it; 0: all.
    pub backups: usize,
    /// Days that they are kept; 0: for ever.
    pub days: u64,
    /// Whether they are compressed with gzip.
    pub compress: bool,
    /// Lines for people (upstream's format `legacy`) in place of JSON.
    pub legacy: bool,
    /// How events come here.
    pub delivery: AuditDelivery,
}

/// Somebody whom events are posted to.
#[derive(Clone, Debug)]
pub struct AuditWebhook {
    /// A kubeconfig that says where.
    pub kubeconfig: String,
    /// How long after the first failure it is tried again.
    pub initial_backoff: Duration,
    /// How events come there.
    pub delivery: AuditDelivery,
}

/// How events come to a destination.
#[derive(Clone, Debug)]
pub struct AuditDelivery {
    /// Who waits for whom.
    pub mode: AuditMode,
    /// Of batches, in that mode.
    pub batch: AuditBatch,
    /// What is too large.
    pub truncate: Option<AuditTruncate>,
}

/// Whether requests wait for their events to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMode {
    /// They do not; events that nobody has room for are lost and counted.
    Batch,
    /// They do.
    Blocking,
    /// They do, and one whose arrival cannot be told is refused.
    BlockingStrict,
}

/// How events are gathered.
#[derive(Clone, Debug)]
pub struct AuditBatch {
    /// Events that may wait.
    pub buffer: usize,
    /// Events of a batch.
    pub size: usize,
    /// How long the first waits for others.
    pub wait: Duration,
    /// Batches a second, and at once after a pause.
    pub throttle: Option<(f64, usize)>,
}

/// In bytes of JSON.
#[derive(Clone, Copy, Debug)]
pub struct AuditTruncate {
    /// Of a batch.
    pub batch: usize,
    /// Of an event: a larger one goes without its objects, or not at all.
    pub event: usize,
}

impl AuditDelivery {
    /// Errors: upstream's sentence about a setting out of bounds.
    pub(super) fn check(&self, plugin: &str) -> Result<(), String> {
        if self.mode == AuditMode::Batch {
            let positive = |what: &str, value: f64| match value > 0.0 {
                true => Ok(()),
                false => Err(format!(
                    "invalid audit batch {plugin} {what} {value}, must be a positive number"
                )),
            };
            positive("buffer size", self.batch.buffer as f64)?;
            positive("max batch size", self.batch.size as f64)?;
            if let Some((qps, burst)) = self.batch.throttle {
                positive("throttle QPS", qps)?;
                positive("throttle burst", burst as f64)?;
            }
        }
        let Some(AuditTruncate { batch, event }) = self.truncate else {
            return Ok(());
        };
        if event == 0 {
            return Err(format!(
                "invalid audit truncate {plugin} max event size 0, must be a positive number"
            ));
        }
        if batch < event {
            return Err(format!(
                "invalid audit truncate {plugin} max batch size {batch}, must be greater than max event size ({event})"
            ));
        }
        Ok(())
    }
}
