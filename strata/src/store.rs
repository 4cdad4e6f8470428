//! Looking after the store of a stopped server.

use crate::{
    cli::{StoreArgs, StoreCommand},
    failure::{During, Outcome, fail},
};
use std::fs::{File, OpenOptions};

/// Carries the command out.
pub fn run(args: StoreArgs) -> Outcome {
    let db = args.server.data_dir.join("db");
    match args.command {
        StoreCommand::Check => {
            let report = strata_store::check(&db).during(format!("checking {}", db.display()))?;
            println!("{report}");
            if report.is_sound() {
                Ok(())
            } else {
                fail(format!("{} is damaged", db.display()))
            }
        }
        StoreCommand::Backup { file } => {
            let mut out = OpenOptions::new().write(true).create_new(true).open(&file);
            let out = out
                .as_mut()
                .map_err(|e| e.to_string())
                .during(format!("creating {}", file.display()))?;
            strata_store::backup(&db, out).during("writing the backup")?;
            out.sync_all().during("writing the backup")
        }
        StoreCommand::Restore { file } => {
            let mut input = File::open(&file).during(format!("opening {}", file.display()))?;
            strata_store::restore(&db, &mut input).during("restoring the store")
        }
    }
}
