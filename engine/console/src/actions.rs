//! Commands that do one thing to each of some containers, and print each when it is done.

use crate::client::Ask;
use crate::commands::{KillArgs, RemoveArgs, RenameArgs, StopArgs, UpdateArgs};
use crate::{Console, Failure, parse};
use serde_json::{Value, json};

/// Does something to each; prints the names of those it was done to, then what failed.
pub(crate) async fn each_with<'a, F>(console: &Console, names: &'a [String], ask: F) -> Result<u8, Failure>
where
    F: Fn(&'a str) -> Ask<'a>,
{
    let mut failed = Vec::new();
    for name in names {
        match console.client.ask(ask(name)).await {
            Ok(_) => println!("{name}"),
            Err(error) => failed.push(error.to_string()),
        }
    }
    match failed.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(failed.join("\n"))),
    }
}

/// `pause`, `unpause`
pub(crate) async fn each(console: &Console, names: &[String], verb: &str) -> Result<u8, Failure> {
    each_with(console, names, |name| Ask::post(format!("/containers/{name}/{verb}"))).await
}

/// `stop`, `restart`
pub(crate) async fn stop(console: &Console, args: StopArgs, verb: &str) -> Result<u8, Failure> {
    each_with(console, &args.containers, |name| {
        let ask = Ask::post(format!("/containers/{name}/{verb}"));
        let ask = match args.timeout {
            Some(seconds) => ask.query("t", seconds),
            None => ask,
        };
        if args.signal.is_empty() {
            ask
        } else {
            ask.query("signal", &args.signal)
        }
    })
    .await
}

/// `kill`
pub(crate) async fn kill(console: &Console, args: KillArgs) -> Result<u8, Failure> {
    each_with(console, &args.containers, |name| {
        Ask::post(format!("/containers/{name}/kill")).query("signal", &args.signal)
    })
    .await
}

/// `rm`
pub(crate) async fn remove(console: &Console, args: RemoveArgs) -> Result<u8, Failure> {
    let mut failed = Vec::new();
    for name in &args.containers {
        let bare = name.trim_matches('/');
        let ask = Ask::delete(format!("/containers/{bare}"))
            .flag("v", args.volumes)
            .flag("link", args.link)
            .flag("force", args.force);
        match console.client.ask(ask).await {
            Ok(_) => println!("{name}"),
            // As docker: with force, what is gone already is fine, and said.
            Err(error) if args.force && error.is_not_found() => eprintln!("{error}"),
            Err(error) => failed.push(error.to_string()),
        }
    }
    match failed.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(failed.join("\n"))),
    }
}

/// `rename`
pub(crate) async fn rename(console: &Console, args: RenameArgs) -> Result<u8, Failure> {
    let (old, new) = (args.container.trim(), args.new_name.trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("Error: Neither old nor new names may be empty"));
    }
    let ask = Ask::post(format!("/containers/{old}/rename")).query("name", new);
    match console.client.ask(ask).await {
        Ok(_) => Ok(0),
        Err(error) => Err(Failure::new(format!(
            "{error}\nError: failed to rename container named {old}"
        ))),
    }
}

/// `wait`
pub(crate) async fn wait(console: &Console, names: &[String]) -> Result<u8, Failure> {
    let mut failed = Vec::new();
    for name in names {
        match console.client.ask(Ask::post(format!("/containers/{name}/wait"))).await {
            Ok(value) => println!("{}", value["StatusCode"]),
            Err(error) => failed.push(error.to_string()),
        }
    }
    match failed.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(failed.join("\n"))),
    }
}

/// `update`
pub(crate) async fn update(console: &Console, args: UpdateArgs) -> Result<u8, Failure> {
    let mut body = json!({});
    for (key, value) in args.limits.members() {
        body[key] = value;
    }
    if let Some(policy) = &args.restart {
        body["RestartPolicy"] = parse::restart(policy).map_err(Failure::new)?;
    }
    let nothing = body
        .as_object()
        .is_some_and(|members| members.values().all(Value::is_null));
    if nothing {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    each_with(console, &args.containers, |name| {
        Ask::post(format!("/containers/{name}/update")).body(body.clone())
    })
    .await
}
