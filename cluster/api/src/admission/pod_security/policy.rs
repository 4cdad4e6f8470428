//! What a namespace's labels ask for.

use std::fmt;

/// A level of the standards, from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level as a version of Kubernetes defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    /// The minor version; `None` for the latest.
    pub(super) version: Option<u32>,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

const LAX: Standard = Standard {
    level: Level::Privileged,
    version: None,
};

/// What to refuse, to note and to warn about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

/// A label that cannot be read: key, value, why.
pub(super) type Problem = (String, String, String);

impl Policy {
    /// Reads a namespace's labels. What cannot be read enforces the strictest, and notes and warns of nothing.
    pub(super) fn read<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut read = |mode: &str, or: Level| -> (Option<Level>, bool, Option<Option<u32>>) {
            let key = format!("pod-security.kubernetes.io/{mode}");
            let level = label(&key).map(|text| {
                parse_level(text).ok_or_else(|| {
                    let why = "must be one of privileged, baseline, restricted";
                    problems.push((key.clone(), text.to_owned(), why.to_owned()));
                })
            });
            let version_key = format!("{key}-version");
            let version = label(&version_key).map(|text| {
                parse_version(text).unwrap_or_else(|| {
                    let why = "must be \"latest\" or \"v1.x\"";
                    problems.push((version_key.clone(), text.to_owned(), why.to_owned()));
                    None
                })
            });
            let good = matches!(level, Some(Ok(_)));
            (level.map(|l| l.unwrap_or(or)), good, version)
        };
        let standard = |level: Option<Level>, version: Option<Option<u32>>| Standard {
            level: level.unwrap_or(LAX.level),
            version: version.unwrap_or(LAX.version),
        };
        let (enforce_level, explicit, enforce_version) = read("enforce", Level::Restricted);
        let (audit_level, _, audit_version) = read("audit", Level::Privileged);
        let (warn_level, _, warn_version) = read("warn", Level::Privileged);
        let enforce = standard(enforce_level, enforce_version);
        let mut warn = standard(warn_level, warn_version);
        // What is enforced is warned about too, where pods are only described.
        if warn_level.is_none() && explicit && enforce.level > warn.level {
            warn.level = enforce.level;
            if warn_version.is_none() {
                warn.version = enforce.version;
            }
        }
        let policy = Self {
            enforce,
            audit: standard(audit_level, audit_version),
            warn,
        };
        (policy, problems)
    }

    /// Whether nothing is asked for.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|s| s.level == Level::Privileged)
    }
}

fn parse_level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

#[expect(clippy::option_option, reason = "no version and the latest are two things")]
fn parse_version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten().map(Some)
}
