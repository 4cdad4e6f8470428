//! Logging in to registries and out.

use super::{cli::LoginArgs, logins};
use crate::failure::{During, Outcome, fail};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use strata_image::{Credentials, ImageOptions, Kept, verify_login};

const DEFAULT_REGISTRY: &str = "docker.io";
/// Longer than any password or token.
const MAX_SECRET: u64 = 1 << 20;

/// Tries a login and keeps it.
pub async fn log_in(options: &ImageOptions, args: &LoginArgs) -> Outcome {
    let registry = registry(args.server.as_deref());
    let username = match &args.username {
        Some(username) => username.clone(),
        None if args.password_stdin => return fail("Must provide --username with --password-stdin"),
        None => ask("Username: ", false)?,
    };
    let password = match &args.password {
        Some(password) => {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password.clone()
        }
        None if args.password_stdin => {
            let mut secret = String::new();
            let read = io::stdin().lock().take(MAX_SECRET).read_to_string(&mut secret);
            read.during("reading the password")?;
            secret.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => ask("Password: ", true)?,
    };
    if username.is_empty() || password.is_empty() {
        return fail("username and password are needed");
    }
    let login = Credentials {
        username,
        password,
        token: String::new(),
    };
    verify_login(options, &registry, &login)
        .await
        .during("Error response")?;
    match logins().store(&registry, &login).await.during("keeping the login")? {
        Kept::Helper(_) => {}
        Kept::File(file) => eprintln!(
            "WARNING! Your credentials are stored unencrypted in '{}'.",
            file.display()
        ),
    }
    println!("Login Succeeded");
    Ok(())
}

/// Forgets a login.
pub async fn log_out(server: Option<&str>) -> Outcome {
    let registry = registry(server);
    match logins().erase(&registry).await.during("forgetting the login")? {
        true => println!("Removing login credentials for {registry}"),
        false => println!("Not logged in to {registry}"),
    }
    Ok(())
}

/// The registry's name without what a browser would add.
fn registry(server: Option<&str>) -> String {
    let text = server.unwrap_or(DEFAULT_REGISTRY);
    let text = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"))
        .unwrap_or(text);
    let host = text.split('/').next().unwrap_or(text);
    match host {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_owned(),
    }
}

/// Asks a person; a secret is not shown while it is typed.
fn ask(question: &str, secret: bool) -> Outcome<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return fail("Cannot perform an interactive login from a non TTY device");
    }
    eprint!("{question}");
    io::stderr().flush().during("asking")?;
    let before = rustix::termios::tcgetattr(&stdin).during("reading the terminal's settings")?;
    if secret {
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &silent)
            .during("silencing the terminal")?;
    }
    let mut answer = String::new();
    let read = stdin.lock().take(MAX_SECRET).read_line(&mut answer);
    if secret {
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &before)
            .during("restoring the terminal")?;
        eprintln!();
    }
    read.during("reading the answer")?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}
