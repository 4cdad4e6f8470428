//! meta.k8s.io Table: rows for people.

use super::{ListMeta, Negotiated, write_partial};
use crate::{
    extension::PrinterColumn,
    registry::Row,
    strategy::{CellContext, Column, NAME_COLUMN},
};
use serde_json::{Value, json};
use std::{iter, sync::Arc};
use strata_meta::{Object, Status, Time};

/// The whole table. `include` is the `includeObject` parameter: None, Metadata (default) or Object.
pub(crate) fn write_table(
    row: &Row,
    meta: &ListMeta,
    form: Negotiated,
    include: &str,
    items: impl Iterator<Item = Arc<Object>>,
) -> Result<Vec<u8>, Status> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(format!(r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{}","#, form.meta_version).as_bytes());
    meta.write(&mut out);
    out.push(b',');
    out.extend_from_slice(table_header(row).as_bytes());
    out.extend_from_slice(br#","rows":["#);
    for (i, object) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        table_row(&mut out, row, &object, form, include)?;
    }
    out.extend_from_slice(b"]}\n");
    Ok(out)
}

/// `"columnDefinitions":[…]`.
pub(crate) fn table_header(row: &Row) -> String {
    let definition = |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    let definitions: Vec<Value> = match row.strategy.printed() {
        None => row.strategy.columns().iter().map(definition).collect(),
        Some(columns) => iter::once(definition(&NAME_COLUMN))
            .chain(columns.iter().map(PrinterColumn::definition))
            .collect(),
    };
    format!(r#""columnDefinitions":{}"#, Value::from(definitions))
}

/// One row: cells of the stored object, whose version the columns are written for, and the object as it is served.
pub(crate) fn table_row(
    out: &mut Vec<u8>,
    row: &Row,
    object: &Arc<Object>,
    form: Negotiated,
    include: &str,
) -> Result<(), Status> {
    let shown = if row.schema.is_custom() {
        &row.view(object)?
    } else {
        object
    };
    let value = shown.to_value().map_err(Status::internal)?;
    out.extend_from_slice(br#"{"cells":"#);
    serde_json::to_writer(&mut *out, &cells_of(row, &value)).map_err(Status::internal)?;
    match include {
        "None" => out.extend_from_slice(br#","object":null"#),
        "Object" => {
            out.extend_from_slice(br#","object":"#);
            row.view(object)?.write_json(out, true);
        }
        _ => {
            out.extend_from_slice(br#","object":"#);
            write_partial(out, object, form.meta_version, true)?;
        }
    }
    out.push(b'}');
    Ok(())
}

/// The cells of an object that is nothing but a bookmark.
pub(crate) fn empty_cells(row: &Row) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(&cells_of(row, &json!({"metadata": {}}))).map_err(Status::internal)
}

fn cells_of(row: &Row, object: &Value) -> Vec<Value> {
    let cx = CellContext {
        object,
        now: Time::now(),
    };
    match row.strategy.printed() {
        None => row.strategy.columns().iter().map(|column| (column.cell)(&cx)).collect(),
        Some(columns) => iter::once((NAME_COLUMN.cell)(&cx))
            .chain(columns.iter().map(|column| column.cell(object, cx.now)))
            .collect(),
    }
}
