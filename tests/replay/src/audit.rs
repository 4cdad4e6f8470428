//! What the two wrote into their audit logs about each request.

use crate::Outcome;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// How long the last events may take: those of streams come when the server has noticed that nobody reads.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The events of each request, by the name the request gave itself.
pub type Events = BTreeMap<String, Vec<Value>>;

/// The name of a request in the audit log; the same for both servers. A request that is sent again has another.
pub fn name(request: usize, attempt: usize) -> String {
    format!("replay-{request}-{attempt}")
}

/// Both logs, once each has as many events as the other about every pair of requests, or it has taken too long.
pub async fn read(theirs: &Path, ours: &Path, pairs: &[(String, String)]) -> Outcome<(Events, Events)> {
    let began = Instant::now();
    loop {
        let (theirs, ours) = (events(theirs)?, events(ours)?);
        let count = |events: &Events, name: &str| events.get(name).map_or(0, Vec::len);
        let is_even = pairs.iter().all(|(a, b)| count(&theirs, a) == count(&ours, b));
        if is_even || began.elapsed() > PATIENCE {
            return Ok((theirs, ours));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn events(path: &Path) -> Outcome<Events> {
    let text = fs::read_to_string(path)?;
    let mut found = Events::new();
    // The last line may not be whole yet.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut event: Value = serde_json::from_str(line)?;
        let id = event["auditID"].take();
        settle(&mut event);
        if let Some(id) = id.as_str().filter(|id| id.starts_with("replay-")) {
            found.entry(id.to_owned()).or_default().push(event);
        }
    }
    Ok(found)
}

/// What differs from run to run: revisions and tokens in addresses, and where the time of a slow request went.
fn settle(event: &mut Value) {
    if let Some(Value::String(address)) = event.get_mut("requestURI") {
        let masked = address.split('&').map(|part| {
            let (name, _) = part.split_once('=').unwrap_or((part, ""));
            match name.rsplit('?').next() {
                Some("resourceVersion" | "continue") => format!("{name}=<masked>"),
                _ => part.to_owned(),
            }
        });
        *address = masked.collect::<Vec<_>>().join("&");
    }
    if let Some(Value::Object(annotations)) = event.get_mut("annotations") {
        annotations.retain(|name, _| !name.starts_with("apiserver.latency.k8s.io/"));
    }
}

/// Upstream writes patches down as they came and then cannot write an event whose patch is no JSON: it is lost.
pub fn lost(theirs: &mut Value, ours: &Value) {
    if let (Some(theirs), Some([.., last])) = (theirs.as_array_mut(), ours.as_array().map(Vec::as_slice))
        && ours.as_array().is_some_and(|ours| ours.len() == theirs.len() + 1)
        && last["verb"] == "patch"
        && last["level"] != "Metadata"
        && last.get("requestObject").is_none()
    {
        theirs.push(last.clone());
    }
}
