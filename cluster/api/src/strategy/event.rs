//! Event, of both APIs: they are stored as core/v1.

use super::{
    Causes, CellContext, Collection, columns,
    row::{ROW, Row, field},
};
use crate::{
    json,
    validate::{Field, MetadataTurn},
};
use serde_json::Value;
use strata_meta::names;

pub(super) static EVENTS: Row = EVENTS_CORE;

const EVENTS_CORE: Row = Row {
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
    collection: Collection::Ignored,
    metadata: MetadataTurn::Last,
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
    validate: |event, causes| legacy(event, "reportingComponent", causes),
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

/// As served by events.k8s.io, which asks more of new events and lets only their series change.
pub(super) static EVENTS_V1: Row = Row {
    collection: Collection::Ignored,
    metadata: MetadataTurn::Between,
    validate: |event, causes| legacy(event, "reportingController", causes),
    validate_create: |event, causes| {
        let root = Field::root(event);
        series(&root.at("series"), causes);
        root.at("eventTime").needs(causes);
        let kind = root.at("type");
        if !matches!(kind.text(), "Normal" | "Warning") {
            causes.push(kind.invalid_as("", format_args!("has invalid value: {}", kind.text())));
        }
        for name in ["firstTimestamp", "lastTimestamp"] {
            if root.at(name).is_set() {
                causes.push(root.at(name).invalid_as("", "needs to be unset"));
            }
        }
        if root.at("count").int().unwrap_or(0) != 0 {
            causes.push(root.at("count").invalid_as("", "needs to be unset"));
        }
        let source = root.at("source");
        if !source.at("component").is_empty() || !source.at("host").is_empty() {
            causes.push(source.invalid_as("", "needs to be unset"));
        }
    },
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new), Field::root(old));
        if !json::same(new, old, "series") {
            series(&now.at("series"), causes);
        }
        for (name, path) in [
            ("involvedObject", "involvedObject"),
            ("reason", "reason"),
            ("message", "message"),
            ("source", "source"),
            ("firstTimestamp", "firstTimestamp"),
            ("lastTimestamp", "lastTimestamp"),
            ("count", "count"),
            ("reason", "reason"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            // Absent and empty are the same in these.
            let (is, was) = (now.at(name), was.at(name));
            match members_of(name) {
                _ if is.is_empty() && was.is_empty() => {}
                // It alone may be absent.
                _ if name == "related" && !is.is_set() => is.named(path).unchanged(causes, &was),
                [] => is.named(path).unchanged(causes, &was),
                members => {
                    let mut found = Vec::new();
                    is.named(path).unchanged(&mut found, &was);
                    causes.extend(
                        found
                            .iter()
                            .map(|_| is.named(path).invalid_shown(whole(&is, members), "field is immutable")),
                    );
                }
            }
        }
    },
    ..EVENTS_CORE
};

/// The members of a structure in the order in which it is printed, each with its name in Go.
fn members_of(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "involvedObject" | "related" => &[
            ("Kind", "kind"),
            ("Namespace", "namespace"),
            ("Name", "name"),
            ("UID", "uid"),
            ("APIVersion", "apiVersion"),
            ("ResourceVersion", "resourceVersion"),
            ("FieldPath", "fieldPath"),
        ],
        "source" => &[("Component", "component"), ("Host", "host")],
        _ => &[],
    }
}

/// A structure as upstream prints its internal form, absent or not.
fn whole(field: &Field<'_>, members: &[(&str, &str)]) -> String {
    let each: Vec<String> = members
        .iter()
        .map(|(printed, name)| format!("{printed:?}:{}", Value::from(field.at(name).text())))
        .collect();
    format!("{{{}}}", each.join(","))
}

fn series(series: &Field<'_>, causes: &mut Causes) {
    if series.is_set() {
        if series.at("count").int().unwrap_or(0) < 2 {
            causes.push(series.at("count").invalid_as("", "should be at least 2"));
        }
        series.at("lastObservedTime").needs(causes);
    }
}

/// What every event is held to.
fn legacy(event: &Value, controller: &str, causes: &mut Causes) {
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
    let reporter = root.at("reportingComponent").named(controller);
    reporter.needs(causes);
    reporter.fits(causes, names::qualified_name);
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
}
