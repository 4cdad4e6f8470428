//! Following what happens in the sandboxes.

use crate::engine::Inner;
use crate::entry::{ContainerEntry, SandboxEntry, moment};
use crate::link::{EventStream, ShimLink, blocking, end_at, is_same_process};
use crate::run::detach;
use crate::spec::text;
use crate::{ContainerId, ContainerState, EngineEvent, Error};
use std::sync::{Arc, PoisonError, Weak};
use strata_shim::protocol::{Event, SandboxState, Status};

impl Inner {
    /// Subscribes to a shim's events and keeps following them in the background.
    pub async fn follow(self: &Arc<Self>, sandbox: &Arc<SandboxEntry>, link: &Arc<ShimLink>) -> Result<(), Error> {
        let containers = self.known.containers_of(&sandbox.id);
        let stream = self.subscribe(sandbox, link, containers).await?;
        let (inner, stop) = (Arc::downgrade(self), self.stop.clone());
        let (sandbox, link) = (Arc::clone(sandbox), Arc::clone(link));
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch(inner, sandbox, link, stream) => {}
            }
        });
        Ok(())
    }

    /// Subscribes, then catches up with what happened before; `expected` are those the shim must know.
    async fn subscribe(
        self: &Arc<Self>,
        sandbox: &Arc<SandboxEntry>,
        link: &Arc<ShimLink>,
        expected: Vec<Arc<ContainerEntry>>,
    ) -> Result<EventStream, Error> {
        let asked = Arc::clone(link);
        let (events, state) = blocking(move || {
            let subscribed = asked.open().and_then(|connection| connection.subscribe());
            let state = subscribed.and_then(|events| Ok((events, asked.call(|connection| connection.state())?)));
            state.map_err(|error| asked.explain("follow the sandbox", error))
        })
        .await?;
        if !state.ready {
            return Err(Error::SandboxNotReady(sandbox.id.clone()));
        }
        self.catch_up(&expected, &state);
        EventStream::new(events).map_err(Error::io("wait for", link.shim().socket.clone()))
    }

    fn catch_up(self: &Arc<Self>, expected: &[Arc<ContainerEntry>], state: &SandboxState) {
        for container in expected {
            let event = match state.containers.get(container.record.id.as_str()) {
                None => container.lost("the container's shim does not know it"),
                Some(known) => {
                    if known.status != Status::Created && known.started_at != 0 {
                        container.started(moment(known.started_at));
                    }
                    if known.status != Status::Stopped {
                        container.life.send_modify(|life| life.pid = Some(known.pid));
                    }
                    known.exit.as_ref().and_then(|exit| container.exited(exit))
                }
            };
            if let Some(event) = event {
                self.tell(event);
                self.save_later(Arc::clone(container));
            }
        }
    }

    fn handle(self: &Arc<Self>, sandbox: &SandboxEntry, event: Event) {
        match event {
            Event::Exited { container, status } => {
                let Ok(container) = self.known.container(&ContainerId::from(container.as_str())) else {
                    return;
                };
                if let Some(event) = container.exited(&status) {
                    self.tell(event);
                    self.save_later(container);
                }
            }
            Event::ExecExited {
                container,
                exec,
                status,
            } => {
                let waiter = sandbox
                    .execs
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&(container, exec));
                if let Some(waiter) = waiter {
                    // Whoever asked may have gone.
                    let _ = waiter.send(status);
                }
            }
            Event::OutOfMemory { container } => {
                let id = ContainerId::from(container.as_str());
                self.tell(EngineEvent::OomKilled {
                    id,
                    sandbox_id: sandbox.id.clone(),
                });
            }
        }
    }

    /// The shim is gone: so are the namespaces, and nobody watches the processes any more.
    pub async fn bury(self: &Arc<Self>, sandbox: &Arc<SandboxEntry>) {
        sandbox.unlink();
        // Before the lock: whoever holds it may be waiting for these ends.
        let (inner, entry) = (Arc::clone(self), Arc::clone(sandbox));
        let ended = blocking(move || inner.end_orphans(&entry)).await;
        let _ending = sandbox.ending.lock().await;
        if sandbox.lock_record().stopped {
            return;
        }
        let (inner, entry) = (Arc::clone(self), Arc::clone(sandbox));
        let released = blocking(move || detach(&entry).and(inner.release(&entry))).await;
        if let Err(error) = ended.and(released) {
            tracing::warn!(sandbox = %sandbox.id, %error, "could not clean up after a shim that is gone");
        }
        self.tell(EngineEvent::SandboxExited {
            sandbox_id: sandbox.id.clone(),
        });
    }

    /// Kills what a shim left running. Blocking.
    pub fn end_orphans(self: &Arc<Self>, sandbox: &SandboxEntry) -> Result<(), Error> {
        // A shim that never got to its sandbox, or speaks no more than half.
        let socket = text(&self.folders.run(&sandbox.id).join("shim.sock"))?;
        if let Err(why) = end_at(&socket) {
            // Its processes are killed below.
            tracing::warn!(sandbox = %sandbox.id, why, "a shim does not end when it is asked to");
        }
        let mut result = Ok(());
        let stopped = sandbox.lock_record().stopped;
        for container in self.known.containers_of(&sandbox.id) {
            // A sandbox that was stopped in order had ended its containers before.
            if stopped && container.state() == ContainerState::Exited {
                continue;
            }
            result = result.and(self.clear_cgroup(&container.record.cgroup));
            if let Some(event) = container.lost("the container's shim is gone") {
                self.tell(event);
            }
            result = result.and(self.save(&container));
        }
        result
    }

    /// Takes the memory of a sandbox back and notes that it is stopped. Blocking.
    pub fn release(&self, sandbox: &SandboxEntry) -> Result<(), Error> {
        self.unmount_shm(&sandbox.id)?;
        let record = {
            let mut record = sandbox.lock_record();
            record.stopped = true;
            record.clone()
        };
        self.folders.write_sandbox(&record)
    }
}

async fn watch(inner: Weak<Inner>, sandbox: Arc<SandboxEntry>, link: Arc<ShimLink>, mut stream: EventStream) {
    loop {
        let event = stream.next().await;
        let Some(inner) = inner.upgrade() else { return };
        match event {
            Ok(event) => inner.handle(&sandbox, event),
            Err(error) => {
                // Ended by us.
                if sandbox.link().is_err() {
                    return;
                }
                tracing::debug!(sandbox = %sandbox.id, %error, "the stream of events broke");
                match inner.again(&sandbox, &link).await {
                    Some(fresh) => stream = fresh,
                    None => {
                        if sandbox.link().is_ok() {
                            tracing::warn!(sandbox = %sandbox.id, "the sandbox's shim is gone");
                            inner.bury(&sandbox).await;
                        }
                        return;
                    }
                }
            }
        }
    }
}

impl Inner {
    /// A new stream, if the shim lives and only lost patience with us.
    async fn again(self: &Arc<Self>, sandbox: &Arc<SandboxEntry>, link: &Arc<ShimLink>) -> Option<EventStream> {
        let shim = link.shim();
        if !is_same_process(shim.pid, shim.start_time) {
            return None;
        }
        // Those with a pid were made before this moment, so the shim must know them.
        let mut expected = self.known.containers_of(&sandbox.id);
        expected.retain(|container| container.life.borrow().pid.is_some());
        let stream = self.subscribe(sandbox, link, expected).await.ok()?;
        self.wait_for_execs(sandbox, link);
        Some(stream)
    }

    /// Ends of execs may have been among the lost events: asks for each.
    fn wait_for_execs(self: &Arc<Self>, sandbox: &Arc<SandboxEntry>, link: &Arc<ShimLink>) {
        let pending: Vec<(String, String)> = sandbox
            .execs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect();
        for (container, exec) in pending {
            let (inner, sandbox, link) = (Arc::downgrade(self), Arc::clone(sandbox), Arc::clone(link));
            tokio::task::spawn_blocking(move || {
                let waited = link
                    .open()
                    .and_then(|mut connection| connection.wait(&container, Some(&exec)));
                if let (Ok(status), Some(inner)) = (waited, inner.upgrade()) {
                    inner.handle(
                        &sandbox,
                        Event::ExecExited {
                            container,
                            exec,
                            status,
                        },
                    );
                }
            });
        }
    }
}
