//! Where events go: a file and a webhook, each with its own way of waiting.

use super::{
    AuditDelivery, AuditMode, AuditOptions,
    file::{Writer, write_lines},
    hook::{Hook, post_events},
    text,
};
use crate::{core::Core, webhook::from_kubeconfig};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for the disk before requests do.
const LINES: usize = 1024;

/// The ways out.
#[derive(Clone)]
pub(super) struct Sinks {
    ways: Arc<[Way]>,
    receivers: Arc<Mutex<Receivers>>,
    counters: Arc<Counters>,
}

/// One event on its way.
pub(super) struct Letter {
    /// The event as it is written.
    pub(super) line: Bytes,
    /// Who waits to hear whether it was.
    pub(super) told: Option<oneshot::Sender<bool>>,
}

impl Letter {
    /// Whoever waits hears; one that has gone does not mind.
    pub(super) fn answer(self, delivered: bool) {
        if let Some(told) = self.told {
            let _ = told.send(delivered);
        }
    }
}

struct Way {
    delivery: AuditDelivery,
    legacy: bool,
    sender: mpsc::Sender<Letter>,
}

/// Upstream's counters.
#[derive(Default)]
pub(super) struct Counters {
    events: AtomicU64,
    rejected: AtomicU64,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    levels: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// Events that a part could not deliver.
    pub(super) fn failed(&self, plugin: &'static str, events: u64) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(plugin).or_default() += events;
    }
}

#[derive(Default)]
struct Receivers {
    log: Option<(Writer, mpsc::Receiver<Letter>)>,
    webhook: Option<(Hook, mpsc::Receiver<Letter>)>,
}

impl Sinks {
    /// Opens the file and reads the kubeconfig. Errors: what cannot be.
    pub(super) fn open(options: &AuditOptions) -> Result<Self, crate::Error> {
        let wrong = |setting: &'static str| move |why: String| crate::Error::Setting { setting, why };
        let (mut receivers, mut ways) = (Receivers::default(), Vec::new());
        let mut way = |delivery: &AuditDelivery, legacy: bool| {
            let room = match delivery.mode {
                AuditMode::Batch => delivery.batch.buffer,
                _ => LINES,
            };
            let (sender, receiver) = mpsc::channel(room);
            ways.push(Way {
                delivery: delivery.clone(),
                legacy,
                sender,
            });
            receiver
        };
        if let Some(log) = &options.log {
            log.delivery.check("log").map_err(wrong("audit-log"))?;
            let writer = Writer::open(log.clone()).map_err(|e| crate::Error::Setting {
                setting: "audit-log-path",
                why: format!("{}: {e}", log.path.display()),
            })?;
            receivers.log = Some((writer, way(&log.delivery, log.legacy)));
        }
        if let Some(webhook) = &options.webhook {
            webhook.delivery.check("webhook").map_err(wrong("audit-webhook"))?;
            let config = from_kubeconfig(&webhook.kubeconfig).map_err(wrong("audit-webhook-config-file"))?;
            let hook = Hook::new(config, webhook);
            receivers.webhook = Some((hook, way(&webhook.delivery, false)));
        }
        Ok(Self {
            ways: ways.into(),
            receivers: Arc::new(Mutex::new(receivers)),
            counters: Arc::default(),
        })
    }

    /// One event; whether the request may go on.
    pub(super) async fn send(&self, event: &Value) -> bool {
        self.counters.events.fetch_add(1, Ordering::Relaxed);
        let mut goes_on = true;
        for way in &*self.ways {
            goes_on &= way.send(event, &self.counters).await;
        }
        goes_on
    }

    /// A request that the policy was asked about.
    pub(super) fn judged(&self, level: &'static str) {
        let mut levels = self.counters.levels.lock().unwrap_or_else(PoisonError::into_inner);
        *levels.entry(level).or_default() += 1;
    }

    /// A request that was refused because its arrival could not be told.
    pub(super) fn rejected(&self) {
        self.counters.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Prometheus text under upstream's names.
    pub(super) fn render(&self, out: &mut String) {
        let counters = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let by = |label: &str, counts: &Mutex<BTreeMap<&'static str, u64>>| {
            let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            let labelled = counts
                .iter()
                .map(|(name, n)| (format!("{{{label}={name:?}}}"), n.to_string()));
            labelled.collect::<Vec<_>>()
        };
        for (name, samples) in [
            ("event_total", vec![(String::new(), count(&counters.events))]),
            (
                "requests_rejected_total",
                vec![(String::new(), count(&counters.rejected))],
            ),
            ("error_total", by("plugin", &counters.errors)),
            ("level_total", by("level", &counters.levels)),
        ] {
            let _ = writeln!(out, "# TYPE apiserver_audit_{name} counter");
            for (labels, value) in samples {
                let _ = writeln!(out, "apiserver_audit_{name}{labels} {value}");
            }
        }
    }

    /// Delivers until the server stops, and then what is left.
    pub(super) async fn run(&self, core: &Arc<Core>) {
        let (log, webhook) = {
            let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
            (receivers.log.take(), receivers.webhook.take())
        };
        let file = async {
            if let Some((writer, letters)) = log {
                write_lines(&core.cancel, writer, letters, &self.counters).await;
            }
        };
        let hook = async {
            if let Some((hook, letters)) = webhook {
                post_events(core, hook, letters, self.counters.clone()).await;
            }
        };
        tokio::join!(file, hook);
    }
}

impl Way {
    async fn send(&self, event: &Value, counters: &Counters) -> bool {
        let Some(line) = self.line(event) else {
            counters.failed("truncate", 1);
            return true;
        };
        if self.delivery.mode == AuditMode::Batch {
            if self.sender.try_send(Letter { line, told: None }).is_err() {
                counters.failed("buffered", 1);
            }
            return true;
        }
        let (told, heard) = oneshot::channel();
        let letter = Letter { line, told: Some(told) };
        let delivered = self.sender.send(letter).await.is_ok() && heard.await.unwrap_or(false);
        delivered || self.delivery.mode == AuditMode::Blocking
    }

    /// The event as it is written; `None` if it is too large even without its objects.
    fn line(&self, event: &Value) -> Option<Bytes> {
        let limit = self.delivery.truncate.map_or(usize::MAX, |truncate| truncate.event);
        // With the newline that upstream counts too.
        let mut whole = json_line(event);
        if whole.len() >= limit && (event.get("requestObject").is_some() || event.get("responseObject").is_some()) {
            let mut less = event.clone();
            if let Some(members) = less.as_object_mut() {
                members.remove("requestObject");
                members.remove("responseObject");
            }
            less["annotations"]["audit.k8s.io/truncated"] = json!("true");
            whole = json_line(&less);
        }
        if whole.len() >= limit {
            return None;
        }
        Some(match self.legacy {
            true => text::line(event).into(),
            false => whole.into(),
        })
    }
}

fn json_line(event: &Value) -> Vec<u8> {
    match event["verb"] == "patch" {
        // A patch is shown as it was sent.
        true => event.to_string().into_bytes(),
        false => strata_meta::json::encode(event),
    }
}
