//! What a row knows of its objects' fields: from the built-in table, or from a schema read at run time.

use crate::{alias, extension::Custom};
use serde_json::Value;
use std::sync::Arc;
use strata_meta::{GroupVersionKind, Reason, Status};
use strata_schema::{Decoded, Error, structural::Structural};

/// Where the facts about a row's fields are.
#[derive(Clone)]
pub(crate) enum RowSchema {
    /// In the built-in table.
    Builtin,
    /// In a CustomResourceDefinition.
    Structural(Custom),
}

impl RowSchema {
    /// The structural schema of a custom resource.
    pub(crate) fn structural(&self) -> Option<&Structural> {
        match self {
            Self::Builtin => None,
            Self::Structural(custom) => Some(custom.structural()),
        }
    }

    /// The definition's version behind a custom resource.
    pub(crate) fn custom(&self) -> Option<&Custom> {
        match self {
            Self::Builtin => None,
            Self::Structural(custom) => Some(custom),
        }
    }

    /// Whether it is a custom resource's: neither protobuf nor strategic merge.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Self::Structural(_))
    }

    /// Decodes a body in JSON.
    pub(crate) fn decode(&self, gvk: &GroupVersionKind, bytes: &[u8]) -> Result<Decoded, Error> {
        match self.structural() {
            None => strata_schema::decode(gvk, bytes),
            Some(schema) => schema.decode(gvk, bytes),
        }
    }

    /// Decodes what is JSON already.
    pub(crate) fn decode_value(&self, gvk: &GroupVersionKind, value: Value) -> Result<Decoded, Error> {
        match self.structural() {
            None => strata_schema::decode_value(gvk, value),
            Some(schema) => schema.decode_value(gvk, value),
        }
    }

    /// Decodes what a strategic merge made, which upstream converts rather than decodes.
    pub(crate) fn decode_converted(&self, gvk: &GroupVersionKind, value: Value) -> Result<Decoded, Error> {
        match self.structural() {
            None => strata_schema::decode_converted(gvk, value),
            Some(schema) => schema.decode_value(gvk, value),
        }
    }

    /// Fills in what an object leaves open, and what it says by another name.
    pub(crate) fn apply_defaults(&self, gvk: &GroupVersionKind, value: &mut Value) {
        match self.structural() {
            None => {
                strata_schema::apply_defaults(gvk, value);
                alias::settle(gvk, value);
            }
            Some(schema) => schema.apply_defaults(value),
        }
    }

    /// Applies a strategic merge patch. Errors: as upstream interprets those of the patch, 415 where there is no such patch.
    pub(crate) fn strategic_merge(
        &self,
        gvk: &GroupVersionKind,
        value: &mut Value,
        patch: &Value,
    ) -> Result<(), Status> {
        match self {
            Self::Builtin => strata_schema::strategic_merge(gvk, value, patch).map_err(refused_patch),
            Self::Structural(_) => Err(no_such_patch()),
        }
    }

    /// The structural schema of a custom resource, to keep.
    pub(crate) fn structural_shared(&self) -> Option<&Arc<Structural>> {
        match self {
            Self::Builtin => None,
            Self::Structural(custom) => Some(custom.structural()),
        }
    }
}

/// Sentences about the form of a strategic merge patch, which are the client's fault; upstream says so of no others.
const MALFORMED: [&str; 4] = [
    "invalid JSON document",
    "invalid patch format of primitive list",
    "invalid patch format of retainKeys",
    "invalid patch format of setElementOrder list",
];

fn refused_patch(error: Error) -> Status {
    let why = error.to_string();
    if MALFORMED.contains(&why.as_str()) {
        return Status::bad_request(why);
    }
    if why == "lists of lists are not supported" {
        let sentence = "the server rejected our request due to an error in our request";
        return Status::failure(Reason::Invalid, sentence);
    }
    let mut status = Status::failure(Reason::Unknown, why);
    status.code = 500;
    status
}

/// What a patch of a custom resource is told that is of another type.
pub(crate) fn no_such_patch() -> Status {
    Status::failure(
        Reason::UnsupportedMediaType,
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    )
}
