//! Durations in configuration files.

use serde::{Deserialize, Deserializer, de::Error};
use std::time::Duration;
use strata_meta::GoDuration;

/// A member that may be missing and is not negative.
pub(crate) fn member<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(read) = Option::<GoDuration>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let length = read.length();
    length
        .ok_or_else(|| D::Error::custom(format_args!("a duration is negative: {read}")))
        .map(Some)
}
