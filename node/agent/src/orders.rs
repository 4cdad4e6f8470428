//! What the node itself decides about pods, on its way to their workers.

use crate::planner::Ended;
use std::sync::Mutex;
use strata_meta::Uid;
use tokio::sync::mpsc;

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
