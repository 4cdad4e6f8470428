//! kubeconfig files: made, merged into, removed from, without touching anybody else's entries.

mod key;

use crate::{Error, Leaf, files};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long another program may hold the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Largest kubeconfig read.
const MAX_BYTES: usize = 16 << 20;

/// The text of a kubeconfig with one context, whose cluster and user bear the same name. It holds a private key.
pub fn kubeconfig(server: &str, ca_pem: &str, leaf: &Leaf, context: &str) -> String {
    let value = document(server, ca_pem, leaf, context);
    // The value is plain maps and texts, which YAML can always express.
    serde_saphyr::to_string(&value).unwrap_or_else(|_| value.to_string())
}

/// Puts a context into a file, which is made if need be, and selects it. Other entries are kept.
pub fn merge_kubeconfig(path: &Path, server: &str, ca_pem: &str, leaf: &Leaf, context: &str) -> Result<(), Error> {
    edit(path, true, |config| {
        let mut new = document(server, ca_pem, leaf, context);
        for list in ["clusters", "users", "contexts"] {
            let entry = new[list][0].take();
            let entries = entries(config, list)?;
            entries.retain(|old| old["name"] != context);
            entries.push(entry);
        }
        config.insert("current-context".into(), json!(context));
        Ok(true)
    })
    .map(drop)
}

/// Takes a context, its cluster and its user out of a file; whether it was there. A file that does not exist stays so.
pub fn remove_from_kubeconfig(path: &Path, context: &str) -> Result<bool, Error> {
    edit(path, false, |config| {
        let mut removed = false;
        for list in ["clusters", "users", "contexts"] {
            let entries = entries(config, list)?;
            let before = entries.len();
            entries.retain(|old| old["name"] != context);
            removed |= entries.len() != before;
        }
        if config.get("current-context").and_then(Value::as_str) == Some(context) {
            config.insert("current-context".into(), json!(""));
            removed = true;
        }
        Ok(removed)
    })
}

fn document(server: &str, ca_pem: &str, leaf: &Leaf, context: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": context,
            "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca_pem)},
        }],
        "users": [{
            "name": context,
            "user": {
                "client-certificate-data": STANDARD.encode(&leaf.cert_pem),
                "client-key-data": STANDARD.encode(key::widely_read(&leaf.key_pem).as_bytes()),
            },
        }],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    })
}

fn entries<'a>(config: &'a mut Map<String, Value>, list: &str) -> Result<&'a mut Vec<Value>, String> {
    let value = config.entry(list).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| format!("{list} is not a list"))
}

/// Reads, changes and replaces a file under the lock that kubectl uses too.
fn edit(
    path: &Path,
    create: bool,
    change: impl FnOnce(&mut Map<String, Value>) -> Result<bool, String>,
) -> Result<bool, Error> {
    // A link, as people have from their dotfiles, stays a link.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if create {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            files::create_private_dir(directory)?;
        }
    } else if !path.exists() {
        return Ok(false);
    }
    let _lock = Lock::acquire(path)?;
    let wrong = |why: String| Error::Content {
        path: path.clone(),
        why,
    };
    let text = files::read_text(path)?.unwrap_or_default();
    let mut config = parse(&text).map_err(wrong)?;
    let changed = change(&mut config).map_err(wrong)?;
    if changed {
        let text = serde_saphyr::to_string(&config).map_err(|why| wrong(why.to_string()))?;
        files::write_private(path, text.as_bytes())?;
    }
    Ok(changed)
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if text.len() > MAX_BYTES {
        return Err("is too large for a kubeconfig".into());
    }
    let value = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_saphyr::from_str(text).map_err(|why| format!("is not YAML: {why}"))?
    };
    match value {
        Value::Object(config) => Ok(config),
        Value::Null => {
            let mut config = Map::new();
            config.insert("apiVersion".into(), json!("v1"));
            config.insert("kind".into(), json!("Config"));
            config.insert("preferences".into(), json!({}));
            Ok(config)
        }
        _ => Err("is not a kubeconfig".into()),
    }
}

/// `PATH.lock`, made exclusively, as client-go does it.
struct Lock(PathBuf);

impl Lock {
    fn acquire(path: &Path) -> Result<Self, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Instant::now() < deadline => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let why = "is held by another program; remove it if none is running".into();
                    return Err(Error::Content { path: lock, why });
                }
                Err(error) => return Err(Error::File { path: lock, error }),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the lock");
        }
    }
}

#[cfg(test)]
mod tests;
