//! Fields that a path of the API does not write, so that nobody comes to own them through it.

use super::compare::Comparison;
use super::set::Set;

/// A place below which fields are kept; `None` is any step.
pub type Pattern = &'static [Option<&'static str>];

/// What of a write counts.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Fields and all below them that do not count.
    without: Set,
    /// If there are any: only what lies below one of them counts.
    only: &'static [Pattern],
}

impl Filter {
    /// Everything but some fields and what lies below them.
    pub fn without(fields: &[&[&str]]) -> Self {
        Self {
            without: Set::of_fields(fields),
            only: &[],
        }
    }

    /// Only what lies below some places.
    pub fn only(places: &'static [Pattern]) -> Self {
        Self {
            without: Set::default(),
            only: places,
        }
    }

    pub(super) fn set(&self, set: &mut Set) {
        if !self.without.is_empty() {
            set.subtract_trees(&self.without);
        }
        if !self.only.is_empty() {
            set.retain_matching(self.only);
        }
    }

    pub(super) fn comparison(&self, comparison: &mut Comparison) {
        for set in comparison.sets_mut() {
            self.set(set);
        }
    }
}
