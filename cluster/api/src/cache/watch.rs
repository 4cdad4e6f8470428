//! Watchers: what they select, how events reach them.

use super::{Entry, Iter};
use crate::verbs::ShownField;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Instant,
};
use strata_meta::{Object, Revision, Selector};
use tokio::sync::mpsc;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// It came into the watched set.
    Added,
    /// It changed within the set.
    Modified,
    /// It left the set.
    Deleted,
}

impl EventKind {
    /// The word in a watch frame.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object, shared by all watchers.
pub(crate) struct Event {
    /// What happened.
    pub(crate) kind: EventKind,
    /// The state after the change; the last state at the revision of the removal.
    pub(crate) entry: Entry,
    /// The state before.
    pub(crate) previous: Option<Entry>,
    /// When it was applied here.
    pub(crate) at: Instant,
    frame: OnceLock<Bytes>,
    protobuf: OnceLock<Box<Bytes>>,
}

impl Event {
    /// A change seen now.
    pub(crate) fn new(kind: EventKind, entry: Entry, previous: Option<Entry>) -> Self {
        Self {
            kind,
            entry,
            previous,
            at: Instant::now(),
            frame: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    /// The whole watch frame in protobuf form, which `encode` makes once for everybody.
    pub(crate) fn protobuf_frame<E>(&self, encode: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(bytes) = self.protobuf.get() {
            return Ok(Bytes::clone(bytes));
        }
        let bytes = encode()?;
        Ok(Bytes::clone(self.protobuf.get_or_init(|| Box::new(bytes))))
    }

    /// The whole watch frame, encoded once for everybody.
    pub(crate) fn frame(&self) -> Bytes {
        self.frame
            .get_or_init(|| encode_frame(self.kind, &self.entry.object))
            .clone()
    }
}

fn encode_frame(kind: EventKind, object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(object.body().len() + 160);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_str().as_bytes());
    out.extend_from_slice(br#"","object":"#);
    object.write_json(&mut out, true);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// Which objects a reader wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// `None` is every namespace.
    pub(crate) namespace: Option<String>,
    /// One name only.
    pub(crate) name: Option<String>,
    /// By label.
    pub(crate) labels: Selector,
    /// By field: position in the resource's field paths, whether it must be equal, and the value.
    pub(crate) fields: Vec<(FieldRef, bool, String)>,
    /// By fields that only the shown object has; whoever shows objects looks at them.
    pub(crate) shown: Vec<ShownField>,
}

/// A field of a selector, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldRef {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// One of the resource's own.
    Indexed(usize),
}

impl Filter {
    /// Whether nothing is left out within the namespace.
    pub(crate) fn is_everything(&self) -> bool {
        self.name.is_none() && self.labels.is_everything() && self.fields.is_empty() && self.shown.is_empty()
    }

    /// Whether the entry is wanted.
    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        let object = &entry.object;
        self.namespace.as_deref().is_none_or(|ns| ns == object.namespace())
            && self.name.as_deref().is_none_or(|name| name == object.name())
            && self.fields.iter().all(|(field, equal, value)| {
                let have: &str = match field {
                    FieldRef::Name => object.name(),
                    FieldRef::Namespace => object.namespace(),
                    FieldRef::Indexed(i) => entry.fields.as_ref().and_then(|f| f.get(*i)).map_or("", |f| f),
                };
                (have == value) == *equal
            })
            && self.labels.matches_object(object)
    }

    /// What a change of the world is in the filtered view.
    fn view(&self, event: &Arc<Event>) -> Option<Frame> {
        let now = event.kind != EventKind::Deleted && self.matches(&event.entry);
        let before = event.previous.as_ref().is_some_and(|p| self.matches(p));
        let kind = match (before, now) {
            (false, false) => return None,
            (false, true) => EventKind::Added,
            (true, true) => EventKind::Modified,
            (true, false) => EventKind::Deleted,
        };
        let object = match (&event.previous, kind, event.kind) {
            // It left the view by changing: its last state in the view, at the revision of the change.
            (Some(previous), EventKind::Deleted, EventKind::Modified) => {
                let mut last = Object::clone(&previous.object);
                last.revision = event.entry.object.revision;
                return Some(Frame::Event {
                    kind,
                    object: Arc::new(last),
                    shared: None,
                });
            }
            _ => event.entry.object.clone(),
        };
        let shared = (kind == event.kind).then(|| event.clone());
        Some(Frame::Event { kind, object, shared })
    }
}

/// One thing a watcher is told.
#[derive(Clone)]
pub(crate) enum Frame {
    /// A change.
    Event {
        /// What it is in the watcher's view.
        kind: EventKind,
        /// The object.
        object: Arc<Object>,
        /// The event it came from, when its encoding can be shared.
        shared: Option<Arc<Event>>,
    },
    /// Everything up to this revision was told; `initial_end` closes the initial list.
    Bookmark {
        /// The revision.
        revision: Revision,
        /// Whether the initial events end here.
        initial_end: bool,
    },
}

impl Frame {
    /// The revision it is about.
    fn revision(&self) -> Revision {
        match self {
            Self::Event { object, .. } => object.revision,
            Self::Bookmark { revision, .. } => *revision,
        }
    }

    /// The encoding of an event frame.
    pub(crate) fn encode(kind: EventKind, object: &Object, shared: Option<&Arc<Event>>) -> Bytes {
        shared.map_or_else(|| encode_frame(kind, object), |event| event.frame())
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the present objects as ADDED, then what follows.
    Initial {
        /// Whether a bookmark closes the initial objects.
        end_bookmark: bool,
    },
    /// With what happened after a revision.
    After(Revision),
    /// With what happens from now on.
    Now,
}

/// Frames a watcher may be behind before it is cut off.
pub(super) const WATCHER_QUEUE: usize = 4096;

/// The sending side of a watcher, held by the resource.
pub(super) struct Slot {
    pub(super) filter: Arc<Filter>,
    pub(super) bookmarks: bool,
    pub(super) sender: mpsc::Sender<Frame>,
}

impl Slot {
    /// Tells the watcher.
    pub(super) fn offer(&self, event: &Arc<Event>) -> Offered {
        let Some(frame) = self.filter.view(event) else {
            return Offered::Unconcerned;
        };
        match self.sender.try_send(frame) {
            Ok(()) => Offered::Told,
            Err(mpsc::error::TrySendError::Full(_)) => Offered::TooSlow,
            Err(mpsc::error::TrySendError::Closed(_)) => Offered::Gone,
        }
    }
}

/// What became of an event that was to be told to a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It was told.
    Told,
    /// It is none of the watcher's.
    Unconcerned,
    /// The watcher has gone.
    Gone,
    /// The watcher is too far behind.
    TooSlow,
}

/// A running watch. It ends (`None`) when the watcher was too slow or the server stops.
pub(crate) struct Watch {
    pub(super) filter: Arc<Filter>,
    pub(super) initial: Option<Iter>,
    pub(super) backlog: VecDeque<Arc<Event>>,
    pub(super) end: Option<Revision>,
    pub(super) receiver: mpsc::Receiver<Frame>,
    /// Nothing up to this revision is told: it began at one that had not happened yet.
    pub(super) after: Revision,
}

impl Watch {
    /// Whether objects or events that were there at its start are yet to be told.
    pub(crate) fn is_beginning(&self) -> bool {
        self.initial.is_some() || self.end.is_some() || !self.backlog.is_empty()
    }

    /// What is there without waiting: the initial objects, then the events missed, then the queue.
    pub(crate) fn ready(&mut self) -> Option<Frame> {
        if let Some(iter) = &mut self.initial {
            if let Some(entry) = iter.find(|e| self.filter.matches(e)) {
                return Some(Frame::Event {
                    kind: EventKind::Added,
                    object: entry.object,
                    shared: None,
                });
            }
            self.initial = None;
        }
        if let Some(revision) = self.end.take() {
            return Some(Frame::Bookmark {
                revision,
                initial_end: true,
            });
        }
        while let Some(event) = self.backlog.pop_front() {
            if let Some(frame) = self.filter.view(&event) {
                return Some(frame);
            }
        }
        loop {
            let frame = self.receiver.try_recv().ok()?;
            if frame.revision() > self.after {
                return Some(frame);
            }
        }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready() {
                return Some(frame);
            }
            let frame = self.receiver.recv().await?;
            if frame.revision() > self.after {
                return Some(frame);
            }
        }
    }
}
