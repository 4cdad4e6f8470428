//! The single writer: a thread that takes whatever commands wait, applies them as one
//! batch, makes the batch durable, and only then answers.

use crate::{
    Clock, Error, Expect, KeyValue, LeaseId, Limits, Range, RangeResult, Status, Store, WatchStream,
    command::{Command, Outcome, Pinned, Writer},
    log::Journal,
    mvcc::Mvcc,
    snapshot,
    watch::Progress,
};
use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt};
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use strata_meta::Revision;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// A batch takes commands until it holds so many bytes of log.
const BATCH_BYTES: usize = 1 << 20;
/// And so many commands, which bounds the time the state is locked.
const BATCH_COMMANDS: usize = 2048;
/// Leases ended by one batch.
const EXPIRED_AT_ONCE: usize = 64;
/// Unit in which waiting bytes are counted.
const PERMIT_BYTES: usize = 1024;
/// The writer looks at the clock at least this often while leases exist, because a
/// suspended machine's timers run late.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

const UNPOISONED: &str = "no code panics while it holds the store's lock";

/// What readers, watchers and the writer share.
pub(crate) struct Core {
    state: RwLock<Mvcc>,
    pub limits: Limits,
    pub clock: Clock,
    pub progress: watch::Sender<Progress>,
    pub watchers: AtomicU64,
    writes: AtomicU64,
    batches: AtomicU64,
    pub full: AtomicBool,
    pub disk_bytes: Arc<AtomicU64>,
}

impl Core {
    pub fn new(state: Mvcc, limits: Limits, clock: Clock) -> Self {
        let revision = state.durable();
        Self {
            state: RwLock::new(state),
            limits,
            clock,
            progress: watch::Sender::new(Progress {
                revision,
                closed: false,
            }),
            watchers: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            full: AtomicBool::new(false),
            disk_bytes: Arc::default(),
        }
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.state.read().expect(UNPOISONED)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, Mvcc> {
        self.state.write().expect(UNPOISONED)
    }

    fn open_state(&self) -> Result<RwLockReadGuard<'_, Mvcc>, Error> {
        if self.progress.borrow().closed {
            return Err(Error::Closed);
        }
        Ok(self.read())
    }

    pub fn status(&self) -> Status {
        let state = self.read();
        Status {
            revision: state.durable(),
            compacted: state.compacted(),
            keys: state.live_keys(),
            live_bytes: state.live_bytes(),
            history_bytes: state.history_bytes(),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            leases: state.leases.len() as u64,
            watchers: self.watchers.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            full: self.full.load(Ordering::Relaxed),
        }
    }

    /// Applies one batch and makes it durable. Answers are in the order of the commands.
    /// Err: the disk failed in a way after which nothing may be written.
    pub fn commit(
        self: &Arc<Self>,
        journal: Option<&mut Journal>,
        commands: Vec<Command>,
    ) -> Result<Vec<Answer>, Error> {
        let mut journal = journal;
        let refused = match &mut journal {
            Some(journal) => self.make_room(journal, &commands)?,
            None => Refused::Nothing,
        };
        let pins: Vec<usize> = (0..commands.len())
            .filter(|at| matches!(commands[*at], Command::Pin))
            .collect();
        let mut records = Vec::new();
        let first = self.read().revision();
        let mut answers = self.apply(commands, &refused, journal.is_some().then_some(&mut records));
        if let Some(journal) = &mut journal
            && !records.is_empty()
        {
            journal.append(&records)?;
        }
        let mut state = self.write();
        let sequence = journal.map_or(0, |journal| journal.next_sequence());
        state.publish();
        state.bound_history(self.limits.max_history);
        for at in pins {
            if answers[at].is_ok() {
                answers[at] = Ok(Outcome::Pinned(Pinned {
                    core: self.clone(),
                    revision: state.pin(),
                    sequence,
                    leases: state.leases.list(),
                }));
            }
        }
        let revision = state.durable();
        drop(state);
        self.writes.fetch_add(revision.0 - first.0, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        if revision > first {
            self.progress.send_modify(|progress| progress.revision = revision);
        }
        Ok(answers)
    }

    fn make_room(&self, journal: &mut Journal, commands: &[Command]) -> Result<Refused, Error> {
        let bytes = |only_freeing: bool| -> usize {
            let counted = commands.iter().filter(|command| !only_freeing || command.frees_space());
            counted.map(|command| command.log_bytes(&self.limits)).sum()
        };
        let refused = if commands.iter().all(Command::frees_space) {
            Refused::Nothing
        } else {
            match journal.make_room(bytes(false)) {
                Err(Error::Full { why }) => Refused::Growing(why),
                other => other.map(|()| Refused::Nothing)?,
            }
        };
        let growing = commands.iter().any(|command| !command.frees_space());
        if growing && matches!(refused, Refused::Nothing) {
            self.full.store(false, Ordering::Relaxed);
            return Ok(refused);
        }
        match journal.make_room_from_reserve(bytes(true)) {
            Err(Error::Full { why }) => {
                self.full.store(true, Ordering::Relaxed);
                return Ok(Refused::All(why));
            }
            other => other?,
        }
        if growing {
            self.full.store(true, Ordering::Relaxed);
        }
        Ok(refused)
    }

    fn apply(&self, commands: Vec<Command>, refused: &Refused, records: Option<&mut Vec<u8>>) -> Vec<Answer> {
        let mut writer = Writer {
            state: &mut self.write(),
            limits: &self.limits,
            now: (self.clock)(),
            records,
        };
        let answer = |command: Command| match refused {
            Refused::All(why) => Err(Error::Full { why: why.clone() }),
            Refused::Growing(why) if !command.frees_space() => Err(Error::Full { why: why.clone() }),
            _ => command.execute(&mut writer),
        };
        commands.into_iter().map(answer).collect()
    }

    pub fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }
}

pub(crate) type Answer = Result<Outcome, Error>;

/// Which commands of a batch a full disk keeps out.
enum Refused {
    Nothing,
    Growing(String),
    All(String),
}

/// Commands on their way to the writer, bounded by bytes.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    permits: Arc<Semaphore>,
    most: usize,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

struct Request {
    command: Command,
    answer: Option<oneshot::Sender<Answer>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Queue {
    fn new(limits: &Limits) -> Self {
        let most = (limits.max_queue / PERMIT_BYTES).clamp(1, u32::MAX as usize >> 1);
        Self {
            waiting: Mutex::new(Waiting::default()),
            ready: Condvar::new(),
            permits: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect(UNPOISONED)
    }

    async fn submit(&self, command: Command, bytes: usize) -> Answer {
        let cost = (1 + bytes / PERMIT_BYTES).min(self.most) as u32;
        let permit = self.permits.clone().acquire_many_owned(cost).await;
        let permit = permit.map_err(|_| Error::Closed)?;
        self.push(command, Some(permit))?.await.map_err(|_| Error::Closed)?
    }

    /// For the store's own threads, which are few.
    pub fn submit_blocking(&self, command: Command) -> Answer {
        self.push(command, None)?.blocking_recv().map_err(|_| Error::Closed)?
    }

    fn push(&self, command: Command, permit: Option<OwnedSemaphorePermit>) -> Result<oneshot::Receiver<Answer>, Error> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        waiting.requests.push_back(Request {
            command,
            answer: Some(answer),
            _permit: permit,
        });
        drop(waiting);
        self.ready.notify_one();
        Ok(receiver)
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
        self.permits.close();
    }

    /// The next batch; empty when `wait` passed first; `None` once closed and drained.
    fn take(&self, wait: Option<Duration>, limits: &Limits) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        if waiting.requests.is_empty() && !waiting.closed {
            waiting = match wait {
                Some(wait) => self.ready.wait_timeout(waiting, wait).expect(UNPOISONED).0,
                None => self.ready.wait(waiting).expect(UNPOISONED),
            };
        }
        if waiting.requests.is_empty() && waiting.closed {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_COMMANDS
            && let Some(next) = waiting.requests.front()
        {
            bytes += next.command.log_bytes(limits);
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(waiting.requests.pop_front());
        }
        Some(batch)
    }

    fn put_back(&self, command: Command, answer: Option<oneshot::Sender<Answer>>) {
        self.lock().requests.push_front(Request {
            command,
            answer,
            _permit: None,
        });
    }
}

/// A running store: the shared state, the queue and the writer's thread.
pub(crate) struct Service {
    pub core: Arc<Core>,
    pub queue: Arc<Queue>,
    /// The identity written into snapshots.
    id: u64,
    writer: Option<JoinHandle<()>>,
}

impl Service {
    pub fn start(
        core: Arc<Core>,
        id: u64,
        journal: Option<Journal>,
        fail: impl Fn(&Error) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(&core.limits));
        let writer = {
            let closer = Closer(core.clone(), queue.clone());
            let run = move || write_until_closed(&closer.0, &closer.1, journal, fail);
            std::thread::Builder::new().name("store-writer".to_owned()).spawn(run)?
        };
        Ok(Self {
            core,
            queue,
            id,
            writer: Some(writer),
        })
    }

    /// Finishes what waits and ends the thread.
    pub fn stop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been reported by the panic hook; the store is closed either way.
            let _ = writer.join();
        }
        self.core.close();
    }

    fn submit(&self, command: Command) -> BoxFuture<'_, Answer> {
        let bytes = command.log_bytes(&self.core.limits);
        self.queue.submit(command, bytes).boxed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_until_closed(core: &Arc<Core>, queue: &Queue, mut journal: Option<Journal>, fail: impl Fn(&Error)) {
    while let Some(mut requests) = queue.take(next_wakeup(core), &core.limits) {
        let expired = core.read().leases.expired((core.clock)(), EXPIRED_AT_ONCE);
        requests.extend(expired.into_iter().map(|lease| Request {
            command: Command::Revoke(lease),
            answer: None,
            _permit: None,
        }));
        if requests.is_empty() {
            continue;
        }
        let (commands, callers): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.command, (request.answer, request._permit)))
            .unzip();
        match core.commit(journal.as_mut(), commands) {
            Ok(answers) => {
                for (answer, (caller, _permit)) in answers.into_iter().zip(callers) {
                    match (answer, caller) {
                        (Ok(Outcome::Again(command)), caller) => queue.put_back(command, caller),
                        // A caller that went away does not want the answer.
                        (answer, Some(caller)) => drop(caller.send(answer)),
                        (_, None) => {}
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the store can write no more");
                core.close();
                fail(&error);
                return;
            }
        }
    }
}

/// However the writer ends, nobody is left waiting for it.
struct Closer(Arc<Core>, Arc<Queue>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.1.close();
        self.1.lock().requests.clear();
        self.0.close();
    }
}

fn next_wakeup(core: &Core) -> Option<Duration> {
    let (deadline, _) = core.read().leases.first_deadline()?;
    Some(deadline.saturating_sub((core.clock)()).min(LONGEST_WAIT))
}

/// Stores that are a [`Service`].
pub(crate) trait Served: Send + Sync + 'static {
    fn service(&self) -> &Service;
}

impl<S: Served> Store for S {
    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<'_, Result<Option<KeyValue>, Error>> {
        let found = self.service().core.open_state().and_then(|state| state.get(key, at));
        future::ready(found).boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResult, Error>> {
        let found = self.service().core.open_state().and_then(|state| state.range(&range));
        future::ready(found).boxed()
    }

    fn put(
        &self,
        key: Bytes,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> BoxFuture<'_, Result<Revision, Error>> {
        let command = Command::Put {
            key,
            value,
            expect,
            lease,
        };
        let written = |outcome| match outcome {
            Outcome::Written(revision) => revision,
            _ => unreachable!("a put answers with its revision"),
        };
        self.service()
            .submit(command)
            .map(move |answer| answer.map(written))
            .boxed()
    }

    fn delete(&self, key: &[u8], expect: Expect) -> BoxFuture<'_, Result<Option<(Revision, KeyValue)>, Error>> {
        let key = Bytes::copy_from_slice(key);
        let deleted = |outcome| match outcome {
            Outcome::Deleted(deleted) => deleted,
            _ => unreachable!("a delete answers with what it deleted"),
        };
        let answer = self.service().submit(Command::Delete { key, expect });
        answer.map(move |answer| answer.map(deleted)).boxed()
    }

    fn watch(&self, start: Bytes, end: Bytes, from: Revision) -> BoxFuture<'_, Result<WatchStream, Error>> {
        let core = self.service().core.clone();
        let opened = WatchStream::open(core, start, end, from);
        future::ready(opened).boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), Error>> {
        let answer = self.service().submit(Command::Compact(revision));
        answer.map(|answer| answer.map(drop)).boxed()
    }

    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        let granted = |outcome| match outcome {
            Outcome::Granted(lease) => lease,
            _ => unreachable!("a grant answers with its lease"),
        };
        let answer = self.service().submit(Command::Grant(ttl));
        answer.map(move |answer| answer.map(granted)).boxed()
    }

    fn lease_renew(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        let core = &self.service().core;
        let renewed = core.open_state().map(drop).and_then(|()| {
            let known = core.write().leases.renew(lease, (core.clock)());
            known.then_some(()).ok_or(Error::LeaseNotFound(lease))
        });
        future::ready(renewed).boxed()
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        let answer = self.service().submit(Command::Revoke(lease));
        answer.map(|answer| answer.map(drop)).boxed()
    }

    fn snapshot(&self, mut out: Box<dyn io::Write + Send>) -> BoxFuture<'_, Result<Revision, Error>> {
        let service = self.service();
        let id = service.id;
        async move {
            let Outcome::Pinned(pinned) = service.submit(Command::Pin).await? else {
                unreachable!("a pin answers with the pinned state");
            };
            let write = move || snapshot::write(&pinned, id, &mut out);
            let written = tokio::task::spawn_blocking(write).await;
            written.map_err(|_| Error::Closed)?
        }
        .boxed()
    }

    fn status(&self) -> Status {
        self.service().core.status()
    }
}
