//! Schedules in cron's form, as Kubernetes reads them: five fields with names, ranges and steps, descriptors such as
//! `@hourly` and `@every 90m`, and IANA time zones from data inside the binary.
//!
//! Not for: waiting. [`Schedule::next`] says when; whoever asks has the timer.
//!
//! Start at [`Schedule::parse`]. Meaning and error messages are those of robfig/cron v3's standard parser, around
//! changes of the clock too.

mod parse;
mod schedule;

pub use parse::{InvalidSchedule, zone};
pub use schedule::Schedule;
