//! `exec`.

use crate::client::Ask;
use crate::commands::ExecArgs;
use crate::session::{End, Session, follow_size};
use crate::{Console, Failure, parse, terminal};
use serde_json::json;

/// `exec`
pub(crate) async fn exec(console: &Console, args: ExecArgs) -> Result<u8, Failure> {
    let client = &console.client;
    if args.tty && args.interactive && !args.detach && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let env = parse::environment(&args.env_file, &args.env).map_err(Failure::new)?;
    let attach = !args.detach;
    let wanted = json!({
        "User": args.user, "Privileged": args.privileged, "Tty": args.tty,
        "AttachStdin": attach && args.interactive, "AttachStdout": attach, "AttachStderr": attach,
        "DetachKeys": args.detach_keys, "Env": env, "WorkingDir": args.workdir, "Cmd": args.command,
    });
    let made = client
        .ask(Ask::post(format!("/containers/{}/exec", args.container)).body(wanted))
        .await?;
    let id = made["Id"].as_str().unwrap_or("").to_owned();
    let start = Ask::post(format!("/exec/{id}/start"));
    if args.detach {
        client.ask(start.body(json!({"Detach": true, "Tty": args.tty}))).await?;
        return Ok(0);
    }
    let mut body = json!({"Detach": false, "Tty": args.tty});
    if let (true, Some((rows, columns))) = (args.tty, terminal::size()) {
        body["ConsoleSize"] = json!([rows, columns]);
    }
    let connection = client.hijack(start.body(body)).await?;
    let _size = (args.tty && terminal::stdout_is_terminal()).then(|| follow_size(client, format!("/exec/{id}/resize")));
    let session = Session {
        stdin: args.interactive,
        tty: args.tty,
        detach_keys: &args.detach_keys,
    };
    if session.carry(connection).await.map_err(Failure::new)? == End::Detached {
        return Ok(0);
    }
    let state = client.ask(Ask::get(format!("/exec/{id}/json"))).await?;
    Ok(state["ExitCode"].as_i64().map_or(0, |code| code as u8))
}
