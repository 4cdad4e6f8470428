//! Sets of indexes as a job's status writes them: `1,3-5,7`.

use std::fmt;

/// Indexes as ranges, in order, neither overlapping nor touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads the text of a status; indexes beyond `completions` and what is no number are left out.
    pub fn parse(text: &str, completions: u32) -> Self {
        let mut found: Vec<(u32, u32)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
                tracing::warn!(part, "ignoring a corrupted interval of indexes");
                continue;
            };
            if first >= completions {
                break;
            }
            let last = last.min(completions - 1);
            match found.last_mut() {
                Some(previous) if previous.1.checked_add(1) == Some(first) => previous.1 = last,
                _ => found.push((first, last)),
            }
        }
        Self(found)
    }

    /// With these too, in any order.
    pub fn with(&self, indexes: impl IntoIterator<Item = u32>) -> Self {
        let mut more: Vec<(u32, u32)> = indexes.into_iter().map(|index| (index, index)).collect();
        more.sort_unstable();
        self.merged(&Self(more))
    }

    /// The union.
    pub fn merged(&self, other: &Self) -> Self {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut result: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match result.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => result.push((first, last)),
            }
        }
        Self(result)
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many both have.
    pub fn in_common(&self, other: &Self) -> u64 {
        let (mut mine, mut theirs, mut count) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.0.get(mine), other.0.get(theirs)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                count += u64::from(last - first) + 1;
            }
            if a.1 <= b.1 {
                mine += 1;
            }
            if b.1 <= a.1 {
                theirs += 1;
            }
        }
        count
    }

    /// The first `count` indexes below `completions` that are not in here.
    pub fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let mut found = Vec::with_capacity(count);
        let mut candidate = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            let until = first.min(completions);
            while candidate < until && found.len() < count {
                found.push(candidate);
                candidate += 1;
            }
            candidate = candidate.max(last.saturating_add(1));
        }
        found
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_as_upstream_does() {
        for (text, completions, expected) in [
            ("", 10, ""),
            ("0", 10, "0"),
            ("0,1", 10, "0,1"),
            ("0-2", 10, "0-2"),
            ("0,1,2", 10, "0-2"),
            ("1,3-5,7", 10, "1,3-5,7"),
            ("1,3-5,7", 5, "1,3,4"),
            ("3-5", 3, ""),
            ("x,2,4-y", 10, "2"),
            ("0-4294967295", 4_294_967_295, "0-4294967294"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn unions_and_gaps_are_those_of_sets() {
        let set = Indexes::parse("1,3-5,9", 20);
        assert_eq!(set.with([2, 6, 2, 15]).to_string(), "1-6,9,15");
        assert_eq!(set.merged(&Indexes::parse("0-2,4-12", 20)).to_string(), "0-12");
        assert_eq!(set.count(), 5);
        assert_eq!(set.missing(4, 20), [0, 2, 6, 7]);
        assert_eq!(set.missing(9, 8), [0, 2, 6, 7]);
        assert_eq!(Indexes::default().missing(2, 1), [0]);
        assert_eq!(set.in_common(&Indexes::parse("4-9", 20)), 3);
        assert_eq!(
            (set.has(0), set.has(4), set.has(9), set.has(10)),
            (false, true, true, false)
        );
    }
}
