//! When a schedule is due.

use crate::{InvalidSchedule, parse};
use jiff::{
    Timestamp,
    civil::{DateTime, Weekday},
    tz::TimeZone,
};

/// The bit of a field that says "any".
pub(crate) const STAR: u64 = 1 << 63;
/// How many years ahead a time is looked for.
const YEARS: i16 = 5;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// When something is to be done again and again.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// At the times whose fields match.
    Fields(Fields),
    /// Every so many seconds.
    Every(u64),
}

/// A bit for each value that matches, and the zone in which they are read.
#[derive(Clone, Debug)]
pub struct Fields {
    pub(crate) minute: u64,
    pub(crate) hour: u64,
    pub(crate) day: u64,
    pub(crate) month: u64,
    pub(crate) weekday: u64,
    pub(crate) zone: TimeZone,
}

impl Schedule {
    /// Reads five fields or a descriptor, after `TZ=ZONE ` if that is there.
    pub fn parse(text: &str) -> Result<Self, InvalidSchedule> {
        parse::schedule(text)
    }

    /// The same in a time zone.
    pub fn within(mut self, zone: TimeZone) -> Self {
        if let Self::Fields(fields) = &mut self {
            fields.zone = zone;
        }
        self
    }

    /// The first due second after `after` (seconds since 1970, whole); nothing if there is none in five years, as for
    /// February 31.
    pub fn next(&self, after: i64) -> Option<i64> {
        match self {
            Self::Every(period) => after.checked_add(i64::try_from(*period).ok()?),
            Self::Fields(fields) => fields.next(after),
        }
    }
}

/// A second, and what the clocks of a zone show then.
#[derive(Clone, Copy)]
struct Moment<'a> {
    zone: &'a TimeZone,
    second: i64,
    shown: DateTime,
}

impl<'a> Moment<'a> {
    fn at(zone: &'a TimeZone, second: i64) -> Option<Self> {
        let shown = zone.to_datetime(Timestamp::from_second(second).ok()?);
        Some(Self { zone, second, shown })
    }

    /// When the clocks show this; where they never do, or twice, by the offset before the change, as Go's `time.Date`.
    fn showing(zone: &'a TimeZone, shown: DateTime) -> Option<Self> {
        let wall = TimeZone::UTC.to_timestamp(shown).ok()?.as_second();
        let offset = |second: i64| {
            Some(i64::from(
                zone.to_offset(Timestamp::from_second(second).ok()?).seconds(),
            ))
        };
        let guess = wall - offset(wall)?;
        Self::at(zone, wall - offset(guess)?)
    }

    fn plus(self, seconds: i64) -> Option<Self> {
        Self::at(self.zone, self.second.checked_add(seconds)?)
    }

    /// The clocks' midnight of this day, or of another.
    fn midnight(self, day: jiff::civil::Date) -> Option<Self> {
        Self::showing(self.zone, day.at(0, 0, 0, 0))
    }

    fn year(self) -> i16 {
        self.shown.year()
    }

    fn hour(self) -> i64 {
        i64::from(self.shown.hour())
    }
}

fn has(bits: u64, number: impl TryInto<u32>) -> bool {
    number.try_into().is_ok_and(|number| bits & (1 << number) != 0)
}

impl Fields {
    /// As robfig's SpecSchedule: each field is moved on until it matches; one that wraps starts over.
    fn next(&self, after: i64) -> Option<i64> {
        let mut now = Moment::at(&self.zone, after.checked_add(1)?)?;
        let last_year = now.year().checked_add(YEARS)?;
        // Once a field was moved on, those below it are at their least.
        let mut moved = false;
        'wrap: while now.year() <= last_year {
            while !has(self.month, now.shown.month()) {
                let first = match std::mem::replace(&mut moved, true) {
                    false => now.midnight(now.shown.date().first_of_month())?,
                    true => now,
                };
                let month = first
                    .shown
                    .date()
                    .first_of_month()
                    .checked_add(jiff::Span::new().months(1))
                    .ok()?;
                now = Moment::showing(&self.zone, month.to_datetime(first.shown.time()))?;
                if now.shown.month() == 1 {
                    continue 'wrap;
                }
            }
            while !self.is_day(now.shown) {
                if !std::mem::replace(&mut moved, true) {
                    now = now.midnight(now.shown.date())?;
                }
                let tomorrow = now.shown.date().tomorrow().ok()?;
                now = Moment::showing(&self.zone, tomorrow.to_datetime(now.shown.time()))?;
                // Where there is no midnight that day.
                now = match now.hour() {
                    0 => now,
                    late @ 13.. => now.plus((24 - late) * HOUR)?,
                    early => now.plus(-early * HOUR)?,
                };
                if now.shown.day() == 1 {
                    continue 'wrap;
                }
            }
            while !has(self.hour, now.shown.hour()) {
                if !std::mem::replace(&mut moved, true) {
                    let hour = now.shown.date().at(now.shown.hour(), 0, 0, 0);
                    now = Moment::showing(&self.zone, hour)?;
                }
                now = now.plus(HOUR)?;
                if now.hour() == 0 {
                    continue 'wrap;
                }
            }
            while !has(self.minute, now.shown.minute()) {
                if !std::mem::replace(&mut moved, true) {
                    now = now.plus(-now.second.rem_euclid(MINUTE))?;
                }
                now = now.plus(MINUTE)?;
                if now.shown.minute() == 0 {
                    continue 'wrap;
                }
            }
            while now.shown.second() != 0 {
                moved = true;
                now = now.plus(1)?;
                if now.shown.second() == 0 {
                    continue 'wrap;
                }
            }
            return Some(now.second);
        }
        None
    }

    /// Where both are restricted, either will do.
    fn is_day(&self, shown: DateTime) -> bool {
        let (day, weekday) = (has(self.day, shown.day()), has(self.weekday, weekday(shown.weekday())));
        match (self.day | self.weekday) & STAR != 0 {
            true => day && weekday,
            false => day || weekday,
        }
    }
}

fn weekday(day: Weekday) -> i8 {
    day.to_sunday_zero_offset()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn next(schedule: &str, after: &str) -> String {
        let due = Schedule::parse(schedule).unwrap().next(at(after));
        due.map_or("never".into(), |due| Timestamp::from_second(due).unwrap().to_string())
    }

    #[test]
    fn times_are_those_of_robfigs_own_table() {
        for (after, schedule, expected) in [
            ("2012-07-09T14:45:00Z", "0/15 * * * *", "2012-07-09T15:00:00Z"),
            ("2012-07-09T14:59:59Z", "0/15 * * * *", "2012-07-09T15:00:00Z"),
            ("2012-07-09T15:45:00Z", "20-35/15 * * * *", "2012-07-09T16:20:00Z"),
            ("2012-07-09T23:46:00Z", "*/15 * * * *", "2012-07-10T00:00:00Z"),
            ("2012-07-09T23:35:51Z", "20-35/15 5 * * *", "2012-07-10T05:20:00Z"),
            ("2012-07-09T23:35:00Z", "0 0 9 Apr-Oct ?", "2012-08-09T00:00:00Z"),
            (
                "2012-07-09T23:35:00Z",
                "0 0 */5 Apr,Aug,Oct Mon",
                "2012-08-01T00:00:00Z",
            ),
            ("2012-07-09T23:35:00Z", "0 0 */5 Oct Mon", "2012-10-01T00:00:00Z"),
            ("2012-07-09T23:35:00Z", "0 0 * Feb Mon", "2013-02-04T00:00:00Z"),
            ("2012-07-09T23:35:00Z", "0 0 * Feb Mon/2", "2013-02-01T00:00:00Z"),
            ("2012-12-31T23:59:45Z", "* * * * *", "2013-01-01T00:00:00Z"),
            ("2012-07-09T23:35:00Z", "0 0 29 Feb ?", "2016-02-29T00:00:00Z"),
            ("2012-07-09T23:35:00Z", "0 0 30 Feb ?", "never"),
            ("2012-07-09T23:35:00Z", "0 0 31 Apr ?", "never"),
            ("2012-07-09T14:45:10Z", "@every 1h30m", "2012-07-09T16:15:10Z"),
            ("2012-07-09T14:45:10Z", "@weekly", "2012-07-15T00:00:00Z"),
            ("2012-07-09T14:45:10Z", "@yearly", "2013-01-01T00:00:00Z"),
            ("2012-07-09T14:45:10Z", "@hourly", "2012-07-09T15:00:00Z"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn hours_that_do_not_exist_or_come_twice_are_as_in_go() {
        for (after, schedule, expected) in [
            // New York, the 11th of March 2012: 02:00 to 03:00 is left out.
            (
                "2012-03-11T00:00:00-05:00",
                "TZ=America/New_York 30 2 11 Mar ?",
                "2013-03-11T06:30:00Z",
            ),
            (
                "2012-03-11T00:00:00-05:00",
                "TZ=America/New_York 0 * * * ?",
                "2012-03-11T06:00:00Z",
            ),
            (
                "2012-03-11T01:00:00-05:00",
                "TZ=America/New_York 0 * * * ?",
                "2012-03-11T07:00:00Z",
            ),
            (
                "2012-03-11T03:00:00-04:00",
                "TZ=America/New_York 0 * * * ?",
                "2012-03-11T08:00:00Z",
            ),
            // The 4th of November: 01:00 to 02:00 comes twice.
            (
                "2012-11-04T00:00:00-04:00",
                "TZ=America/New_York 30 2 04 Nov ?",
                "2012-11-04T07:30:00Z",
            ),
            (
                "2012-11-04T01:45:00-04:00",
                "TZ=America/New_York 30 1 04 Nov ?",
                "2012-11-04T06:30:00Z",
            ),
            (
                "2012-11-04T01:00:00-04:00",
                "TZ=America/New_York 0 * * * ?",
                "2012-11-04T06:00:00Z",
            ),
            (
                "2012-11-04T01:00:00-05:00",
                "TZ=America/New_York 0 * * * ?",
                "2012-11-04T07:00:00Z",
            ),
            (
                "2012-11-04T01:00:00-05:00",
                "CRON_TZ=America/New_York 0 1 * * ?",
                "2012-11-05T06:00:00Z",
            ),
            (
                "2012-03-11T00:00:00-05:00",
                "TZ=America/New_York 0 2 * * ?",
                "2012-03-12T06:00:00Z",
            ),
            // Sao Paulo had no midnight on the 4th of November 2018: what is due then is not done.
            (
                "2018-11-03T05:00:00-02:00",
                "TZ=America/Sao_Paulo 0 9 10 * ?",
                "2018-11-10T11:00:00Z",
            ),
            (
                "2018-11-03T05:00:00-03:00",
                "TZ=America/Sao_Paulo 0 0 4 11 ?",
                "2019-11-04T03:00:00Z",
            ),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn zones_are_known_by_their_exact_names() {
        for known in [
            "",
            "UTC",
            "Europe/Berlin",
            "US/Pacific",
            "Etc/GMT+5",
            "Asia/Ho_Chi_Minh",
        ] {
            assert!(crate::zone(known).is_ok(), "{known}");
        }
        for unknown in ["europe/berlin", "Nowhere", "../UTC", "Europe/", "/etc/localtime"] {
            let why = crate::zone(unknown).unwrap_err().to_string();
            assert_eq!(why, format!("unknown time zone {unknown}"));
        }
    }

    #[test]
    fn what_is_no_schedule_is_said_in_gos_words() {
        for (text, why) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
            (
                "TZ=Nowhere/Land * * * * *",
                "provided bad location Nowhere/Land: unknown time zone Nowhere/Land",
            ),
            (
                "TZ=0",
                "invalid schedule format: runtime error: slice bounds out of range [:-1]",
            ),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), why, "{text}");
        }
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 jan-mar mon",
            "@daily",
            "@every 1h",
            "?,1 , 1 1 1",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
    }
}
