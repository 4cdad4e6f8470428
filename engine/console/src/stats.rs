//! `stats`.

use crate::client::{Ask, Client, Lines};
use crate::commands::StatsArgs;
use crate::{Console, Failure, terminal, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use strata_template::{Column, Table};

const TABLE: Table = Table {
    columns: &[
        Column {
            field: "Container",
            header: "CONTAINER",
        },
        Column {
            field: "ID",
            header: "CONTAINER ID",
        },
        Column {
            field: "Name",
            header: "NAME",
        },
        Column {
            field: "CPUPerc",
            header: "CPU %",
        },
        Column {
            field: "MemUsage",
            header: "MEM USAGE / LIMIT",
        },
        Column {
            field: "MemPerc",
            header: "MEM %",
        },
        Column {
            field: "NetIO",
            header: "NET I/O",
        },
        Column {
            field: "BlockIO",
            header: "BLOCK I/O",
        },
        Column {
            field: "PIDs",
            header: "PIDS",
        },
    ],
    usual: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};
/// Between two pictures.
const INTERVAL: Duration = Duration::from_millis(500);

/// `stats`
pub(crate) async fn stats(console: &Console, args: StatsArgs) -> Result<u8, Failure> {
    let client = &console.client;
    let names = match args.containers.is_empty() {
        true => all(client, args.all).await?,
        false => args.containers.clone(),
    };
    if args.no_stream {
        let samples = names.iter().map(|name| async move {
            let ask = Ask::get(format!("/containers/{name}/stats")).query("stream", "false");
            client.ask(ask).await.map(|sample| row(name, &sample, args.no_trunc))
        });
        let rows = futures::future::join_all(samples).await;
        let rows: Vec<Value> = rows.into_iter().collect::<Result<_, _>>()?;
        print!("{}", TABLE.render(&args.format, &rows)?);
        return Ok(0);
    }
    let latest: Arc<Mutex<BTreeMap<usize, Value>>> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, name) in names.into_iter().enumerate() {
        // An unknown name is told at once.
        let response = client.send(Ask::get(format!("/containers/{name}/stats"))).await?;
        let (latest, whole) = (Arc::clone(&latest), args.no_trunc);
        tasks.spawn(async move {
            let mut lines = Lines::new(response);
            while let Ok(Some(sample)) = lines.next().await {
                let row = row(&name, &sample, whole);
                latest
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, row);
            }
            latest.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        });
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    let mut ended = std::pin::pin!(ended);
    loop {
        let over = tokio::select! {
            () = &mut ended => true,
            () = tokio::time::sleep(INTERVAL) => false,
        };
        let rows: Vec<Value> = {
            let latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.values().cloned().collect()
        };
        let text = TABLE.render(&args.format, &rows)?;
        let mut out = std::io::stdout().lock();
        let clear = if terminal::stdout_is_terminal() {
            "\x1b[H\x1b[J"
        } else {
            ""
        };
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() || over {
            return Ok(0);
        }
    }
}

async fn all(client: &Client, stopped: bool) -> Result<Vec<String>, Failure> {
    let rows = client.ask(Ask::get("/containers/json").flag("all", stopped)).await?;
    let ids = rows.as_array().into_iter().flatten();
    Ok(ids.filter_map(|row| row["Id"].as_str().map(str::to_owned)).collect())
}

fn row(asked: &str, sample: &Value, whole: bool) -> Value {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let (cpu, before) = (&sample["cpu_stats"], &sample["precpu_stats"]);
    let used = number(&cpu["cpu_usage"]["total_usage"]) - number(&before["cpu_usage"]["total_usage"]);
    let system = number(&cpu["system_cpu_usage"]) - number(&before["system_cpu_usage"]);
    let cpus = number(&cpu["online_cpus"]);
    let share = if used > 0.0 && system > 0.0 {
        used / system * cpus * 100.0
    } else {
        0.0
    };
    let memory = &sample["memory_stats"];
    let inactive = memory["stats"]["total_inactive_file"]
        .as_f64()
        .or(memory["stats"]["inactive_file"].as_f64());
    let held = (number(&memory["usage"]) - inactive.unwrap_or(0.0)).max(0.0);
    let limit = number(&memory["limit"]);
    let percent = if limit > 0.0 { held / limit * 100.0 } else { 0.0 };
    let links = || sample["networks"].as_object().into_iter().flatten();
    let sum = |key: &str| links().map(|(_, link)| number(&link[key])).sum::<f64>();
    let disk = |operation: &str| {
        let rows = sample["blkio_stats"]["io_service_bytes_recursive"]
            .as_array()
            .into_iter()
            .flatten();
        let own = rows.filter(|row| row["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(operation)));
        own.map(|row| number(&row["value"])).sum::<f64>()
    };
    let id = sample["id"].as_str().unwrap_or("");
    json!({
        "Container": asked, "ID": if whole { id.to_owned() } else { text::short(id) },
        "Name": sample["name"].as_str().unwrap_or("--").trim_start_matches('/'),
        "CPUPerc": format!("{share:.2}%"),
        "MemUsage": format!("{} / {}", strata_template::binary_size(held), strata_template::binary_size(limit)),
        "MemPerc": format!("{percent:.2}%"),
        "NetIO": format!("{} / {}", strata_template::size(sum("rx_bytes"), 3), strata_template::size(sum("tx_bytes"), 3)),
        "BlockIO": format!("{} / {}", strata_template::size(disk("read"), 3), strata_template::size(disk("write"), 3)),
        "PIDs": sample["pids_stats"]["current"].as_u64().unwrap_or(0).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_row_of_shares_and_sizes() {
        let sample = json!({
            "id": "0123456789abcdef", "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"total_inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1200, "tx_bytes": 0}}, "pids_stats": {"current": 3},
        });
        let row = row("web", &sample, false);
        assert_eq!(
            (&row["CPUPerc"], &row["MemUsage"]),
            (&json!("20.00%"), &json!("2MiB / 4MiB"))
        );
        assert_eq!(
            (&row["NetIO"], &row["MemPerc"]),
            (&json!("1.2kB / 0B"), &json!("50.00%"))
        );
    }
}
