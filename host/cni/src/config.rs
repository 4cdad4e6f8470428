//! Configurations of networks: lists of plugins, each with its settings.

use crate::Error;
use serde_json::{Map, Value};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Files of a folder that are looked at.
const MAX_FILES: usize = 1024;
/// Plugins of a network.
const MAX_PLUGINS: usize = 64;

/// A version of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u8, u8, u8);

impl Version {
    /// From here on CHECK exists, and DEL is told the result of ADD.
    pub const CHECK: Self = Self(0, 4, 0);
    /// From here on addresses do not say their family.
    pub const NO_FAMILY: Self = Self(1, 0, 0);
    /// From here on GC and STATUS exist.
    pub const STATUS: Self = Self(1, 1, 0);
    const KNOWN: [Self; 5] = [Self(0, 3, 0), Self(0, 3, 1), Self::CHECK, Self::NO_FAMILY, Self::STATUS];

    /// The version with that text. Errors: one that is not spoken here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = Self::KNOWN.into_iter().find(|version| version.to_string() == text);
        known.ok_or_else(|| format!("unsupported CNI version {text:?}"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A network: plugins in the order they are run.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// Its name; unique on this machine.
    pub name: String,
    /// The version its plugins are spoken to in.
    pub version: Version,
    /// Whether CHECK is not wanted.
    pub disable_check: bool,
    /// Whether GC is not wanted.
    pub disable_gc: bool,
    /// Settings of each plugin, as written.
    pub plugins: Vec<Map<String, Value>>,
    /// All of it as written, to be kept.
    pub(crate) source: Value,
}

impl NetworkList {
    /// Reads a list, or the configuration of a single plugin as a list of one. Errors: what is wrong, in a sentence.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
        Self::from_value(value)
    }

    /// [`NetworkList::parse`] of what is parsed already.
    pub fn from_value(value: Value) -> Result<Self, String> {
        let top = value.as_object().ok_or("not an object")?;
        let name = string(top, "name")?.ok_or("no name")?;
        check_name(name)?;
        let version = version(top)?;
        let plugins = match top.get("plugins") {
            Some(list) => {
                let list = list.as_array().ok_or("plugins is not a list")?;
                let object = |plugin: &Value| plugin.as_object().cloned().ok_or("a plugin is not an object");
                list.iter().map(object).collect::<Result<Vec<_>, _>>()?
            }
            None => vec![top.clone()],
        };
        if plugins.is_empty() || plugins.len() > MAX_PLUGINS {
            return Err(format!("{} plugins; there must be 1 to {MAX_PLUGINS}", plugins.len()));
        }
        for plugin in &plugins {
            check_type(string(plugin, "type")?.ok_or("a plugin has no type")?)?;
        }
        Ok(Self {
            name: name.to_owned(),
            version,
            disable_check: flag(top, "disableCheck")?,
            disable_gc: flag(top, "disableGC")?,
            plugins,
            source: value,
        })
    }

    /// The first network of a folder, in the order of file names; none if there is none.
    /// Errors: that file makes no sense. A later one does not take its place, because it is another network.
    pub fn load(folder: &Path) -> Result<Option<(PathBuf, Self)>, Error> {
        let items = match fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::state(folder))?,
        };
        let mut first: Option<PathBuf> = None;
        for item in items.take(MAX_FILES) {
            let path = item.map_err(Error::state(folder))?.path();
            let known = path
                .extension()
                .is_some_and(|end| ["conf", "conflist", "json"].iter().any(|known| end == *known));
            if known && path.is_file() && first.as_ref().is_none_or(|first| path < *first) {
                first = Some(path);
            }
        }
        let Some(path) = first else { return Ok(None) };
        let broken = |why: String| Error::Config {
            path: path.clone(),
            why,
        };
        let mut text = Vec::new();
        let file = fs::File::open(&path).map_err(Error::state(&path))?;
        file.take(MAX_FILE + 1)
            .read_to_end(&mut text)
            .map_err(Error::state(&path))?;
        if text.len() as u64 > MAX_FILE {
            return Err(broken(format!("larger than {MAX_FILE} bytes")));
        }
        let list = Self::parse(&text).map_err(broken)?;
        Ok(Some((path, list)))
    }

    /// The type of a plugin, which is the name of its program.
    pub(crate) fn kind(plugin: &Map<String, Value>) -> &str {
        plugin.get("type").and_then(Value::as_str).unwrap_or("")
    }

    /// Whether some plugin of it has a capability.
    pub fn has_capability(&self, name: &str) -> bool {
        self.plugins.iter().any(|plugin| has_capability(plugin, name))
    }

    /// What a plugin is given: its settings, with what the list says, what the caller wants and what came before.
    pub(crate) fn settings(
        &self,
        plugin: &Map<String, Value>,
        wanted: &Map<String, Value>,
        previous: Option<&Value>,
    ) -> Map<String, Value> {
        let mut settings = plugin.clone();
        settings.insert("name".into(), self.name.clone().into());
        settings.insert("cniVersion".into(), self.version.to_string().into());
        let own: Map<String, Value> = wanted
            .iter()
            .filter(|(name, _)| has_capability(plugin, name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !own.is_empty() {
            settings.insert("runtimeConfig".into(), own.into());
        }
        if let Some(previous) = previous {
            settings.insert("prevResult".into(), previous.clone());
        }
        settings
    }
}

fn has_capability(plugin: &Map<String, Value>, name: &str) -> bool {
    let capabilities = plugin.get("capabilities").and_then(Value::as_object);
    capabilities.and_then(|all| all.get(name)).and_then(Value::as_bool) == Some(true)
}

fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is not a string")),
    }
}

/// A boolean, which some write as a string.
fn flag(object: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(format!("{name} is neither true nor false")),
    }
}

/// `cniVersions` names several: the newest that is spoken here counts.
fn version(top: &Map<String, Value>) -> Result<Version, String> {
    let single = string(top, "cniVersion")?;
    let many = match top.get("cniVersions") {
        None | Some(Value::Null) => &Vec::new(),
        Some(list) => list.as_array().ok_or("cniVersions is not a list")?,
    };
    let texts = many.iter().filter_map(Value::as_str).chain(single);
    let newest = texts.filter_map(|text| Version::parse(text).ok()).max();
    newest.ok_or_else(|| format!("unsupported CNI version {:?}", single.unwrap_or("0.1.0")))
}

/// SPEC.md: it begins with a letter or digit, then letters, digits, `_`, `.` and `-`.
fn check_name(name: &str) -> Result<(), String> {
    let sound = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 255
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    sound.then_some(()).ok_or_else(|| format!("bad network name {name:?}"))
}

/// A program's name, never a path.
fn check_type(kind: &str) -> Result<(), String> {
    let sound = !kind.is_empty() && kind.len() <= 255 && !kind.starts_with('.') && !kind.contains(['/', '\0']);
    sound.then_some(()).ok_or_else(|| format!("bad plugin type {kind:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(value: Value) -> Result<NetworkList, String> {
        NetworkList::from_value(value)
    }

    #[test]
    fn a_list_and_a_single_plugin_are_networks() {
        let network = list(json!({
            "cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "9.0.0"], "name": "net", "disableCheck": "true",
            "plugins": [{"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": true}}],
        }));
        let network = network.expect("valid");
        assert_eq!((network.plugins.len(), network.version), (2, Version::STATUS));
        assert!(network.disable_check && !network.disable_gc && network.has_capability("portMappings"));
        let single = list(json!({"cniVersion": "0.3.1", "name": "one", "type": "ptp"})).expect("valid");
        assert_eq!(NetworkList::kind(&single.plugins[0]), "ptp");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            json!([]),
            json!({"cniVersion": "1.0.0", "type": "x"}),
            json!({"cniVersion": "1.0.0", "name": "../x", "type": "x"}),
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}),
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{}]}),
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "../../bin/sh"}]}),
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [7]}),
            json!({"cniVersion": "2.0.0", "name": "n", "type": "x"}),
            json!({"name": "n", "type": "x"}),
            json!({"cniVersion": "1.0.0", "name": "n", "type": "x", "disableGC": 1}),
        ] {
            assert!(list(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plugin_gets_what_it_can_use_and_nothing_else() {
        let network = list(json!({
            "cniVersion": "1.0.0", "name": "n",
            "plugins": [{"type": "a", "capabilities": {"bandwidth": true, "dns": false}}],
        }));
        let network = network.expect("valid");
        let wanted = json!({"bandwidth": {"ingressRate": 1}, "dns": {}, "portMappings": []});
        let wanted = wanted.as_object().expect("object");
        let settings = network.settings(&network.plugins[0], wanted, Some(&json!({"ips": []})));
        assert_eq!(settings["runtimeConfig"], json!({"bandwidth": {"ingressRate": 1}}));
        assert_eq!(settings["name"], "n");
        assert_eq!(settings["cniVersion"], "1.0.0");
        assert_eq!(settings["prevResult"], json!({"ips": []}));
    }

    #[test]
    fn the_first_file_of_a_folder_counts_even_when_it_is_broken() {
        let folder = tempfile::tempdir().expect("folder");
        let load = || NetworkList::load(folder.path());
        assert!(
            NetworkList::load(&folder.path().join("absent"))
                .expect("read")
                .is_none()
        );
        fs::write(folder.path().join("00-note.txt"), "x").expect("write");
        assert!(load().expect("read").is_none());
        let text = r#"{"cniVersion": "1.0.0", "name": "NAME", "type": "x"}"#;
        for (file, name) in [("20-b.conf", "b"), ("10-a.conflist", "a")] {
            fs::write(folder.path().join(file), text.replace("NAME", name)).expect("write");
            assert_eq!(load().expect("read").expect("there").1.name, name);
        }
        fs::write(folder.path().join("05-broken.conflist"), "{").expect("write");
        assert!(load().is_err());
    }
}
