//! `exec`.

use crate::client::Ask;
use crate::commands::ExecArgs;
use crate::session::{End, Session, follow_size};
use crate::{Console, Failure, parse, terminal};
use serde_json::json;

/// `exec`
pub(crate) async fn exec(console: &Console, args: ExecArgs) -> Result<u8, Failure> {
    let client = &console.client;
    let (container, command) = args
        .line
        .split_first()
        .map_or(("", &[][..]), |(container, command)| (container.as_str(), command));
    let process = &args.process;
    if process.tty && process.interactive && !args.detach && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let env = parse::environment(&process.env_file, &process.env).map_err(Failure::new)?;
    let attach = !args.detach;
    let wanted = json!({
        "User": process.user, "Privileged": process.privileged, "Tty": process.tty,
        "AttachStdin": attach && process.interactive, "AttachStdout": attach, "AttachStderr": attach,
        "DetachKeys": args.leaving.detach_keys, "Env": env, "WorkingDir": process.workdir, "Cmd": command,
    });
    let made = client
        .ask(Ask::post(format!("/containers/{}/exec", container)).body(wanted))
        .await?;
    let id = made["Id"].as_str().unwrap_or("").to_owned();
    let start = Ask::post(format!("/exec/{id}/start"));
    if args.detach {
        client
            .ask(start.body(json!({"Detach": true, "Tty": process.tty})))
            .await?;
        return Ok(0);
    }
    let mut body = json!({"Detach": false, "Tty": process.tty});
    if let (true, Some((rows, columns))) = (process.tty, terminal::size()) {
        body["ConsoleSize"] = json!([rows, columns]);
    }
    let connection = client.hijack(start.body(body)).await?;
    let _size =
        (process.tty && terminal::stdout_is_terminal()).then(|| follow_size(client, format!("/exec/{id}/resize")));
    let session = Session {
        stdin: process.interactive,
        tty: process.tty,
        detach_keys: &args.leaving.detach_keys,
    };
    if session.carry(connection).await.map_err(Failure::new)? == End::Detached {
        return Ok(0);
    }
    let state = client.ask(Ask::get(format!("/exec/{id}/json"))).await?;
    Ok(state["ExitCode"].as_i64().map_or(0, |code| code as u8))
}
