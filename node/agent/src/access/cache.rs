//! Answers kept for a while, so that a scrape every few seconds is not a review every few seconds.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Answers that are kept at most; the ones nearest to their end make room.
const MOST: usize = 4096;

/// Answers by question, each until a moment of its own.
pub(super) struct Cache<V>(Mutex<HashMap<String, (V, Instant)>>);

impl<V: Clone> Cache<V> {
    /// Nothing is known.
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// An answer that still holds.
    pub fn get(&self, question: &str, now: Instant) -> Option<V> {
        let kept = self.0.lock().expect("no panic under this lock");
        let (answer, until) = kept.get(question)?;
        (*until > now).then(|| answer.clone())
    }

    /// Keeps an answer.
    pub fn put(&self, question: String, answer: V, now: Instant, keep: Duration) {
        let mut kept = self.0.lock().expect("no panic under this lock");
        if kept.len() >= MOST {
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() >= MOST {
            let mut ends: Vec<Instant> = kept.values().map(|(_, until)| *until).collect();
            let (_, middle, _) = ends.select_nth_unstable(MOST / 2);
            let middle = *middle;
            kept.retain(|_, (_, until)| *until > middle);
        }
        kept.insert(question, (answer, now + keep));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_until_its_end_and_there_are_never_too_many() {
        let (cache, now) = (Cache::new(), Instant::now());
        cache.put("a".to_owned(), 1, now, Duration::from_secs(2));
        assert_eq!(cache.get("a", now), Some(1));
        assert_eq!(cache.get("a", now + Duration::from_secs(2)), None);
        for n in 0..2 * MOST {
            cache.put(n.to_string(), n, now, Duration::from_secs(60));
        }
        assert!(cache.0.lock().unwrap().len() <= MOST);
        assert_eq!(cache.get(&(2 * MOST - 1).to_string(), now), Some(2 * MOST - 1));
    }
}
