//! Command lines that cannot be read, told in docker's words and with its exit codes.

use crate::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use std::error::Error;
use std::ffi::OsString;
use std::num::ParseIntError;

/// The exit code for flags that cannot be read.
const FLAGS: u8 = 125;

/// The words of a command line that name the command.
pub fn command_path<'a>(root: &Command, given: &'a [String]) -> Vec<&'a str> {
    let (mut command, mut path) = (root, Vec::new());
    let mut words = given.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let takes_value =
                |argument: &&Arg| argument.get_long() == Some(long) && argument.get_action().takes_values();
            if command.get_arguments().any(|argument| takes_value(&argument)) {
                words.next();
            }
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
            path.push(word.as_str());
        } else {
            break;
        }
    }
    path
}

/// A command line in which switches have no values: `--rm=true` is `--rm`, `--rm=false` is nothing.
pub fn plain_switches(root: &Command, given: Vec<OsString>) -> Vec<OsString> {
    let words: Vec<String> = given.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let path = command_path(root, &words);
    let Some(command) = path
        .iter()
        .try_fold(root, |command, word| command.find_subcommand(word))
    else {
        return given;
    };
    let begins = words
        .iter()
        .position(|word| path.last().is_some_and(|last| word == last));
    let literal = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let takes_value = |argument: Option<&Arg>| argument.is_some_and(|argument| argument.get_action().takes_values());
    let mut rest = given.into_iter().enumerate();
    let mut all = Vec::new();
    while let Some((number, word)) = rest.next() {
        let text = &words[number];
        if begins.is_none_or(|begins| number <= begins) {
            all.push(word);
            continue;
        }
        let named = |name: &str| {
            command
                .get_arguments()
                .find(|argument| argument.get_long() == Some(name))
        };
        match text.strip_prefix("--").map(|long| long.split_once('=')) {
            Some(Some((name, value))) if named(name).is_some_and(is_switch) => match value {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => all.push(format!("--{name}").into()),
                "false" | "False" | "FALSE" | "f" | "F" | "0" => {}
                _ => all.push(word),
            },
            Some(Some(_)) => all.push(word),
            Some(None) if text != "--" => {
                all.push(word);
                if takes_value(named(&text[2..])) && named(&text[2..]).is_some_and(|one| !one.is_require_equals_set()) {
                    all.extend(rest.next().map(|(_, value)| value));
                }
            }
            None if text.len() > 1 && text.starts_with('-') => {
                // Only the last letter of some can want the next word.
                let value_follows = text[1..].char_indices().find_map(|(at, letter)| {
                    let found = command
                        .get_arguments()
                        .find(|argument| argument.get_short() == Some(letter));
                    takes_value(found).then_some(at + letter.len_utf8() == text.len() - 1)
                });
                all.push(word);
                if value_follows == Some(true) {
                    all.extend(rest.next().map(|(_, value)| value));
                }
            }
            _ => {
                let over = literal || text == "--";
                all.push(word);
                if over {
                    all.extend(rest.map(|(_, word)| word));
                    break;
                }
            }
        }
    }
    all
}

fn is_switch(argument: &Arg) -> bool {
    matches!(argument.get_action(), clap::ArgAction::SetTrue)
}

/// What is wrong with a command line, as docker tells it; `path` are the words of the command in `root`.
pub fn usage_error(root: &Command, path: &[&str], error: &clap::Error) -> Option<Failure> {
    let mut command = root;
    let mut name = root.get_name().to_owned();
    for word in path {
        command = command.find_subcommand(word)?;
        name = format!("{name} {word}");
    }
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.join(" "),
        _ => String::new(),
    };
    let invalid = text(ContextKind::InvalidArg);
    let flag = |sentence: String| Some(told(&sentence, &name, command, "Run", FLAGS));
    match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with("--") => {
            let long = invalid.split('=').next().unwrap_or(&invalid);
            flag(format!("unknown flag: {long}"))
        }
        ErrorKind::UnknownArgument if invalid.len() > 1 && invalid.starts_with('-') => {
            let letter = invalid.chars().nth(1).unwrap_or('-');
            flag(format!("unknown shorthand flag: '{letter}' in {invalid}"))
        }
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            Some(wrong_count(root, &name, command))
        }
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_empty() => {
            let argument = argument(command, &invalid)?;
            if argument.is_positional() {
                return Some(wrong_count(root, &name, command));
            }
            let called = match argument.get_long() {
                Some(long) => format!("--{long}"),
                None => format!("'{0}' in -{0}", argument.get_short().unwrap_or('-')),
            };
            flag(format!("flag needs an argument: {called}"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            let argument = argument(command, &invalid)?;
            let value = text(ContextKind::InvalidValue);
            let why = why(error, &value);
            flag(format!(
                "invalid argument {value:?} for {:?} flag: {why}",
                called(argument)
            ))
        }
        _ => None,
    }
}

fn why(error: &clap::Error, value: &str) -> String {
    match error.source() {
        Some(cause) if cause.is::<ParseIntError>() => {
            let range = cause.to_string().contains("too ");
            let what = if range { "value out of range" } else { "invalid syntax" };
            format!("strconv.ParseInt: parsing {value:?}: {what}")
        }
        Some(cause) => cause.to_string(),
        None => format!("strconv.ParseBool: parsing {value:?}: invalid syntax"),
    }
}

/// The argument that clap's message calls `--name <NAME>` or `<NAME>`.
fn argument<'a>(command: &'a Command, invalid: &str) -> Option<&'a Arg> {
    let word = invalid.split([' ', '=', '[']).next().unwrap_or(invalid);
    let mut all = command.get_arguments();
    match word.strip_prefix("--") {
        Some(long) => all.find(|argument| argument.get_long() == Some(long)),
        None => {
            let short = word.strip_prefix('-').and_then(|rest| rest.chars().next());
            all.find(|argument| match short {
                Some(letter) => argument.get_short() == Some(letter),
                None => argument.is_positional(),
            })
        }
    }
}

/// `-m, --memory`
fn called(argument: &Arg) -> String {
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

fn wrong_count(root: &Command, name: &str, command: &Command) -> Failure {
    let (mut least, mut most) = (0, Some(0));
    for argument in command.get_positionals() {
        least += match argument.is_trailing_var_arg_set() {
            true => words_of(argument)
                .split(' ')
                .filter(|word| !word.starts_with('[') && !word.ends_with(']'))
                .count(),
            false => usize::from(argument.is_required_set()),
        };
        most = match is_many(argument) {
            true => None,
            false => most.map(|most| most + 1),
        };
    }
    let arguments = |count: usize| match count {
        1 => "1 argument".to_owned(),
        count => format!("{count} arguments"),
    };
    let (what, see) = match most {
        Some(0) => ("accepts no arguments".to_owned(), "Run"),
        Some(most) if most == least => (format!("requires {}", arguments(least)), "Run"),
        Some(most) if least == 0 => (format!("requires at most {}", arguments(most)), "Run"),
        Some(most) => (
            format!("requires at least {least} and at most {}", arguments(most)),
            "Run",
        ),
        None => (format!("requires at least {}", arguments(least)), "See"),
    };
    told(&format!("{}: '{name}' {what}", root.get_name()), name, command, see, 1)
}

fn words_of(argument: &Arg) -> String {
    let named = argument.get_value_names().and_then(|names| names.first());
    named.map_or_else(|| argument.get_id().to_string(), ToString::to_string)
}

fn is_many(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|range| range.max_values() > 1)
        || matches!(argument.get_action(), clap::ArgAction::Append)
}

fn told(sentence: &str, name: &str, command: &Command, see: &str, code: u8) -> Failure {
    let usage = usage(name, command);
    Failure::new(format!(
        "{sentence}\n\nUsage:  {usage}\n\n{see} '{name} --help' for more information"
    ))
    .with_code(code)
}

/// `run [OPTIONS] IMAGE [COMMAND] [ARG...]`
fn usage(name: &str, command: &Command) -> String {
    let mut words = vec![name.to_owned()];
    if command
        .get_arguments()
        .any(|argument| !argument.is_positional() && argument.get_id() != "help")
    {
        words.push("[OPTIONS]".into());
    }
    for argument in command.get_positionals() {
        let word = words_of(argument);
        if argument.is_trailing_var_arg_set() {
            words.push(word);
            continue;
        }
        let word = word.to_uppercase();
        let required = argument.is_required_set();
        words.push(if required { word.clone() } else { format!("[{word}]") });
        if is_many(argument) {
            match required {
                true => words.push(format!("[{word}...]")),
                false => {
                    words.pop();
                    words.push(format!("[{word}...]"));
                }
            }
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Subcommand;

    fn told(line: &str) -> (String, u8) {
        let root = crate::Command::augment_subcommands(Command::new("strata"));
        let words: Vec<&str> = line.split(' ').collect();
        let error = root
            .clone()
            .try_get_matches_from(std::iter::once("strata").chain(words.iter().copied()))
            .expect_err("unreadable");
        let depth = if words[0] == "network" { 2 } else { 1 };
        let failure = usage_error(&root, &words[..depth], &error).expect("known");
        let first = failure.message.lines().next().unwrap_or("").to_owned();
        (first, failure.code)
    }

    #[test]
    fn unreadable_lines_are_told_as_docker_tells_them() {
        for (line, sentence, code) in [
            ("run --foo", "unknown flag: --foo", 125),
            ("run", "strata: 'strata run' requires at least 1 argument", 1),
            ("ps -z", "unknown shorthand flag: 'z' in -z", 125),
            ("ps x", "strata: 'strata ps' accepts no arguments", 1),
            ("rm", "strata: 'strata rm' requires at least 1 argument", 1),
            ("exec a", "strata: 'strata exec' requires at least 2 arguments", 1),
            ("run --name", "flag needs an argument: --name", 125),
            (
                "run -m x img",
                "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'",
                125,
            ),
            (
                "run --memory-swappiness x img",
                "invalid argument \"x\" for \"--memory-swappiness\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
                125,
            ),
            (
                "network create",
                "strata: 'strata network create' requires 1 argument",
                1,
            ),
            ("logs a b", "strata: 'strata logs' requires 1 argument", 1),
        ] {
            assert_eq!(told(line), (sentence.to_owned(), code), "{line}");
        }
    }

    #[test]
    fn switches_may_be_said_to_be_on_or_off() {
        let root = crate::Command::augment_subcommands(Command::new("strata"));
        let plain = |line: &str| {
            let words = plain_switches(&root, line.split(' ').map(OsString::from).collect());
            let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            words.join(" ")
        };
        for (line, expected) in [
            ("run --rm=true -d=x img", "run --rm -d=x img"),
            (
                "run --rm=false --name --rm=true img --rm=true",
                "run --name --rm=true img --rm=true",
            ),
            ("run -p 80:80 -it img --tty=false", "run -p 80:80 -it img --tty=false"),
            ("ps --no-trunc=false -a --all=true", "ps -a --all"),
            ("logs --follow=1 c", "logs --follow c"),
        ] {
            assert_eq!(plain(line), expected, "{line}");
        }
    }

    #[test]
    fn nothing_after_the_image_is_a_flag_of_ours() {
        let root = crate::Command::augment_subcommands(Command::new("strata"));
        let matches = root.try_get_matches_from(["strata", "run", "--rm", "img", "-d", "--nosuch", "x"]);
        let matches = matches.expect("readable");
        let (_, run) = matches.subcommand().expect("run");
        let line: Vec<&String> = run.get_many("line").expect("words").collect();
        assert_eq!(line, ["img", "-d", "--nosuch", "x"]);
        assert!(!run.get_flag("detach"));
    }

    #[test]
    fn a_usage_line_names_what_a_command_takes() {
        let root = crate::Command::augment_subcommands(Command::new("strata"));
        for (command, expected) in [
            ("run", "run [OPTIONS] IMAGE [COMMAND] [ARG...]"),
            ("exec", "exec [OPTIONS] CONTAINER COMMAND [ARG...]"),
            ("rm", "rm [OPTIONS] CONTAINER [CONTAINER...]"),
            ("ps", "ps [OPTIONS]"),
            ("rename", "rename CONTAINER NEW_NAME"),
        ] {
            let found = root.find_subcommand(command).expect("known");
            assert_eq!(usage(command, found), expected);
        }
    }
}
