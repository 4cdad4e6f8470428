//! Columns of tables: data rows with a function for the cell.

use super::CellContext;
use crate::json;
use serde_json::Value;
use strata_meta::Time;

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

/// How long ago the object was created.
pub(crate) const AGE: Column = column(
    "Age",
    "string",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
    |cx| age(json::text(cx.object, "metadata.creationTimestamp"), cx.now).into(),
);

const CREATED_AT: Column = column(
    "Created At",
    "date",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
    |cx| json::text(cx.object, "metadata.creationTimestamp").into(),
);

/// Name and creation, for kinds that say nothing else.
pub(crate) fn default_columns() -> &'static [Column] {
    const COLUMNS: &[Column] = &[NAME, CREATED_AT];
    COLUMNS
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
