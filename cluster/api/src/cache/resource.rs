//! One resource's share of the cache.

use super::{
    Entry, Filter, Iter, Map, Progress, Selectable, Start, Watch, extract,
    watch::{Event, EventKind, Offered, Slot, WATCHER_QUEUE},
};
use crate::metrics::Seen;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};
use strata_meta::{GroupVersionKind, Object, ObjectError, Revision, Status, WatchEvent};
use tokio::sync::mpsc;

/// Events kept whatever their age.
const RING_MIN: usize = 128;
/// Events kept whatever happens.
pub(crate) const RING_MAX: usize = 16 * 1024;
/// Age up to which events are kept between the two (upstream's watch cache keeps 75 s).
const RING_AGE: Duration = Duration::from_secs(75);
/// Snapshots kept for continue tokens; the oldest goes first.
const SNAPSHOTS: usize = 64;

/// The objects of one resource, their recent history and their watchers.
pub(crate) struct ResourceCache {
    prefix: String,
    form: RwLock<Arc<StoredForm>>,
    fields: RwLock<Arc<[Selectable]>>,
    progress: Arc<Progress>,
    seen: Seen,
    state: RwLock<State>,
}

/// How objects of a resource are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredForm {
    /// The kind, in the version they are stored in.
    pub(crate) kind: Arc<GroupVersionKind>,
    /// The edition of its schema; 0 for built-in kinds.
    pub(crate) edition: u64,
}

impl StoredForm {
    /// A built-in kind's.
    pub(crate) fn builtin(kind: Arc<GroupVersionKind>) -> Self {
        Self { kind, edition: 0 }
    }
}

/// Told every change, with the state before, before its writer is answered; must be quick.
pub(crate) type Observer = Box<dyn Fn(&WatchEvent, Option<&Object>) + Send + Sync>;

#[derive(Default)]
struct State {
    observers: Vec<Observer>,
    map: Map,
    ring: VecDeque<Arc<Event>>,
    /// Events after this revision are all in the ring.
    complete_after: Revision,
    /// The revision of the last event.
    last: Revision,
    watchers: Vec<Slot>,
    snapshots: VecDeque<(Revision, Map)>,
}

/// The objects of a resource at one revision.
pub(crate) struct Snapshot {
    /// The objects.
    pub(crate) map: Map,
    /// The revision they show.
    pub(crate) revision: Revision,
}

impl ResourceCache {
    /// An empty resource stored in a form below `prefix`.
    pub(crate) fn new(
        prefix: String,
        form: StoredForm,
        fields: impl IntoIterator<Item = Selectable>,
        progress: Arc<Progress>,
    ) -> Self {
        let state = State {
            complete_after: progress.applied(),
            last: progress.applied(),
            ..State::default()
        };
        Self {
            prefix,
            form: RwLock::new(Arc::new(form)),
            fields: RwLock::new(fields.into_iter().collect()),
            progress,
            seen: Seen::default(),
            state: RwLock::new(state),
        }
    }

    /// What it has seen, for whoever measures it.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Group and plural name.
    pub(crate) fn group_resource(&self) -> (&str, &str) {
        let mut parts = self.prefix.trim_end_matches('/').rsplit('/');
        let resource = parts.next().unwrap_or("");
        match parts.next().unwrap_or("") {
            "core" => ("", resource),
            group => (group, resource),
        }
    }

    /// Has objects written down in another form and selected by other fields from now on. Watches end: their
    /// clients begin anew with what is served now, as upstream has them do.
    pub(crate) fn reform(&self, form: StoredForm, fields: impl IntoIterator<Item = Selectable>) {
        *self.form.write().expect("no panic under this lock") = Arc::new(form);
        let fields: Arc<[Selectable]> = fields.into_iter().collect();
        let mut current = self.fields.write().expect("no panic under this lock");
        let other = *current != fields;
        *current = fields;
        drop(current);
        let mut state = self.write();
        state.watchers.clear();
        if other {
            let objects: Vec<Arc<Object>> = state.map.iter().map(|e| e.object).collect();
            let entries = objects.into_iter().filter_map(|object| self.entry_of(object).ok());
            state.map = Map::from_entries(entries.collect());
            state.snapshots.clear();
            state.ring.clear();
            state.complete_after = state.last;
        }
    }

    /// What the keys of its objects begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How its objects are stored.
    pub(crate) fn form(&self) -> Arc<StoredForm> {
        self.form.read().expect("no panic under this lock").clone()
    }

    /// The kind its objects are stored in.
    pub(crate) fn kind(&self) -> Arc<GroupVersionKind> {
        self.form().kind.clone()
    }

    /// The fields it can be selected by.
    pub(crate) fn fields(&self) -> Arc<[Selectable]> {
        self.fields.read().expect("no panic under this lock").clone()
    }

    /// Makes an entry of stored bytes; `written` is version and edition if the bytes say them.
    pub(crate) fn entry(
        &self,
        revision: Revision,
        body: Bytes,
        written: Option<(&str, u64)>,
    ) -> Result<Entry, ObjectError> {
        let form = self.form();
        let kind = match written {
            Some((version, _)) if version != form.kind.version => {
                let kind = GroupVersionKind::new(&form.kind.group, version, &form.kind.kind);
                Arc::new(kind)
            }
            _ => form.kind.clone(),
        };
        let object = Object::from_body(kind, revision, body)?;
        let edition = written.map_or(0, |(_, edition)| edition);
        self.entry_of(Arc::new(object.with_edition(edition)))
    }

    fn entry_of(&self, object: Arc<Object>) -> Result<Entry, ObjectError> {
        let fields = match &*self.fields() {
            [] => None,
            paths => Some(extract(object.body(), paths)?.into()),
        };
        Ok(Entry { object, fields })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().expect("no panic under this lock")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().expect("no panic under this lock")
    }

    /// Fills the resource at start.
    pub(crate) fn fill(&self, entries: Vec<Entry>, revision: Revision) {
        let mut state = self.write();
        state.map = Map::from_entries(entries);
        state.complete_after = revision;
        state.last = revision;
        for entry in state.map.iter() {
            let event = WatchEvent::Added(entry.object);
            state.observers.iter().for_each(|observer| observer(&event, None));
        }
    }

    /// Has every change told to somebody from now on; to be called before the first is applied.
    pub(crate) fn observe(&self, observer: Observer) {
        self.write().observers.push(observer);
    }

    /// The object of a namespace and name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.read().map.get(namespace, name).map(|e| e.object.clone())
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.read().map.len()
    }

    /// The objects now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.read();
        Snapshot {
            map: state.map.clone(),
            revision: state.last.max(self.progress.applied()),
        }
    }

    /// The objects of a namespace, or all, now.
    pub(crate) fn objects(&self, namespace: Option<&str>) -> impl Iterator<Item = Arc<Object>> + use<> {
        let map = self.snapshot().map;
        map.range_from(namespace.unwrap_or(""), "")
            .within(namespace)
            .map(|e| e.object)
    }

    /// The objects as they were; `None` when that is no longer known.
    pub(crate) fn snapshot_at(&self, revision: Revision) -> Option<Map> {
        let state = self.read();
        if revision >= state.last {
            return Some(state.map.clone());
        }
        if let Some((_, map)) = state.snapshots.iter().find(|(r, _)| *r == revision) {
            return Some(map.clone());
        }
        if revision < state.complete_after {
            return None;
        }
        let mut map = state.map.clone();
        for event in state
            .ring
            .iter()
            .rev()
            .take_while(|e| e.entry.object.revision > revision)
        {
            let key = &event.entry.object.key;
            match &event.previous {
                Some(previous) => drop(map.insert(previous.clone())),
                None => drop(map.remove(&key.namespace, &key.name)),
            }
        }
        Some(map)
    }

    /// Keeps a snapshot for a continue token.
    pub(crate) fn keep_snapshot(&self, revision: Revision, map: Map) {
        let mut state = self.write();
        if state.snapshots.iter().any(|(r, _)| *r == revision) {
            return;
        }
        if state.snapshots.len() == SNAPSHOTS {
            state.snapshots.pop_front();
        }
        state.snapshots.push_back((revision, map));
    }

    /// Forgets snapshots of expired tokens.
    pub(crate) fn drop_snapshots_below(&self, revision: Revision) {
        self.write().snapshots.retain(|(r, _)| *r >= revision);
    }

    /// Applies a stored state and tells the watchers.
    pub(crate) fn put(&self, entry: Entry) {
        let mut state = self.write();
        let previous = state.map.insert(entry.clone());
        let kind = if previous.is_some() {
            EventKind::Modified
        } else {
            EventKind::Added
        };
        state.publish(Event::new(kind, entry, previous), &self.seen);
    }

    /// Applies a removal and tells the watchers.
    pub(crate) fn remove(&self, namespace: &str, name: &str, revision: Revision) {
        let mut state = self.write();
        let Some(previous) = state.map.remove(namespace, name) else {
            return;
        };
        let mut last = Object::clone(&previous.object);
        last.revision = revision;
        let entry = Entry {
            object: Arc::new(last),
            fields: previous.fields.clone(),
        };
        state.publish(Event::new(EventKind::Deleted, entry, Some(previous)), &self.seen);
    }

    /// Starts a watch. Errors: 410 when the revision's successors are no longer all known.
    pub(crate) fn watch(&self, filter: Filter, start: Start, bookmarks: bool) -> Result<Watch, Status> {
        let filter = Arc::new(filter);
        let (sender, receiver) = mpsc::channel(WATCHER_QUEUE);
        let mut watch = Watch {
            filter: filter.clone(),
            initial: None,
            backlog: VecDeque::new(),
            end: None,
            receiver,
            after: Revision(0),
        };
        let mut state = self.write();
        match start {
            Start::Now => {}
            Start::Initial { end_bookmark } => {
                let revision = state.last.max(self.progress.applied());
                self.seen.initial.add(u64::try_from(state.map.len()).unwrap_or(0));
                watch.initial = Some(first_of(&state.map, &filter));
                watch.end = end_bookmark.then_some(revision);
            }
            Start::After(revision) => {
                if revision < state.complete_after {
                    let oldest = state.complete_after;
                    return Err(Status::expired(format_args!(
                        "too old resource version: {revision} ({oldest})"
                    )));
                }
                if revision > state.last.max(self.progress.applied()) {
                    watch.after = revision;
                }
                let missed = state.ring.partition_point(|e| e.entry.object.revision <= revision);
                watch.backlog = state.ring.range(missed..).cloned().collect();
            }
        }
        state.watchers.push(Slot {
            filter,
            bookmarks,
            sender,
        });
        Ok(watch)
    }

    /// Bookmarks for those who asked; watchers that are gone and old events are forgotten.
    pub(super) fn bookmark(&self) {
        let mut state = self.write();
        state.forget(Instant::now());
        if state.watchers.is_empty() {
            return;
        }
        let revision = state.last.max(self.progress.applied());
        state.watchers.retain(|slot| {
            if slot.bookmarks {
                // A full queue says enough: the watcher gets events instead.
                let _ = slot.sender.try_send(super::Frame::Bookmark {
                    revision,
                    initial_end: false,
                });
            }
            !slot.sender.is_closed()
        });
    }

    /// How many watchers there are.
    pub(crate) fn watchers(&self) -> usize {
        self.read().watchers.len()
    }

    /// Ends every watch, as when the resource is no longer served.
    pub(crate) fn close_watches(&self) {
        self.write().watchers.clear();
    }
}

/// The entries a filter can match: from its namespace on.
pub(crate) fn first_of(map: &Map, filter: &Filter) -> Iter {
    let namespace = filter.namespace.as_deref();
    let name = filter.name.as_deref().filter(|_| namespace.is_some());
    map.range_from(namespace.unwrap_or(""), name.unwrap_or(""))
        .within(namespace)
}

impl State {
    fn publish(&mut self, event: Event, seen: &Seen) {
        seen.received.inc();
        self.last = event.entry.object.revision;
        if !self.observers.is_empty() {
            let object = event.entry.object.clone();
            let before = event.previous.as_ref().map(|p| &*p.object);
            let told = match event.kind {
                EventKind::Added => WatchEvent::Added(object),
                EventKind::Modified => WatchEvent::Modified(object),
                EventKind::Deleted => WatchEvent::Deleted(object),
            };
            self.observers.iter().for_each(|observer| observer(&told, before));
        }
        let event = Arc::new(event);
        let mut told = 0;
        self.watchers.retain(|slot| match slot.offer(&event) {
            Offered::Told => {
                told += 1;
                true
            }
            Offered::Unconcerned => true,
            Offered::Gone => false,
            Offered::TooSlow => {
                seen.terminated.inc();
                false
            }
        });
        seen.dispatched.add(told);
        self.ring.push_back(event);
        self.forget(Instant::now());
    }

    /// Drops events that are too many, or old and not among the last few.
    fn forget(&mut self, now: Instant) {
        while self.ring.len() > RING_MIN {
            let old = |first: &Arc<Event>| now.duration_since(first.at) > RING_AGE;
            if self.ring.len() <= RING_MAX && !self.ring.front().is_some_and(old) {
                break;
            }
            if let Some(gone) = self.ring.pop_front() {
                self.complete_after = gone.entry.object.revision;
            }
        }
    }
}
