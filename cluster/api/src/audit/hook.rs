//! The webhook that events are posted to, one by one or in batches.

use super::{
    AuditMode, AuditWebhook,
    sink::{Counters, Letter},
};
use crate::{core::Core, webhook::ClientConfig};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// One post, and how often it is tried, each pause longer than the one before by the factor.
const POST_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;
/// Posts that may be going on.
const POSTS: usize = 64;

/// Where events are posted to, and how.
pub(super) struct Hook {
    config: Arc<ClientConfig>,
    initial_backoff: Duration,
    size: usize,
    bytes: usize,
    wait: Duration,
    throttle: Option<Throttle>,
}

impl Hook {
    pub(super) fn new(config: ClientConfig, options: &AuditWebhook) -> Self {
        let (batch, gathers) = (&options.delivery.batch, options.delivery.mode == AuditMode::Batch);
        Self {
            config: Arc::new(config),
            initial_backoff: options.initial_backoff,
            size: if gathers { batch.size } else { 1 },
            bytes: options.delivery.truncate.map_or(usize::MAX, |t| t.batch),
            wait: batch.wait,
            throttle: batch.throttle.filter(|_| gathers).map(Throttle::new),
        }
    }
}

/// So many a second, and some more at once after a pause.
struct Throttle {
    rate: f64,
    burst: f64,
    left: f64,
    since: Instant,
}

impl Throttle {
    fn new((rate, burst): (f64, usize)) -> Self {
        Self {
            rate,
            burst: burst as f64,
            left: burst as f64,
            since: Instant::now(),
        }
    }

    /// Takes one; how long to wait before using it.
    fn take(&mut self, now: Instant) -> Duration {
        let grown = self.left + now.duration_since(self.since).as_secs_f64() * self.rate;
        (self.left, self.since) = (grown.min(self.burst) - 1.0, now);
        Duration::from_secs_f64((-self.left / self.rate).max(0.0))
    }
}

/// Posts until the server stops, and then what is left.
pub(super) async fn post_events(
    core: &Arc<Core>,
    mut hook: Hook,
    mut letters: mpsc::Receiver<Letter>,
    counters: Arc<Counters>,
) {
    let (mut posts, mut stopping) = (JoinSet::new(), false);
    while !stopping {
        let mut batch = Vec::new();
        tokio::select! {
            first = letters.recv() => match first {
                Some(letter) => batch.push(letter),
                None => break,
            },
            () = core.cancel.cancelled() => stopping = true,
        }
        if !stopping && hook.size > 1 {
            tokio::select! {
                () = gather(&mut letters, &mut batch, hook.size) => {}
                () = tokio::time::sleep(hook.wait) => {}
                () = core.cancel.cancelled() => stopping = true,
            }
        }
        if stopping {
            letters.close();
            while let Some(letter) = letters.recv().await {
                batch.push(letter);
            }
        }
        for part in parts(batch, hook.size, hook.bytes) {
            let pause = hook
                .throttle
                .as_mut()
                .map_or(Duration::ZERO, |t| t.take(Instant::now()));
            if !pause.is_zero() && !stopping {
                core.cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
            while posts.len() >= POSTS {
                posts.join_next().await;
            }
            let (core, config) = (core.clone(), hook.config.clone());
            let (backoff, counters) = (hook.initial_backoff, counters.clone());
            posts.spawn(async move { deliver(&core, &config, part, backoff, &counters).await });
        }
    }
    posts.join_all().await;
}

async fn gather(letters: &mut mpsc::Receiver<Letter>, batch: &mut Vec<Letter>, size: usize) {
    while batch.len() < size
        && let Some(letter) = letters.recv().await
    {
        batch.push(letter);
    }
}

/// Batches of at most so many events and bytes.
fn parts(letters: Vec<Letter>, size: usize, bytes: usize) -> Vec<Vec<Letter>> {
    let (mut parts, mut held): (Vec<Vec<Letter>>, usize) = (Vec::new(), 0);
    for letter in letters {
        let length = letter.line.len();
        match parts.last_mut() {
            Some(part) if part.len() < size && held.saturating_add(length) <= bytes => {
                held += length;
                part.push(letter);
            }
            _ => {
                held = length;
                parts.push(vec![letter]);
            }
        }
    }
    parts
}

async fn deliver(core: &Core, config: &ClientConfig, batch: Vec<Letter>, backoff: Duration, counters: &Counters) {
    let count = batch.len();
    let (lines, waiting): (Vec<Bytes>, Vec<Option<oneshot::Sender<bool>>>) =
        batch.into_iter().map(|letter| (letter.line, letter.told)).unzip();
    let outcome = post(core, config, &lines, backoff).await;
    if let Err(why) = &outcome {
        counters.failed("webhook", count as u64);
        tracing::error!(why, events = count, "the audit webhook did not take events");
    }
    for told in waiting.into_iter().flatten() {
        // One that has gone does not mind.
        let _ = told.send(outcome.is_ok());
    }
}

async fn post(core: &Core, config: &ClientConfig, events: &[Bytes], mut pause: Duration) -> Result<(), String> {
    let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(b"]}");
    let body = Bytes::from(body);
    let mut attempt = 1;
    loop {
        match core.webhooks.post(core, config, "", body.clone(), POST_TIMEOUT).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS || core.cancel.is_cancelled() => return Err(error.to_string()),
            Err(_) => drop(core.cancel.run_until_cancelled(tokio::time::sleep(pause)).await),
        }
        (attempt, pause) = (attempt + 1, pause.mul_f64(FACTOR));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_so_many_events_and_bytes() {
        let letters = |sizes: &[usize]| {
            let letter = |size: &usize| Letter {
                line: vec![b'x'; *size].into(),
                told: None,
            };
            sizes.iter().map(letter).collect::<Vec<_>>()
        };
        let lengths = |sizes: &[usize]| -> Vec<usize> { parts(letters(sizes), 3, 10).iter().map(Vec::len).collect() };
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[1, 1, 1, 1]), [3, 1]);
        assert_eq!(lengths(&[6, 4, 1, 20, 1]), [2, 1, 1, 1]);
    }

    #[test]
    fn a_throttle_lets_some_through_at_once_and_then_so_many_a_second() {
        let mut throttle = Throttle::new((10.0, 2));
        let now = throttle.since;
        let waits: Vec<u128> = (0..4).map(|_| throttle.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200]);
        assert_eq!(throttle.take(now + Duration::from_secs(60)).as_millis(), 0);
    }
}
