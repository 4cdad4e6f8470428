//! `events`, `info`, `version` and `system`.

use crate::client::{Ask, Lines};
use crate::commands::{EventsArgs, FormatArgs, SystemCommand};
use crate::lists::print_all;
use crate::{Console, Failure, parse};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use strata_template::{Column, Table, Template};

/// `events`
pub(crate) async fn events(console: &Console, args: EventsArgs) -> Result<u8, Failure> {
    let filters = parse::filters(&args.filter).map_err(Failure::new)?;
    let format = if args.format == "json" {
        "{{json .}}"
    } else {
        &args.format
    };
    let template = match format {
        "" => None,
        format => Some(Template::parse(format)?),
    };
    let mut ask = Ask::get("/events");
    for (key, value) in [("since", &args.since), ("until", &args.until)] {
        if !value.is_empty() {
            ask = ask.query(key, parse::moment(value));
        }
    }
    if filters != json!({}) {
        ask = ask.query("filters", filters);
    }
    let mut lines = Lines::new(console.client.send(ask).await?);
    while let Some(event) = lines.next().await? {
        let text = match &template {
            Some(template) => template.render(&event)?,
            None => written(&event),
        };
        if writeln!(std::io::stdout(), "{text}").is_err() {
            break;
        }
    }
    Ok(0)
}

/// `TIME TYPE ACTION ID (key=value, …)`
fn written(event: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let nanos = i128::from(event["timeNano"].as_i64().unwrap_or(0));
    let time = jiff::Timestamp::from_nanosecond(nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let second = jiff::Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string();
    let stamp = format!(
        "{}.{:09}Z",
        second.trim_end_matches('Z'),
        nanos.rem_euclid(1_000_000_000)
    );
    let attributes = event["Actor"]["Attributes"].as_object().into_iter().flatten();
    let attributes: Vec<String> = attributes
        .map(|(key, value)| format!("{key}={}", word(value)))
        .collect();
    let mut line = format!(
        "{stamp} {} {} {}",
        word(&event["Type"]),
        word(&event["Action"]),
        word(&event["Actor"]["ID"])
    );
    if !attributes.is_empty() {
        line += &format!(" ({})", attributes.join(", "));
    }
    line
}

/// `info`
pub(crate) async fn info(console: &Console, args: FormatArgs) -> Result<u8, Failure> {
    let info = console.client.ask(Ask::get("/info")).await?;
    if !args.format.is_empty() {
        print_all(&[info], &args.format)?;
        return Ok(0);
    }
    let word = |key: &str| match &info[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    println!("Client:\n Version:    {}\n\nServer:", env!("CARGO_PKG_VERSION"));
    for (indent, title, key) in [
        (1, "Containers", "Containers"),
        (2, "Running", "ContainersRunning"),
        (2, "Paused", "ContainersPaused"),
        (2, "Stopped", "ContainersStopped"),
        (1, "Images", "Images"),
        (1, "Server Version", "ServerVersion"),
        (1, "Storage Driver", "Driver"),
        (1, "Logging Driver", "LoggingDriver"),
        (1, "Cgroup Driver", "CgroupDriver"),
        (1, "Cgroup Version", "CgroupVersion"),
        (1, "Default Runtime", "DefaultRuntime"),
        (1, "Kernel Version", "KernelVersion"),
        (1, "Operating System", "OperatingSystem"),
        (1, "OSType", "OSType"),
        (1, "Architecture", "Architecture"),
        (1, "CPUs", "NCPU"),
    ] {
        println!("{}{title}: {}", " ".repeat(indent), word(key));
    }
    println!(
        " Total Memory: {}",
        strata_template::binary_size(info["MemTotal"].as_f64().unwrap_or(0.0))
    );
    for (title, key) in [("Name", "Name"), ("ID", "ID"), ("Root Dir", "DockerRootDir")] {
        println!(" {title}: {}", word(key));
    }
    println!(" Live Restore Enabled: {}", word("LiveRestoreEnabled"));
    Ok(0)
}

/// `version`
pub(crate) async fn version(console: &Console, args: FormatArgs) -> Result<u8, Failure> {
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"), "ApiVersion": "1.44", "Os": "linux", "Arch": architecture(),
    });
    let server = console.client.ask(Ask::get("/version")).await;
    if !args.format.is_empty() {
        let server = server?;
        print_all(&[json!({"Client": client, "Server": server})], &args.format)?;
        return Ok(0);
    }
    println!(
        "Client:\n Version:           {}\n API version:       1.44\n OS/Arch:           linux/{}",
        env!("CARGO_PKG_VERSION"),
        architecture()
    );
    let server = server?;
    let word = |key: &str| server[key].as_str().unwrap_or("").to_owned();
    println!("\nServer: {}", server["Platform"]["Name"].as_str().unwrap_or(""));
    println!(" Engine:\n  Version:          {}", word("Version"));
    println!(
        "  API version:      {} (minimum version {})",
        word("ApiVersion"),
        word("MinAPIVersion")
    );
    println!("  OS/Arch:          {}/{}", word("Os"), word("Arch"));
    Ok(0)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `system`
pub(crate) async fn system(console: &Console, command: SystemCommand) -> Result<u8, Failure> {
    match command {
        SystemCommand::Df(args) => df(console, args).await,
        SystemCommand::Events(args) => events(console, args).await,
        SystemCommand::Info(args) => info(console, args).await,
        SystemCommand::Prune {
            all,
            force,
            volumes,
            filter,
        } => prune(console, all, force, volumes, &filter).await,
    }
}

const DF: Table = Table {
    columns: &[
        Column {
            field: "Type",
            header: "TYPE",
        },
        Column {
            field: "TotalCount",
            header: "TOTAL",
        },
        Column {
            field: "Active",
            header: "ACTIVE",
        },
        Column {
            field: "Size",
            header: "SIZE",
        },
        Column {
            field: "Reclaimable",
            header: "RECLAIMABLE",
        },
    ],
    usual: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

async fn df(console: &Console, args: FormatArgs) -> Result<u8, Failure> {
    let usage = console.client.ask(Ask::get("/system/df")).await?;
    let kind = |title: &str, key: &str, size: &dyn Fn(&Value) -> f64, active: &dyn Fn(&Value) -> bool| {
        let all: Vec<&Value> = usage[key].as_array().into_iter().flatten().collect();
        let total: f64 = all.iter().map(|one| size(one)).sum();
        let free: f64 = all.iter().filter(|one| !active(one)).map(|one| size(one)).sum();
        let mut reclaimable = strata_template::size(free, 4);
        if total > 0.0 {
            reclaimable += &format!(" ({:.0}%)", (free / total * 100.0).floor());
        }
        json!({
            "Type": title, "TotalCount": all.len().to_string(),
            "Active": all.iter().filter(|one| active(one)).count().to_string(),
            "Size": strata_template::size(total, 4), "Reclaimable": reclaimable,
        })
    };
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let rows = [
        kind("Images", "Images", &|one| number(&one["Size"]), &|one| {
            number(&one["Containers"]) > 0.0
        }),
        kind("Containers", "Containers", &|one| number(&one["SizeRw"]), &|one| {
            matches!(one["State"].as_str(), Some("running" | "paused" | "restarting"))
        }),
        kind(
            "Local Volumes",
            "Volumes",
            &|one| number(&one["UsageData"]["Size"]),
            &|one| number(&one["UsageData"]["RefCount"]) > 0.0,
        ),
        kind("Build Cache", "BuildCache", &|one| number(&one["Size"]), &|one| {
            one["InUse"] == json!(true)
        }),
    ];
    print!("{}", DF.render(&args.format, &rows)?);
    Ok(0)
}

/// Asks whether to go on.
pub(crate) fn confirmed(warning: &str) -> bool {
    print!("{warning}\nAre you sure you want to continue? [y/N] ");
    let mut line = String::new();
    let asked = std::io::stdout()
        .flush()
        .and_then(|()| std::io::stdin().lock().read_line(&mut line).map(drop));
    asked.is_ok() && line.trim().eq_ignore_ascii_case("y")
}

async fn prune(console: &Console, all: bool, force: bool, volumes: bool, filter: &[String]) -> Result<u8, Failure> {
    if volumes && filter.iter().any(|one| one.starts_with("until=")) {
        return Err(Failure::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    let mut what = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if volumes {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    let list: String = what.iter().map(|one| format!("\n  - {one}")).collect();
    if !force && !confirmed(&format!("WARNING! This will remove:{list}\n")) {
        return Ok(0);
    }
    let filters = parse::filters(filter).map_err(Failure::new)?;
    let mut freed = 0.0;
    let mut ask_for = vec![(
        "containers",
        "ContainersDeleted",
        "Deleted Containers:",
        filters.clone(),
    )];
    if volumes {
        ask_for.push(("volumes", "VolumesDeleted", "Deleted Volumes:", filters.clone()));
    }
    ask_for.push(("networks", "NetworksDeleted", "Deleted Networks:", filters.clone()));
    let mut of_images = filters;
    of_images["dangling"] = json!({(!all).to_string(): true});
    ask_for.push(("images", "ImagesDeleted", "Deleted Images:", of_images));
    for (path, key, title, filters) in ask_for {
        let ask = Ask::post(format!("/{path}/prune")).query("filters", filters);
        let report = console.client.ask(ask).await?;
        freed += report["SpaceReclaimed"].as_f64().unwrap_or(0.0);
        let deleted: Vec<String> = report[key]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| match one {
                Value::String(name) => name.clone(),
                one => match (one["Untagged"].as_str(), one["Deleted"].as_str()) {
                    (Some(name), _) => format!("untagged: {name}"),
                    (None, Some(id)) => format!("deleted: {id}"),
                    _ => one.to_string(),
                },
            })
            .collect();
        if !deleted.is_empty() {
            println!("{title}\n{}\n", deleted.join("\n"));
        }
    }
    println!("Total reclaimed space: {}", strata_template::size(freed, 4));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::written;
    use serde_json::json;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({
            "Type": "container", "Action": "die", "Actor": {"ID": "abc", "Attributes": {"exitCode": "0", "name": "n"}},
            "timeNano": 1_500_000_000i64,
        });
        assert_eq!(
            written(&event),
            "1970-01-01T00:00:01.500000000Z container die abc (exitCode=0, name=n)"
        );
    }
}
