//! A simulated end of the program between any two steps of making and removing.
//!
//! Every step that leaves something which a later process has to find is announced when it is done. In tests the
//! program ends at one of them, as by SIGKILL; outside tests this is nothing.

#[cfg(not(test))]
#[inline]
pub(crate) fn done(_: &str) {}

#[cfg(test)]
pub(crate) use simulated::done;

#[cfg(test)]
pub(crate) mod simulated {
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The step after which everything ends.
    static LAST: AtomicUsize = AtomicUsize::new(usize::MAX);
    static COUNT: AtomicUsize = AtomicUsize::new(0);

    /// Lets the program end after so many steps from now.
    pub(crate) fn end_after(steps: usize) {
        COUNT.store(0, Ordering::SeqCst);
        LAST.store(steps, Ordering::SeqCst);
    }

    pub(crate) fn done(step: &str) {
        if COUNT.fetch_add(1, Ordering::SeqCst) == LAST.load(Ordering::SeqCst) {
            eprintln!("ending after: {step}");
            // As SIGKILL by somebody else: nothing is taken back.
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}
