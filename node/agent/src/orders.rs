//! What the node itself decides about pods, on its way to their workers.

use crate::{container::POD_UID, planner::Ended};
use std::{sync::Mutex, time::Duration};
use strata_engine::{ContainerState, Engine};
use strata_meta::Uid;
use tokio::sync::{broadcast::error::RecvError, mpsc};

/// Orders that wait; whoever has more waits.
const WAITING: usize = 64;

/// A pod shall end.
#[derive(Clone, Debug)]
pub struct Order {
    /// The pod.
    pub uid: Uid,
    /// Why, and how.
    pub ended: Ended,
}

/// The way from whoever decides to the manager of pods.
pub struct Orders {
    sender: mpsc::Sender<Order>,
    receiver: Mutex<Option<mpsc::Receiver<Order>>>,
}

impl Default for Orders {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Orders {
    /// Gives an order; whether anybody takes it.
    pub async fn send(&self, order: Order) -> bool {
        self.sender.send(order).await.is_ok()
    }

    /// The other end, once.
    pub fn receiver(&self) -> Option<mpsc::Receiver<Order>> {
        self.receiver.lock().expect("no holder of this lock panics").take()
    }
}

/// Waits until nothing of those pods runs; whether that came to be in time.
pub async fn gone(engine: &Engine, pods: &[Uid], limit: Duration) -> bool {
    let mut events = engine.events();
    let running = || {
        engine.list_containers().iter().any(|c| {
            let uid = c.labels.get(POD_UID).map(String::as_str);
            c.state == ContainerState::Running && pods.iter().any(|pod| Some(pod.as_str()) == uid)
        })
    };
    let gone = async {
        // A receiver that fell behind looks again just the same.
        while running() && !matches!(events.recv().await, Err(RecvError::Closed)) {}
    };
    let done = tokio::time::timeout(limit, gone).await.is_ok();
    if !done {
        tracing::warn!(?pods, "pods that were told to end still run");
    }
    done
}
