//! Reading projections out of objects.

use serde::de::DeserializeOwned;
use serde_json::Value;
use strata_meta::{Object, ObjectError};

/// Reads the part of an object that `T` declares. Members that are `null`, as Go writes
/// empty lists and maps, count as absent.
pub(crate) fn read<T: DeserializeOwned>(object: &Object) -> Result<T, ObjectError> {
    match serde_json::from_slice(object.body()) {
        Ok(read) => Ok(read),
        Err(error) => {
            let mut value: Value = serde_json::from_slice(object.body())?;
            if !drop_nulls(&mut value) {
                return Err(error.into());
            }
            Ok(serde_json::from_value(value)?)
        }
    }
}

/// Whether there were any.
fn drop_nulls(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|_, member| !member.is_null());
            let dropped = members.len() < before;
            members
                .values_mut()
                .fold(dropped, |found, member| drop_nulls(member) || found)
        }
        // Counted, because every item has to be visited.
        Value::Array(items) => {
            items
                .iter_mut()
                .filter_map(|item| drop_nulls(item).then_some(()))
                .count()
                > 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::waiting;
    use serde_json::json;

    #[test]
    fn a_null_is_as_good_as_nothing() {
        let spec = json!({
            "nodeSelector": null, "tolerations": null, "affinity": {"nodeAffinity": null},
            "containers": [{"image": "i", "ports": null, "resources": {"requests": {"cpu": "1"}, "limits": null}}],
        });
        let pod = waiting("w", json!({}), spec);
        assert_eq!((pod.requests.milli_cpu, pod.wish().tolerations.len()), (1000, 0));
    }
}
