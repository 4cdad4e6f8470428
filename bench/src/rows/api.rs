//! Requests to the API, ours and upstream's, from a load generator of its own process.

use super::ratio;
use crate::{
    Options,
    failure::Outcome,
    figures::{Samples, short},
    http2::Encoding,
    load::{self, Figures, Load, Operation},
    server::{self, Server},
    table::Row,
    upstream::{self, Upstream},
};

/// Rounds of each figure.
const ROUNDS: usize = 3;

struct Wanted {
    what: &'static str,
    load: Load,
    bar: f64,
}

const fn wanted(what: &'static str, operation: Operation, encoding: Encoding, connections: usize, bar: f64) -> Wanted {
    let load = Load {
        operation,
        encoding,
        connections,
    };
    Wanted { what, load, bar }
}

/// Reading first: what creating leaves behind differs between the sides. Upstream stores protobuf, so JSON flatters
/// us: of its bar half holds for protobuf.
const WANTED: [Wanted; 10] = {
    use Encoding::{Json, Protobuf};
    use Operation::{Apply, Create, Custom, Get, List};
    [
        wanted("GET, 32 connections", Get, Json, 32, 4.0),
        wanted("same, protobuf", Get, Protobuf, 32, 2.0),
        wanted("LIST limit=500, 4 connections", List, Json, 4, 4.0),
        wanted("same, protobuf", List, Protobuf, 4, 2.0),
        wanted("durable create of 1.3 KB, 1 connection", Create, Json, 1, 1.5),
        wanted("same, protobuf", Create, Protobuf, 1, 0.75),
        wanted("durable create of 1.3 KB, 128 connections", Create, Json, 128, 4.0),
        wanted("same, protobuf", Create, Protobuf, 128, 2.0),
        wanted("server-side apply of a deployment, 8 connections", Apply, Json, 8, 4.0),
        wanted(
            "create of a custom resource with four CEL rules, 8 connections",
            Custom,
            Json,
            8,
            3.0,
        ),
    ]
};

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let (server, _) = Server::ready(options).await?;
    let target = server.target()?;
    let upstream = match Upstream::is_there(options) {
        true => Some(Upstream::ready(options).await?),
        false => None,
    };
    let other = upstream.as_ref().map(Upstream::target);
    load::prepare(&target).await?;
    if let Some(other) = &other {
        load::prepare(other).await?;
    }
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for (number, wanted) in WANTED.iter().enumerate() {
        let (mut our, mut their) = (Vec::new(), Vec::new());
        // In turns, so that the noise of others meets both; the one that is not loaded is idle.
        for round in 0..ROUNDS {
            let prefix = format!("row{number}-{round}");
            let loaded = |target| load::measure(target, options, wanted.load, &prefix);
            our.push(loaded(&target).await?);
            if let Some(other) = &other {
                their.push(loaded(other).await?);
            }
        }
        ours.push(Side(our));
        peers.push(Side(their));
    }
    let rows = WANTED.iter().enumerate().map(|(at, wanted)| {
        let ours = &ours[at];
        let peer = other.as_ref().map(|_| &peers[at]);
        let (rate, their) = (ours.median(), peer.map_or(0.0, Side::median));
        Row {
            what: wanted.what.into(),
            strata: ours.text(),
            peer: peer.map_or("–".into(), |p| format!("kube-apiserver {}", p.text())),
            ratio: ratio(rate, their),
            bar: format!("{}x", wanted.bar),
            met: peer.map(|_| rate >= wanted.bar * their),
            how: format!(
                "Requests a second: median of {ROUNDS} rounds of {} s (p50 and p99 of the median round), one request \
                 at a time on each HTTP/2 connection with a client certificate, JSON unless said otherwise, load generator in a process of \
                 its own on the same cores; GET and LIST from {} config maps in one namespace. `strata {} --port N \
                 --data-dir EMPTY` (with its node); peer: {}. The sides in turns, both running, same disk.",
                options.load_seconds,
                load::OBJECTS_READ,
                server::FLAGS,
                upstream::FLAGS,
            ),
        }
    });
    Ok(rows.collect())
}

/// Rounds of one figure of one side.
struct Side(Vec<Figures>);

impl Side {
    fn median(&self) -> f64 {
        self.rates().median()
    }

    fn rates(&self) -> Samples {
        Samples::from_numbers(self.0.iter().map(|f| f.rate))
    }

    fn text(&self) -> String {
        let rates = self.rates();
        let middle = self.0.iter().find(|f| f.rate == rates.median());
        let (p50, p99) = middle.map_or((0.0, 0.0), |f| (f.p50, f.p99));
        format!(
            "{}/s ({}–{}), p50 {} ms, p99 {} ms",
            short(rates.median()),
            short(rates.min()),
            short(rates.max()),
            short(p50),
            short(p99)
        )
    }
}
