//! What was attached: kept on disk before plugins run, so that it can be taken back whatever happens.

use crate::Error;
use crate::config::NetworkList;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A sandbox on a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// The sandbox.
    pub container: String,
    /// The network as it was configured then.
    pub network: Value,
    /// The link's name in the sandbox.
    pub link: String,
    /// Where its network namespace has a name.
    pub namespace: PathBuf,
    /// `KEY=value;KEY=value`.
    pub arguments: String,
    /// What was wanted of plugins that can do it.
    pub capabilities: Map<String, Value>,
    /// What the last plugin answered; nothing while it is being attached.
    pub result: Option<Value>,
}

impl Attachment {
    pub fn list(&self) -> Result<NetworkList, Error> {
        let broken = |why| Error::Invalid(format!("attachment of {}: {why}", self.container));
        NetworkList::from_value(self.network.clone()).map_err(broken)
    }
}

/// The folder of attachments.
#[derive(Clone, Debug)]
pub(crate) struct Shelf(PathBuf);

impl Shelf {
    /// Opens or makes the folder; all that it holds. A torn record is of an attachment that never began.
    pub fn open(folder: PathBuf) -> Result<(Self, Vec<Attachment>), Error> {
        fs::create_dir_all(&folder).map_err(Error::state(&folder))?;
        let mut all = Vec::new();
        for item in fs::read_dir(&folder).map_err(Error::state(&folder))? {
            let path = item.map_err(Error::state(&folder))?.path();
            let is_record = path.extension().is_some_and(|end| end == "json");
            let text = fs::read(&path).map_err(Error::state(&path))?;
            match serde_json::from_slice::<Attachment>(&text) {
                Ok(attachment) if is_record => all.push(attachment),
                _ => {
                    tracing::warn!(path = %path.display(), "removing a record of an attachment that cannot be read");
                    fs::remove_file(&path).map_err(Error::state(&path))?;
                }
            }
        }
        Ok((Self(folder), all))
    }

    fn path(&self, container: &str) -> PathBuf {
        self.0.join(format!("{container}.json"))
    }

    /// Replaces a record as a whole. Blocking. It is synced: addresses are the machine's, and outlive its crash.
    pub fn write(&self, attachment: &Attachment) -> Result<(), Error> {
        let path = self.path(&attachment.container);
        let draft = path.with_extension("draft");
        let text = serde_json::to_vec(attachment).map_err(|error| Error::state(&path)(error.into()))?;
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&draft, &path));
        written.map_err(Error::state(&path)).inspect_err(|_| {
            // The error that is told is the first.
            let _ = fs::remove_file(&draft);
        })
    }

    /// Forgets an attachment; no error if there is none. Blocking.
    pub fn remove(&self, container: &str) -> Result<(), Error> {
        let path = self.path(container);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::state(path)(error)),
            _ => Ok(()),
        }
    }
}

/// A container's id is a file's name and a plugin's argument (SPEC.md: letters, digits, `_`, `.`, `-`).
pub(crate) fn check_container(id: &str) -> Result<(), Error> {
    let sound = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.len() <= 128
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    sound
        .then_some(())
        .ok_or_else(|| Error::Invalid(format!("bad container id {id:?}")))
}

/// `KEY=value;KEY=value`. Errors: a value that would say something else than it is.
pub(crate) fn arguments(list: &[(String, String)]) -> Result<String, Error> {
    let pair = |(key, value): &(String, String)| match [key, value].iter().any(|text| text.contains([';', '=', '\0'])) {
        true => Err(Error::Invalid(format!(
            "{key}={value:?} cannot be told to network plugins"
        ))),
        false => Ok(format!("{key}={value}")),
    };
    Ok(list.iter().map(pair).collect::<Result<Vec<_>, _>>()?.join(";"))
}

/// The name of a sandbox's namespace.
pub(crate) fn namespace_path(folder: &Path, container: &str) -> PathBuf {
    folder.join(format!("cni-{container}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(id: &str) -> Attachment {
        Attachment {
            container: id.into(),
            network: serde_json::json!({"cniVersion": "1.0.0", "name": "n", "type": "x"}),
            link: "eth0".into(),
            namespace: "/run/netns/cni-x".into(),
            arguments: String::new(),
            capabilities: Map::new(),
            result: None,
        }
    }

    #[test]
    fn attachments_survive_and_torn_records_do_not() {
        let folder = tempfile::tempdir().expect("folder");
        let (shelf, none) = Shelf::open(folder.path().join("a")).expect("new");
        assert!(none.is_empty());
        shelf.write(&attachment("one")).expect("write");
        fs::write(folder.path().join("a/two.json"), "{").expect("write");
        fs::write(folder.path().join("a/three.draft"), "{}").expect("write");
        let (shelf, found) = Shelf::open(folder.path().join("a")).expect("again");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].list().expect("valid").name, "n");
        shelf.remove("one").expect("removed");
        shelf.remove("one").expect("gone already");
        assert_eq!(fs::read_dir(folder.path().join("a")).expect("read").count(), 0);
    }

    #[test]
    fn nothing_is_smuggled_into_arguments() {
        let of = |value: &str| arguments(&[("A".into(), value.into()), ("B".into(), "c".into())]);
        assert_eq!(of("x").expect("plain"), "A=x;B=c");
        for bad in ["x;Y=z", "=", "\0"] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        assert!(check_container("../x").is_err() && check_container("0af").is_ok());
    }
}
