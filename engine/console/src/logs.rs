//! `logs`.

use crate::client::Ask;
use crate::commands::LogsArgs;
use crate::{Console, Failure, parse, session};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;

/// Bytes of the answer on their way.
const PIPE: usize = 64 << 10;

/// `logs`
pub(crate) async fn logs(console: &Console, args: LogsArgs) -> Result<u8, Failure> {
    let client = &console.client;
    let details = client
        .ask(Ask::get(format!("/containers/{}/json", args.container)))
        .await?;
    let tty = details["Config"]["Tty"] == json!(true);
    let id = details["Id"].as_str().unwrap_or("").to_owned();
    let ask = Ask::get(format!("/containers/{id}/logs"))
        .query("stdout", 1)
        .query("stderr", 1)
        .flag("follow", args.follow)
        .flag("timestamps", args.timestamps)
        .flag("details", args.details)
        .query("since", parse::moment(&args.since))
        .query("until", parse::moment(&args.until))
        .query("tail", &args.tail);
    let mut body = client.send(ask).await?.into_body();
    let (mut writer, reader) = tokio::io::duplex(PIPE);
    let feed = async move {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the daemon's answer broke off: {error}"))?;
            if let Ok(bytes) = frame.into_data()
                && writer.write_all(&bytes).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    let print = async {
        match tty {
            true => session::plain(reader).await,
            false => session::frames(reader).await,
        }
    };
    let (fed, printed): (Result<(), String>, _) = tokio::join!(feed, print);
    printed.and(fed).map_err(Failure::new)?;
    Ok(0)
}
