//! What becomes of a wish: what was wished and done before holds it back, and bounds cut it off.

use super::types::{Behavior, Policy, Rules};

/// Seconds for which the highest wish of late counts where the behaviour says nothing.
pub(super) const DOWN_WINDOW: i32 = 300;

/// What was wished and done, by when (milliseconds).
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    wishes: Vec<(i32, i64)>,
    ups: Vec<(i32, i64)>,
    downs: Vec<(i32, i64)>,
}

/// A number and the conditions that tell how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub replicas: i32,
    /// AbleToScale: reason and message.
    pub able: (&'static str, &'static str),
    /// ScalingLimited: whether, reason and message.
    pub limited: (bool, &'static str, &'static str),
}

/// The bounds, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub min: i32,
    pub max: i32,
    pub current: i32,
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FAST: (&str, &str) = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_FAST_DOWN: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: (&str, &str) = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: (&str, &str) = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);

impl History {
    /// The first wish is that all stays as it is.
    pub fn begin(&mut self, current: i32, now: i64) {
        if self.wishes.is_empty() {
            self.wishes.push((current, now));
        }
    }

    /// What is done of a wish.
    pub fn limit(&mut self, wish: i32, bounds: Bounds, behavior: Option<&Behavior>, now: i64) -> Limited {
        let (stable, why) = match behavior {
            None => (self.stabilize_down(wish, now), DOWN_STABILIZED),
            Some(behavior) => {
                let why = if wish >= bounds.current {
                    UP_STABILIZED
                } else {
                    DOWN_STABILIZED
                };
                (self.stabilize(wish, bounds.current, behavior, now), why)
            }
        };
        let able = if stable == wish { READY } else { why };
        let (replicas, (reason, message)) = match behavior {
            None => bounded(stable, bounds),
            Some(behavior) => self.rated(stable, bounds, behavior, now),
        };
        Limited {
            replicas,
            able,
            limited: (replicas != stable, reason, message),
        }
    }

    /// Remembers that the number was changed; what is too old for any rule is forgotten.
    pub fn changed(&mut self, before: i32, after: i32, behavior: &Behavior, now: i64) {
        let policies = behavior.scale_up.policies.iter().chain(&behavior.scale_down.policies);
        let longest = policies.map(|policy| policy.period_seconds).max().unwrap_or(0);
        for events in [&mut self.ups, &mut self.downs] {
            events.retain(|(_, at)| *at >= cutoff(now, longest));
        }
        match after > before {
            true => self.ups.push((after - before, now)),
            false => self.downs.push((before - after, now)),
        }
    }

    fn stabilize_down(&mut self, wish: i32, now: i64) -> i32 {
        self.wishes.retain(|(_, at)| *at >= cutoff(now, DOWN_WINDOW));
        let highest = self.wishes.iter().map(|(wish, _)| *wish).fold(wish, i32::max);
        self.wishes.push((wish, now));
        highest
    }

    fn stabilize(&mut self, wish: i32, current: i32, behavior: &Behavior, now: i64) -> i32 {
        let window = |rules: &Rules, otherwise| rules.stabilization_window_seconds.unwrap_or(otherwise);
        let (up, down) = (window(&behavior.scale_up, 0), window(&behavior.scale_down, DOWN_WINDOW));
        self.wishes.retain(|(_, at)| *at >= cutoff(now, up.max(down)));
        let since = |seconds| {
            let from = cutoff(now, seconds);
            self.wishes
                .iter()
                .filter(move |(_, at)| *at > from)
                .map(|(wish, _)| *wish)
        };
        let lowest = since(up).fold(wish, i32::min);
        let highest = since(down).fold(wish, i32::max);
        let stable = current.max(lowest).min(highest);
        self.wishes.push((wish, now));
        stable
    }

    fn rated(&self, wish: i32, bounds: Bounds, behavior: &Behavior, now: i64) -> (i32, (&'static str, &'static str)) {
        let Bounds { min, max, current } = bounds;
        if wish > current {
            let rate = self.rate(current, &behavior.scale_up, true, now).max(current);
            let (most, why) = if max > rate { (rate, TOO_FAST) } else { (max, TOO_MANY) };
            if wish > most {
                return (most, why);
            }
        } else if wish < current {
            let rate = self.rate(current, &behavior.scale_down, false, now).min(current);
            let (least, why) = if min < rate {
                (rate, TOO_FAST_DOWN)
            } else {
                (min, TOO_FEW)
            };
            if wish < least {
                return (least, why);
            }
        }
        (wish, WITHIN)
    }

    /// How far the policies let the number go.
    fn rate(&self, current: i32, rules: &Rules, up: bool, now: i64) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let limits = rules
            .policies
            .iter()
            .map(|policy| self.policy_limit(current, policy, up, now));
        // The least change is the lowest limit upwards, and the highest downwards.
        let limit = match (select == "Min") == up {
            true => limits.min(),
            false => limits.max(),
        };
        limit.unwrap_or(current)
    }

    fn policy_limit(&self, current: i32, policy: &Policy, up: bool, now: i64) -> i32 {
        let from = cutoff(now, policy.period_seconds);
        let sum = |events: &[(i32, i64)]| -> i32 {
            let recent = events.iter().filter(|(_, at)| *at > from);
            recent.fold(0i32, |sum, (change, _)| sum.saturating_add(*change))
        };
        let start = current.saturating_sub(sum(&self.ups)).saturating_add(sum(&self.downs));
        let percent = |sign: f64| f64::from(start) * (1.0 + sign * f64::from(policy.value) / 100.0);
        match (policy.type_.as_str(), up) {
            ("Percent", true) => percent(1.0).ceil() as i32,
            ("Percent", false) => percent(-1.0) as i32,
            (_, true) => start.saturating_add(policy.value),
            (_, false) => start.saturating_sub(policy.value),
        }
    }
}

/// The bounds, and not more than twice what there is, or four.
fn bounded(wish: i32, bounds: Bounds) -> (i32, (&'static str, &'static str)) {
    let Bounds { min, max, current } = bounds;
    let rate = current.saturating_mul(2).max(4);
    let (most, why) = if max > rate { (rate, TOO_FAST) } else { (max, TOO_MANY) };
    if wish < min {
        (min, TOO_FEW)
    } else if wish > most {
        (most, why)
    } else {
        (wish, WITHIN)
    }
}

fn cutoff(now: i64, seconds: i32) -> i64 {
    now - i64::from(seconds) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn behavior(up: Value, down: Value) -> Behavior {
        serde_json::from_value(json!({"scaleUp": up, "scaleDown": down})).unwrap()
    }

    fn bounds(current: i32) -> Bounds {
        Bounds {
            min: 1,
            max: 100,
            current,
        }
    }

    fn policy(type_: &str, value: i32, seconds: i32) -> Value {
        json!({"type": type_, "value": value, "periodSeconds": seconds})
    }

    #[test]
    fn without_a_behaviour_the_highest_wish_of_five_minutes_counts() {
        let mut history = History::default();
        history.begin(5, 0);
        let first = history.limit(2, bounds(5), None, 1_000);
        assert_eq!((first.replicas, first.able.0), (5, "ScaleDownStabilized"));
        let later = history.limit(3, bounds(5), None, 300_500);
        assert_eq!(later.replicas, 3, "the beginning is forgotten");
        assert_eq!(later.able.0, "ReadyForNewScale");
        assert_eq!(history.limit(1, bounds(3), None, 302_000).replicas, 3);
    }

    #[test]
    fn bounds_are_named() {
        let case = |wish, min, max, current| {
            let (replicas, (reason, _)) = bounded(wish, Bounds { min, max, current });
            (replicas, reason)
        };
        assert_eq!(case(3, 1, 10, 3), (3, "DesiredWithinRange"));
        assert_eq!(case(1, 2, 10, 3), (2, "TooFewReplicas"));
        assert_eq!(case(20, 1, 10, 6), (10, "TooManyReplicas"));
        assert_eq!(case(20, 1, 100, 6), (12, "ScaleUpLimit"));
        assert_eq!(case(9, 1, 100, 1), (4, "ScaleUpLimit"));
    }

    #[test]
    fn windows_hold_back_in_both_directions() {
        let both = behavior(
            json!({"stabilizationWindowSeconds": 60, "policies": [policy("Percent", 1000, 60)]}),
            json!({"stabilizationWindowSeconds": 120, "policies": [policy("Percent", 100, 60)]}),
        );
        let mut history = History::default();
        history.begin(10, 0);
        let up = history.limit(20, bounds(10), Some(&both), 30_000);
        assert_eq!((up.replicas, up.able.0), (10, "ScaleUpStabilized"));
        let up = history.limit(20, bounds(10), Some(&both), 61_000);
        assert_eq!((up.replicas, up.able.0), (20, "ReadyForNewScale"));
        let down = history.limit(5, bounds(20), Some(&both), 70_000);
        assert_eq!((down.replicas, down.able.0), (20, "ScaleDownStabilized"));
        assert_eq!(history.limit(5, bounds(20), Some(&both), 190_000).replicas, 5);
    }

    #[test]
    fn policies_bound_the_change_in_their_period() {
        let rules = |select: &str| {
            let policies = json!([policy("Pods", 4, 60), policy("Percent", 50, 60)]);
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": policies})
        };
        let case = |select: &str, wish: i32| {
            let both = behavior(rules(select), rules(select));
            let mut history = History::default();
            let limited = history.limit(wish, bounds(20), Some(&both), 0);
            (limited.replicas, limited.limited.1)
        };
        assert_eq!(case("Max", 90), (30, "ScaleUpLimit"));
        assert_eq!(case("Min", 90), (24, "ScaleUpLimit"));
        assert_eq!(case("Disabled", 90), (20, "ScaleUpLimit"));
        assert_eq!(case("Max", 2), (10, "ScaleDownLimit"));
        assert_eq!(case("Min", 2), (16, "ScaleDownLimit"));
        assert_eq!(case("Disabled", 2), (20, "ScaleDownLimit"));
        assert_eq!(case("Max", 25), (25, "DesiredWithinRange"));
    }

    #[test]
    fn what_was_done_of_late_counts_against_the_policies() {
        let rules = json!({"stabilizationWindowSeconds": 0, "policies": [policy("Pods", 4, 60)]});
        let both = behavior(rules.clone(), rules);
        let mut history = History::default();
        assert_eq!(history.limit(30, bounds(10), Some(&both), 0).replicas, 14);
        history.changed(10, 14, &both, 0);
        assert_eq!(history.limit(30, bounds(14), Some(&both), 30_000).replicas, 14);
        assert_eq!(history.limit(30, bounds(14), Some(&both), 60_000).replicas, 18);
        history.changed(14, 18, &both, 60_000);
        // What went up may come down by as much more.
        assert_eq!(history.limit(5, bounds(18), Some(&both), 70_000).replicas, 10);
        assert_eq!(history.ups.len(), 2);
        history.changed(18, 10, &both, 130_000);
        assert_eq!((history.ups.len(), history.downs.len()), (0, 1));
    }
}
