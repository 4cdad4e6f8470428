//! Requests that wait for somebody outside give their seats to others meanwhile.
//!
//! A webhook that hangs would otherwise hold up everybody who shares its callers' level. How many may be parked is
//! bounded; who comes after that keeps its seats, so that the level bounds them again.

use super::Seats;
use futures::FutureExt;
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may be parked at a time.
pub(super) const PARKED: usize = 4096;

tokio::task_local! {
    /// What the request that the task answers holds.
    static HELD: Arc<Held>;
}

/// What a request holds while it is answered.
struct Held {
    room: Arc<Semaphore>,
    /// How many waits are going on at once.
    depth: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seats: Option<Seats>,
    /// One of the server's turns, which is not taken again after a wait.
    slot: Option<OwnedSemaphorePermit>,
    parked: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn park(&self) {
        if self.depth.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let Ok(parked) = self.room.clone().try_acquire_owned() else {
            return;
        };
        let mut state = self.state();
        state.parked = Some(parked);
        state.slot = None;
        if let Some(seats) = &state.seats {
            seats.park();
        }
    }

    fn unpark(&self) {
        if self.depth.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut state = self.state();
        if state.parked.take().is_some()
            && let Some(seats) = &state.seats
        {
            seats.unpark();
        }
    }
}

/// Answers a request that holds seats and a turn; gives the seats back with the outcome. (No `async fn`: that would
/// hold the large future twice.)
pub(crate) fn holding<F: Future>(
    room: Arc<Semaphore>,
    seats: Option<Seats>,
    slot: Option<OwnedSemaphorePermit>,
    answering: F,
) -> impl Future<Output = (F::Output, Option<Seats>)> {
    let state = State {
        seats,
        slot,
        parked: None,
    };
    let held = Arc::new(Held {
        room,
        depth: AtomicUsize::new(0),
        state: Mutex::new(state),
    });
    HELD.scope(held.clone(), answering)
        .map(move |outcome| (outcome, held.state().seats.take()))
}

/// Takes the seats of the request that the task answers, to hold them for longer than until the answer begins.
pub(crate) fn take_seats() -> Option<Seats> {
    HELD.try_with(|held| held.state().seats.take()).ok().flatten()
}

/// Waits for somebody outside, parked.
pub(crate) async fn parked<F: Future>(waiting: F) -> F::Output {
    struct Wait(Arc<Held>);
    impl Drop for Wait {
        fn drop(&mut self) {
            self.0.unpark();
        }
    }
    let wait = HELD.try_with(Arc::clone).ok().map(|held| {
        held.park();
        Wait(held)
    });
    let outcome = waiting.await;
    drop(wait);
    outcome
}
