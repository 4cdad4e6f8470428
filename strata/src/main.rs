//! Strata: the whole cloud-native stack in one binary.
//!
//! This crate reads the command line and composes; whatever it composes lives elsewhere.
//! Start at [`run`].

mod addons;
mod audit;
mod cgroups;
mod check;
mod cli;
mod cluster;
mod cri;
mod demo;
mod embedded;
mod failure;
mod guard;
mod hello;
mod image;
mod instance;
mod join;
mod memory;
mod network;
mod people;
mod plane;
mod reset;
mod room;
mod server;
mod settings;
mod store;
mod token;
mod worker;

use cli::{Cli, Command};
use failure::{During, Outcome};
use std::process::ExitCode;
use strata_shim::Helper;

fn main() -> ExitCode {
    if let Some(outcome) = embedded::by_name() {
        return outcome.unwrap_or_else(fail);
    }
    let cli = Cli::read();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => fail(failure),
    }
}

fn fail(failure: failure::Failure) -> ExitCode {
    eprintln!("strata: {failure}");
    ExitCode::FAILURE
}

fn run(cli: Cli) -> Outcome<ExitCode> {
    let log_filter = start_logging(&cli.log)?;
    match cli.command {
        Command::Server(args) => {
            // The helper must exist before any thread does.
            let helper = if args.no_node { None } else { Some(start_helper()?) };
            runtime()?.block_on(server::run(*args, helper, log_filter))?;
        }
        Command::Node(args) => {
            let helper = start_helper()?;
            runtime()?.block_on(server::run_node(args, helper))?;
        }
        Command::Cri(args) => {
            let helper = start_helper()?;
            runtime()?.block_on(cri::run(args, helper))?;
        }
        Command::Token(command) => runtime()?.block_on(token::run(command))?,
        Command::Cluster(command) => runtime()?.block_on(cluster::run(command))?,
        Command::ClusterNode { spec } => return cluster::node::enter(&spec),
        Command::ClusterSupervisor { folder } => runtime()?.block_on(cluster::supervisor::run(&folder))?,
        Command::Demo(args) => runtime()?.block_on(demo::run(args))?,
        Command::Image(args) => return Ok(runtime()?.block_on(image::carry_out(*args))),
        Command::Login(args) => runtime()?.block_on(image::log_in_only(&args))?,
        Command::Logout { server } => runtime()?.block_on(image::log_out(server.as_deref()))?,
        Command::Containers(command) => return people::carry_out(command, runtime()?),
        Command::Engine(args) => {
            let helper = start_helper()?;
            runtime()?.block_on(people::run(args, helper))?;
        }
        Command::Store(args) => store::run(args)?,
        Command::Reset(args) => reset::run(&args)?,
        Command::Check { output } => return check::run(output),
        Command::Completion { shell } => print_completion(shell),
        Command::Hello { port } => runtime()?.block_on(hello::serve(port))?,
        Command::Runtime { arguments } => return embedded::exec(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn start_helper() -> Outcome<Helper> {
    check::privileges()?;
    Helper::spawn(embedded::RUNTIME).during("starting the container helper")
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    strata_http::install_crypto();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().during("starting threads")
}

/// Starts logging; what is given back changes the filter.
fn start_logging(filter: &str) -> Outcome<strata_api::LogFilter> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).during("--log")?;
    let layer = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_filter_reloading();
    let handle = layer.reload_handle();
    layer.with_ansi(false).with_target(true).init();
    Ok(std::sync::Arc::new(move |filter: &str| {
        let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|e| e.to_string())?;
        handle.reload(filter).map_err(|e| e.to_string())
    }))
}

fn print_completion(shell: cli::Shell) {
    use clap::CommandFactory;
    let generator = match shell {
        cli::Shell::Bash => clap_complete::Shell::Bash,
        cli::Shell::Zsh => clap_complete::Shell::Zsh,
        cli::Shell::Fish => clap_complete::Shell::Fish,
    };
    clap_complete::generate(generator, &mut Cli::command(), "strata", &mut std::io::stdout());
}
