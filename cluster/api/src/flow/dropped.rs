//! When a refused client is to come again: the later, the more are refused.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

/// The longest wait that is asked for, in seconds.
const LONGEST: u64 = 32;

/// What was refused of late, by priority level.
#[derive(Default)]
pub(super) struct Dropped(Mutex<HashMap<String, History>>);

impl Dropped {
    /// One more refusal; after how many seconds the client should come again.
    pub(super) fn refuse(&self, level: &str) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut levels = self.0.lock().expect("no panic under this lock");
        if !levels.contains_key(level) {
            levels.insert(level.to_owned(), History::default());
        }
        let history = levels.get_mut(level).expect("it was put there");
        history.refuse(since.map_or(0, |since| since.as_secs()));
        history.wait
    }

    /// Forgets levels that are no more.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut levels = self.0.lock().expect("no panic under this lock");
        levels.retain(|name, _| is_there(name));
    }
}

/// Refusals of one level by the second.
struct History {
    /// Seconds that are over, each with its refusals.
    past: VecDeque<(u64, u64)>,
    now: (u64, u64),
    wait: u64,
    /// When the wait was last made longer.
    raised: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            past: VecDeque::new(),
            now: (0, 0),
            wait: 1,
            raised: 0,
        }
    }
}

impl History {
    fn refuse(&mut self, second: u64) {
        if self.now.0 == second {
            self.now.1 += 1;
            return;
        }
        let over = self.now;
        self.past.push_back(over);
        let kept = (2 * self.wait).min(LONGEST);
        while self
            .past
            .front()
            .is_some_and(|(at, _)| over.0.saturating_sub(*at) > kept)
        {
            self.past.pop_front();
        }
        self.now = (second, 1);
        self.adapt(second);
    }

    /// Doubles the wait when there were three refusals a second of it, not twice within it; shortens it by a second
    /// when there was less than one.
    fn adapt(&mut self, second: u64) {
        let wait = self.wait;
        let recent = self.past.iter().rev();
        let refused: u64 = recent
            .take_while(|(at, _)| second.saturating_sub(*at) <= wait)
            .filter(|(at, _)| *at < second)
            .map(|(_, count)| count)
            .sum();
        if second.saturating_sub(self.raised) >= wait && refused >= 3 * wait {
            self.wait = (2 * wait).min(LONGEST);
            self.raised = second;
        } else if refused < wait && wait > 1 {
            self.wait = wait - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses so many times in a second; the wait after that.
    fn refuse(history: &mut History, second: u64, times: u64) -> u64 {
        for _ in 0..times {
            history.refuse(second);
        }
        history.wait
    }

    #[test]
    fn the_wait_doubles_under_load_and_shrinks_after_it() {
        let mut history = History::default();
        assert_eq!(refuse(&mut history, 1000, 5), 1);
        // The next second looks back on five.
        assert_eq!(refuse(&mut history, 1001, 20), 2);
        // Twenty-five within two seconds, but it was raised a second ago.
        assert_eq!(refuse(&mut history, 1002, 20), 2);
        assert_eq!(refuse(&mut history, 1003, 20), 4);
        for second in 1004..1100 {
            refuse(&mut history, second, 200);
        }
        assert_eq!(history.wait, LONGEST);
        // Nobody for long: each refusal that is alone takes a second off.
        assert_eq!(refuse(&mut history, 2000, 1), 31);
        assert_eq!(refuse(&mut history, 3000, 1), 30);
        assert!(history.past.len() <= 1 + usize::try_from(LONGEST).unwrap());
    }
}
