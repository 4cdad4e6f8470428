//! docker's commands as clients of the engine's API.
//!
//! For: `strata run`, `ps`, `exec` and the others, with docker's flags, messages, columns and exit codes.
//! Not for: doing anything itself: every command is requests to a daemon on a socket (`strata-docker`, or
//! docker's own), and what it does is decided there.
//!
//! Start at [`Command`] for what there is and at [`Console`] for carrying it out. `options.rs` reads the
//! flags of `run` and `create`, `request.rs` makes the request from them, `session.rs` is a terminal or
//! streams in a container.

mod actions;
mod client;
mod commands;
mod copy;
mod error;
mod exec;
mod limits;
mod lists;
mod logs;
mod options;
mod parse;
mod ports;
mod pull;
mod request;
mod run;
mod session;
mod stats;
mod system;
mod terminal;
mod text;
mod thing_commands;
mod things;
mod usage;

pub use client::{Client, Start};
pub use commands::Command;
pub use error::Failure;
pub use parse::misnamed;
pub use usage::{command_path, plain_switches, usage_error};

/// Carries commands out.
pub struct Console {
    pub(crate) client: Client,
    /// What the program is called in messages.
    pub(crate) name: String,
}

impl Console {
    /// A console that talks to the daemon of `client`; `name` is the program's in messages.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    /// Carries a command out; its exit code.
    ///
    /// Errors: what to print, and the exit code.
    pub async fn carry_out(&self, command: Command) -> Result<u8, Failure> {
        match command {
            Command::Run(args) => run::run(self, *args).await,
            Command::Create(args) => run::create(self, *args).await,
            Command::Start(args) => run::start(self, args).await,
            Command::Attach(args) => run::attach(self, args).await,
            Command::Exec(args) => exec::exec(self, args).await,
            Command::Stop(args) => actions::stop(self, args, "stop").await,
            Command::Restart(args) => actions::stop(self, args, "restart").await,
            Command::Kill(args) => actions::kill(self, args).await,
            Command::Pause(args) => actions::each(self, &args.containers, "pause").await,
            Command::Unpause(args) => actions::each(self, &args.containers, "unpause").await,
            Command::Wait(args) => actions::wait(self, &args.containers).await,
            Command::Rm(args) => actions::remove(self, args).await,
            Command::Rename(args) => actions::rename(self, args).await,
            Command::Update(args) => actions::update(self, args).await,
            Command::Ps(args) => lists::ps(self, args).await,
            Command::Port(args) => lists::port(self, args).await,
            Command::Top(args) => lists::top(self, args).await,
            Command::Diff(args) => lists::diff(self, args).await,
            Command::Inspect(args) => lists::inspect(self, args).await,
            Command::Cp(args) => copy::copy(self, args).await,
            Command::Export(args) => copy::export(self, args).await,
            Command::Commit(args) => copy::commit(self, args).await,
            Command::Logs(args) => logs::logs(self, args).await,
            Command::Stats(args) => stats::stats(self, args).await,
            Command::Events(args) => system::events(self, args).await,
            Command::Info(args) => system::info(self, args).await,
            Command::Version(args) => system::version(self, args).await,
            Command::System(command) => system::system(self, command).await,
            Command::Network(command) => things::network(self, command).await,
            Command::Volume(command) => things::volume(self, command).await,
        }
    }
}
