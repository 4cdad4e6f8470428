//! Lists and documents of images, as docker prints them.

use super::cli::LsArgs;
use crate::cli::Output;
use crate::failure::{During, Outcome, fail};
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
    let filters = ImageFilters::parse(&texts).during("listing images")?;
    let found = images
        .summaries()
        .and_then(|all| filters.apply(images, all))
        .during("listing images")?;
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
    reference.tag = None;
    reference.digest = None;
    reference.familiar()
}

/// `image inspect`.
pub fn inspect(images: &ImageStore, names: &[String], format: &str) -> Outcome {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match images.inspect(name) {
            Ok(document) => found.push(document),
            Err(error) if error.is_not_found() => missing.push(format!("No such image: {name}")),
            Err(error) => missing.push(error.to_string()),
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
        fail(missing.join("; "))
    }
}

/// `image history`.
pub fn history(images: &ImageStore, name: &str, style: &Style) -> Outcome {
    let steps = images.history(name).during("reading the history")?;
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
                false => shortened(&command, COMMAND),
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

fn shortened(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Decimal units with three or four digits, as docker writes sizes.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            return format!("{}{unit}", significant(value, 3));
        }
        value /= 1000.0;
    }
    format!("{}PB", significant(value, 3))
}

/// `%.3g` without trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let before = (value.max(1.0).log10().floor() as usize) + 1;
    let text = format!("{value:.*}", digits.saturating_sub(before));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `3 weeks ago`.
fn since(created: i64) -> String {
    if created <= 0 {
        return "N/A".into();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = now.saturating_sub(u64::try_from(created).unwrap_or(0));
    format!("{} ago", duration(seconds))
}

/// docker's words for a length of time.
fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as u64);
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".into(),
        (1, _, _) => "1 second".into(),
        (2..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 0..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `2024-05-01 12:00:00 +0000 UTC`.
fn moment(seconds: i64) -> String {
    match strata_image::moment_text(seconds) {
        Some(text) if seconds > 0 => text,
        _ => "N/A".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_written_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (4_261_502, "4.26MB"),
            (187_659_947, "188MB"),
            (1_500_000_000, "1.5GB"),
            (13_336, "13.3kB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (70, "About a minute"),
            (300, "5 minutes"),
            (3600, "About an hour"),
            (7300, "2 hours"),
            (200_000, "2 days"),
            (1_814_400, "3 weeks"),
            (31_536_000, "12 months"),
            (70_000_000, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
