//! Options of a runtime, as containerd passes them with `start` and with each container.

use alloc::{format, string::String, vec::Vec};
use rustix::fs::CWD;
use strata_runtime::{Choices, Context, Error, Result};
use strata_sys::file;
use strata_ttrpc::Message;
use strata_ttrpc::envelope::{Any, RuntimeOptions};
use strata_ttrpc::task::Options;

/// Largest file of options.
const FILE_LIMIT: usize = 1 << 20;

/// What counts of them here.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) systemd: bool,
    pub(super) shim_cgroup: String,
    no_pivot: bool,
    no_new_keyring: bool,
}

/// The part of containerd 2.3's BootstrapParams that holds options.
#[derive(Clone, PartialEq, prost::Message)]
struct Bootstrap {
    #[prost(message, repeated, tag = "8")]
    extensions: Vec<Extension>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Extension {
    #[prost(message, optional, tag = "1")]
    value: Option<Any>,
}

impl Settings {
    /// From the standard input of `start`: options alone, or parameters that hold them.
    pub(super) fn of_start(input: &[u8]) -> Result<Self> {
        if let Ok(any) = Any::decode(input)
            && is_options(&any)
        {
            return Self::of(Some(&any));
        }
        let parameters = Bootstrap::decode(input).map_err(|error| Error::Invalid(format!("parameters: {error}")))?;
        let mut values = parameters.extensions.into_iter().filter_map(|entry| entry.value);
        let found = values.find(is_options);
        Self::of(found.as_ref())
    }

    /// From a container's options. Errors: they cannot be read; those of others are none of ours.
    pub(super) fn of(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any else { return Ok(Settings::default()) };
        let bad = |error| Error::Invalid(format!("{}: {error}", any.type_url));
        match last(&any.type_url) {
            "containerd.runc.v1.Options" => {
                let options = Options::decode(&*any.value).map_err(bad)?;
                Ok(Settings {
                    systemd: options.systemd_cgroup,
                    shim_cgroup: options.shim_cgroup,
                    no_pivot: options.no_pivot_root,
                    no_new_keyring: options.no_new_keyring,
                })
            }
            "runtimeoptions.v1.Options" => {
                let options = RuntimeOptions::decode(&*any.value).map_err(bad)?;
                let text = match &*options.config_path {
                    "" => options.config_body,
                    path => file::read_at(CWD, path, FILE_LIMIT).context(|| format!("read {path}"))?,
                };
                Ok(Self::of_text(&String::from_utf8_lossy(&text)))
            }
            _ => Ok(Settings::default()),
        }
    }

    /// From lines of TOML, under the names of containerd's configuration.
    fn of_text(text: &str) -> Self {
        let mut settings = Settings::default();
        for line in text.lines() {
            let Some((key, value)) = line.split('#').next().and_then(|line| line.split_once('=')) else {
                continue;
            };
            let value = value.trim();
            match key.trim().trim_matches('"') {
                "SystemdCgroup" => settings.systemd = value == "true",
                "NoPivotRoot" => settings.no_pivot = value == "true",
                "NoNewKeyring" => settings.no_new_keyring = value == "true",
                "ShimCgroup" => settings.shim_cgroup = value.trim_matches(|c| c == '"' || c == '\'').into(),
                _ => {}
            }
        }
        settings
    }

    pub(super) fn choices(&self) -> Choices {
        Choices {
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
        }
    }
}

fn is_options(any: &Any) -> bool {
    matches!(
        last(&any.type_url),
        "containerd.runc.v1.Options" | "runtimeoptions.v1.Options"
    )
}

/// A type's name without the host that may stand before it.
fn last(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runc() -> Any {
        let options = Options {
            systemd_cgroup: true,
            shim_cgroup: "/shims".into(),
            binary_name: "elsewhere".into(),
            ..Options::default()
        };
        Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.encode_to_vec(),
        }
    }

    #[test]
    fn options_are_found_alone_and_among_parameters() {
        let wanted = Settings {
            systemd: true,
            shim_cgroup: "/shims".into(),
            ..Settings::default()
        };
        assert_eq!(Settings::of_start(&runc().encode_to_vec()).unwrap(), wanted);
        let parameters = Bootstrap {
            extensions: alloc::vec![Extension { value: Some(runc()) }],
        };
        // The parameters' first member, a name, stands where a type would.
        let mut bytes = alloc::vec![0x0a, 2, b'i', b'd'];
        bytes.extend(parameters.encode_to_vec());
        assert_eq!(Settings::of_start(&bytes).unwrap(), wanted);
        assert_eq!(Settings::of_start(b"").unwrap(), Settings::default());
    }

    #[test]
    fn the_options_of_an_unknown_runtime_are_lines() {
        let text = "# SystemdCgroup = false\nSystemdCgroup = true # yes\n\"ShimCgroup\" = \"/a\"\nOther = 1\n";
        let settings = Settings::of_text(text);
        assert!(settings.systemd && settings.shim_cgroup == "/a");
        let damaged = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: b"\xff".to_vec(),
        };
        assert!(Settings::of(Some(&damaged)).is_err());
    }
}
