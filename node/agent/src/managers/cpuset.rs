//! Sets of processors as the kernel writes them: `0-2,5`.

use std::{collections::BTreeSet, fmt};

/// Processors above this do not exist anywhere.
const MAX: u32 = 1 << 16;

/// Processors by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads `0-2,5`; nothing is the empty set.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = BTreeSet::new();
        for range in text.trim().split(',').filter(|range| !range.is_empty()) {
            let number = |text: &str| {
                let parsed = text.trim().parse::<u32>().ok().filter(|n| *n < MAX);
                parsed.ok_or_else(|| format!("{range:?} is not a processor or a range of them"))
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(range)?, number(range)?),
            };
            if first > last {
                return Err(format!("{range:?} ends before it begins"));
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a processor is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// Those in either.
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// Those of this that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether all of this are in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_as_the_kernel_does() {
        for (text, told) in [("0-2,5\n", "0-2,5"), ("", ""), ("3,1,2", "1-3"), ("0,2,4-5", "0,2,4-5")] {
            assert_eq!(CpuSet::parse(text).expect(text).to_string(), told);
        }
        for bad in ["a", "1-", "5-3", "0-4000000000", "-1"] {
            assert!(CpuSet::parse(bad).is_err(), "{bad}");
        }
    }
}
