//! Event, of both APIs: they are stored as core/v1.

use super::{
    Causes, CellContext, columns,
    row::{ROW, Row, field},
};
use crate::{json, validate::Field};
use serde_json::Value;
use strata_meta::names;

pub(super) static EVENTS: Row = Row {
    fields: &[
        field("involvedObject.kind"),
        field("involvedObject.namespace"),
        field("involvedObject.name"),
        field("involvedObject.uid"),
        field("involvedObject.apiVersion"),
        field("involvedObject.resourceVersion"),
        field("involvedObject.fieldPath"),
        field("reason"),
        field("reportingComponent"),
        field("source.component"),
        field("type"),
    ],
    create_on_update: true,
    columns: &[
        columns::column("Last Seen", "string", "When it happened last.", last_seen),
        columns::column("Type", "string", "Normal or Warning.", |cx| columns::text(cx, "type")),
        columns::column("Reason", "string", "Why it was recorded, in a word.", |cx| {
            columns::text(cx, "reason")
        }),
        columns::column("Object", "string", "What it is about.", |cx| {
            let kind = either(cx, "involvedObject.kind", "regarding.kind").to_lowercase();
            match either(cx, "involvedObject.name", "regarding.name") {
                "" => kind.into(),
                name => format!("{kind}/{name}").into(),
            }
        }),
        columns::wide("Subobject", "string", "The part of the object.", |cx| {
            either(cx, "involvedObject.fieldPath", "regarding.fieldPath").into()
        }),
        columns::wide("Source", "string", "Who recorded it.", source),
        columns::column("Message", "string", "What happened.", |cx| {
            either(cx, "message", "note").trim().into()
        }),
        columns::wide("First Seen", "string", "When it happened first.", |cx| {
            super::age(first(cx), cx.now).into()
        }),
        columns::wide("Count", "string", "How often it happened.", |cx| {
            let counts = ["series.count", "count", "deprecatedCount"];
            let count = counts
                .iter()
                .find_map(|path| json::int(cx.object, path).filter(|n| *n > 0));
            count.unwrap_or(1).into()
        }),
        columns::Column {
            priority: 1,
            ..columns::NAME
        },
    ],
    validate,
    ..ROW
};

/// A text by its name in core/v1 or in events.k8s.io.
fn either<'v>(cx: &CellContext<'v>, core: &str, events: &str) -> &'v str {
    let text = json::text(cx.object, core);
    if text.is_empty() {
        json::text(cx.object, events)
    } else {
        text
    }
}

fn first<'v>(cx: &CellContext<'v>) -> &'v str {
    let text = either(cx, "firstTimestamp", "deprecatedFirstTimestamp");
    if text.is_empty() {
        json::text(cx.object, "eventTime")
    } else {
        text
    }
}

fn last_seen(cx: &CellContext<'_>) -> Value {
    let series = json::text(cx.object, "series.lastObservedTime");
    let last = either(cx, "lastTimestamp", "deprecatedLastTimestamp");
    let moments = [series, last, first(cx)];
    let moment = moments.into_iter().find(|m| !m.is_empty()).unwrap_or("");
    super::age(moment, cx.now).into()
}

fn source(cx: &CellContext<'_>) -> Value {
    let pick = |paths: [&str; 4]| {
        let texts = paths.map(|path| json::text(cx.object, path));
        texts.into_iter().find(|t| !t.is_empty()).unwrap_or("")
    };
    let component = pick([
        "source.component",
        "deprecatedSource.component",
        "reportingComponent",
        "reportingController",
    ]);
    let instance = pick(["source.host", "deprecatedSource.host", "reportingInstance", ""]);
    if instance.is_empty() {
        component.into()
    } else {
        format!("{component}, {instance}").into()
    }
}

/// The names of members in core/v1, and in events.k8s.io.
fn validate(event: &Value, causes: &mut Causes) {
    let root = Field::root(event);
    let is_new = root.at("regarding").is_set() || root.at("note").is_set();
    let about = if is_new { "regarding" } else { "involvedObject" };
    let controller = if is_new {
        "reportingController"
    } else {
        "reportingComponent"
    };
    let namespace = json::text(event, "metadata.namespace");
    let involved = root.at(about).at("namespace").named("involvedObject.namespace");
    let timed = root.at("eventTime").is_set();
    let fits = match (involved.text(), timed) {
        ("", false) => matches!(namespace, "" | "default"),
        ("", true) => matches!(namespace, "default" | "kube-system"),
        (other, false) => other == namespace,
        (_, true) => true,
    };
    if !fits {
        causes.push(involved.invalid("does not match event.namespace"));
    }
    if !timed {
        return;
    }
    root.at(controller).needs_text(causes, names::qualified_name);
    for (name, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        let member = root.at(name);
        member.needs(causes);
        if member.text().len() > most {
            causes.push(member.invalid_as("", format_args!("can have at most {most} characters")));
        }
    }
    let message = root.at(if is_new { "note" } else { "message" }).named("message");
    if message.text().len() > 1024 {
        causes.push(message.invalid_as("", "can have at most 1024 characters"));
    }
    let kind = root.at("type");
    if is_new && !matches!(kind.text(), "Normal" | "Warning") {
        causes.push(kind.invalid_as("", format_args!("has invalid value: {}", kind.text())));
    }
    let series = root.at("series");
    if series.is_set() {
        if series.at("count").int().unwrap_or(0) < 2 {
            causes.push(series.at("count").invalid_as("", "should be at least 2"));
        }
        series.at("lastObservedTime").needs(causes);
    }
}
