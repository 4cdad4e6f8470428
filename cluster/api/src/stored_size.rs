//! What may be stored, by size: as much as etcd takes in one request, so that nobody writes here what no other
//! cluster would hold.

use crate::cache::StoredForm;
use serde_json::{Map, Value};
use strata_meta::{Reason, Status};
use strata_schema::protobuf;

/// etcd's limit of a request (`--max-request-bytes`).
const ETCD_LIMIT: usize = 1536 << 10;
/// The limit of its client: of what is larger etcd hears nothing.
const CLIENT_LIMIT: usize = 2 << 20;
/// What a request holds beside keys and value: a transaction with a comparison, its number, and lengths.
const FRAME: usize = 48;
/// How often a key stands in a request: it is compared, written, and read when the comparison fails.
const KEYS: usize = 3;

/// Whether an object's body can be stored below a key. Errors: 500 as clients of upstream see it.
pub(crate) fn check(form: &StoredForm, key: &[u8], body: &[u8]) -> Result<(), Status> {
    let around = FRAME + KEYS * key.len() + form.kind.api_version().len() + form.kind.kind.len();
    // The JSON of an object is never shorter than its protobuf.
    if body.len() + around <= ETCD_LIMIT {
        return Ok(());
    }
    let size = upstream_size(form, body) + around;
    let why = match size {
        _ if size > CLIENT_LIMIT => format!(
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max ({size} vs. {CLIENT_LIMIT})"
        ),
        _ if size > ETCD_LIMIT => "etcdserver: request is too large".to_owned(),
        _ => return Ok(()),
    };
    let mut status = Status::failure(Reason::Unknown, why);
    status.code = 500;
    Err(status)
}

/// How long a body is as upstream stores it: built-in kinds as protobuf, others as JSON.
fn upstream_size(form: &StoredForm, body: &[u8]) -> usize {
    let builtin = strata_schema::Schema::builtin().type_of(&form.kind).is_some();
    let message = || {
        let value: Map<String, Value> = serde_json::from_slice(body).ok()?;
        protobuf::encode_message(&form.kind, &Value::Object(value)).ok()
    };
    match builtin.then(message).flatten() {
        Some(message) => message.len(),
        None => body.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use strata_meta::GroupVersionKind;

    fn checked(kind: GroupVersionKind, body: &Value) -> Result<(), String> {
        let form = StoredForm::builtin(Arc::new(kind));
        let body = strata_meta::encode_body(body).expect("JSON");
        check(&form, b"key", &body).map_err(|status| status.message)
    }

    #[test]
    fn what_etcd_would_not_take_is_refused_in_its_words() {
        let custom = |bytes: usize| {
            let object = serde_json::json!({"metadata": {"name": "a"}, "spec": {"text": "x".repeat(bytes)}});
            checked(GroupVersionKind::new("example.com", "v1", "Thing"), &object)
        };
        assert!(custom(1_572_000).is_ok());
        assert_eq!(
            custom(1_573_000).expect_err("too large"),
            "etcdserver: request is too large"
        );
        assert!(
            custom(2_100_000)
                .expect_err("larger")
                .starts_with("rpc error: code = ResourceExhausted")
        );
    }

    #[test]
    fn builtin_kinds_count_as_the_protobuf_they_are() {
        // Bytes are a third longer in JSON, and so are escapes.
        let object = |bytes: usize| serde_json::json!({"metadata": {"name": "a"}, "data": {"a": "\"".repeat(bytes)}});
        let kind = || GroupVersionKind::new("", "v1", "ConfigMap");
        assert!(checked(kind(), &object(900_000)).is_ok());
        assert!(checked(kind(), &object(1_600_000)).is_err());
    }
}
