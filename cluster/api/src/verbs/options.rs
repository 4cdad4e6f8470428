//! The parameters that all writes share.

use crate::{
    codec::{FieldValidation, invalid_options},
    pipeline::Call,
};
use serde_json::json;
use strata_meta::{Status, StatusCause};

/// Bytes of a field manager's name.
const LONGEST_MANAGER: usize = 128;

/// How a write is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    /// Do everything but write.
    pub(crate) dry_run: bool,
    /// What to do about unknown fields.
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads the query; `kind` names the options in errors (`CreateOptions`). Errors: 422.
    pub(crate) fn read(call: &Call, kind: &str) -> Result<Self, Status> {
        let mut dry_run = false;
        let asked: Vec<&str> = call.query.all("dryRun").filter(|value| !value.is_empty()).collect();
        if asked.iter().any(|value| *value != "All") {
            // The whole list is the value that is not supported.
            let cause = StatusCause {
                reason: "FieldValueNotSupported".into(),
                message: format!("Unsupported value: {}: supported values: \"All\"", json!(asked)),
                field: "dryRun".into(),
            };
            return Err(invalid_options(kind, cause));
        }
        dry_run |= !asked.is_empty();
        let manager = call.query.get("fieldManager");
        if manager.len() > LONGEST_MANAGER {
            let cause = StatusCause {
                reason: "FieldValueTooLong".into(),
                message: "Too long: may not be more than 128 bytes".into(),
                field: "fieldManager".into(),
            };
            return Err(invalid_options(kind, cause));
        }
        if let Some((at, _)) = manager.char_indices().find(|(_, c)| !is_printable(*c)) {
            let why = format!("should only contain printable characters (char at index {at})");
            let cause = StatusCause::invalid("fieldManager", manager, why);
            return Err(invalid_options(kind, cause));
        }
        Ok(Self {
            dry_run,
            validation: FieldValidation::parse(call.query.get("fieldValidation"), kind)?,
        })
    }
}

/// Who manages the fields that a write changes: as the client says, or the name of its program.
pub(crate) fn field_manager(call: &Call) -> String {
    let stated = call.query.get("fieldManager");
    if !stated.is_empty() {
        return stated.to_owned();
    }
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok());
    let program = agent.unwrap_or("").split('/').next().unwrap_or("");
    let mut name = String::new();
    for c in program.chars().filter(|c| is_printable(*c)) {
        if name.len() + c.len_utf8() > LONGEST_MANAGER {
            break;
        }
        name.push(c);
    }
    name
}

/// As Go's `unicode.IsPrint` has it: of blanks only the plain one.
fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace())
}
