//! A priority level: its seats, and the queues of those who wait for them.

use super::{
    counted::{Counters, Running as Counted},
    dump::About,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use strata_meta::MicroTime;
use tokio::sync::oneshot;

/// How a level is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) exempt: bool,
    pub(super) shares: u32,
    /// Per cent of its seats that others may use.
    pub(super) lendable: u32,
    /// Per cent of its seats that it may borrow; absent: any number.
    pub(super) borrowing: Option<u32>,
    /// Queues, the hand of a flow, the length of a queue; absent: who finds no seat is refused.
    pub(super) queuing: Option<(usize, usize, usize)>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

/// Tells requests apart.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// A level that requests are classified into.
pub(crate) struct Level {
    pub(super) name: String,
    pub(super) settings: Settings,
    /// Seats by its shares, and those it has now.
    pub(super) nominal: AtomicU32,
    pub(super) limit: AtomicU32,
    in_use: AtomicI64,
    executing: AtomicI64,
    waiting: AtomicU32,
    /// Most seats in use or wanted since the last look.
    demand: AtomicU32,
    has_waiting: AtomicBool,
    cancelled: AtomicU64,
    queues: Mutex<Queues>,
    /// Requests that have seats, by number, with the queue they came from.
    running: Mutex<HashMap<u64, Running>>,
}

#[derive(Default)]
struct Queues {
    list: Vec<Queue>,
    /// The time of the fair clock: what the queue served last had been given.
    clock: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    /// Seats given to this queue, in the fair clock's time.
    given: u64,
}

struct Waiter {
    width: u32,
    turn: oneshot::Sender<Seats>,
    number: u64,
    about: Arc<About>,
}

/// A request that has seats, since when, and the queue it came from.
pub(super) type Running = (Arc<About>, MicroTime, Option<usize>);

/// A place in a queue, left when dropped.
struct Place<'l>(&'l Level, usize, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.0.leave(self.1, self.2) {
            self.0.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Seats in use, given back when dropped.
pub(crate) struct Seats {
    level: Arc<Level>,
    width: u32,
    number: u64,
    counted: Option<Counted>,
}

/// What a level shows of itself: a name, what is measured, and how it is read.
type Gauge = (&'static str, &'static str, fn(&Level) -> i64);
pub(super) const GAUGES: [Gauge; 5] = [
    (
        "nominal_limit_seats",
        "Seats of each priority level by its share.",
        |l| l.nominal.load(Ordering::Relaxed).into(),
    ),
    (
        "current_limit_seats",
        "Seats of each priority level at this time, after lending and borrowing.",
        |l| l.limit.load(Ordering::Relaxed).into(),
    ),
    ("lower_limit_seats", "Seats that a priority level never lends.", |l| {
        l.bounds().0.into()
    }),
    (
        "upper_limit_seats",
        "Seats that a priority level may have with those it borrows.",
        |l| l.bounds().1.into(),
    ),
    (
        "demand_seats_high_watermark",
        "Most seats that were wanted at once since seats were last shared out.",
        |l| l.demand.load(Ordering::Relaxed).into(),
    ),
];

impl Level {
    pub(super) fn new(name: &str, settings: Settings) -> Self {
        let queues = settings.queuing.map_or(0, |(queues, ..)| queues);
        Self {
            name: name.to_owned(),
            settings,
            nominal: AtomicU32::new(1),
            limit: AtomicU32::new(1),
            in_use: AtomicI64::new(0),
            executing: AtomicI64::new(0),
            waiting: AtomicU32::new(0),
            demand: AtomicU32::new(0),
            has_waiting: AtomicBool::new(false),
            cancelled: AtomicU64::new(0),
            queues: Mutex::new(Queues {
                list: (0..queues).map(|_| Queue::default()).collect(),
                clock: 0,
            }),
            running: Mutex::default(),
        }
    }

    pub(super) fn is_exempt(&self) -> bool {
        self.settings.exempt
    }

    /// The most seats one request takes, of `most`: a part of the level's, and no more than leaves a hand of queues some.
    pub(super) fn widest(&self, most: u32) -> u32 {
        let Some((_, hand, _)) = self.settings.queuing else {
            return most;
        };
        let nominal = self.nominal.load(Ordering::Relaxed);
        let part = (nominal * super::MOST_SEATS_PER_MILLE).div_ceil(1000);
        let each = nominal / u32::try_from(hand.max(1)).unwrap_or(u32::MAX);
        part.min(each).clamp(1, most)
    }

    /// What lending and borrowing may bring the limit to.
    pub(super) fn bounds(&self) -> (u32, u32) {
        let nominal = self.nominal.load(Ordering::Relaxed);
        let per_cent = |part: u32| (nominal * part + 50) / 100;
        let lower = nominal - per_cent(self.settings.lendable.min(100)).min(nominal);
        let upper = match self.settings.borrowing {
            Some(part) => nominal.saturating_add(per_cent(part)),
            None => super::SERVER_SEATS.max(nominal),
        };
        (lower, upper.min(super::SERVER_SEATS.max(nominal)))
    }

    /// The demand since the last call, which from now on is what is used and wanted now.
    pub(super) fn take_demand(&self) -> u32 {
        let now =
            u32::try_from(self.in_use.load(Ordering::Relaxed)).unwrap_or(0) + self.waiting.load(Ordering::Relaxed);
        self.demand.swap(now, Ordering::Relaxed).max(now)
    }

    /// Sets the limit; those who wait and fit now go on.
    pub(super) fn set_limit(self: &Arc<Self>, limit: u32) {
        self.limit.store(limit.max(1), Ordering::Release);
        if self.has_waiting.load(Ordering::Acquire) {
            self.dispatch();
        }
    }

    fn try_take(self: &Arc<Self>, width: u32) -> Option<Seats> {
        let limit = i64::from(self.limit.load(Ordering::Acquire));
        let taken = self.in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            // A request wider than the level goes alone.
            (used + i64::from(width) <= limit || used == 0).then_some(used + i64::from(width))
        });
        let used = taken.ok()? + i64::from(width);
        self.executing.fetch_add(1, Ordering::Relaxed);
        self.demand
            .fetch_max(u32::try_from(used).unwrap_or(0), Ordering::Relaxed);
        Some(Seats {
            level: self.clone(),
            width,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            counted: None,
        })
    }

    /// Takes seats, or waits for them in a queue of the flow. Errors: no room, or not in time.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        width: u32,
        flow: u64,
        patience: Duration,
        about: &Arc<About>,
        counters: &Arc<Counters>,
    ) -> Result<Seats, Refusal> {
        if !self.has_waiting.load(Ordering::Acquire)
            && let Some(seats) = self.try_take(width)
        {
            self.note(&seats, about, None);
            return Ok(seats);
        }
        let (queue, number, mut turn) = self.enqueue(width, flow, about)?;
        let _waiting = counters.queued(width, self.length(queue));
        // A client that goes away while it waits must not keep its place.
        let _place = Place(self, queue, number);
        // Seats may have come free before the queue was joined.
        self.dispatch();
        let seats = match tokio::time::timeout(patience, &mut turn).await {
            Ok(Ok(seats)) => seats,
            _ => {
                self.leave(queue, number);
                // The turn may have come at the last moment.
                turn.try_recv().map_err(|_| Refusal::TimeOut)?
            }
        };
        self.note(&seats, about, Some(queue));
        Ok(seats)
    }

    /// Remembers who has seats.
    fn note(&self, seats: &Seats, about: &Arc<About>, queue: Option<usize>) {
        let mut running = self.running.lock().expect("no panic under this lock");
        running.insert(seats.number, (about.clone(), MicroTime::now(), queue));
    }

    /// Every request that has seats: what it is, since when, from which queue.
    pub(super) fn running(&self) -> Vec<Running> {
        let running = self.running.lock().expect("no panic under this lock");
        let mut all: Vec<_> = running
            .iter()
            .map(|(number, request)| (*number, request.clone()))
            .collect();
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, request)| request).collect()
    }

    /// Of each queue those who wait, and the time of the fair clock it has got to.
    pub(super) fn waiting(&self) -> Vec<(Vec<Arc<About>>, u64)> {
        let queues = self.queues.lock().expect("no panic under this lock");
        let shown = |queue: &Queue| (queue.waiting.iter().map(|w| w.about.clone()).collect(), queue.given);
        queues.list.iter().map(shown).collect()
    }

    fn enqueue(
        &self,
        width: u32,
        flow: u64,
        about: &Arc<About>,
    ) -> Result<(usize, u64, oneshot::Receiver<Seats>), Refusal> {
        let Some((_, hand, longest)) = self.settings.queuing else {
            return Err(Refusal::ConcurrencyLimit);
        };
        let mut queues = self.queues.lock().expect("no panic under this lock");
        let chosen = deal(flow, queues.list.len(), hand)
            .into_iter()
            .min_by_key(|at| queues.list[*at].waiting.len());
        let at = chosen.ok_or(Refusal::ConcurrencyLimit)?;
        let clock = queues.clock;
        let queue = &mut queues.list[at];
        if queue.waiting.len() >= longest {
            return Err(Refusal::QueueFull);
        }
        if queue.waiting.is_empty() {
            // A queue that was idle has saved up nothing.
            queue.given = queue.given.max(clock);
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (sender, turn) = oneshot::channel();
        queue.waiting.push_back(Waiter {
            width,
            turn: sender,
            number,
            about: about.clone(),
        });
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let used = u32::try_from(self.in_use.load(Ordering::Relaxed)).unwrap_or(0);
        self.demand
            .fetch_max(used + self.waiting.load(Ordering::Relaxed), Ordering::Relaxed);
        self.has_waiting.store(true, Ordering::Release);
        Ok((at, number, turn))
    }

    /// Those who wait in a queue.
    fn length(&self, queue: usize) -> usize {
        let queues = self.queues.lock().expect("no panic under this lock");
        queues.list.get(queue).map_or(0, |queue| queue.waiting.len())
    }

    /// Requests whose clients have gone while they waited.
    pub(super) fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Who has given up waiting.
    fn leave(&self, queue: usize, number: u64) -> bool {
        let mut queues = self.queues.lock().expect("no panic under this lock");
        let waiting = &mut queues.list[queue].waiting;
        let before = waiting.len();
        waiting.retain(|w| w.number != number);
        let left = waiting.len() < before;
        if left {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        let nobody = queues.list.iter().all(|q| q.waiting.is_empty());
        self.has_waiting.store(!nobody, Ordering::Release);
        left
    }

    /// Gives free seats to those who wait, the queue first that has had least.
    fn dispatch(self: &Arc<Self>) {
        // Seats that find nobody are given back when the lock is free again.
        let mut unclaimed = Vec::new();
        let mut queues = self.queues.lock().expect("no panic under this lock");
        loop {
            let next = (0..queues.list.len())
                .filter(|at| !queues.list[*at].waiting.is_empty())
                .min_by_key(|at| queues.list[*at].given);
            let Some(at) = next else {
                self.has_waiting.store(false, Ordering::Release);
                break;
            };
            let width = queues.list[at].waiting.front().map_or(1, |w| w.width);
            let Some(seats) = self.try_take(width) else { break };
            let given = queues.list[at].given;
            queues.clock = queues.clock.max(given);
            let queue = &mut queues.list[at];
            queue.given = given + u64::from(width);
            if let Some(waiter) = queue.waiting.pop_front() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                if let Err(seats) = waiter.turn.send(seats) {
                    unclaimed.push(seats);
                }
            }
        }
        drop(queues);
        drop(unclaimed);
    }

    /// Requests waiting and being answered.
    pub(super) fn counts(&self) -> (u32, i64) {
        (
            self.waiting.load(Ordering::Relaxed),
            self.executing.load(Ordering::Relaxed),
        )
    }
}

impl Seats {
    /// Counts for as long as the seats are held.
    pub(super) fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Lets others have the seats until [`Seats::unpark`].
    pub(super) fn park(&self) {
        self.level.in_use.fetch_sub(self.width.into(), Ordering::AcqRel);
        self.level.executing.fetch_sub(1, Ordering::Relaxed);
        if self.level.has_waiting.load(Ordering::Acquire) {
            self.level.dispatch();
        }
    }

    /// Takes the seats again, whether or not they are free: what was begun is finished.
    pub(super) fn unpark(&self) {
        self.level.in_use.fetch_add(self.width.into(), Ordering::AcqRel);
        self.level.executing.fetch_add(1, Ordering::Relaxed);
    }

    /// The same with another number, whether or not they are free: for work that goes on by itself.
    pub(super) fn widen(mut self, width: u32) -> Self {
        let more = i64::from(width) - i64::from(self.width);
        self.level.in_use.fetch_add(more, Ordering::AcqRel);
        self.width = width;
        if let Some(counted) = &mut self.counted {
            counted.widen(width);
        }
        self
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.level.in_use.fetch_sub(self.width.into(), Ordering::AcqRel);
        self.level.executing.fetch_sub(1, Ordering::Relaxed);
        self.level
            .running
            .lock()
            .expect("no panic under this lock")
            .remove(&self.number);
        if self.level.has_waiting.load(Ordering::Acquire) {
            self.level.dispatch();
        }
    }
}

/// A flow's hand of queues: `hand` different ones of `queues`, always the same for the flow.
fn deal(mut flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut cards: Vec<usize> = Vec::with_capacity(hand);
    for dealt in 0..hand.min(queues) {
        let left = (queues - dealt) as u64;
        let mut card = usize::try_from(flow % left).unwrap_or(0);
        flow /= left;
        // The number counts among the queues not dealt yet.
        let mut taken = cards.clone();
        taken.sort_unstable();
        for other in taken {
            if card >= other {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> Arc<About> {
        Arc::default()
    }

    fn counters() -> Arc<Counters> {
        Arc::default()
    }

    fn level(seats: u32, queuing: Option<(usize, usize, usize)>) -> Arc<Level> {
        let settings = Settings {
            exempt: false,
            shares: 1,
            lendable: 0,
            borrowing: None,
            queuing,
        };
        let level = Arc::new(Level::new("l", settings));
        level.nominal.store(seats, Ordering::Relaxed);
        level.set_limit(seats);
        level
    }

    #[test]
    fn a_hand_has_different_queues() {
        for flow in [0, 1, 12_345_678_901, u64::MAX] {
            let mut hand = deal(flow, 64, 8);
            hand.sort_unstable();
            hand.dedup();
            assert_eq!(hand.len(), 8);
            assert!(hand.iter().all(|at| *at < 64));
        }
    }

    #[tokio::test]
    async fn who_finds_no_seat_is_refused_or_waits_for_one() {
        let strict = level(1, None);
        let held = strict.acquire(1, 0, Duration::ZERO, &about(), &counters()).await.ok();
        assert_eq!(
            strict.acquire(1, 0, Duration::ZERO, &about(), &counters()).await.err(),
            Some(Refusal::ConcurrencyLimit)
        );
        drop(held);
        assert!(
            strict
                .acquire(1, 0, Duration::ZERO, &about(), &counters())
                .await
                .is_ok()
        );

        let queuing = level(1, Some((1, 1, 1)));
        let held = queuing.acquire(1, 0, Duration::ZERO, &about(), &counters()).await.ok();
        let second = {
            let level = queuing.clone();
            tokio::spawn(async move {
                level
                    .acquire(1, 0, Duration::from_secs(5), &about(), &counters())
                    .await
                    .is_ok()
            })
        };
        while queuing.counts().0 == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            queuing.acquire(1, 0, Duration::ZERO, &about(), &counters()).await.err(),
            Some(Refusal::QueueFull)
        );
        drop(held);
        assert!(second.await.unwrap());
        assert_eq!(queuing.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_too_long_leaves_the_queue() {
        let level = level(1, Some((1, 1, 5)));
        let _held = level.acquire(1, 0, Duration::ZERO, &about(), &counters()).await.ok();
        assert_eq!(
            level
                .acquire(1, 0, Duration::from_millis(1), &about(), &counters())
                .await
                .err(),
            Some(Refusal::TimeOut)
        );
        assert_eq!(level.counts().0, 0);
    }

    #[tokio::test]
    async fn a_flow_with_many_requests_does_not_hold_up_one_with_few() {
        let level = level(1, Some((2, 1, 50)));
        let held = level.acquire(1, 0, Duration::ZERO, &about(), &counters()).await.ok();
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..11u64 {
            // Ten of one flow, then one of another.
            let (level_, done, flow) = (level.clone(), done.clone(), u64::from(n == 10));
            tokio::spawn(async move {
                let seats = level_
                    .acquire(1, flow, Duration::from_secs(5), &about(), &counters())
                    .await
                    .ok();
                done.send(flow).unwrap();
                drop(seats);
            });
            while u64::from(level.counts().0) <= n {
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        let mut seen = Vec::new();
        for _ in 0..11 {
            seen.push(order.recv().await.unwrap());
        }
        assert!(seen.iter().position(|f| *f == 1).unwrap() <= 2, "{seen:?}");
    }
}
