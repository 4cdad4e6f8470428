//! The clock, without a C library.

use crate::arch::syscall;

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// Nanoseconds since some moment; never goes back.
pub fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(clock: i32) -> u64 {
    let mut time = [0i64; 2];
    // SAFETY: clock_gettime(2) writes two words; it cannot fail for these clocks.
    let _ = unsafe {
        syscall(
            libc::SYS_clock_gettime,
            [clock as usize, time.as_mut_ptr() as usize, 0, 0, 0, 0],
        )
    };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

/// Year, month, day, hour, minute, second and nanosecond, UTC, of nanoseconds since 1970.
pub fn civil(nanoseconds: u64) -> (u32, u32, u32, u32, u32, u32, u32) {
    let seconds = nanoseconds / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, (seconds % 86_400) as u32);
    // Days since 0000-03-01, in 400-year eras: leap days then come last in the year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_shifted + 2) / 5 + 1) as u32;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    } as u32;
    let year = (year_of_era + era * 400) as u32 + u32::from(month <= 2);
    (
        year,
        month,
        day,
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        (nanoseconds % 1_000_000_000) as u32,
    )
}

/// `2006-01-02T15:04:05.000000000Z`, always 30 bytes.
pub fn rfc3339(nanoseconds: u64) -> [u8; 30] {
    let (year, month, day, hour, minute, second, nano) = civil(nanoseconds);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], hour);
    put(&mut text[14..16], minute);
    put(&mut text[17..19], second);
    put(&mut text[20..29], nano);
    text
}

fn put(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_827_696_000_000_001, "2000-02-29T12:34:56.000000001Z"),
            (1_772_323_199_999_999_999, "2026-02-28T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (nanoseconds, text) in table {
            assert_eq!(core::str::from_utf8(&rfc3339(nanoseconds)).unwrap(), text);
        }
    }
}
