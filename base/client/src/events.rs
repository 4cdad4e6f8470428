//! Records core/v1 Events about objects, without ever making the caller wait.

use crate::{Client, ObjectReference, Patch, resources::EVENTS};
use serde_json::json;
use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use strata_meta::Time;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Events that wait to be written; more are dropped (upstream's queue has 1000).
const QUEUE: usize = 1_000;
/// Events remembered for counting; the least recently seen is forgotten first.
const REMEMBERED: usize = 4_096;
/// A write that takes longer is given up, so that a dead server cannot hold the queue for ever.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// upstream's spam filter: this many at once about one object, then one each five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
/// upstream's limit of a message.
const MESSAGE_MAX: usize = 1_024;

/// Whether an event tells of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// For information.
    Normal,
    /// Something went wrong.
    Warning,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        })
    }
}

/// Writes events of one component. Cloning shares the queue; the writer ends with the last clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Occurrence>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    involved: ObjectReference,
    event_type: EventType,
    reason: String,
    message: String,
}

struct Occurrence {
    identity: Identity,
    at: Time,
}

impl EventRecorder {
    /// Starts the writer. `host` is the node's name for a node's component, else empty.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let source = Source {
            component: component.to_owned(),
            host: host.to_owned(),
        };
        tokio::spawn(
            Writer {
                client,
                source,
                known: HashMap::new(),
                budgets: HashMap::new(),
            }
            .run(occurrences),
        );
        Self { queue }
    }

    /// Tells that something happened to an object. Repeats are counted in one Event. Never
    /// blocks: when the queue is full the event is dropped.
    pub fn event(
        &self,
        about: &ObjectReference,
        event_type: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX)
                .rev()
                .find(|&i| message.is_char_boundary(i))
                .unwrap_or(0);
            message.truncate(end);
        }
        let identity = Identity {
            involved: about.clone(),
            event_type,
            reason: reason.into(),
            message,
        };
        if let Err(error) = self.queue.try_send(Occurrence {
            identity,
            at: Time::now(),
        }) {
            tracing::debug!(%error, "event dropped");
        }
    }
}

struct Source {
    component: String,
    host: String,
}

struct Known {
    name: String,
    count: u64,
    seen: Instant,
}

struct Budget {
    tokens: f64,
    at: Instant,
}

struct Writer {
    client: Client,
    source: Source,
    known: HashMap<Arc<Identity>, Known>,
    budgets: HashMap<ObjectReference, Budget>,
}

impl Writer {
    async fn run(mut self, mut occurrences: mpsc::Receiver<Occurrence>) {
        while let Some(mut occurrence) = occurrences.recv().await {
            // Which state of the object was seen makes no difference to what happened.
            occurrence.identity.involved.resource_version.clear();
            if !self.within_budget(&occurrence.identity.involved) {
                continue;
            }
            let Occurrence { identity, at } = occurrence;
            match timeout(WRITE_DEADLINE, self.write(Arc::new(identity), at)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "event not written"),
                Err(_) => tracing::debug!("event not written in time"),
            }
        }
    }

    fn within_budget(&mut self, involved: &ObjectReference) -> bool {
        let now = Instant::now();
        if self.budgets.len() >= REMEMBERED {
            self.budgets.retain(|_, b| refilled(b, now) < BURST);
        }
        if self.budgets.len() >= REMEMBERED {
            self.budgets.clear();
        }
        let budget = self
            .budgets
            .entry(involved.clone())
            .or_insert(Budget { tokens: BURST, at: now });
        *budget = Budget {
            tokens: refilled(budget, now),
            at: now,
        };
        if budget.tokens < 1.0 {
            return false;
        }
        budget.tokens -= 1.0;
        true
    }

    async fn write(&mut self, identity: Arc<Identity>, at: Time) -> Result<(), crate::Error> {
        let namespace = match identity.involved.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        if let Some(known) = self.known.get_mut(&identity) {
            known.seen = Instant::now();
            let change = Patch::Merge(json!({"count": known.count + 1, "lastTimestamp": at}));
            match self.client.patch(EVENTS, namespace, &known.name, None, change).await {
                Ok(_) => {
                    known.count += 1;
                    return Ok(());
                }
                Err(error) if error.is_not_found() => {} // expired: begin a new one
                Err(error) => return Err(error),
            }
        }
        let name = event_name(&identity.involved.name);
        let event = self.source.event(&identity, &name, namespace, at);
        self.client.create(EVENTS, namespace, &event).await?;
        self.remember(identity, name);
        Ok(())
    }

    fn remember(&mut self, identity: Arc<Identity>, name: String) {
        if self.known.len() >= REMEMBERED {
            let mut seen: Vec<Instant> = self.known.values().map(|k| k.seen).collect();
            seen.sort_unstable();
            let cut = seen[seen.len() / 2];
            self.known.retain(|_, k| k.seen > cut);
        }
        self.known.insert(
            identity,
            Known {
                name,
                count: 1,
                seen: Instant::now(),
            },
        );
    }
}

fn refilled(budget: &Budget, now: Instant) -> f64 {
    (budget.tokens + (now - budget.at).as_secs_f64() * REFILL_PER_SECOND).min(BURST)
}

/// The object's name and the time in nanoseconds as hexadecimal, as upstream names events.
fn event_name(involved: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    // The name must stay a valid subdomain with the 17 characters that follow.
    let end = (0..=involved.len().min(235))
        .rev()
        .find(|&i| involved.is_char_boundary(i))
        .unwrap_or(0);
    format!("{}.{nanos:016x}", &involved[..end])
}

impl Source {
    fn event(&self, identity: &Identity, name: &str, namespace: &str, at: Time) -> serde_json::Value {
        let mut source = json!({"component": self.component});
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": identity.involved,
            "reason": identity.reason,
            "message": identity.message,
            "source": source,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "type": identity.event_type.to_string(),
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        })
    }
}
