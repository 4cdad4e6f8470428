//! An event as a line for people (upstream's format `legacy`).

use serde_json::Value;

/// A part of what the event says.
pub(super) fn line(event: &Value) -> String {
    let text = |pointer: &str, missing: &'static str| -> String {
        let found = event.pointer(pointer).and_then(Value::as_str);
        found.filter(|text| !text.is_empty()).unwrap_or(missing).to_owned()
    };
    let groups = |pointer: &str| -> Option<String> {
        let groups = event.pointer(pointer)?.as_array()?;
        let quoted = groups.iter().filter_map(Value::as_str).map(|g| format!("{g:?}"));
        Some(quoted.collect::<Vec<_>>().join(","))
    };
    let impersonated = event.get("impersonatedUser").is_some();
    let (asked, user) = (text("/requestReceivedTimestamp", ""), text("/user/username", "<none>"));
    let code = event.pointer("/responseStatus").map(|status| status["code"].as_u64());
    let code = code.map_or("<deferred>".to_owned(), |code| code.unwrap_or(0).to_string());
    let as_user = match impersonated {
        true => text("/impersonatedUser/username", ""),
        false => "<self>".to_owned(),
    };
    format!(
        "{asked} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={user:?} groups={:?} as={as_user:?} asgroups={:?} \
         user-agent={:?} namespace={:?} uri={:?} response=\"{code}\"",
        text("/auditID", ""),
        text("/stage", ""),
        text("/sourceIPs/0", "<unknown>"),
        text("/verb", ""),
        groups("/user/groups").unwrap_or_else(|| "<none>".into()),
        groups("/impersonatedUser/groups").unwrap_or_else(|| "<lookup>".into()),
        text("/userAgent", ""),
        text("/objectRef/namespace", "<none>"),
        text("/requestURI", ""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_tells_the_outline_of_an_event() {
        let event = json!({"auditID": "a", "stage": "ResponseComplete", "verb": "get", "requestURI": "/api",
            "user": {"username": "u", "groups": ["g", "h"]}, "sourceIPs": ["127.0.0.1"], "userAgent": "t",
            "responseStatus": {"metadata": {}, "code": 200}, "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z"});
        assert_eq!(
            line(&event),
            "2026-01-01T00:00:00.000000Z AUDIT: id=\"a\" stage=\"ResponseComplete\" ip=\"127.0.0.1\" method=\"get\" \
             user=\"u\" groups=\"\\\"g\\\",\\\"h\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"t\" \
             namespace=\"<none>\" uri=\"/api\" response=\"200\""
        );
    }
}
