//! How long a request waits for others, for webhooks and for its turn, and until when it may.

use futures::FutureExt;
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Where the time of a request goes, as the audit log tells of slow ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Finding out who asks.
    Authentication,
    /// Finding out whether somebody may.
    Authorization,
    /// Becoming somebody else.
    Impersonation,
    /// Waiting for one's turn.
    Queue,
    /// The store.
    Storage,
    /// Webhooks that change.
    MutatingWebhook,
    /// Webhooks that refuse.
    ValidatingWebhook,
}

impl Layer {
    const ALL: [Self; 7] = [
        Self::Authentication,
        Self::Authorization,
        Self::Impersonation,
        Self::Queue,
        Self::Storage,
        Self::MutatingWebhook,
        Self::ValidatingWebhook,
    ];

    /// The annotation, in the names of upstream.
    fn key(self) -> &'static str {
        match self {
            Self::Authentication => "apiserver.latency.k8s.io/authentication",
            Self::Authorization => "apiserver.latency.k8s.io/authorization",
            Self::Impersonation => "apiserver.latency.k8s.io/impersonation",
            Self::Queue => "apiserver.latency.k8s.io/apf-queue-wait",
            Self::Storage => "apiserver.latency.k8s.io/etcd",
            Self::MutatingWebhook => "apiserver.latency.k8s.io/mutating-webhook",
            Self::ValidatingWebhook => "apiserver.latency.k8s.io/validating-webhook",
        }
    }

    /// Whether only the longest of several times counts.
    fn is_longest(self) -> bool {
        matches!(self, Self::Authorization | Self::Queue | Self::ValidatingWebhook)
    }
}

/// What each layer took of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layers([Duration; Layer::ALL.len()]);

impl Layers {
    fn add(&mut self, layer: Layer, time: Duration) {
        let of = &mut self.0[layer as usize];
        *of = if layer.is_longest() { time.max(*of) } else { *of + time };
    }

    /// With what one more took.
    #[must_use]
    pub(crate) fn with(mut self, layer: Layer, time: Duration) -> Self {
        self.add(layer, time);
        self
    }

    /// Annotations and times of those that took any.
    pub(crate) fn told(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = Layer::ALL
            .into_iter()
            .map(|layer| (layer.key(), self.0[layer as usize]));
        all.filter(|(_, time)| !time.is_zero())
    }
}

/// What is known of a request when it is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// How long it waited for others.
    pub(crate) waited: Duration,
    /// The size of its body, if that was read.
    pub(crate) body: Option<usize>,
    /// Where its time went.
    pub(crate) layers: Layers,
}

#[derive(Default)]
struct Waits {
    waited: Cell<Duration>,
    layers: Cell<Layers>,
    deadline: Cell<Option<Instant>>,
    body: Cell<Option<usize>>,
}

tokio::task_local! {
    /// What the request that the task answers has waited.
    static WAITS: Waits;
}

/// Adds to what the request that the task answers has waited.
pub(crate) fn add(time: Duration) {
    // What no request is answered for is nobody's wait.
    let _ = WAITS.try_with(|waits| waits.waited.set(waits.waited.get() + time));
}

/// Says where time of the request went that the task answers.
pub(crate) fn took(layer: Layer, time: Duration) {
    let _ = WAITS.try_with(|waits| {
        let mut layers = waits.layers.get();
        layers.add(layer, time);
        waits.layers.set(layers);
    });
}

/// Says how large the body was of the request that the task answers.
pub(crate) fn body(bytes: usize) {
    let _ = WAITS.try_with(|waits| waits.body.set(Some(bytes)));
}

/// Says until when the request that the task answers is answered.
pub(crate) fn end_at(deadline: Instant) {
    let _ = WAITS.try_with(|waits| waits.deadline.set(Some(deadline)));
}

/// What is left of the time of the request that the task answers, if that is bounded.
pub(crate) fn left() -> Option<Duration> {
    let deadline = WAITS.try_with(|waits| waits.deadline.get()).ok().flatten()?;
    Some(deadline.saturating_duration_since(Instant::now()))
}

/// Answers a request; tells what it spent. (No `async fn`: that would hold the large future twice.)
pub(crate) fn within<F: Future>(answering: F) -> impl Future<Output = (F::Output, Spent)> {
    let told = answering.map(|output| {
        let spent = WAITS.with(|waits| Spent {
            waited: waits.waited.get(),
            body: waits.body.get(),
            layers: waits.layers.get(),
        });
        (output, spent)
    });
    WAITS.scope(Waits::default(), told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_summed_up_or_their_longest_time_counts() {
        let mut layers = Layers::default();
        for (layer, millis) in [
            (Layer::Storage, 3),
            (Layer::Storage, 4),
            (Layer::Authorization, 5),
            (Layer::Authorization, 2),
        ] {
            layers.add(layer, Duration::from_millis(millis));
        }
        let told: Vec<_> = layers.told().collect();
        let millis = Duration::from_millis;
        assert_eq!(
            told,
            [
                ("apiserver.latency.k8s.io/authorization", millis(5)),
                ("apiserver.latency.k8s.io/etcd", millis(7))
            ]
        );
    }
}
