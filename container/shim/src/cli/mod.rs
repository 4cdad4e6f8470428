//! The OCI runtime command line, with runc's commands and flags.

mod console;
mod criu;
pub(crate) mod events;
mod execute;
mod flags;
mod life;
mod log;
pub(crate) mod make;
mod notify;
pub(crate) mod own_program;
mod processes;
pub(crate) mod show;
pub(crate) mod store;
pub(crate) mod systemd;
mod update;

use alloc::{format, string::String, string::ToString, vec::Vec};
use flags::{Arguments, Flag};
use log::Log;
use strata_runtime::{Error, Result};
use strata_sys::file;

/// Where containers are remembered when `--root` is not given.
const DEFAULT_ROOT: &str = "/run/strata/runtime";

/// Flags before the command.
const GLOBAL: &[Flag] = &[
    Flag::value(
        "root",
        "",
        "directory of the containers' state (default /run/strata/runtime)",
    ),
    Flag::value("log", "", "file that errors are appended to"),
    Flag::value("log-format", "", "text or json"),
    Flag::value("rootless", "", "accepted, no effect"),
    Flag::switch("debug", "", "accepted, no effect"),
    Flag::switch(
        "systemd-cgroup",
        "",
        "let systemd make the cgroup that slice:prefix:name means",
    ),
    Flag::switch("version", "v", "print the version"),
    Flag::switch("help", "h", "print this help"),
];

/// What the flags before the command said.
struct Global {
    root: String,
    systemd: bool,
    log: Log,
    environment: Vec<String>,
}

impl Global {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<&str> {
        let mut environment = self.environment.iter();
        environment.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A command: name, flags, parameters, what it does, and the function that does it.
struct Command {
    name: &'static str,
    flags: &'static [Flag],
    parameters: &'static str,
    about: &'static str,
    run: fn(&Global, &Arguments) -> Result<i32>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        flags: life::CREATE_FLAGS,
        parameters: "ID",
        about: "set a container up",
        run: life::create,
    },
    Command {
        name: "start",
        flags: &[],
        parameters: "ID",
        about: "run the program of a created container",
        run: life::start,
    },
    Command {
        name: "state",
        flags: &[],
        parameters: "ID",
        about: "print a container's state",
        run: show::state,
    },
    Command {
        name: "kill",
        flags: life::KILL_FLAGS,
        parameters: "ID [SIGNAL]",
        about: "send a signal (default TERM)",
        run: life::kill,
    },
    Command {
        name: "delete",
        flags: life::DELETE_FLAGS,
        parameters: "ID",
        about: "remove a stopped container",
        run: life::delete,
    },
    Command {
        name: "run",
        flags: life::RUN_FLAGS,
        parameters: "ID",
        about: "create, start, wait and delete",
        run: life::run,
    },
    Command {
        name: "exec",
        flags: execute::FLAGS,
        parameters: "ID COMMAND [ARGUMENT…]",
        about: "run a further process",
        run: execute::exec,
    },
    Command {
        name: "list",
        flags: show::LIST_FLAGS,
        parameters: "",
        about: "list containers",
        run: show::list,
    },
    Command {
        name: "ps",
        flags: processes::FLAGS,
        parameters: "ID [OPTION OF ps…]",
        about: "list a container's processes",
        run: processes::ps,
    },
    Command {
        name: "events",
        flags: events::FLAGS,
        parameters: "ID",
        about: "print what a container uses and when it runs out of memory",
        run: events::events,
    },
    Command {
        name: "pause",
        flags: &[],
        parameters: "ID",
        about: "freeze a container",
        run: life::pause,
    },
    Command {
        name: "resume",
        flags: &[],
        parameters: "ID",
        about: "thaw a container",
        run: life::resume,
    },
    Command {
        name: "update",
        flags: update::FLAGS,
        parameters: "ID",
        about: "change a container's limits",
        run: update::update,
    },
    Command {
        name: "checkpoint",
        flags: criu::CHECKPOINT_FLAGS,
        parameters: "ID",
        about: "write a running container to files, by CRIU",
        run: criu::checkpoint,
    },
    Command {
        name: "restore",
        flags: criu::RESTORE_FLAGS,
        parameters: "ID",
        about: "go on with a container from such files",
        run: criu::restore,
    },
    Command {
        name: "features",
        flags: &[],
        parameters: "",
        about: "print what is supported",
        run: show::features,
    },
    Command {
        name: "spec",
        flags: show::SPEC_FLAGS,
        parameters: "",
        about: "write an example config.json",
        run: show::spec,
    },
];

/// Runs the command line; the exit code.
pub(crate) fn run(arguments: &[String], environment: &[String]) -> i32 {
    let mut log = Log::default();
    let outcome = dispatch(arguments, environment, &mut log);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let text = error.to_string();
            let name = arguments
                .iter()
                .skip(1)
                .find(|argument| COMMANDS.iter().any(|command| command.name == **argument));
            if name.is_none_or(|name| name != "exec") {
                log.report(&text);
                return 1;
            }
            log.report(&format!("exec failed: {text}"));
            255
        }
    }
}

fn dispatch(arguments: &[String], environment: &[String], log: &mut Log) -> Result<i32> {
    let given = Arguments::parse(GLOBAL, arguments.get(1..).unwrap_or(&[]), true)?;
    *log = Log {
        path: given.value("log").unwrap_or_default().into(),
        json: match given.value("log-format") {
            None | Some("text" | "") => false,
            Some("json") => true,
            Some(other) => return Err(Error::Invalid(format!("invalid log-format: {other}"))),
        },
    };
    if given.has("version") {
        print(&format!(
            "strata-runtime version {}\nspec: 1.3.0\n",
            env!("CARGO_PKG_VERSION")
        ))?;
        return Ok(0);
    }
    let Some((name, rest)) = given.rest.split_first() else {
        print(&help())?;
        return Ok(if given.has("help") { 0 } else { 2 });
    };
    if given.has("help") || name == "help" {
        print(&help())?;
        return Ok(0);
    }
    let command = COMMANDS
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| Error::Invalid(format!("unknown command {name:?}; see strata-runtime --help")))?;
    let own = Arguments::parse(command.flags, rest, matches!(command.name, "exec" | "ps"))?;
    if matches!(command.name, "create" | "run" | "exec") {
        own_program::protect(arguments, environment)?;
    }
    let global = Global {
        root: given
            .value("root")
            .map_or_else(|| default_root(environment), String::from),
        systemd: given.has("systemd-cgroup"),
        log: log.clone(),
        environment: environment.to_vec(),
    };
    (command.run)(&global, &own)
}

/// Where containers are remembered: whoever is not root has a place of its own.
fn default_root(environment: &[String]) -> String {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return DEFAULT_ROOT.into();
    }
    let own = environment
        .iter()
        .find_map(|entry| entry.strip_prefix("XDG_RUNTIME_DIR="));
    match own.filter(|path| path.starts_with('/')) {
        Some(path) => format!("{path}/strata-runtime"),
        None => format!("/tmp/strata-runtime-{}", user.as_raw()),
    }
}

fn help() -> String {
    let mut text = String::from("strata-runtime: an OCI runtime\n\nusage: strata-runtime [FLAGS] COMMAND …\n\n");
    flags::describe(GLOBAL, &mut text);
    text.push_str("\ncommands:\n");
    for command in COMMANDS {
        text.push_str(&format!(
            "  {} {}\n      {}\n",
            command.name, command.parameters, command.about
        ));
        flags::describe(command.flags, &mut text);
    }
    text
}

fn print(text: &str) -> Result<()> {
    file::write_all(strata_sys::stream::output(), text.as_bytes()).map_err(|errno| Error::System {
        what: "write to the standard output".into(),
        errno,
    })
}
