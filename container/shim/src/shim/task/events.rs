//! Telling containerd what happens, in order, over its socket for events.
//!
//! One event is on its way at a time; the others wait in a bounded queue. containerd may be away for a while: an event
//! is tried again a few times, and then given up, as containerd asks for the state when it comes back.

use super::client::Wire;
use super::command::connect;
use alloc::{collections::VecDeque, string::String, vec, vec::Vec};
use strata_sys::time;
use strata_ttrpc::Message;
use strata_ttrpc::envelope::{Any, KeyValue, Request, Timestamp};
use strata_ttrpc::frame;
use strata_ttrpc::task::{Envelope, ForwardRequest};

/// Events kept for a containerd that is away; the oldest go first.
const QUEUE_LIMIT: usize = 2048;

/// Times that one is tried.
const ATTEMPTS: u32 = 6;

/// How long containerd may take to answer.
const ANSWER_LIMIT: u64 = 5_000_000_000;

/// Before another attempt, times the attempts so far.
const PAUSE: u64 = 1_000_000_000;

pub(super) struct Publisher {
    address: String,
    namespace: String,
    wire: Option<Wire>,
    queue: VecDeque<Vec<u8>>,
    /// The stream that was used last.
    stream: u32,
    /// When the answer to the first of the queue is overdue.
    overdue: Option<u64>,
    failures: u32,
    /// Not before.
    retry: u64,
}

impl Publisher {
    pub(super) fn new(address: String, namespace: String) -> Self {
        Publisher {
            address,
            namespace,
            wire: None,
            queue: VecDeque::new(),
            stream: 0,
            overdue: None,
            failures: 0,
            retry: 0,
        }
    }

    /// Queues an event: where it belongs, the name of its message, and the message.
    pub(super) fn publish(&mut self, topic: &str, name: &str, event: &impl Message) {
        let request = ForwardRequest {
            envelope: Some(Envelope {
                timestamp: Some(Timestamp::from_nanoseconds(time::now())),
                namespace: self.namespace.clone(),
                topic: topic.into(),
                event: Some(Any {
                    type_url: name.into(),
                    value: event.encode_to_vec(),
                }),
            }),
        };
        let call = Request {
            service: "containerd.services.events.ttrpc.v1.Events".into(),
            method: "Forward".into(),
            payload: request.encode_to_vec(),
            timeout_nano: ANSWER_LIMIT as i64,
            metadata: vec![KeyValue {
                key: "containerd-namespace-ttrpc".into(),
                value: self.namespace.clone(),
            }],
        };
        if self.queue.len() >= QUEUE_LIMIT {
            // The first may be on its way.
            let oldest = usize::from(self.overdue.is_some());
            self.queue.remove(oldest);
        }
        self.queue.push_back(call.encode_to_vec());
        self.advance();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    /// When [`Publisher::advance`] has something to do even if nothing arrives.
    pub(super) fn deadline(&self) -> Option<u64> {
        match self.overdue {
            Some(overdue) => Some(overdue),
            None if self.queue.is_empty() => None,
            None => Some(self.retry),
        }
    }

    /// Acts on what arrived.
    pub(super) fn ready(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        for frame in wire.ready() {
            // Whatever the answer is: one that containerd refuses it would refuse again.
            if frame.stream == self.stream && frame.kind == frame::RESPONSE && self.overdue.take().is_some() {
                self.queue.pop_front();
                self.failures = 0;
            }
        }
        if wire.closed {
            self.hang_up();
        }
        self.advance();
    }

    /// Sends the next one if it is time.
    pub(super) fn advance(&mut self) {
        let now = time::monotonic();
        if self.overdue.is_some_and(|overdue| now >= overdue) {
            self.hang_up();
        }
        if self.overdue.is_some() || now < self.retry {
            return;
        }
        let Some(call) = self.queue.front() else { return };
        if self.wire.is_none() {
            match connect(&self.address) {
                Ok(socket) => {
                    self.wire = Some(Wire::new(socket));
                    self.stream = 0;
                }
                Err(_) => return self.fail(),
            }
        }
        if let Some(wire) = &mut self.wire {
            // The first is 1, and those of clients are odd.
            self.stream = if self.stream == 0 { 1 } else { self.stream + 2 };
            wire.send(self.stream, frame::REQUEST, call);
            self.overdue = Some(now + ANSWER_LIMIT);
        }
    }

    fn hang_up(&mut self) {
        self.wire = None;
        if self.overdue.take().is_some() {
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            self.queue.pop_front();
            self.failures = 0;
        }
        self.retry = time::monotonic() + PAUSE * u64::from(self.failures.max(1));
    }
}
