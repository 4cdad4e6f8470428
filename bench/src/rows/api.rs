//! Requests to the API, ours and upstream's, from a load generator of its own process.

use super::ratio;
use crate::{
    Options,
    failure::Outcome,
    figures::{Samples, short},
    http2::Target,
    load::{self, Figures, Operation},
    server::{self, Server},
    table::Row,
    upstream::{self, Upstream},
};

/// Rounds of each figure.
const ROUNDS: usize = 3;

struct Wanted {
    what: &'static str,
    operation: Operation,
    connections: usize,
    bar: f64,
}

/// Reading first: what creating leaves behind differs between the sides.
const WANTED: [Wanted; 4] = [
    Wanted {
        what: "GET, 32 connections",
        operation: Operation::Get,
        connections: 32,
        bar: 4.0,
    },
    Wanted {
        what: "LIST limit=500, 4 connections",
        operation: Operation::List,
        connections: 4,
        bar: 4.0,
    },
    Wanted {
        what: "durable create of 1.3 KB, 1 connection",
        operation: Operation::Create,
        connections: 1,
        bar: 1.5,
    },
    Wanted {
        what: "durable create of 1.3 KB, 128 connections",
        operation: Operation::Create,
        connections: 128,
        bar: 4.0,
    },
];

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let ours = {
        let (server, _) = Server::ready(options).await?;
        side(&server.target()?, options).await?
    };
    let peer = if Upstream::is_there(options) {
        let peer = Upstream::ready(options).await?;
        Some(side(&peer.target(), options).await?)
    } else {
        None
    };
    let rows = WANTED.iter().enumerate().map(|(at, wanted)| {
        let ours = &ours[at];
        let peer = peer.as_ref().map(|all| &all[at]);
        let (rate, other) = (ours.median(), peer.map_or(0.0, Side::median));
        Row {
            what: wanted.what.into(),
            strata: ours.text(),
            peer: peer.map_or("–".into(), |p| format!("kube-apiserver {}", p.text())),
            ratio: ratio(rate, other),
            bar: format!("{}x", wanted.bar),
            met: peer.map(|_| rate >= wanted.bar * other),
            how: format!(
                "Requests a second: median of {ROUNDS} rounds of {} s (p50 and p99 of the median round), one request \
                 at a time on each HTTP/2 connection with a client certificate, JSON, load generator in a process of \
                 its own on the same cores; GET and LIST from {} config maps in one namespace. `strata {} --port N \
                 --data-dir EMPTY` (with its node); peer: {}. One side after the other, same disk.",
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

async fn side(target: &Target, options: &Options) -> Outcome<Vec<Side>> {
    load::prepare(target).await?;
    let mut sides = Vec::new();
    for wanted in &WANTED {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let prefix = format!("c{}-{round}", wanted.connections);
            rounds.push(load::measure(target, options, wanted.operation, wanted.connections, &prefix).await?);
        }
        sides.push(Side(rounds));
    }
    Ok(sides)
}
