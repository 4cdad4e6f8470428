//! Turns changes into reconciles: a queue of keys without repeats.

use crate::metrics::{ClientMetrics, QueueSeries, Watched};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    fmt::Display,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Upstream's first wait after a failed reconcile.
const RETRY_FIRST: Duration = Duration::from_millis(5);
/// Shorter than upstream's 1000 s: a cluster that recovers should not wait for its controllers.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A queue that holds each key once, however often it is added, and gives a key to one
/// worker at a time: a key added while it is worked on comes again afterwards.
///
/// It is bounded by the number of distinct keys. Cloning shares the queue.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    series: Option<QueueSeries>,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that need work, and since when: those in `ready`, and those added while in `working`.
    dirty: HashMap<K, Instant>,
    working: HashMap<K, Instant>,
    /// When delayed keys become ready, earliest first, and the keys due then.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed: HashMap<u64, K>,
    delayed_until: HashMap<K, (Instant, u64)>,
    next_ticket: u64,
    failures: HashMap<K, u32>,
    shut_down: bool,
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::counting(None)
    }

    fn counting(series: Option<QueueSeries>) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            working: HashMap::new(),
            due: BinaryHeap::new(),
            delayed: HashMap::new(),
            delayed_until: HashMap::new(),
            next_ticket: 0,
            failures: HashMap::new(),
            shut_down: false,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                wake: Notify::new(),
                series,
            }),
        }
    }

    /// An empty queue that is counted under a name.
    pub fn named(name: &str, metrics: &ClientMetrics) -> Self
    where
        K: Send + Sync + 'static,
    {
        let queue = Self::counting(Some(metrics.queue(name)));
        let shared: Arc<dyn Watched> = queue.shared.clone();
        metrics.watch(name, Arc::downgrade(&shared));
        queue
    }

    fn series(&self) -> Option<&QueueSeries> {
        self.shared.series.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().expect("no holder panics")
    }

    /// Asks for work on a key.
    pub fn add(&self, key: K) {
        let mut state = self.state();
        let before = state.dirty.len();
        let ready = state.add(key);
        let added = state.dirty.len() > before;
        drop(state);
        if added && let Some(series) = self.series() {
            series.adds.inc();
        }
        if ready {
            self.shared.wake.notify_one();
        }
    }

    /// Asks for work on a key after a while; of several, the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state();
        if state.shut_down || state.delayed_until.get(&key).is_some_and(|(earlier, _)| *earlier <= at) {
            return;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        if let Some((_, previous)) = state.delayed_until.insert(key.clone(), (at, ticket)) {
            state.delayed.remove(&previous);
        }
        state.delayed.insert(ticket, key);
        state.due.push(Reverse((at, ticket)));
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Asks for work on a key after a wait that doubles each time until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.state();
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count = count.saturating_add(1);
            *count
        };
        let delay = RETRY_FIRST
            .saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX))
            .min(RETRY_MAX);
        if let Some(series) = self.series() {
            series.retries.inc();
        }
        self.add_after(key, delay);
    }

    /// Starts the waits of [`WorkQueue::add_rate_limited`] over, after a success.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// How often a key was added rate limited since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.state().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key, which the caller must give back by [`WorkQueue::done`]; `None` after a shutdown.
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.shared.wake.notified();
            let wait_until = {
                let mut state = self.state();
                if state.shut_down {
                    return None;
                }
                let now = Instant::now();
                let promoted = state.promote(now);
                if let Some((key, since)) = state.take(now) {
                    if let Some(series) = self.series() {
                        series.adds.add(promoted);
                        series.queued.took(now.saturating_duration_since(since));
                    }
                    let more = !state.ready.is_empty() || !state.due.is_empty();
                    drop(state);
                    if more {
                        self.shared.wake.notify_one();
                    }
                    return Some(key);
                }
                if let Some(series) = self.series() {
                    series.adds.add(promoted);
                }
                state.due.peek().map(|Reverse((at, _))| *at)
            };
            match wait_until {
                None => notified.await,
                Some(at) => {
                    // Whichever comes first; both mean to look again.
                    let _ = tokio::time::timeout_at(at, notified).await;
                }
            }
        }
    }

    /// Gives a key back; it comes again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        let since = state.working.remove(key);
        if let (Some(series), Some(since)) = (self.series(), since) {
            series.worked.took(since.elapsed());
        }
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Ends every [`WorkQueue::next`], now and later.
    pub fn shutdown(&self) {
        self.state().shut_down = true;
        self.shared.wake.notify_waiters();
        self.shared.wake.notify_one();
    }

    /// Works on keys until shutdown, `workers` at a time. `Ok(Some(delay))` asks for the key
    /// again after a while; an error is logged and retried with growing waits.
    pub async fn run<F, Fut, E>(&self, workers: usize, reconcile: F)
    where
        K: Display,
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Option<Duration>, E>>,
        E: Display,
    {
        let worker = || async {
            while let Some(key) = self.next().await {
                match reconcile(key.clone()).await {
                    Ok(again) => {
                        self.forget(&key);
                        if let Some(delay) = again {
                            self.add_after(key.clone(), delay);
                        }
                    }
                    Err(error) => {
                        if self.failures(&key) < 3 {
                            tracing::debug!(%key, %error, "reconcile failed, trying again");
                        } else {
                            tracing::warn!(%key, %error, "reconcile keeps failing");
                        }
                        self.add_rate_limited(key.clone());
                    }
                }
                self.done(&key);
            }
            // One wake-up was for this worker; the others wait for theirs.
            self.shared.wake.notify_one();
        };
        futures::future::join_all((0..workers.max(1)).map(|_| worker())).await;
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether the key became ready by this.
    fn add(&mut self, key: K) -> bool {
        if self.shut_down || self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), Instant::now());
        if self.working.contains_key(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// The next key that is ready, and since when it has waited.
    fn take(&mut self, now: Instant) -> Option<(K, Instant)> {
        let key = self.ready.pop_front()?;
        let since = self.dirty.remove(&key).unwrap_or(now);
        self.working.insert(key.clone(), now);
        Some((key, since))
    }

    /// Makes ready what is due, and drops tickets that an earlier one replaced; tells how many keys were added.
    fn promote(&mut self, now: Instant) -> u64 {
        let before = self.dirty.len();
        while let Some(Reverse((at, ticket))) = self.due.peek().copied() {
            if self.delayed.contains_key(&ticket) && at > now {
                break;
            }
            self.due.pop();
            if let Some(key) = self.delayed.remove(&ticket) {
                self.delayed_until.remove(&key);
                self.add(key);
            }
        }
        u64::try_from(self.dirty.len() - before).unwrap_or(0)
    }
}

impl<K: Send + Sync> Watched for Shared<K> {
    fn depth(&self) -> usize {
        self.state.lock().expect("no holder panics").ready.len()
    }

    fn running(&self) -> (Duration, Duration) {
        let state = self.state.lock().expect("no holder panics");
        let times = state.working.values().map(Instant::elapsed);
        times.fold((Duration::ZERO, Duration::ZERO), |(all, longest), one| {
            (all + one, longest.max(one))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_added_twice_comes_once_and_again_if_added_while_worked_on() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(
            tokio::time::timeout(Duration::from_millis(1), queue.next())
                .await
                .is_err()
        );
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.shutdown();
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_delays_the_earliest_counts() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(20));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(
            tokio::time::timeout(Duration::from_secs(60), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_until_forgotten() {
        let queue = WorkQueue::new();
        for expected in [5, 10, 20] {
            let start = Instant::now();
            queue.add_rate_limited("a");
            assert_eq!(queue.next().await, Some("a"));
            assert!(
                (expected..expected + 3).contains(&(start.elapsed().as_millis() as u64)),
                "{expected}"
            );
            queue.done(&"a");
        }
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn run_retries_failures_and_ends_with_the_queue() {
        let queue = WorkQueue::new();
        queue.add("a".to_owned());
        let attempts = Mutex::new(0);
        queue
            .run(4, |_| {
                let (queue, attempts) = (queue.clone(), &attempts);
                async move {
                    *attempts.lock().unwrap() += 1;
                    if *attempts.lock().unwrap() < 3 {
                        return Err("not yet");
                    }
                    queue.shutdown();
                    Ok(None)
                }
            })
            .await;
        assert_eq!(*attempts.lock().unwrap(), 3);
    }
}
