//! Flags as data: parsing and help from one table.

use alloc::{format, string::String, vec::Vec};
use strata_runtime::{Error, Result};

/// One flag.
pub(super) struct Flag {
    name: &'static str,
    short: &'static str,
    takes_value: bool,
    about: &'static str,
}

impl Flag {
    pub(super) const fn switch(name: &'static str, short: &'static str, about: &'static str) -> Self {
        Flag {
            name,
            short,
            takes_value: false,
            about,
        }
    }

    pub(super) const fn value(name: &'static str, short: &'static str, about: &'static str) -> Self {
        Flag {
            name,
            short,
            takes_value: true,
            about,
        }
    }
}

/// Parsed arguments.
pub(super) struct Arguments {
    given: Vec<(&'static str, String)>,
    /// What is no flag.
    pub(super) rest: Vec<String>,
}

impl Arguments {
    /// Parses `--name value`, `--name=value`, `-name` (as Go programs take it) and short forms. With
    /// `stop`, the first argument that is no flag ends the flags.
    pub(super) fn parse(flags: &'static [Flag], arguments: &[String], stop: bool) -> Result<Self> {
        let mut parsed = Arguments {
            given: Vec::new(),
            rest: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                parsed.rest.extend(arguments.cloned());
                break;
            }
            let Some(text) = argument.strip_prefix('-').filter(|text| !text.is_empty()) else {
                parsed.rest.push(argument.clone());
                if stop {
                    parsed.rest.extend(arguments.cloned());
                    break;
                }
                continue;
            };
            let text = text.strip_prefix('-').unwrap_or(text);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let flag = flags
                .iter()
                .find(|flag| flag.name == name || !flag.short.is_empty() && flag.short == name)
                .ok_or_else(|| Error::Invalid(format!("flag provided but not defined: {argument}")))?;
            let value = match (flag.takes_value, value) {
                (_, Some(value)) => value.into(),
                (false, None) => "true".into(),
                (true, None) => arguments
                    .next()
                    .cloned()
                    .ok_or_else(|| Error::Invalid(format!("flag needs an argument: {argument}")))?,
            };
            parsed.given.push((flag.name, value));
        }
        Ok(parsed)
    }

    /// Whether a switch is on.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// The last value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .rev()
            .find(|given| given.0 == name)
            .map(|given| &*given.1)
    }

    /// All values of a flag.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given
            .iter()
            .filter(move |given| given.0 == name)
            .map(|given| &*given.1)
    }

    /// A number. Errors: it is none.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>> {
        self.value(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| Error::Invalid(format!("--{name}: {text:?} is not a number")))
            })
            .transpose()
    }

    /// The container's name: the first parameter.
    pub(super) fn id(&self) -> Result<&str> {
        self.rest
            .first()
            .map(String::as_str)
            .ok_or_else(|| Error::Invalid("the container's ID is missing".into()))
    }
}

/// Appends a line of help a flag.
pub(super) fn describe(flags: &[Flag], text: &mut String) {
    for flag in flags {
        let short = if flag.short.is_empty() {
            String::new()
        } else {
            format!(", -{}", flag.short)
        };
        let value = if flag.takes_value { " VALUE" } else { "" };
        text.push_str(&format!(
            "      --{}{short}{value}\n          {}\n",
            flag.name, flag.about
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const FLAGS: &[Flag] = &[
        Flag::value("bundle", "b", ""),
        Flag::switch("force", "f", ""),
        Flag::value("env", "e", ""),
    ];

    fn parse(text: &str, stop: bool) -> Result<Arguments> {
        Arguments::parse(
            FLAGS,
            &text.split(' ').map(|word| word.to_string()).collect::<Vec<_>>(),
            stop,
        )
    }

    #[test]
    fn flags_are_taken_in_every_form() {
        let parsed = parse("-b x --force name -e A=1 --env=B=2", false).unwrap();
        assert_eq!(parsed.value("bundle"), Some("x"));
        assert!(parsed.has("force"));
        assert_eq!(parsed.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(parsed.rest, ["name"]);
        assert!(!parse("--force=false", false).unwrap().has("force"));
    }

    #[test]
    fn the_command_of_exec_keeps_its_own_flags() {
        assert_eq!(
            parse("-b x name ls -l --force", true).unwrap().rest,
            ["name", "ls", "-l", "--force"]
        );
        assert!(parse("--nope", false).is_err());
        assert!(parse("--bundle", false).is_err());
    }
}
