//! What the kernel tells of the whole machine.

use crate::error::{Answer, ApiError};

/// Clock ticks a second: USER_HZ on every architecture that this is built for.
pub(crate) const TICKS: u64 = 100;

/// Memory in bytes.
pub(crate) fn memory() -> Answer<u64> {
    Ok(numbers("/proc/meminfo", "MemTotal:")?[0] * 1024)
}

/// Processor time that all its processors have spent on anything, in nanoseconds.
pub(crate) fn processor_time() -> Answer<u64> {
    // User, nice, system, idle, iowait, irq and softirq; guests are within the first two (proc(5)).
    let ticks: u64 = numbers("/proc/stat", "cpu ")?.iter().take(7).sum();
    Ok(ticks * (1_000_000_000 / TICKS))
}

/// Seconds since 1970 when it was started.
pub(crate) fn started() -> Answer<i64> {
    Ok(i64::try_from(numbers("/proc/stat", "btime ")?[0]).unwrap_or(i64::MAX))
}

/// The numbers of the line that begins so, one at least.
fn numbers(path: &str, key: &str) -> Answer<Vec<u64>> {
    let text = std::fs::read_to_string(path).map_err(ApiError::io("read", path.as_ref()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let words = line.into_iter().flat_map(str::split_ascii_whitespace);
    let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    match numbers.is_empty() {
        true => Err(ApiError::internal(format!("{path} has no number after {key}"))),
        false => Ok(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells() {
        assert!(memory().unwrap() > 1 << 20);
        let before = processor_time().unwrap();
        assert!(before > 0 && processor_time().unwrap() >= before);
        assert!(started().unwrap() > 1_000_000_000);
        assert!(numbers("/proc/meminfo", "None:").is_err());
    }
}
