//! How many seats a level has: by its shares, and by what others lend and it wants.

use super::{SERVER_SEATS, level::Level};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How often seats are moved (upstream's period).
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// Seats by shares.
pub(super) fn nominal<'l>(levels: impl Iterator<Item = &'l Arc<Level>> + Clone) {
    let total: u64 = levels.clone().map(|l| u64::from(l.settings.shares)).sum();
    for level in levels {
        let part = u64::from(SERVER_SEATS) * u64::from(level.settings.shares);
        let seats = u32::try_from(part.div_ceil(total.max(1))).unwrap_or(SERVER_SEATS);
        level.nominal.store(seats, Ordering::Relaxed);
        level.set_limit(seats);
    }
}

/// Gives each level what it wants within its bounds, and what is left over to those who may borrow.
pub(super) fn rebalance<'l>(levels: impl Iterator<Item = &'l Arc<Level>>) {
    let limited: Vec<&Arc<Level>> = levels.filter(|l| !l.is_exempt()).collect();
    let wanted: Vec<(u32, u32, u32)> = limited
        .iter()
        .map(|level| {
            let (lower, upper) = level.bounds();
            (lower, upper, level.take_demand())
        })
        .collect();
    for (level, seats) in limited.iter().zip(allot(&wanted, SERVER_SEATS, |at| {
        limited[at].nominal.load(Ordering::Relaxed)
    })) {
        level.set_limit(seats);
    }
}

/// Seats for each of (lower, upper, demand), `total` together if the lower bounds allow.
fn allot(levels: &[(u32, u32, u32)], total: u32, nominal: impl Fn(usize) -> u32) -> Vec<u32> {
    // Everybody keeps what it must, and gets of its own what it wants.
    let mut seats: Vec<u32> = levels
        .iter()
        .enumerate()
        .map(|(at, (lower, _, demand))| (*demand).clamp(*lower, nominal(at).max(*lower)))
        .collect();
    let mut left = total.saturating_sub(seats.iter().sum());
    // Those who want more than their own borrow in proportion; nobody wants what is left after that, so it goes home.
    for wants in [true, false] {
        loop {
            let room = |at: usize, has: u32| {
                let (_, upper, demand) = levels[at];
                if wants {
                    demand.min(upper).saturating_sub(has)
                } else {
                    nominal(at).saturating_sub(has)
                }
            };
            let open: Vec<usize> = (0..levels.len()).filter(|at| room(*at, seats[*at]) > 0).collect();
            let weight: u32 = open.iter().map(|at| nominal(*at).max(1)).sum();
            if open.is_empty() || left == 0 {
                break;
            }
            let pot = left;
            for at in open {
                let part = (u64::from(pot) * u64::from(nominal(at).max(1))).div_ceil(weight.into());
                let part = u32::try_from(part).unwrap_or(left).min(room(at, seats[at])).min(left);
                seats[at] += part;
                left -= part;
            }
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_seats_are_lent_and_come_back() {
        let nominal = [100, 100, 40];
        let levels = |demand: [u32; 3]| [(50, 600, demand[0]), (10, 600, demand[1]), (40, 60, demand[2])];
        let seats = |demand| allot(&levels(demand), 240, |at| nominal[at]);
        assert_eq!(seats([0, 0, 0]), [100, 100, 40]);
        // The first may lend half, the second nearly all.
        assert_eq!(seats([0, 500, 0]), [50, 150, 40]);
        assert_eq!(seats([500, 0, 0]), [190, 10, 40]);
        // Nobody takes what its owner wants.
        assert_eq!(seats([500, 500, 500]), [100, 100, 40]);
        let borrowed = seats([0, 0, 500]);
        assert_eq!(borrowed[2], 60);
        assert!(borrowed.iter().sum::<u32>() <= 240);
    }
}
