//! Where a webhook is: a URL or a service.

use super::Causes;
use crate::validate::Field;
use strata_meta::names;

/// Where a webhook is.
pub(crate) fn client_config(config: &Field<'_>, causes: &mut Causes) {
    let (url, service) = (config.at("url"), config.at("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => webhook_url(&url, causes),
        (false, true) => webhook_service(&service, causes),
        _ => causes.push(config.required("exactly one of url or service is required")),
    }
}

fn webhook_url(url: &Field<'_>, causes: &mut Causes) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = url.text();
    if let Some(why) = unescapable(text) {
        let why = format!("url must be a valid URL: parse {text:?}: {why}{FORM}");
        return causes.push(url.required(&why));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", ""));
    if !scheme.eq_ignore_ascii_case("https") {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        causes.push(url.invalid_as(scheme, why));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        causes.push(url.invalid_as("", format!("host must be specified{FORM}")));
    }
    if !user.is_empty() {
        causes.push(url.invalid_as(user, "user information is not permitted in the URL"));
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if !fragment.is_empty() {
        causes.push(url.invalid_as(fragment, "fragments are not permitted in the URL"));
    }
    if let Some((_, query)) = before.split_once('?').filter(|(_, q)| !q.is_empty()) {
        causes.push(url.invalid_as(query, "query parameters are not permitted in the URL"));
    }
}

/// A percent sign that escapes nothing.
fn unescapable(text: &str) -> Option<String> {
    let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let (at, _) = text
        .match_indices('%')
        .find(|(at, _)| !digit(at + 1) || !digit(at + 2))?;
    let shown: String = text[at..].chars().take(3).collect();
    Some(format!("invalid URL escape {shown:?}"))
}

fn webhook_service(service: &Field<'_>, causes: &mut Causes) {
    for part in ["name", "namespace"] {
        let field = service.at(part);
        if field.is_empty() {
            causes.push(field.required(""));
        }
    }
    let port = service.at("port");
    if port.int().is_some_and(|p| !(1..=65535).contains(&p)) {
        causes.push(port.invalid("port is not valid: must be between 1 and 65535, inclusive"));
    }
    let path = service.at("path");
    let text = path.text();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        causes.push(path.invalid("segment[0] may not be empty"));
        return;
    }
    if !text.starts_with('/') {
        causes.push(path.invalid("must start with a '/'"));
    }
    let steps = text.get(1..).unwrap_or("");
    for (at, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            causes.push(path.invalid(format_args!("segment[{at}] may not be empty")));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            causes.push(path.invalid(format_args!("segment[{at}]: {why}")));
        }
    }
}
