//! A map that only grows, read without a lock.
//!
//! Entries stand in segments, each twice as long as the one before, and never move: who found one may keep it. A key's
//! places are the same for everybody, so that of two who add it at once the second finds the first one's.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// Places of the first segment.
const FIRST: usize = 32;
/// Places of a segment that a key may have.
const PROBES: usize = 8;
/// Segments, and so entries at most: 32 · (2^10 - 1).
const SEGMENTS: usize = 10;

/// Entries of one family of series by the values of their labels.
pub(crate) struct Table<const N: usize, M> {
    first: Segment<N, M>,
    len: AtomicUsize,
}

/// One series.
pub(crate) struct Entry<const N: usize, M> {
    hash: u64,
    pub(crate) labels: [Box<str>; N],
    pub(crate) value: Arc<M>,
}

struct Segment<const N: usize, M> {
    slots: Box<[OnceLock<Box<Entry<N, M>>>]>,
    next: OnceLock<Box<Segment<N, M>>>,
}

impl<const N: usize, M> Segment<N, M> {
    fn new(len: usize) -> Self {
        Self {
            slots: (0..len).map(|_| OnceLock::new()).collect(),
            next: OnceLock::new(),
        }
    }

    /// The places a key may have here.
    fn places(&self, hash: u64) -> impl Iterator<Item = &OnceLock<Box<Entry<N, M>>>> {
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let start = hash as usize;
        (0..PROBES).map(move |step| &self.slots[start.wrapping_add(step) & mask])
    }
}

impl<const N: usize, M> Table<N, M> {
    pub(crate) fn new() -> Self {
        Self {
            first: Segment::new(FIRST),
            len: AtomicUsize::new(0),
        }
    }

    /// The entry of a key, made if there is none; `None` when there is no room for another.
    pub(crate) fn get(&self, labels: [&str; N], make: impl Fn() -> M) -> Option<&Entry<N, M>> {
        let hash = hash_of(&labels);
        let mut segment = &self.first;
        for depth in 1..=SEGMENTS {
            for slot in segment.places(hash) {
                let entry = match slot.get() {
                    Some(entry) => entry,
                    None => {
                        // Whoever comes first; the other's is dropped.
                        let mut mine = false;
                        let entry = slot.get_or_init(|| {
                            mine = true;
                            Box::new(Entry {
                                hash,
                                labels: labels.map(Box::from),
                                value: Arc::new(make()),
                            })
                        });
                        if mine {
                            self.len.fetch_add(1, Ordering::Relaxed);
                        }
                        entry
                    }
                };
                if entry.hash == hash && same(&entry.labels, &labels) {
                    return Some(entry);
                }
            }
            if depth < SEGMENTS {
                let next = || Box::new(Segment::new(segment.slots.len() * 2));
                segment = segment.next.get_or_init(next);
            }
        }
        None
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<N, M>> {
        let segments = std::iter::successors(Some(&self.first), |s| s.next.get().map(|next| &**next));
        segments
            .flat_map(|s| s.slots.iter())
            .filter_map(|slot| slot.get().map(|entry| &**entry))
    }
}

fn same<const N: usize>(own: &[Box<str>; N], asked: &[&str; N]) -> bool {
    own.iter().zip(asked).all(|(own, asked)| **own == **asked)
}

/// FNV-like over words of eight bytes: labels are short, and what they may do with collisions is bounded.
fn hash_of<const N: usize>(labels: &[&str; N]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = 0x517c_c1b7_2722_0a95_u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    for label in labels {
        let mut chunks = label.as_bytes().chunks_exact(8);
        for chunk in &mut chunks {
            mix(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let mut last = [0; 8];
        let rest = chunks.remainder();
        last[..rest.len()].copy_from_slice(rest);
        mix(u64::from_le_bytes(last));
        mix(label.len() as u64);
    }
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn everybody_counts_in_the_same_entry() {
        let table: Table<2, AtomicU64> = Table::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let text = (round % 500).to_string();
                        let entry = table.get([&text, "x"], AtomicU64::default).expect("there is room");
                        entry.value.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(table.len(), 500);
        assert_eq!(table.iter().count(), 500);
        assert!(table.iter().all(|e| e.value.load(Ordering::Relaxed) == 16));
    }

    #[test]
    fn it_is_full_before_it_is_large() {
        let table: Table<1, ()> = Table::new();
        let kept = (0..200_000).filter(|n| table.get([&n.to_string()], || ()).is_some());
        let kept = kept.count();
        assert!((16_384..=32 * 1023).contains(&kept), "{kept}");
        assert_eq!(kept, table.len());
    }
}
