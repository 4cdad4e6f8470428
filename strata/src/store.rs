//! Looking after a server's store; a backup is taken from a running one too.

use crate::{
    cli::{DataDir, StoreArgs, StoreCommand},
    failure::{During, Outcome, fail},
    token,
};
use futures::StreamExt;
use std::{
    fs::{File, OpenOptions},
    io::Write,
};

/// The state of a running server, which has the store; written as it comes.
fn from_server(server: &DataDir, out: &mut File) -> Outcome {
    let (client, _) = token::connect(server)?;
    crate::runtime()?.block_on(async {
        let asking = "asking the server for its state";
        let pieces = client.get_pieces("/debug/store/snapshot", "*/*").await;
        let mut pieces = pieces.during(asking)?;
        while let Some(piece) = pieces.next().await {
            out.write_all(&piece.during(asking)?).during("writing the backup")?;
        }
        Ok(())
    })
}

/// Carries the command out.
pub fn run(args: StoreArgs) -> Outcome {
    let db = args.server.data_dir.join("db");
    match args.command {
        StoreCommand::Check => {
            let report = strata_store::check(&db).during(format!("checking {}", db.display()))?;
            println!(
                "format {}, {} keys, {} bytes live, {} bytes on disk",
                report.format, report.keys, report.live_bytes, report.disk_bytes
            );
            if let Some((file, offset)) = &report.torn {
                println!(
                    "{file} ends with an unfinished batch at offset {offset}; it was never acknowledged and is dropped at the next start"
                );
            }
            for problem in &report.problems {
                println!("{problem}");
            }
            if report.problems.is_empty() {
                return Ok(());
            }
            fail(format!(
                "{} is damaged; restore a backup with `strata store restore`",
                db.display()
            ))
        }
        StoreCommand::Backup { file } => {
            let mut out = OpenOptions::new().write(true).create_new(true).open(&file);
            let out = out
                .as_mut()
                .map_err(|e| e.to_string())
                .during(format!("creating {}", file.display()))?;
            match strata_store::backup(&db, out) {
                Err(strata_store::Error::Held { .. }) => from_server(&args.server, out)?,
                done => {
                    done.during("writing the backup")?;
                }
            }
            out.sync_all().during("writing the backup")
        }
        StoreCommand::Restore { file } => {
            let mut input = File::open(&file).during(format!("opening {}", file.display()))?;
            strata_store::restore(&mut input, &db)
                .map(drop)
                .during("restoring the store")
        }
    }
}
