//! The flags of the audit log, named as upstream names them.

use crate::{
    cli::duration,
    failure::{During, Outcome},
};
use clap::{Args, ValueEnum};
use std::{fs, path::PathBuf, time::Duration};
use strata_api::{AuditBatch, AuditDelivery, AuditLog, AuditMode, AuditOptions, AuditTruncate, AuditWebhook};

/// What is written down about requests, and where to.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Audit log")]
pub struct AuditSettings {
    /// An audit.k8s.io/v1 Policy: what is written down about which request.
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// Where it is written, one event a line; `-` is the standard output.
    #[arg(long, requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes at which the audit log is begun anew; 0: never.
    #[arg(long, default_value_t = 100)]
    pub audit_log_maxsize: u64,
    /// Old audit logs that are kept; 0: all.
    #[arg(long, default_value_t = 100)]
    pub audit_log_maxbackup: usize,
    /// Days that they are kept; 0: for ever.
    #[arg(long, default_value_t = 366)]
    pub audit_log_maxage: u64,
    /// Compress them.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub audit_log_compress: bool,
    /// The form of a line.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub audit_log_format: Format,
    /// The version of events.
    #[arg(long, value_parser = ["audit.k8s.io/v1"], default_value = "audit.k8s.io/v1")]
    pub audit_log_version: String,
    /// Whether requests wait for the log.
    #[arg(long, value_enum, default_value_t = Mode::Blocking)]
    pub audit_log_mode: Mode,
    /// Events that may wait for the log in batch mode.
    #[arg(long, default_value_t = 10_000, hide_short_help = true)]
    pub audit_log_batch_buffer_size: usize,
    /// Events of a batch; lines of a file are written as they come.
    #[arg(long, default_value_t = 1, hide_short_help = true)]
    pub audit_log_batch_max_size: usize,
    /// How long a batch waits for more.
    #[arg(long, default_value = "0s", value_parser = duration, hide_short_help = true)]
    pub audit_log_batch_max_wait: Duration,
    /// Write events without their objects when they are too large.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub audit_log_truncate_enabled: bool,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 10 << 20, hide_short_help = true)]
    pub audit_log_truncate_max_batch_size: usize,
    /// Bytes of an event.
    #[arg(long, default_value_t = 100 << 10, hide_short_help = true)]
    pub audit_log_truncate_max_event_size: usize,
    /// A kubeconfig of the webhook that events are sent to.
    #[arg(long, requires = "audit_policy_file")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How long after the first failure it is tried again.
    #[arg(long, default_value = "10s", value_parser = duration, alias = "audit-webhook-batch-initial-backoff")]
    pub audit_webhook_initial_backoff: Duration,
    /// The version of events.
    #[arg(long, value_parser = ["audit.k8s.io/v1"], default_value = "audit.k8s.io/v1")]
    pub audit_webhook_version: String,
    /// Whether requests wait for the webhook.
    #[arg(long, value_enum, default_value_t = Mode::Batch)]
    pub audit_webhook_mode: Mode,
    /// Events that may wait for the webhook.
    #[arg(long, default_value_t = 10_000, hide_short_help = true)]
    pub audit_webhook_batch_buffer_size: usize,
    /// Events of a batch.
    #[arg(long, default_value_t = 400, hide_short_help = true)]
    pub audit_webhook_batch_max_size: usize,
    /// How long a batch waits for more.
    #[arg(long, default_value = "30s", value_parser = duration, hide_short_help = true)]
    pub audit_webhook_batch_max_wait: Duration,
    /// Bound the batches a second.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, hide_short_help = true)]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches a second.
    #[arg(long, default_value_t = 10.0, hide_short_help = true)]
    pub audit_webhook_batch_throttle_qps: f64,
    /// Batches at once after a pause.
    #[arg(long, default_value_t = 15, hide_short_help = true)]
    pub audit_webhook_batch_throttle_burst: usize,
    /// Send events without their objects when they are too large.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub audit_webhook_truncate_enabled: bool,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 10 << 20, hide_short_help = true)]
    pub audit_webhook_truncate_max_batch_size: usize,
    /// Bytes of an event.
    #[arg(long, default_value_t = 100 << 10, hide_short_help = true)]
    pub audit_webhook_truncate_max_event_size: usize,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The whole event.
    Json,
    /// A part of it, for people.
    Legacy,
}

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Requests do not wait.
    Batch,
    /// Requests wait.
    Blocking,
    /// Requests wait, and are refused when their arrival cannot be told.
    BlockingStrict,
}

impl From<Mode> for AuditMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Batch => Self::Batch,
            Mode::Blocking => Self::Blocking,
            Mode::BlockingStrict => Self::BlockingStrict,
        }
    }
}

impl AuditSettings {
    /// What is written down about requests. Errors: a file that cannot be read.
    pub fn options(&self) -> Outcome<Option<AuditOptions>> {
        let read = |path: &PathBuf| fs::read_to_string(path).during(format!("reading {}", path.display()));
        let Some(policy) = &self.audit_policy_file else {
            return Ok(None);
        };
        let webhook = self.audit_webhook_config_file.as_ref().map(read).transpose()?;
        Ok(Some(AuditOptions {
            policy: read(policy)?,
            log: self.audit_log_path.clone().map(|path| self.log(path)),
            webhook: webhook.map(|kubeconfig| self.webhook(kubeconfig)),
        }))
    }

    fn log(&self, path: PathBuf) -> AuditLog {
        let truncate = AuditTruncate {
            batch: self.audit_log_truncate_max_batch_size,
            event: self.audit_log_truncate_max_event_size,
        };
        AuditLog {
            path,
            megabytes: self.audit_log_maxsize,
            backups: self.audit_log_maxbackup,
            days: self.audit_log_maxage,
            compress: self.audit_log_compress,
            legacy: self.audit_log_format == Format::Legacy,
            delivery: AuditDelivery {
                mode: self.audit_log_mode.into(),
                batch: AuditBatch {
                    buffer: self.audit_log_batch_buffer_size,
                    size: self.audit_log_batch_max_size,
                    wait: self.audit_log_batch_max_wait,
                    throttle: None,
                },
                truncate: self.audit_log_truncate_enabled.then_some(truncate),
            },
        }
    }

    fn webhook(&self, kubeconfig: String) -> AuditWebhook {
        let truncate = AuditTruncate {
            batch: self.audit_webhook_truncate_max_batch_size,
            event: self.audit_webhook_truncate_max_event_size,
        };
        let throttle = (
            self.audit_webhook_batch_throttle_qps,
            self.audit_webhook_batch_throttle_burst,
        );
        AuditWebhook {
            kubeconfig,
            initial_backoff: self.audit_webhook_initial_backoff,
            delivery: AuditDelivery {
                mode: self.audit_webhook_mode.into(),
                batch: AuditBatch {
                    buffer: self.audit_webhook_batch_buffer_size,
                    size: self.audit_webhook_batch_max_size,
                    wait: self.audit_webhook_batch_max_wait,
                    throttle: self.audit_webhook_batch_throttle_enable.then_some(throttle),
                },
                truncate: self.audit_webhook_truncate_enabled.then_some(truncate),
            },
        }
    }
}
