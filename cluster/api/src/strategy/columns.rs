//! Columns of tables: data rows with a function for the cell.

use super::CellContext;
use crate::json;
use serde_json::Value;
use strata_meta::{LabelSelector, Time};

/// One column.
pub(crate) struct Column {
    /// The heading.
    pub(crate) name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub(crate) kind: &'static str,
    /// `name` for the name column, otherwise `""`.
    pub(crate) format: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub(crate) priority: i32,
    /// What the heading means.
    pub(crate) description: &'static str,
    /// The cell of one object.
    pub(crate) cell: fn(&CellContext<'_>) -> Value,
}

/// A column that is always shown.
pub(crate) const fn column(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    cell: fn(&CellContext<'_>) -> Value,
) -> Column {
    Column {
        name,
        kind,
        format: "",
        priority: 0,
        description,
        cell,
    }
}

/// A column that `-o wide` shows.
pub(crate) const fn wide(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    cell: fn(&CellContext<'_>) -> Value,
) -> Column {
    Column {
        priority: 1,
        ..column(name, kind, description, cell)
    }
}

/// The name of the object: the first column of nearly every kind.
pub(crate) const NAME: Column = Column {
    format: "name",
    ..column("Name", "string", "Name must be unique within a namespace.", |cx| {
        json::text(cx.object, "metadata.name").into()
    })
};

/// What the age of an object means.
pub(crate) const AGE_MEANS: &str =
    "CreationTimestamp is a timestamp representing the server time when this object was created.";

/// How long ago the object was created.
pub(crate) const AGE: Column = column(
    "Age",
    "string",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
    |cx| age(json::text(cx.object, "metadata.creationTimestamp"), cx.now).into(),
);

pub(crate) const CREATED_AT: Column = column(
    "Created At",
    "date",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
    |cx| json::text(cx.object, "metadata.creationTimestamp").into(),
);

/// The names of the containers in `spec.template`.
pub(crate) const CONTAINERS: Column = wide(
    "Containers",
    "string",
    "Names of each container in the template.",
    |cx| containers(cx, "spec.template.spec.containers", "name"),
);

/// The images of the containers in `spec.template`.
pub(crate) const IMAGES: Column = wide(
    "Images",
    "string",
    "Images referenced by each container in the template.",
    |cx| containers(cx, "spec.template.spec.containers", "image"),
);

/// `spec.selector`.
pub(crate) const SELECTOR: Column = wide("Selector", "string", "Label selector for pods.", |cx| {
    selector_text(json::get(cx.object, "spec.selector"))
});

/// The names or images of a list of containers.
pub(crate) fn containers(cx: &CellContext<'_>, path: &str, member: &str) -> Value {
    let texts: Vec<&str> = json::list(cx.object, path)
        .iter()
        .map(|c| json::text(c, member))
        .collect();
    texts.join(",").into()
}

/// A number that is 0 when absent.
pub(crate) fn count(cx: &CellContext<'_>, path: &str) -> Value {
    json::int(cx.object, path).unwrap_or(0).into()
}

/// A text that is empty when absent.
pub(crate) fn text(cx: &CellContext<'_>, path: &str) -> Value {
    json::text(cx.object, path).into()
}

/// A boolean that is false when absent.
pub(crate) fn flag(cx: &CellContext<'_>, path: &str) -> Value {
    json::flag(cx.object, path).into()
}

/// A list of texts with commas between them.
pub(crate) fn joined(cx: &CellContext<'_>, path: &str) -> Value {
    let texts: Vec<&str> = json::list(cx.object, path).iter().filter_map(Value::as_str).collect();
    texts.join(",").into()
}

/// Labels as `a=b,c=d`; `<none>` without any.
pub(crate) fn labels_text(labels: Option<&Value>) -> Value {
    let members = labels.and_then(Value::as_object).into_iter().flatten();
    let texts: Vec<String> = members
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    or_none(&texts.join(","))
}

/// A label selector, or a map of labels that is one.
pub(crate) fn selector_text(selector: Option<&Value>) -> Value {
    let Some(value) = selector else {
        return "<none>".into();
    };
    let is_selector = value
        .get("matchLabels")
        .or(value.get("matchExpressions"))
        .is_some_and(|v| !v.is_string());
    if !is_selector {
        return labels_text(selector);
    }
    let parsed = serde_json::from_value::<LabelSelector>(value.clone()).ok();
    match parsed.and_then(|s| s.to_selector().ok()) {
        Some(selector) => or_none(&selector.to_string()),
        None => "<error>".into(),
    }
}

/// A label selector as Go prints the struct; `<unset>` for none.
pub(crate) fn go_selector(selector: Option<&Value>) -> Value {
    let Some(selector) = selector else {
        return "<unset>".into();
    };
    let labels: String = json::members(selector, "matchLabels")
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or("")))
        .collect();
    let expressions: String = json::list(selector, "matchExpressions")
        .iter()
        .map(|e| {
            let values: Vec<&str> = json::list(e, "values").iter().filter_map(Value::as_str).collect();
            let (key, operator) = (json::text(e, "key"), json::text(e, "operator"));
            let values = values.join(" ");
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!("&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}").into()
}

/// Kind and name of the controller of an object, as `deployment.apps/web`.
pub(crate) fn controller(object: &Value) -> Value {
    let owners = json::list(object, "metadata.ownerReferences");
    let Some(owner) = owners.iter().find(|o| json::flag(o, "controller")) else {
        return "<none>".into();
    };
    let group = json::text(owner, "apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    let kind = json::text(owner, "kind").to_lowercase();
    format!("{kind}{dot}{group}/{}", json::text(owner, "name")).into()
}

/// The name, and whether an annotation makes the object the default of its kind.
pub(crate) fn name_or_default(cx: &CellContext<'_>, annotation: &str) -> Value {
    let name = json::text(cx.object, "metadata.name");
    let is_default = json::members(cx.object, "metadata.annotations").any(|(k, v)| k == annotation && v == "true");
    if is_default {
        format!("{name} (default)")
    } else {
        name.to_owned()
    }
    .into()
}

/// The first few of a list, and how many more there are.
pub(crate) fn first_of(texts: &[String], most: usize) -> Value {
    if texts.is_empty() {
        return "<unset>".into();
    }
    let shown = texts[..texts.len().min(most)].join(",");
    match texts.len().checked_sub(most) {
        Some(more) if more > 0 => format!("{shown} + {more} more...").into(),
        _ => shown.into(),
    }
}

/// Name and creation, for kinds that say nothing else.
pub(crate) fn default_columns() -> &'static [Column] {
    const COLUMNS: &[Column] = &[NAME, CREATED_AT];
    COLUMNS
}

/// The text, or `<unset>`.
pub(crate) fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>" } else { text }.into()
}

/// A text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>" } else { text }.into()
}

/// The time since a moment, as tables show it; `<unknown>` for no moment.
pub(crate) fn age(timestamp: &str, now: Time) -> String {
    match Time::parse(timestamp) {
        Some(then) => human_duration(now.seconds_since(then)),
        None => "<unknown>".into(),
    }
}

/// A duration in at most two units (k8s.io/apimachinery/pkg/util/duration `HumanDuration`).
pub(crate) fn human_duration(seconds: i64) -> String {
    let two = |high: i64, h: char, low: i64, l: char| {
        if low == 0 {
            format!("{high}{h}")
        } else {
            format!("{high}{h}{low}{l}")
        }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if hours < 24 * 365 * 2 => format!("{days}d"),
        _ if hours < 24 * 365 * 8 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (800_000, "9d"),
            (70_000_000, "2y80d"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
