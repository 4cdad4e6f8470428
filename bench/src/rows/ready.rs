//! A server on an empty data directory, from the start of its process until it can be used.

use super::ratio;
use crate::{
    Options,
    failure::Outcome,
    figures::{Samples, short},
    server::{self, Moments, Server},
    table::Row,
    upstream::{self, Upstream},
};

const BAR_MS: f64 = 1500.0;

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    let with_peer = Upstream::is_there(options);
    // In turns, so that noise meets both.
    for _ in 0..options.runs {
        let (server, moments) = Server::ready(options).await?;
        ours.push(moments);
        drop(server);
        if with_peer {
            peers.push(Upstream::ready(options).await?.readyz);
        }
    }
    let samples = |of: fn(&Moments) -> std::time::Duration| Samples::new(ours.iter().map(of));
    let (all, peer) = (samples(Moments::all), Samples::new(peers));
    let ms = |s: &Samples| format!("{} ms ({}–{})", short(s.median()), short(s.min()), short(s.max()));
    let strata = format!(
        "{}; of it /readyz {}, account {}, DNS {}, node {}",
        ms(&all),
        short(samples(|m| m.readyz).median()),
        short(samples(|m| m.account).median()),
        short(samples(|m| m.dns).median()),
        short(samples(|m| m.node).median()),
    );
    Ok(vec![Row {
        what: "server ready on an empty data dir".into(),
        strata,
        peer: if with_peer {
            format!("kube-apiserver + etcd to /readyz {}", ms(&peer))
        } else {
            "–".into()
        },
        ratio: ratio(all.median(), peer.median()),
        bar: format!("{} s", BAR_MS / 1e3),
        met: Some(all.median() <= BAR_MS),
        how: format!(
            "Median of {} starts in turns, from spawn until /readyz 200, node Ready, service account default/default \
             and an answer of the cluster's DNS address: `strata {} --port N --data-dir EMPTY`. Peer: {}; both \
             started at once with certificates made before; it has no node, controllers or DNS.",
            options.runs,
            server::FLAGS,
            upstream::FLAGS,
        ),
    }])
}
