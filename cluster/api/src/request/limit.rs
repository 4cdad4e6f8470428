//! How long an answer may take.

use super::{Query, RequestInfo};
use std::time::Duration;
use strata_meta::{GoDuration, Status};

/// Upstream's `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer may take; nothing bounds what goes on for long. Errors: 400, before anybody looks who asks.
pub(crate) fn time_limit(info: &RequestInfo, query: &Query) -> Result<Option<Duration>, Status> {
    match info.is_long_running() {
        true => Ok(None),
        false => stated_timeout(query.get("timeout")).map(Some),
    }
}

/// How long the client wants to wait, at most as long as anybody may. Errors: 400.
fn stated_timeout(text: &str) -> Result<Duration, Status> {
    match text {
        "" | "0" => Ok(REQUEST_TIMEOUT),
        _ => {
            let refused =
                |why: &str| Status::bad_request(format_args!("invalid timeout specified in the request URL - {why}"));
            let stated: GoDuration = text.parse().map_err(|why: String| refused(&why))?;
            match stated.length() {
                Some(Duration::ZERO) => Ok(REQUEST_TIMEOUT),
                Some(stated) => Ok(stated.min(REQUEST_TIMEOUT)),
                None => Err(refused("it is negative")),
            }
        }
    }
}
