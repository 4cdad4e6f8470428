//! Lists and documents of images, as docker prints them.

use super::cli::LsArgs;
use super::said;
use crate::cli::Output;
use crate::failure::{Outcome, fail};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use strata_image::{Digest, ImageFilters, ImageStore, Reference, Summary};
use strata_template::{Column, Table, Template};

const fn column(field: &'static str, header: &'static str) -> Column {
    Column { field, header }
}

const COLUMNS: &[Column] = &[
    column("Repository", "REPOSITORY"),
    column("Tag", "TAG"),
    column("Digest", "DIGEST"),
    column("ID", "IMAGE ID"),
    column("CreatedSince", "CREATED"),
    column("CreatedAt", "CREATED AT"),
    column("Size", "SIZE"),
    column("Containers", "CONTAINERS"),
    column("VirtualSize", "VIRTUAL SIZE"),
    column("SharedSize", "SHARED SIZE"),
    column("UniqueSize", "UNIQUE SIZE"),
];
const IMAGES: Table = Table {
    columns: COLUMNS,
    usual: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};
const IMAGES_WITH_DIGESTS: Table = Table {
    columns: COLUMNS,
    usual: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};
const HISTORY: Table = Table {
    columns: &[
        column("ID", "IMAGE"),
        column("CreatedSince", "CREATED"),
        column("CreatedAt", "CREATED AT"),
        column("CreatedBy", "CREATED BY"),
        column("Size", "SIZE"),
        column("Comment", "COMMENT"),
    ],
    usual: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};
/// What a command of an image's history is cut to.
const COMMAND: usize = 45;

/// How a history is printed.
pub struct Style {
    pub format: String,
    pub human: bool,
    pub no_trunc: bool,
    pub quiet: bool,
}

/// `image ls`.
pub fn ls(images: &ImageStore, args: &LsArgs) -> Outcome {
    let mut texts = args.filter.clone();
    texts.extend(args.repository.iter().map(|pattern| format!("reference={pattern}")));
    let filters = said::of(ImageFilters::parse(&texts), "")?;
    let found = said::of(images.summaries().and_then(|all| filters.apply(images, all)), "")?;
    if args.output == Output::Json {
        let row = |s: &Summary| {
            let i = &s.image;
            json!({"id": i.id.to_string(), "repoTags": i.repo_tags, "repoDigests": i.repo_digests, "size": i.size})
        };
        println!("{}", json!(found.iter().map(row).collect::<Vec<_>>()));
        return Ok(());
    }
    let rows: Vec<Value> = found.iter().flat_map(|summary| rows(summary, args)).collect();
    if args.quiet {
        return print(
            &Table {
                columns: &[],
                usual: "",
            },
            "{{.ID}}",
            &rows,
        );
    }
    let table = if args.digests { &IMAGES_WITH_DIGESTS } else { &IMAGES };
    print(table, &args.format, &rows)
}

fn rows(summary: &Summary, args: &LsArgs) -> Vec<Value> {
    let row = |repository: String, tag: &str, digest: Option<Digest>| {
        let size = size(summary.disk_size);
        json!({
            "Repository": repository, "Tag": tag,
            "Digest": digest.map_or("<none>".to_owned(), |digest| digest.to_string()),
            "ID": if args.no_trunc { summary.image.id.to_string() } else { summary.image.id.short() },
            "CreatedSince": since(summary.created), "CreatedAt": moment(summary.created),
            "Size": size, "VirtualSize": size, "SharedSize": "N/A", "UniqueSize": "N/A",
            "Containers": summary.users.len().to_string(),
        })
    };
    if summary.names.is_empty() {
        return vec![row("<none>".into(), "<none>", None)];
    }
    let named = summary.names.iter().map(|(name, digest)| {
        let reference: Option<Reference> = name.parse().ok();
        let tag = reference.as_ref().and_then(|r| r.tag.clone());
        let repository = reference.map_or_else(|| name.clone(), bare);
        match tag {
            Some(tag) => row(repository, &tag, *digest),
            None => row(repository, "<none>", *digest),
        }
    });
    named.collect()
}

fn bare(mut reference: Reference) -> String {
    reference.digest = None;
    reference.tag = Some("x".into());
    let familiar = reference.familiar();
    familiar.trim_end_matches(":x").to_owned()
}

/// `image inspect`.
pub fn inspect(images: &ImageStore, names: &[String], format: &str) -> Outcome {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match images.inspect(name) {
            Ok(document) => found.push(document),
            Err(error) => missing.extend(said::of(Err::<(), _>(error), name).err().map(|failure| failure.0)),
        }
    }
    let encode = |error: serde_json::Error| crate::failure::Failure(error.to_string());
    match format {
        "" => {
            let mut text = Vec::new();
            let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, style);
            serde::Serialize::serialize(&found, &mut writer).map_err(encode)?;
            println!("{}", String::from_utf8_lossy(&text));
        }
        "json" => println!("{}", serde_json::to_string(&found).map_err(encode)?),
        template => {
            let template = Template::parse(template).map_err(|e| crate::failure::Failure(e.to_string()))?;
            for document in &found {
                let value = serde_json::to_value(document).map_err(encode)?;
                let text = template.render(&value);
                println!("{}", text.map_err(|e| crate::failure::Failure(e.to_string()))?);
            }
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        fail(missing.join("\n"))
    }
}

/// `image history`.
pub fn history(images: &ImageStore, name: &str, style: &Style) -> Outcome {
    let steps = said::of(images.history(name), name)?;
    let rows: Vec<Value> = steps
        .iter()
        .map(|step| {
            let id = match step.id.strip_prefix("sha256:") {
                Some(hex) if !style.no_trunc => hex[..12].to_owned(),
                _ => step.id.clone(),
            };
            let command = step.created_by.replace('\t', " ");
            let command = match style.no_trunc {
                true => command,
                false => strata_template::ellipsis(&command, COMMAND),
            };
            json!({
                "ID": id,
                "CreatedSince": if style.human { since(step.created) } else { moment(step.created) },
                "CreatedAt": moment(step.created), "CreatedBy": command,
                "Size": if style.human { size(step.size) } else { step.size.to_string() },
                "Comment": step.comment,
            })
        })
        .collect();
    match style.quiet {
        true => print(&HISTORY, "{{.ID}}", &rows),
        false => print(&HISTORY, &style.format, &rows),
    }
}

fn print(table: &Table, format: &str, rows: &[Value]) -> Outcome {
    let text = table.render(format, rows);
    print!("{}", text.map_err(|error| crate::failure::Failure(error.to_string()))?);
    Ok(())
}

/// Decimal units and three digits, as docker writes sizes.
pub fn size(bytes: u64) -> String {
    strata_template::size(bytes as f64, 3)
}

/// `3 weeks ago`.
fn since(created: i64) -> String {
    if created <= 0 {
        return "N/A".into();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = now.saturating_sub(u64::try_from(created).unwrap_or(0));
    format!(
        "{} ago",
        strata_template::elapsed(i64::try_from(seconds).unwrap_or(i64::MAX))
    )
}

/// `2024-05-01 12:00:00 +0000 UTC`.
fn moment(seconds: i64) -> String {
    match strata_image::moment_text(seconds) {
        Some(text) if seconds > 0 => text,
        _ => "N/A".into(),
    }
}
