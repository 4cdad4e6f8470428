//! A simulated end of the program or of the machine between any two steps of the store.
//!
//! Every step that changes what a later run of the program sees is announced here first. In
//! tests a step may be the one before which everything ends; outside tests this is nothing.

use std::io;
use std::path::{Path, PathBuf};

/// A step, told before it is done.
#[derive(Clone, Debug)]
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) enum Step {
    /// A file is replaced; `durable` with all that makes it survive the machine.
    Written { path: PathBuf, durable: bool },
    /// A file's content is brought to disk.
    Synced { path: PathBuf },
    /// A file or folder gets its final name.
    Renamed { from: PathBuf, to: PathBuf },
    /// Something leaves its place.
    Removed { path: PathBuf },
    /// Everything is brought to disk.
    SyncedAll { root: PathBuf },
}

#[cfg(not(test))]
pub(crate) use real::*;
#[cfg(test)]
pub(crate) use simulated::*;

#[cfg(not(test))]
mod real {
    use super::{Path, Step, io};

    /// Announces a step.
    #[inline]
    pub(crate) fn step(_: Step) -> io::Result<()> {
        Ok(())
    }

    /// Whether the program has ended as far as this folder is concerned.
    #[inline]
    pub(crate) fn ended(_: &Path) -> bool {
        false
    }

    /// Whether a test watches this folder and wants no work behind its back.
    #[inline]
    pub(crate) fn watched(_: &Path) -> bool {
        false
    }
}

#[cfg(test)]
mod simulated {
    use super::{Path, PathBuf, Step, io};
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    static WATCHES: Mutex<Vec<Arc<Watch>>> = Mutex::new(Vec::new());

    /// A store under observation, until this is dropped.
    pub(crate) struct Watched(Arc<Watch>);

    struct Watch {
        root: PathBuf,
        state: Mutex<State>,
    }

    struct State {
        /// Steps until the end; none for no end.
        left: Option<usize>,
        ended: bool,
        done: Vec<Step>,
    }

    fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(path: &Path) -> Option<Arc<Watch>> {
        locked(&WATCHES)
            .iter()
            .find(|watch| path.starts_with(&watch.root))
            .cloned()
    }

    pub(crate) fn step(step: Step) -> io::Result<()> {
        let path = match &step {
            Step::Written { path, .. } | Step::Synced { path } | Step::Removed { path } => path,
            Step::Renamed { to, .. } => to,
            Step::SyncedAll { root } => root,
        };
        let Some(watch) = watch(path) else { return Ok(()) };
        let mut state = locked(&watch.state);
        if state.ended {
            return Err(io::Error::other("simulated end"));
        }
        match &mut state.left {
            Some(0) => {
                state.ended = true;
                return Err(io::Error::other("simulated end"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        state.done.push(step);
        Ok(())
    }

    pub(crate) fn ended(path: &Path) -> bool {
        watch(path).is_some_and(|watch| locked(&watch.state).ended)
    }

    pub(crate) fn watched(path: &Path) -> bool {
        watch(path).is_some()
    }

    impl Watched {
        pub fn new(root: &Path) -> Self {
            let state = State {
                left: None,
                ended: false,
                done: Vec::new(),
            };
            let watch = Arc::new(Watch {
                root: root.to_owned(),
                state: Mutex::new(state),
            });
            locked(&WATCHES).push(Arc::clone(&watch));
            Self(watch)
        }

        /// Lets everything end before the step after so many.
        pub fn end_after(&self, steps: usize) {
            locked(&self.0.state).left = Some(steps);
        }

        /// Goes on as another run of the program; whether the one before was ended.
        pub fn restart(&self) -> bool {
            let mut state = locked(&self.0.state);
            state.left = None;
            std::mem::take(&mut state.ended)
        }

        /// What of the steps so far the machine's end may take back or tear: a name, and whether
        /// its content was on disk.
        pub fn at_risk(&self) -> Vec<(PathBuf, bool)> {
            let mut synced: HashSet<PathBuf> = HashSet::new();
            let mut risks = Vec::new();
            for step in &locked(&self.0.state).done {
                match step {
                    Step::Synced { path } => {
                        synced.insert(path.clone());
                    }
                    Step::Renamed { from, to } => risks.push((to.clone(), synced.contains(from))),
                    Step::Written { path, durable: false } => risks.push((path.clone(), false)),
                    Step::Written { .. } | Step::Removed { .. } => {}
                    Step::SyncedAll { .. } => risks.clear(),
                }
            }
            risks
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            locked(&WATCHES).retain(|watch| !Arc::ptr_eq(watch, &self.0));
        }
    }
}
