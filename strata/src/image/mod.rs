//! Images of a node on this machine.

use crate::{
    cli::{ImageArgs, ImageCommand, Output},
    failure::{During, Outcome, fail},
    worker,
};
use serde_json::json;
use strata_image::{Credentials, Image, Removed};

/// Carries the command out.
pub async fn run(args: ImageArgs) -> Outcome {
    let images = worker::image_store(&args.node.data_dir, &args.registry_hosts)?;
    match args.command {
        ImageCommand::Pull {
            image,
            username,
            password,
        } => {
            let credentials = username.map(|username| Credentials {
                username,
                password: password.unwrap_or_default(),
                token: String::new(),
            });
            let image = images.pull(&image, credentials, None).await.during("pulling")?;
            println!("{}", name(&image));
        }
        ImageCommand::Load { archive } => {
            for image in images.load(&archive).await.during("loading")? {
                println!("{}", name(&image));
            }
        }
        ImageCommand::Ls { output } => list(&images.list().during("listing images")?, output),
        ImageCommand::Rm { images: names } => {
            let mut failed = Vec::new();
            for name in names {
                match images.remove(&name) {
                    Ok(removed) => print_removed(&removed),
                    Err(e) => failed.push(e.to_string()),
                }
            }
            if !failed.is_empty() {
                return fail(failed.join("; "));
            }
        }
        ImageCommand::Prune { all } => print_removed(&images.prune(all).during("pruning")?),
    }
    Ok(())
}

fn name(image: &Image) -> String {
    image
        .repo_tags
        .first()
        .or(image.repo_digests.first())
        .cloned()
        .unwrap_or_else(|| image.id.to_string())
}

fn list(images: &[Image], output: Output) {
    if output == Output::Json {
        let row = |i: &Image| json!({"id": i.id.to_string(), "repoTags": i.repo_tags, "repoDigests": i.repo_digests, "size": i.size});
        println!("{}", json!(images.iter().map(row).collect::<Vec<_>>()));
        return;
    }
    println!("{:<48} {:<16} SIZE", "IMAGE", "ID");
    for image in images {
        let id = image.id.to_string();
        let short = id.rsplit(':').next().unwrap_or(&id);
        let unnamed = [name(image)];
        let names = if image.repo_tags.is_empty() {
            &unnamed[..]
        } else {
            &image.repo_tags
        };
        for name in names {
            println!("{name:<48} {:<16} {}", &short[..short.len().min(12)], size(image.size));
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1}kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", bytes as f64 / 1e6),
        _ => format!("{:.2}GB", bytes as f64 / 1e9),
    }
}

fn print_removed(removed: &Removed) {
    for name in &removed.untagged {
        println!("untagged {name}");
    }
    for id in &removed.deleted {
        println!("deleted {id}");
    }
    if removed.freed > 0 {
        println!("freed {}", size(removed.freed));
    }
}
