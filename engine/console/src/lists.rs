//! `ps`, `port`, `top`, `diff` and `inspect`.

use crate::client::{Ask, ClientError};
use crate::commands::{InspectArgs, OneContainer, PortArgs, PsArgs, TopArgs};
use crate::{Console, Failure, parse, ports, text};
use serde_json::{Value, json};
use strata_template::{Column, Table, Template};

const fn column(field: &'static str, header: &'static str) -> Column {
    Column { field, header }
}

const PS: Table = Table {
    columns: &[
        column("ID", "CONTAINER ID"),
        column("Names", "NAMES"),
        column("Image", "IMAGE"),
        column("Command", "COMMAND"),
        column("CreatedAt", "CREATED AT"),
        column("RunningFor", "CREATED"),
        column("Ports", "PORTS"),
        column("State", "STATE"),
        column("Status", "STATUS"),
        column("Size", "SIZE"),
        column("Labels", "LABELS"),
        column("Mounts", "MOUNTS"),
        column("LocalVolumes", "LOCAL VOLUMES"),
        column("Networks", "NETWORKS"),
        column("Platform", "PLATFORM"),
    ],
    usual: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};
const PS_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 20;
/// Characters of a mount's name that are shown.
const MOUNT_WIDTH: usize = 15;

/// `ps`
pub(crate) async fn ps(console: &Console, args: PsArgs) -> Result<u8, Failure> {
    let last = if args.latest && args.last < 0 { 1 } else { args.last };
    let filters = parse::filters(&args.filter).map_err(Failure::new)?;
    let sized = args.size || args.format.contains(".Size");
    let mut ask = Ask::get("/containers/json").flag("all", args.all).flag("size", sized);
    if last > 0 {
        ask = ask.query("limit", last);
    }
    if filters != json!({}) {
        ask = ask.query("filters", &filters);
    }
    let rows = console.client.ask(ask).await?;
    let rows: Vec<Value> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| ps_row(row, args.no_trunc))
        .collect();
    let mut table = PS;
    if args.size {
        table.usual = PS_SIZE;
    }
    let is_table = matches!(args.format.as_str(), "" | "table");
    let format = if args.quiet && is_table {
        "{{.ID}}"
    } else {
        &args.format
    };
    print!("{}", table.render(format, &rows)?);
    Ok(0)
}

fn ps_row(row: &Value, whole: bool) -> Value {
    let text_of = |key: &str| row[key].as_str().unwrap_or("").to_owned();
    let created = row["Created"].as_i64().unwrap_or(0);
    let names: Vec<&str> = row["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str()?.strip_prefix('/'))
        .filter(|name| whole || !name.contains('/'))
        .collect();
    let id = text_of("Id");
    let image = match text_of("Image") {
        image if image.is_empty() => "<no image>".to_owned(),
        image if !whole && image.starts_with("sha256:") => text::short(&image),
        image => image,
    };
    let command = match whole {
        true => text_of("Command"),
        false => strata_template::ellipsis(&text_of("Command"), COMMAND_WIDTH),
    };
    let labels = row["Labels"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    let mounts: Vec<String> = row["Mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| {
            let name = mount["Name"].as_str().filter(|name| !name.is_empty());
            let name = name.or(mount["Source"].as_str()).unwrap_or("");
            if whole {
                name.to_owned()
            } else {
                strata_template::ellipsis(name, MOUNT_WIDTH)
            }
        })
        .collect();
    let volumes = row["Mounts"].as_array().into_iter().flatten();
    let volumes = volumes.filter(|mount| mount["Driver"] == json!("local")).count();
    let networks = row["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let networks: Vec<&str> = networks.map(|(name, _)| name.as_str()).collect();
    let own = row["SizeRw"].as_f64().unwrap_or(0.0);
    let mut size = strata_template::size(own, 3);
    if let Some(all) = row["SizeRootFs"].as_f64().filter(|all| *all > 0.0) {
        size += &format!(" (virtual {})", strata_template::size(all, 3));
    }
    json!({
        "ID": if whole { id } else { text::short(&id) }, "Names": names.join(","), "Image": image,
        "Command": format!("\"{}\"", command.replace('\\', "\\\\").replace('"', "\\\"")),
        "CreatedAt": text::moment(created), "RunningFor": text::since(created), "Ports": ports::displayed(&row["Ports"]),
        "State": text_of("State"), "Status": text_of("Status"), "Size": size, "Labels": labels.join(","),
        "Mounts": mounts.join(","), "LocalVolumes": volumes.to_string(), "Networks": networks.join(","),
        "Platform": "",
    })
}

/// `port`
pub(crate) async fn port(console: &Console, args: PortArgs) -> Result<u8, Failure> {
    let details = console
        .client
        .ask(Ask::get(format!("/containers/{}/json", args.container)))
        .await?;
    let all = &details["NetworkSettings"]["Ports"];
    let addresses = |port: &Value| -> Vec<String> {
        let bindings = port.as_array().into_iter().flatten();
        let joined = bindings.map(|binding| {
            let (ip, port) = (binding["HostIp"].as_str(), binding["HostPort"].as_str());
            ports::joined(ip.unwrap_or(""), port.unwrap_or(""))
        });
        joined.collect()
    };
    if let Some(wanted) = &args.port {
        let key = if wanted.contains('/') {
            wanted.clone()
        } else {
            format!("{wanted}/tcp")
        };
        let found = addresses(&all[&key]);
        if found.is_empty() {
            return Err(Failure::new(format!(
                "Error: No public port '{key}' published for {}",
                args.container
            )));
        }
        found.iter().for_each(|address| println!("{address}"));
        return Ok(0);
    }
    let mut lines: Vec<(u16, String)> = Vec::new();
    for (key, bindings) in all.as_object().into_iter().flatten() {
        let number = key.split('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        lines.extend(
            addresses(bindings)
                .iter()
                .map(|address| (number, format!("{key} -> {address}"))),
        );
    }
    lines.sort();
    lines.iter().for_each(|(_, line)| println!("{line}"));
    Ok(0)
}

/// `top`
pub(crate) async fn top(console: &Console, args: TopArgs) -> Result<u8, Failure> {
    let (container, options) = args
        .line
        .split_first()
        .map_or(("", &[][..]), |(container, options)| (container.as_str(), options));
    let mut ask = Ask::get(format!("/containers/{container}/top"));
    if !options.is_empty() {
        ask = ask.query("ps_args", options.join(" "));
    }
    let table = console.client.ask(ask).await?;
    let words = |list: &Value| -> Vec<String> {
        let words = list.as_array().into_iter().flatten();
        words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut lines = vec![words(&table["Titles"])];
    lines.extend(table["Processes"].as_array().into_iter().flatten().map(words));
    let cells: String = lines.iter().map(|line| line.join("\t") + "\n").collect();
    print!("{}", align_wide(&cells));
    Ok(0)
}

/// As `top` aligns: columns are at least twenty wide.
fn align_wide(cells: &str) -> String {
    let rows: Vec<Vec<&str>> = cells.lines().map(|line| line.split('\t').collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + 1).max().unwrap_or(0).max(20)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<&str>| {
        let last = row.len().saturating_sub(1);
        let cells = row.iter().enumerate();
        let padded = cells.map(|(at, cell)| match at == last {
            true => (*cell).to_owned(),
            false => format!("{cell:<width$}", width = widths[at]),
        });
        padded.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

/// `diff`
pub(crate) async fn diff(console: &Console, args: OneContainer) -> Result<u8, Failure> {
    let ask = Ask::get(format!("/containers/{}/changes", args.container));
    let changes = console.client.ask(ask).await?;
    for change in changes.as_array().into_iter().flatten() {
        let letter = match change["Kind"].as_u64() {
            Some(0) => 'C',
            Some(1) => 'A',
            _ => 'D',
        };
        println!("{letter} {}", change["Path"].as_str().unwrap_or(""));
    }
    Ok(0)
}

/// What `inspect` can look at, in the order it tries.
const KINDS: [(&str, &str); 4] = [
    ("container", "/containers/{}/json"),
    ("image", "/images/{}/json"),
    ("network", "/networks/{}"),
    ("volume", "/volumes/{}"),
];

/// `inspect`
pub(crate) async fn inspect(console: &Console, args: InspectArgs) -> Result<u8, Failure> {
    if !args.kind.is_empty() && !KINDS.iter().any(|(kind, _)| *kind == args.kind) {
        return Err(Failure::new(format!("unknown type: {:?}", args.kind)));
    }
    let kinds: Vec<(&str, &str)> = KINDS
        .into_iter()
        .filter(|(kind, _)| args.kind.is_empty() || *kind == args.kind)
        .collect();
    inspect_kinds(console, &kinds, &args.names, &args.format, args.size).await
}

/// Looks each name up as each kind, and prints what is found.
pub(crate) async fn inspect_kinds(
    console: &Console,
    kinds: &[(&str, &str)],
    names: &[String],
    format: &str,
    size: bool,
) -> Result<u8, Failure> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        match look_up(console, kinds, name, size).await {
            Ok(value) => found.push(value),
            Err(error) => failed.push(error),
        }
    }
    print_all(&found, format)?;
    match failed.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(failed.join("\n"))),
    }
}

async fn look_up(console: &Console, kinds: &[(&str, &str)], name: &str, size: bool) -> Result<Value, String> {
    for (kind, path) in kinds {
        let ask = Ask::get(path.replace("{}", name)).flag("size", size && *kind == "container");
        match console.client.ask(ask).await {
            Ok(value) => return Ok(value),
            Err(error @ ClientError::Refused { .. }) if error.is_not_found() && kinds.len() > 1 => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("Error: No such object: {name}"))
}

/// As a list of JSON, or each through a template.
pub(crate) fn print_all(values: &[Value], format: &str) -> Result<(), Failure> {
    match format {
        "" => println!("{}", indented(&json!(values))),
        format => {
            let format = if format == "json" { "{{json .}}" } else { format };
            let template = Template::parse(format)?;
            for value in values {
                println!("{}", template.render(value)?);
            }
        }
    }
    Ok(())
}

/// JSON with four spaces a level, as docker indents it.
fn indented(value: &Value) -> String {
    let two = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    let line = |line: &str| {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        format!("{}{}", " ".repeat(spaces), line)
    };
    two.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_ps_is_cut_unless_told_otherwise() {
        let row = json!({
            "Id": "0123456789abcdef", "Names": ["/web"], "Image": "nginx", "Command": "nginx -g 'daemon off;'",
            "Created": 0, "Ports": [], "State": "running", "Status": "Up 3 minutes", "Labels": {"a": "b"},
        });
        let cut = ps_row(&row, false);
        assert_eq!(
            (&cut["ID"], &cut["Command"]),
            (&json!("0123456789ab"), &json!("\"nginx -g 'daemon of…\""))
        );
        assert_eq!((&cut["Names"], &cut["Labels"]), (&json!("web"), &json!("a=b")));
        let whole = ps_row(&row, true);
        assert_eq!(whole["ID"], json!("0123456789abcdef"));
        let text = PS.render("", &[cut]).expect("a table");
        assert!(text.starts_with("CONTAINER ID   IMAGE     COMMAND"), "{text}");
    }

    #[test]
    fn json_is_indented_by_four() {
        assert_eq!(indented(&json!([{"a": 1}])), "[\n    {\n        \"a\": 1\n    }\n]");
    }
}
