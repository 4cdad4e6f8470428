//! PartialObjectMetadata: an object without everything but its metadata.

use crate::alias::internal_metadata;
use serde::Deserialize;
use serde_json::value::RawValue;
use strata_meta::{Object, Revision, Status};

/// Appends the partial form of an object. `with_type` is false for the items of a list.
pub(crate) fn write_partial(
    out: &mut Vec<u8>,
    object: &Object,
    meta_version: &str,
    with_type: bool,
) -> Result<(), Status> {
    #[derive(Deserialize)]
    struct Outline<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let internal = internal_metadata(object)?.map(|metadata| metadata.to_string());
    let metadata = match &internal {
        Some(metadata) => metadata,
        None => {
            let outline: Outline<'_> = serde_json::from_slice(object.body()).map_err(Status::internal)?;
            outline.metadata.get()
        }
    };
    let members = metadata.strip_prefix('{').unwrap_or("}");
    out.push(b'{');
    if with_type {
        out.extend_from_slice(br#""kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/"#);
        out.extend_from_slice(meta_version.as_bytes());
        out.extend_from_slice(br#"","#);
    }
    out.extend_from_slice(br#""metadata":{"#);
    if object.revision != Revision(0) {
        out.extend_from_slice(format!(r#""resourceVersion":"{}""#, object.revision).as_bytes());
        out.extend_from_slice(if members.starts_with('}') { b"" } else { b"," });
    }
    out.extend_from_slice(members.as_bytes());
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use strata_meta::GroupVersionKind;

    #[test]
    fn only_the_metadata_is_left() {
        let kind = Arc::new(GroupVersionKind::new("", "v1", "ConfigMap"));
        let value = serde_json::json!({"metadata": {"name": "c", "labels": {"a": "}"}}, "data": {"x": "y"}});
        let object = Object::from_value(kind, Revision(9), &value).expect("valid");
        let mut out = Vec::new();
        write_partial(&mut out, &object, "v1", true).expect("encodes");
        let partial: serde_json::Value = serde_json::from_slice(&out).expect("json");
        assert_eq!(
            partial,
            serde_json::json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": "c", "labels": {"a": "}"}, "resourceVersion": "9"}})
        );
    }
}
