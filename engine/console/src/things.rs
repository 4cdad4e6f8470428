//! `network` and `volume`.

use crate::actions::each_with;
use crate::client::Ask;
use crate::lists::inspect_kinds;
use crate::system::confirmed;
use crate::thing_commands::{ListArgs, NetworkCommand, NetworkCreateArgs, PruneArgs, RemoveThings, VolumeCommand};
use crate::{Console, Failure, parse, text};
use serde_json::{Value, json};
use strata_template::{Column, Table};

const NETWORKS: Table = Table {
    columns: &[
        Column {
            field: "ID",
            header: "NETWORK ID",
        },
        Column {
            field: "Name",
            header: "NAME",
        },
        Column {
            field: "Driver",
            header: "DRIVER",
        },
        Column {
            field: "Scope",
            header: "SCOPE",
        },
        Column {
            field: "IPv6",
            header: "IPV6",
        },
        Column {
            field: "IPv4",
            header: "IPV4",
        },
        Column {
            field: "Internal",
            header: "INTERNAL",
        },
        Column {
            field: "Labels",
            header: "LABELS",
        },
        Column {
            field: "CreatedAt",
            header: "CREATED AT",
        },
    ],
    usual: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};
const VOLUMES: Table = Table {
    columns: &[
        Column {
            field: "Name",
            header: "VOLUME NAME",
        },
        Column {
            field: "Driver",
            header: "DRIVER",
        },
        Column {
            field: "Scope",
            header: "SCOPE",
        },
        Column {
            field: "Mountpoint",
            header: "MOUNTPOINT",
        },
        Column {
            field: "Labels",
            header: "LABELS",
        },
        Column {
            field: "Size",
            header: "SIZE",
        },
    ],
    usual: "{{.Driver}}\t{{.Name}}",
};

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn labels(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", word(value))).collect();
    pairs.join(",")
}

/// `network`
pub(crate) async fn network(console: &Console, command: NetworkCommand) -> Result<u8, Failure> {
    let client = &console.client;
    match command {
        NetworkCommand::Ls(args) => networks(console, args).await,
        NetworkCommand::Create(args) => {
            let body = network_body(&args).map_err(Failure::new)?;
            let made = client.ask(Ask::post("/networks/create").body(body)).await?;
            println!("{}", word(&made["Id"]));
            Ok(0)
        }
        NetworkCommand::Inspect(args) => {
            inspect_kinds(
                console,
                &[("network", "/networks/{}")],
                &args.names,
                &args.format,
                false,
            )
            .await
        }
        NetworkCommand::Rm(args) => {
            let removed = remove(console, args, "networks").await;
            removed.map_err(|failure| Failure::new(format!("{}\nexit status 1", failure.message)))
        }
        NetworkCommand::Prune(args) => {
            let warning = "WARNING! This will remove all custom networks not used by at least one container.";
            prune(
                console,
                args,
                "networks",
                "NetworksDeleted",
                "Deleted Networks:",
                warning,
            )
            .await
        }
        NetworkCommand::Connect(args) => {
            let mut place = json!({"Aliases": args.alias});
            if let Some(ip) = &args.ip {
                place["IPAMConfig"] = json!({"IPv4Address": ip});
            }
            let body = json!({"Container": args.container, "EndpointConfig": place});
            client
                .ask(Ask::post(format!("/networks/{}/connect", args.network)).body(body))
                .await?;
            Ok(0)
        }
        NetworkCommand::Disconnect {
            force,
            network,
            container,
        } => {
            let body = json!({"Container": container, "Force": force});
            client
                .ask(Ask::post(format!("/networks/{network}/disconnect")).body(body))
                .await?;
            Ok(0)
        }
    }
}

/// Ranges and gateways belong to a subnet; docker's client says so itself.
fn within_subnet(args: &NetworkCreateArgs) -> Result<(), String> {
    use std::net::IpAddr;
    let address = |text: &str| text.split('/').next().and_then(|word| word.parse::<IpAddr>().ok());
    let Some(subnet) = args.subnet.as_deref() else {
        return match args.ip_range.is_some() || args.gateway.is_some() {
            true => Err("every ip-range or gateway must have a corresponding subnet".into()),
            false => Ok(()),
        };
    };
    let prefix = subnet.split_once('/').and_then(|(_, bits)| bits.parse::<u32>().ok());
    let (Some(IpAddr::V4(base)), Some(prefix @ 0..=32)) = (address(subnet), prefix) else {
        return Ok(());
    };
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    for (what, value) in [("range", &args.ip_range), ("gateway", &args.gateway)] {
        if let Some(text) = value
            && let Some(IpAddr::V4(own)) = address(text)
            && own.to_bits() & mask != base.to_bits() & mask
        {
            return Err(format!("no matching subnet for {what} {text}"));
        }
    }
    Ok(())
}

fn network_body(args: &NetworkCreateArgs) -> Result<Value, String> {
    within_subnet(args)?;
    let mut config = json!({});
    for (key, value) in [
        ("Subnet", &args.subnet),
        ("Gateway", &args.gateway),
        ("IPRange", &args.ip_range),
    ] {
        if let Some(value) = value {
            config[key] = json!(value);
        }
    }
    if !args.aux_address.is_empty() {
        config["AuxiliaryAddresses"] = json!(parse::pairs(&args.aux_address));
    }
    let configs = if config == json!({}) {
        json!([])
    } else {
        json!([config])
    };
    Ok(json!({
        "Name": args.network, "Driver": args.driver, "Internal": args.internal, "Attachable": args.attachable,
        "EnableIPv6": args.ipv6, "IPAM": {"Driver": "default", "Config": configs},
        "Options": parse::pairs(&args.opt), "Labels": parse::pairs(&args.label),
    }))
}

async fn networks(console: &Console, args: ListArgs) -> Result<u8, Failure> {
    let all = listed(console, "/networks", &args).await?;
    let mut rows: Vec<Value> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let id = word(&one["Id"]);
            json!({
                "ID": if args.no_trunc { id } else { text::short(&id) }, "Name": one["Name"], "Driver": one["Driver"],
                "Scope": one["Scope"], "IPv6": word(&one["EnableIPv6"]), "IPv4": word(&one["EnableIPv4"]),
                "Internal": word(&one["Internal"]), "Labels": labels(&one["Labels"]), "CreatedAt": one["Created"],
            })
        })
        .collect();
    rows.sort_by_key(|row| word(&row["Name"]));
    show(&NETWORKS, &args, "{{.ID}}", &rows)
}

async fn listed(console: &Console, path: &str, args: &ListArgs) -> Result<Value, Failure> {
    let filters = parse::filters(&args.filter).map_err(Failure::new)?;
    let mut ask = Ask::get(path);
    if filters != json!({}) {
        ask = ask.query("filters", filters);
    }
    Ok(console.client.ask(ask).await?)
}

fn show(table: &Table, args: &ListArgs, quiet: &str, rows: &[Value]) -> Result<u8, Failure> {
    let is_table = matches!(args.format.as_str(), "" | "table");
    let format = if args.quiet && is_table { quiet } else { &args.format };
    print!("{}", table.render(format, rows)?);
    Ok(0)
}

async fn remove(console: &Console, args: RemoveThings, kind: &str) -> Result<u8, Failure> {
    each_with(console, &args.names, |name| {
        Ask::delete(format!("/{kind}/{name}")).flag("force", args.force)
    })
    .await
}

async fn prune(
    console: &Console,
    args: PruneArgs,
    kind: &str,
    key: &str,
    title: &str,
    warning: &str,
) -> Result<u8, Failure> {
    if !args.force && !confirmed(warning) {
        return Ok(0);
    }
    let mut filters = parse::filters(&args.filter).map_err(Failure::new)?;
    if args.all {
        filters["all"] = json!({"true": true});
    }
    let ask = Ask::post(format!("/{kind}/prune")).query("filters", filters);
    let report = console.client.ask(ask).await?;
    let deleted: Vec<String> = report[key].as_array().into_iter().flatten().map(word).collect();
    if !deleted.is_empty() {
        println!("{title}\n{}\n", deleted.join("\n"));
    }
    if let Some(freed) = report["SpaceReclaimed"].as_f64() {
        println!("Total reclaimed space: {}", strata_template::size(freed, 4));
    }
    Ok(0)
}

/// `volume`
pub(crate) async fn volume(console: &Console, command: VolumeCommand) -> Result<u8, Failure> {
    match command {
        VolumeCommand::Ls(args) => volumes(console, args).await,
        VolumeCommand::Create {
            driver,
            label,
            opt,
            volume,
        } => {
            let body = json!({
                "Name": volume.unwrap_or_default(), "Driver": driver, "DriverOpts": parse::pairs(&opt),
                "Labels": parse::pairs(&label),
            });
            let made = console.client.ask(Ask::post("/volumes/create").body(body)).await?;
            println!("{}", word(&made["Name"]));
            Ok(0)
        }
        VolumeCommand::Inspect(args) => {
            inspect_kinds(console, &[("volume", "/volumes/{}")], &args.names, &args.format, false).await
        }
        VolumeCommand::Rm(args) => remove(console, args, "volumes").await,
        VolumeCommand::Prune(args) => {
            let warning = match args.all {
                true => "WARNING! This will remove all local volumes not used by at least one container.",
                false => "WARNING! This will remove anonymous local volumes not used by at least one container.",
            };
            prune(console, args, "volumes", "VolumesDeleted", "Deleted Volumes:", warning).await
        }
    }
}

async fn volumes(console: &Console, args: ListArgs) -> Result<u8, Failure> {
    let all = listed(console, "/volumes", &args).await?;
    let mut rows: Vec<Value> = all["Volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            json!({
                "Name": one["Name"], "Driver": one["Driver"], "Scope": one["Scope"], "Mountpoint": one["Mountpoint"],
                "Labels": labels(&one["Labels"]), "Size": "N/A", "Links": "N/A", "Availability": "N/A", "Group": "N/A",
                "Status": "N/A",
            })
        })
        .collect();
    rows.sort_by_key(|row| word(&row["Name"]));
    show(&VOLUMES, &args, "{{.Name}}", &rows)
}
