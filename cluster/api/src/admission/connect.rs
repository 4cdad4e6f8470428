//! CONNECT: streams and proxied requests are admitted by what they ask for.

use super::{Operation, Request, admit, request::kind_of};
use crate::{json, pipeline::Call, registry::Row};
use serde_json::{Value, json};
use strata_meta::Status;

/// Admits exec, attach, portforward and proxy. Errors: the first refusal.
pub(crate) async fn connect(call: &mut Call, row: &Row) -> Result<(), Status> {
    let (core, user, info) = (call.core.clone(), call.user.clone(), call.info.clone());
    let place = (info.namespace.as_str(), info.name.as_str());
    let request = Request::new(&core, &user, row, Operation::Connect, place).on(&info.subresource);
    let object = options(call, row);
    admit(&request, object, None, &mut call.warnings).await?;
    Ok(())
}

/// The query as the options object it stands for.
fn options(call: &Call, row: &Row) -> Value {
    let sub = call.info.subresource.as_str();
    let kind = kind_of(row, sub, Operation::Connect);
    let mut value = json!({"kind": kind.kind, "apiVersion": kind.api_version()});
    let query = &call.query;
    match sub {
        "exec" | "attach" => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                let alias = match flag {
                    "stdin" => "input",
                    "stdout" => "output",
                    "stderr" => "error",
                    other => other,
                };
                if query.is_true(flag) || query.is_true(alias) {
                    json::set(&mut value, flag, true);
                }
            }
            if !query.get("container").is_empty() {
                json::set(&mut value, "container", query.get("container"));
            }
            if sub == "exec" {
                let command: Vec<&str> = query.all("command").collect();
                json::set(&mut value, "command", json!(command));
            }
        }
        "portforward" => {
            let ports = query.all("ports").flat_map(|list| list.split(','));
            let ports: Vec<i64> = ports.filter_map(|p| p.parse().ok()).collect();
            json::set(&mut value, "ports", json!(ports));
        }
        _ => json::set(&mut value, "path", format!("/{}", call.info.tail)),
    }
    value
}
