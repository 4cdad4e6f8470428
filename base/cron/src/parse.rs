//! The text of a schedule.

use crate::schedule::{Fields, STAR, Schedule};
use jiff::tz::TimeZone;
use strata_meta::GoDuration;

/// Why a text is no schedule, in the words of Go's parser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSchedule(String);

fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidSchedule> {
    Err(InvalidSchedule(why.into()))
}

/// What a field may hold.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 5] = [
    Bounds::numbers(0, 59),
    Bounds::numbers(0, 23),
    Bounds::numbers(1, 31),
    Bounds {
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Bounds {
        least: 0,
        most: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl Bounds {
    const fn numbers(least: u32, most: u32) -> Self {
        Self {
            least,
            most,
            names: &[],
        }
    }
}

/// The time zone of a name. Errors: in Go's words, that there is none.
pub fn zone(name: &str) -> Result<TimeZone, InvalidSchedule> {
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        // The machine's zone is no part of what a schedule says.
        "Local" => Ok(TimeZone::UTC),
        // Names are told apart by case, as Go tells them.
        name => match jiff::tz::db().get(name) {
            Ok(zone) if zone.iana_name() == Some(name) => Ok(zone),
            _ => invalid(format!("unknown time zone {name}")),
        },
    }
}

/// See [`Schedule::parse`].
pub(crate) fn schedule(text: &str) -> Result<Schedule, InvalidSchedule> {
    if text.is_empty() {
        return invalid("empty spec string");
    }
    let (at, rest) = match text.strip_prefix("CRON_").unwrap_or(text).strip_prefix("TZ=") {
        None => (TimeZone::UTC, text),
        Some(zoned) => {
            let Some((name, rest)) = zoned.split_once(' ') else {
                // Go's parser panics here, and its caller says so.
                let why = "runtime error: slice bounds out of range [:-1]";
                return invalid(format!("invalid schedule format: {why}"));
            };
            match zone(name) {
                Ok(zone) => (zone, rest.trim()),
                Err(why) => return invalid(format!("provided bad location {name}: {why}")),
            }
        }
    };
    if rest.starts_with('@') {
        return descriptor(rest, at);
    }
    let texts: Vec<&str> = rest.split_whitespace().collect();
    if texts.len() != BOUNDS.len() {
        let (count, shown) = (texts.len(), texts.join(" "));
        return invalid(format!("expected exactly 5 fields, found {count}: [{shown}]"));
    }
    let mut bits = [0; 5];
    for ((bits, text), bounds) in bits.iter_mut().zip(&texts).zip(&BOUNDS) {
        *bits = field(text, bounds)?;
    }
    Ok(Schedule::Fields(fields(bits, at)))
}

fn fields([minute, hour, day, month, weekday]: [u64; 5], zone: TimeZone) -> Fields {
    Fields {
        minute,
        hour,
        day,
        month,
        weekday,
        zone,
    }
}

fn descriptor(text: &str, zone: TimeZone) -> Result<Schedule, InvalidSchedule> {
    // Whether month, day, hour are any; the weekday of `@weekly` is the first.
    let (any, weekly) = match text {
        "@yearly" | "@annually" => ([false, false, false], false),
        "@monthly" => ([true, false, false], false),
        "@weekly" => ([true, true, false], true),
        "@daily" | "@midnight" => ([true, true, false], false),
        "@hourly" => ([true, true, true], false),
        _ => {
            let Some(period) = text.strip_prefix("@every ") else {
                return invalid(format!("unrecognized descriptor: {text}"));
            };
            let period: GoDuration = match period.parse() {
                Ok(period) => period,
                Err(why) => return invalid(format!("failed to parse duration {text}: {why}")),
            };
            return Ok(Schedule::Every(
                u64::try_from(period.nanos() / 1_000_000_000).unwrap_or(0).max(1),
            ));
        }
    };
    let bits = |any: bool, bounds: &Bounds| match any {
        true => range(bounds.least, bounds.most, 1) | STAR,
        false => 1 << bounds.least,
    };
    let [month, day, hour] = any;
    let [minutes, hours, days, months, weekdays] = &BOUNDS;
    let bits = [
        bits(false, minutes),
        bits(hour, hours),
        bits(day, days),
        bits(month, months),
        bits(!weekly, weekdays),
    ];
    Ok(Schedule::Fields(fields(bits, zone)))
}

/// Ranges between commas.
fn field(text: &str, bounds: &Bounds) -> Result<u64, InvalidSchedule> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| part_of(part, bounds))
        .try_fold(0, |all, bits| Ok(all | bits?))
}

/// `number | number "-" number [ "/" number ]`
fn part_of(text: &str, bounds: &Bounds) -> Result<u64, InvalidSchedule> {
    let (span, step) = match text.split('/').collect::<Vec<_>>()[..] {
        [span] => (span, None),
        [span, step] => (span, Some(step)),
        _ => return part_with_slashes(text, bounds),
    };
    let (mut star, first, mut last) = ends(text, span, bounds)?;
    let step = match step {
        None => 1,
        Some(step) => {
            let step = number(step)?;
            // A number with a step means from there on.
            if !span.contains('-') {
                last = bounds.most;
            }
            star &= step <= 1;
            step
        }
    };
    let (least, most) = (bounds.least, bounds.most);
    if first < least {
        return invalid(format!("beginning of range ({first}) below minimum ({least}): {text}"));
    }
    if last > most {
        return invalid(format!("end of range ({last}) above maximum ({most}): {text}"));
    }
    if first > last {
        return invalid(format!(
            "beginning of range ({first}) beyond end of range ({last}): {text}"
        ));
    }
    if step == 0 {
        return invalid(format!("step of range should be a positive number: {text}"));
    }
    Ok(range(first, last, step) | if star { STAR } else { 0 })
}

/// The range is read before the slashes are counted.
fn part_with_slashes(text: &str, bounds: &Bounds) -> Result<u64, InvalidSchedule> {
    let span = text.split('/').next().unwrap_or(text);
    ends(text, span, bounds)?;
    invalid(format!("too many slashes: {text}"))
}

/// Whether it is any, and the first and the last.
fn ends(text: &str, span: &str, bounds: &Bounds) -> Result<(bool, u32, u32), InvalidSchedule> {
    let mut parts = span.split('-');
    let first = parts.next().unwrap_or(span);
    if matches!(first, "*" | "?") {
        return Ok((true, bounds.least, bounds.most));
    }
    let first = number_or_name(first, bounds)?;
    let last = match (parts.next(), parts.next()) {
        (None, _) => first,
        (Some(last), None) => number_or_name(last, bounds)?,
        _ => return invalid(format!("too many hyphens: {text}")),
    };
    Ok((false, first, last))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, InvalidSchedule> {
    match bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(at) => Ok(bounds.least + u32::try_from(at).unwrap_or(0)),
        None => number(text),
    }
}

/// Go's Atoi, and not below zero.
fn number(text: &str) -> Result<u32, InvalidSchedule> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        return invalid(format!("failed to parse int from {text}: {why}"));
    }
    match text.parse::<i64>() {
        Err(_) => {
            let why = format!("strconv.Atoi: parsing {text:?}: value out of range");
            invalid(format!("failed to parse int from {text}: {why}"))
        }
        Ok(number) if number < 0 => invalid(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
    }
}

/// A bit for each of the numbers.
fn range(first: u32, last: u32, step: u32) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (first..=last).step_by(step).fold(0, |bits, number| bits | 1 << number)
}
