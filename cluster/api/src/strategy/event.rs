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
        field("source.component").or("reportingComponent"),
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
            let kind = json::text(cx.object, "involvedObject.kind").to_lowercase();
            match json::text(cx.object, "involvedObject.name") {
                "" => kind.into(),
                name => format!("{kind}/{name}").into(),
            }
        }),
        columns::wide("Subobject", "string", "The part of the object.", |cx| {
            json::text(cx.object, "involvedObject.fieldPath").into()
        }),
        columns::wide("Source", "string", "Who recorded it.", source),
        columns::column("Message", "string", "What happened.", |cx| {
            json::text(cx.object, "message").trim().into()
        }),
        columns::wide("First Seen", "string", "When it happened first.", |cx| {
            super::age(first(cx), cx.now).into()
        }),
        columns::wide("Count", "string", "How often it happened.", |cx| {
            let counts = ["series.count", "count"];
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

fn first<'v>(cx: &CellContext<'v>) -> &'v str {
    let text = json::text(cx.object, "firstTimestamp");
    if text.is_empty() {
        json::text(cx.object, "eventTime")
    } else {
        text
    }
}

fn last_seen(cx: &CellContext<'_>) -> Value {
    let series = json::text(cx.object, "series.lastObservedTime");
    let last = json::text(cx.object, "lastTimestamp");
    let moments = [series, last, first(cx)];
    let moment = moments.into_iter().find(|m| !m.is_empty()).unwrap_or("");
    super::age(moment, cx.now).into()
}

fn source(cx: &CellContext<'_>) -> Value {
    let either = |path, other| match json::text(cx.object, path) {
        "" => json::text(cx.object, other),
        text => text,
    };
    let component = either("source.component", "reportingComponent");
    let instance = either("source.host", "reportingInstance");
    if instance.is_empty() {
        component.into()
    } else {
        format!("{component}, {instance}").into()
    }
}

fn validate(event: &Value, causes: &mut Causes) {
    let root = Field::root(event);
    let namespace = json::text(event, "metadata.namespace");
    let involved = root.at("involvedObject.namespace");
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
    root.at("reportingComponent").needs_text(causes, names::qualified_name);
    for (name, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        let member = root.at(name);
        member.needs(causes);
        if member.text().len() > most {
            causes.push(member.invalid_as("", format_args!("can have at most {most} characters")));
        }
    }
    let message = root.at("message");
    if message.text().len() > 1024 {
        causes.push(message.invalid_as("", "can have at most 1024 characters"));
    }
    let series = root.at("series");
    if series.is_set() {
        if series.at("count").int().unwrap_or(0) < 2 {
            causes.push(series.at("count").invalid_as("", "should be at least 2"));
        }
        series.at("lastObservedTime").needs(causes);
    }
}
