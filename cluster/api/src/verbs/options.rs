//! The parameters that all writes share.

use crate::{
    codec::{FieldValidation, invalid_options},
    pipeline::Call,
};
use strata_meta::{Status, StatusCause};

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
        for value in call.query.all("dryRun") {
            if value != "All" {
                return Err(invalid_options(
                    kind,
                    StatusCause::not_supported("dryRun", value, &["All"]),
                ));
            }
            dry_run = true;
        }
        let manager = call.query.get("fieldManager");
        if manager.len() > 128 {
            let cause = StatusCause {
                reason: "FieldValueTooLong".into(),
                message: "Too long: may not be more than 128 bytes".into(),
                field: "fieldManager".into(),
            };
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
    let name: String = program.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".into() } else { name }
}
