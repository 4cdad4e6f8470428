//! Which files a volume holds, decided from the objects it names.

use crate::{
    KeyToPath, VolumeError,
    atomic::{File, Payload},
};
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use strata_meta::Object;

/// Permission bits of files that neither they nor their volume give any.
pub const DEFAULT_MODE: u32 = 0o644;

/// Keys and what they hold.
pub type Keys = BTreeMap<String, Vec<u8>>;

/// The keys of a config map and what they hold.
pub fn config_map_data(object: &Object) -> Result<Keys, VolumeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ConfigMap {
        data: Option<BTreeMap<String, String>>,
        binary_data: Option<BTreeMap<String, String>>,
    }
    let map: ConfigMap = object.decode()?;
    let mut data = BTreeMap::new();
    for (key, text) in map.data.into_iter().flatten() {
        data.insert(key, text.into_bytes());
    }
    for (key, text) in map.binary_data.into_iter().flatten() {
        let bytes = decode_base64(&key, &text)?;
        data.insert(key, bytes);
    }
    Ok(data)
}

/// The keys of a secret and what they hold.
pub fn secret_data(object: &Object) -> Result<Keys, VolumeError> {
    #[derive(Deserialize)]
    struct Secret {
        data: Option<BTreeMap<String, String>>,
    }
    let secret: Secret = object.decode()?;
    secret
        .data
        .into_iter()
        .flatten()
        .map(|(key, text)| decode_base64(&key, &text).map(|bytes| (key, bytes)))
        .collect()
}

fn decode_base64(key: &str, text: &str) -> Result<Vec<u8>, VolumeError> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| VolumeError::Base64(key.to_owned()))
}

/// Adds the asked-for keys (all, when `items` is empty) of `data` to a payload.
pub fn add_keys(
    payload: &mut Payload,
    kind: &'static str,
    data: &Keys,
    items: &[KeyToPath],
    optional: bool,
    default_mode: u32,
) -> Result<(), VolumeError> {
    if items.is_empty() {
        for (key, bytes) in data {
            payload.insert(key.clone(), file(bytes.clone(), default_mode));
        }
        return Ok(());
    }
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                payload.insert(
                    item.path.clone(),
                    file(bytes.clone(), item.mode.unwrap_or(default_mode)),
                );
            }
            None if optional => {}
            None => {
                return Err(VolumeError::KeyNotFound {
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

/// A file of a payload.
pub fn file(data: Vec<u8>, mode: u32) -> File {
    File { data, mode }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_chosen_renamed_and_missed_as_asked() {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let mut all = Payload::new();
        add_keys(&mut all, "config", &data, &[], false, 0o644).unwrap();
        assert_eq!(all.len(), 2);
        let item = |key: &str| KeyToPath {
            key: key.into(),
            path: "sub/x".into(),
            mode: Some(0o400),
        };
        let mut one = Payload::new();
        add_keys(&mut one, "config", &data, &[item("b")], false, 0o644).unwrap();
        assert_eq!(one["sub/x"], file(b"2".to_vec(), 0o400));
        assert!(add_keys(&mut one, "config", &data, &[item("c")], false, 0o644).is_err());
        assert!(add_keys(&mut one, "config", &data, &[item("c")], true, 0o644).is_ok());
    }
}
