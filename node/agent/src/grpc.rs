//! gRPC probes: what a server's health service says of itself
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use crate::pod::GrpcAction;
use std::time::Duration;
use strata_http::{GrpcClient, GrpcStatus};

/// HealthCheckResponse.ServingStatus.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks a server on a port of the pod. Error: a sentence for an event.
pub async fn check(ip: &str, action: &GrpcAction, timeout: Duration) -> Result<(), String> {
    let address = format!("{ip}:{}", action.port);
    let dialed = tokio::time::timeout(timeout, GrpcClient::dial(&address)).await;
    let client = match dialed {
        Ok(Ok(client)) => client,
        // Upstream's client tries again until its time is up, and says only that.
        Ok(Err(_)) | Err(_) => {
            let why =
                format!("timeout: failed to connect service {address:?} within {timeout:?}: context deadline exceeded");
            return Err(why);
        }
    };
    let request = encode(&action.service);
    match client.call("/grpc.health.v1.Health/Check", &request, timeout).await {
        Ok(answer) => match status(&answer) {
            Some(1) => Ok(()),
            Some(other) => {
                let name = STATUSES.get(usize::try_from(other).unwrap_or(usize::MAX));
                let name = name.map_or_else(|| other.to_string(), |name| (*name).to_owned());
                Err(format!("service unhealthy (responded with {name:?})"))
            }
            None => Err("error: health rpc probe failed: the answer is not a HealthCheckResponse".into()),
        },
        Err(e) if e.code == GrpcStatus::UNIMPLEMENTED => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            e.message
        )),
        Err(e) if e.code == GrpcStatus::DEADLINE_EXCEEDED => {
            Err(format!("timeout: health rpc did not complete within {timeout:?}"))
        }
        Err(e) => Err(format!("error: health rpc probe failed: {e}")),
    }
}

/// HealthCheckRequest: field 1 is the service's name.
fn encode(service: &str) -> Vec<u8> {
    if service.is_empty() {
        return Vec::new();
    }
    let mut message = vec![0x0a];
    push_varint(&mut message, service.len() as u64);
    message.extend_from_slice(service.as_bytes());
    message
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// HealthCheckResponse: field 1 is the status; absent it is the first. `None` if it is nothing of the kind.
fn status(mut bytes: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut bytes)?,
            (_, 0) => drop(varint(&mut bytes)?),
            (_, 1) => bytes = bytes.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                bytes = bytes.get(length..)?;
            }
            (_, 5) => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_protobuf() {
        assert_eq!(encode(""), b"");
        assert_eq!(encode("ab"), b"\x0a\x02ab");
        assert_eq!(status(b""), Some(0));
        assert_eq!(status(b"\x08\x01"), Some(1));
        assert_eq!(status(b"\x12\x01x\x08\x02"), Some(2));
        for bad in [
            &b"\x08"[..],
            b"\x12\x05x",
            b"\x0b",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_in_upstreams_words() {
        let action = GrpcAction {
            port: 1,
            service: String::new(),
        };
        let why = check("127.0.0.1", &action, Duration::from_secs(1))
            .await
            .expect_err("nobody listens");
        assert_eq!(
            why,
            "timeout: failed to connect service \"127.0.0.1:1\" within 1s: context deadline exceeded"
        );
    }
}
