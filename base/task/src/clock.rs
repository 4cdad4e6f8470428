//! Clocks: the machine's, and one that a test moves.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

/// Where the time comes from, for logic that decides by it.
pub trait Clock: Send + Sync {
    /// The calendar time, which may jump.
    fn now(&self) -> SystemTime;
    /// A time that never goes back.
    fn monotonic(&self) -> Instant;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock {
    start: (SystemTime, Instant),
    calendar_offset: Mutex<Duration>,
    elapsed: Mutex<Duration>,
}

impl TestClock {
    /// Stands at `now`.
    pub fn new(now: SystemTime) -> Self {
        Self {
            start: (now, Instant::now()),
            calendar_offset: Mutex::default(),
            elapsed: Mutex::default(),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().expect("no holder panics") += by;
    }

    /// Moves only the calendar on, as a correction of the machine's clock would.
    pub fn jump(&self, by: Duration) {
        *self.calendar_offset.lock().expect("no holder panics") += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        let offset = *self.calendar_offset.lock().expect("no holder panics");
        self.start.0 + *self.elapsed.lock().expect("no holder panics") + offset
    }

    fn monotonic(&self) -> Instant {
        self.start.1 + *self.elapsed.lock().expect("no holder panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_clock_moves_only_when_told() {
        let clock = TestClock::new(SystemTime::UNIX_EPOCH);
        let before = clock.monotonic();
        clock.advance(Duration::from_secs(5));
        clock.jump(Duration::from_secs(100));
        assert_eq!(clock.monotonic() - before, Duration::from_secs(5));
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(105));
    }
}
