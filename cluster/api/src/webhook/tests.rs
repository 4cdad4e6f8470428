//! Where references lead.

use super::{ClientConfig, Endpoint};
use serde_json::json;

#[test]
fn references_are_read_as_upstream_reads_them() {
    let service = |port| Endpoint::Service {
        namespace: "n".into(),
        name: "s".into(),
        port,
    };
    let host = |host: &str, port| Endpoint::Host {
        host: host.into(),
        port,
    };
    for (config, endpoint, path, shown) in [
        (
            json!({"service": {"namespace": "n", "name": "s"}}),
            service(443),
            "/",
            "s.n.svc:443",
        ),
        (
            json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "/a/b"}, "caBundle": ""}),
            service(8443),
            "/a/b",
            "s.n.svc:8443",
        ),
        (
            json!({"url": "https://h.example"}),
            host("h.example", 443),
            "/",
            "h.example:443",
        ),
        (
            json!({"url": "https://[::1]:9443/x?y=1"}),
            host("::1", 9443),
            "/x?y=1",
            "[::1]:9443",
        ),
    ] {
        let read = ClientConfig::from_value(&config).unwrap();
        assert_eq!(
            (read.endpoint.clone(), read.path.as_str()),
            (endpoint, path),
            "{config}"
        );
        assert_eq!(read.endpoint.to_string(), shown);
    }
    for refused in [
        json!({}),
        json!({"url": "http://h/"}),
        json!({"url": "https://h/", "caBundle": "%"}),
    ] {
        assert!(ClientConfig::from_value(&refused).is_err(), "{refused}");
    }
}
