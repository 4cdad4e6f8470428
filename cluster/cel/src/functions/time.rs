//! Parts of points and spans of time.

use super::Row;
use crate::{EvalError, Value, env::Library::Standard, value::Timestamp};

/// Function, and what its overloads are called.
const PARTS: [(&str, &str); 10] = [
    ("getFullYear", "year"),
    ("getMonth", "month"),
    ("getDayOfYear", "day_of_year"),
    ("getDayOfMonth", "day_of_month"),
    ("getDate", "day_of_month_1_based"),
    ("getDayOfWeek", "day_of_week"),
    ("getHours", "hours"),
    ("getMinutes", "minutes"),
    ("getSeconds", "seconds"),
    ("getMilliseconds", "milliseconds"),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (function, part) in PARTS {
        let implementation: super::Implementation = match part {
            "year" => |args| get(args, "year"),
            "month" => |args| get(args, "month"),
            "day_of_year" => |args| get(args, "day_of_year"),
            "day_of_month" => |args| get(args, "day_of_month"),
            "day_of_month_1_based" => |args| get(args, "day_of_month_1_based"),
            "day_of_week" => |args| get(args, "day_of_week"),
            "hours" => |args| get(args, "hours"),
            "minutes" => |args| get(args, "minutes"),
            "seconds" => |args| get(args, "seconds"),
            _ => |args| get(args, "milliseconds"),
        };
        let mut push = |id: String, signature: &'static str| {
            rows.push(Row(Standard, function, id.into(), signature.into(), implementation));
        };
        push(format!("timestamp_to_{part}"), "timestamp.() -> int");
        // The one name that breaks the pattern is upstream's.
        let tz = if part == "seconds" { "_tz" } else { "_with_tz" };
        push(format!("timestamp_to_{part}{tz}"), "timestamp.(string) -> int");
        if matches!(part, "hours" | "minutes" | "seconds" | "milliseconds") {
            push(format!("duration_to_{part}"), "duration.() -> int");
        }
    }
    rows
}

fn get<'a>(args: &[Value<'a>], part: &str) -> Result<Value<'a>, EvalError> {
    let (time, offset) = match args {
        [Value::Duration(span)] => {
            let unit = match part {
                "hours" => 3_600_000_000_000,
                "minutes" => 60_000_000_000,
                "seconds" => 1_000_000_000,
                _ => 1_000_000,
            };
            return Ok(Value::Int(span.0 / unit));
        }
        [Value::Timestamp(time)] => (time, 0),
        [Value::Timestamp(time), Value::String(zone)] => (time, offset(*time, zone)?),
        _ => return Err(EvalError::no_such_overload()),
    };
    let civil = time.civil(offset);
    Ok(Value::Int(match part {
        "year" => civil.year,
        "month" => civil.month - 1,
        "day_of_year" => civil.day_of_year,
        "day_of_month" => civil.day - 1,
        "day_of_month_1_based" => civil.day,
        "day_of_week" => civil.weekday,
        "hours" => civil.clock / 3600,
        "minutes" => civil.clock / 60 % 60,
        "seconds" => civil.clock % 60,
        _ => i64::from(time.nanoseconds / 1_000_000),
    }))
}

/// Seconds east of UTC, of a zone's name or of `±hh:mm`.
fn offset(time: Timestamp, zone: &str) -> Result<i64, EvalError> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| {
            let parsed = text.parse::<i64>().ok().filter(|n| n.abs() < 1_000_000);
            let message = || format!("strconv.Atoi: parsing \"{text}\": invalid syntax");
            parsed.ok_or_else(|| EvalError::failed(message()))
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let total = if zone.starts_with('-') {
            hours * 60 - minutes
        } else {
            hours * 60 + minutes
        };
        return Ok(total * 60);
    }
    if matches!(zone, "" | "UTC") {
        return Ok(0);
    }
    let unknown = || EvalError::failed(format!("unknown time zone {zone}"));
    let found = jiff::tz::TimeZone::get(zone).map_err(|_| unknown())?;
    let instant = jiff::Timestamp::new(time.seconds, 0).map_err(|_| unknown())?;
    Ok(i64::from(found.to_offset(instant).seconds()))
}
