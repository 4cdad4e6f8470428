//! What happens, as `GET /events` tells it.

use crate::call::{Call, Filters, stream};
use crate::daemon::Inner;
use crate::error::Answer;
use crate::record::{Container, now};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use strata_http::Body;
use strata_image::Image;
use tokio::sync::broadcast;

/// Events kept for those who ask for the past.
const KEPT: usize = 256;
/// Events a listener may be behind before it loses some.
const QUEUE: usize = 1024;

/// Tells everybody who listens, and remembers the last.
pub(crate) struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    past: Mutex<VecDeque<Arc<Event>>>,
}

/// Something that happened.
pub(crate) struct Event {
    pub kind: &'static str,
    pub action: String,
    pub actor: String,
    pub attributes: BTreeMap<String, String>,
    pub nanos: i128,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(QUEUE).0,
            past: Mutex::default(),
        }
    }
}

impl Events {
    pub fn tell(&self, kind: &'static str, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        let event = Arc::new(Event {
            kind,
            action: action.to_owned(),
            actor: actor.to_owned(),
            attributes,
            nanos: jiff::Timestamp::now().as_nanosecond(),
        });
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(Arc::clone(&event));
        // Nobody listening is fine.
        let _ = self.sender.send(event);
    }

    /// An event of a container, with what docker tells about it.
    pub fn container(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let record = container.lock();
        let mut attributes = record.labels();
        attributes.insert("image".into(), record.image.clone());
        attributes.insert("name".into(), record.name.clone());
        drop(record);
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.tell("container", action, &container.id, attributes);
    }

    /// An event of an image, which goes by the name that was used.
    pub fn image(&self, image: &Image, action: &str, name: &str) {
        let mut attributes = image.config.labels.clone();
        attributes.insert("name".into(), name.to_owned());
        self.tell("image", action, name, attributes);
    }

    fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.sender.subscribe())
    }
}

impl Event {
    fn json(&self) -> Value {
        let mut value = json!({
            "Type": self.kind, "Action": self.action,
            "Actor": {"ID": self.actor, "Attributes": self.attributes},
            "scope": "local",
            "time": (self.nanos / 1_000_000_000) as i64, "timeNano": self.nanos as i64,
        });
        if self.kind == "container" || self.kind == "image" {
            value["status"] = json!(self.action);
            value["id"] = json!(self.actor);
            if let Some(image) = self.attributes.get("image") {
                value["from"] = json!(image);
            }
        }
        value
    }

    /// An image's own events, and those of its containers.
    fn is_about_image(&self, wanted: &str) -> bool {
        let bare = |name: &str| match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name.to_owned(),
            _ => name.to_owned(),
        };
        let key = if self.kind == "image" { "name" } else { "image" };
        let own = self.attributes.get(key).map_or("", String::as_str);
        let id = if self.kind == "image" { self.actor.as_str() } else { "" };
        matches!(self.kind, "image" | "container") && [own, &bare(own), id, &bare(id)].contains(&wanted)
    }

    fn fits(&self, filters: &Filters) -> bool {
        let name = self.attributes.get("name").map(String::as_str);
        let actor = |kind: &str| {
            filters.fits(kind, |wanted| {
                self.kind == kind && (self.actor.starts_with(wanted) || name == Some(wanted))
            })
        };
        let action = self.action.split(':').next().unwrap_or("");
        filters.fits("type", |kind| kind == self.kind)
            && filters.fits("event", |wanted| wanted == action || wanted == self.action)
            && ["container", "network", "volume"].into_iter().all(actor)
            && filters.fits("image", |wanted| self.is_about_image(wanted))
            && filters.fits("scope", |wanted| wanted == "local")
            // None of these happens here.
            && ["config", "daemon", "node", "plugin", "secret", "service"]
                .into_iter()
                .all(|key| filters.get(key).is_empty())
            && filters.fits_labels(&self.attributes)
    }
}

/// `GET /events`
pub(crate) async fn watch(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    let (since, until) = (
        crate::time::parse(call.query("since"))?,
        crate::time::parse(call.query("until"))?,
    );
    let (past, mut receiver) = inner.events.subscribe();
    let stop = inner.stop.clone();
    let (sender, body) = Body::channel(64);
    let busy = inner.activity.begin();
    drop(inner);
    tokio::spawn(async move {
        let _busy = busy;
        let wanted = |event: &Event| event.fits(&filters);
        let line = |event: &Event| Bytes::from(format!("{}\n", event.json()));
        if let Some(since) = since {
            for event in past.iter().filter(|event| event.nanos >= since && wanted(event)) {
                if until.is_some_and(|until| event.nanos > until) || sender.send(line(event)).await.is_err() {
                    return;
                }
            }
        }
        let deadline = async {
            match until {
                Some(until) => tokio::time::sleep(crate::time::until(until)).await,
                None => std::future::pending().await,
            }
        };
        let mut deadline = std::pin::pin!(deadline);
        loop {
            let event = tokio::select! {
                event = receiver.recv() => event,
                () = &mut deadline => return,
                () = stop.cancelled() => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if wanted(&event) => {
                    if sender.send(line(&event)).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, at = now(), "a listener to events was too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    Ok(stream("application/json", body))
}
