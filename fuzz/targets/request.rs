//! Whole requests to a real server: method, path and query, headers, body, as the first lines say.
//!
//! Input: `METHOD URI`, then `Content-Type`, then `Accept`, a line each, then the body. A server
//! answers everything, and no answer is an internal error but where upstream's is.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::{sync::{Arc, OnceLock}, time::Duration};
use strata_api::{ApiOptions, ApiServer};
use strata_auth::{ClusterCa, TokenIssuer, UserInfo};
use strata_client::Transport;
use strata_store::MemoryStore;

struct Served {
    runtime: tokio::runtime::Runtime,
    _api: ApiServer,
    transport: Arc<dyn Transport>,
}

fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        strata_http::install_crypto();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let ca = ClusterCa::open_or_create(folder.path()).expect("an authority");
        let issuer = TokenIssuer::open_or_create(folder.path(), "https://fuzz").expect("an issuer");
        let address = "10.1.2.3:6443".parse().expect("an address");
        let options = ApiOptions::new(Arc::new(MemoryStore::new()), Arc::new(issuer), ca.ca_pem().to_owned(), address);
        let api = runtime.block_on(ApiServer::start(options)).expect("a server");
        let user = UserInfo { name: "fuzz".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
        let transport = api.transport(user);
        Served { runtime, _api: api, transport }
    })
}

/// What upstream answers with 500 too, though it is the client's mistake.
const UPSTREAMS: [&str; 2] = [
    "failed to create typed patch object",
    "resourceVersion should not be set on objects to be created",
];

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(lines.next()?).ok();
    let (Some(first), Some(content), Some(accept)) = (text(), text(), text()) else { return };
    let Some((method, uri)) = first.split_once(' ') else { return };
    // A watch goes on for ever, and a wait for what does not come would be no finding.
    if uri.contains("watch") || uri.len() > 2000 {
        return;
    }
    let body = Bytes::copy_from_slice(lines.next().unwrap_or_default());
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in [("content-type", content), ("accept", accept)] {
        if !value.is_empty() {
            builder = builder.header(name, value);
        }
    }
    let Ok(request) = builder.body(body) else { return };
    let served = served();
    let answer = served.runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), served.transport.send(request)).await
    });
    if let Ok(response) = answer.expect("an answer in time") {
        let said = String::from_utf8_lossy(response.body());
        let own = response.status().as_u16() == 500 && !UPSTREAMS.iter().any(|why| said.contains(why));
        assert!(!own, "{said}");
    }
});
