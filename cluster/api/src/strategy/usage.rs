//! NodeMetrics and PodMetrics: columns as metrics-server has them.

use super::{
    CellContext, Column, columns,
    row::{ROW, Row},
};
use crate::json;
use serde_json::Value;
use strata_meta::Quantity;

const NAME: Column = Column {
    description: "Name of the resource",
    ..columns::NAME
};
const WINDOW: Column = Column {
    format: "duration",
    ..columns::column("Window", "string", "", |cx| columns::text(cx, "window"))
};

const fn quantity(name: &'static str, cell: fn(&CellContext<'_>) -> Value) -> Column {
    Column {
        format: "quantity",
        ..columns::column(name, "string", "", cell)
    }
}

pub(super) static NODES: Row = Row {
    columns: &[
        NAME,
        quantity("cpu", |cx| columns::text(cx, "usage.cpu")),
        quantity("memory", |cx| columns::text(cx, "usage.memory")),
        WINDOW,
    ],
    ..ROW
};

pub(super) static PODS: Row = Row {
    columns: &[
        NAME,
        quantity("cpu", |cx| together(cx, "usage.cpu")),
        quantity("memory", |cx| together(cx, "usage.memory")),
        WINDOW,
    ],
    ..ROW
};

/// What all containers use.
fn together(cx: &CellContext<'_>, path: &str) -> Value {
    let containers = json::list(cx.object, "containers").iter();
    let each = containers.filter_map(|container| json::text(container, path).parse::<Quantity>().ok());
    let sum = each.reduce(Quantity::plus);
    sum.map_or_else(String::new, |sum| sum.to_string()).into()
}
