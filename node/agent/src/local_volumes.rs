//! `/volumes/NAME` of the agent's API: who may use the node's proxy has volumes made on its disk, grown and removed.

use crate::{query::Query, server::Refusal};
use http::{Method, StatusCode};
use serde_json::json;
use strata_volume::{LocalKind, LocalVolumes, VolumeError};

/// Answers a request about one volume: `PUT ?size=BYTES&kind=Image|Folder` tells where it is, `DELETE` that it is gone.
pub async fn serve(volumes: &LocalVolumes, method: &Method, name: &str, query: &Query) -> Result<Vec<u8>, Refusal> {
    match *method {
        Method::PUT => {
            let bad = |why: String| (StatusCode::BAD_REQUEST, why);
            let size = query.number("size").map_err(|e| bad(e.to_string()))?;
            let size = size.ok_or_else(|| bad("size is missing".to_owned()))?;
            let kind = match query.get("kind") {
                None | Some("Image") => LocalKind::Image,
                Some("Folder") => LocalKind::Folder,
                Some(other) => return Err(bad(format!("kind {other:?} is not known"))),
            };
            let path = volumes.provide(name, size, kind).await.map_err(refusal)?;
            Ok(json!({"path": path}).to_string().into_bytes())
        }
        Method::DELETE => {
            volumes.remove(name).await.map_err(refusal)?;
            Ok(b"{}".to_vec())
        }
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "PUT or DELETE".to_owned())),
    }
}

fn refusal(error: VolumeError) -> Refusal {
    let status = match error {
        VolumeError::Path(_) => StatusCode::BAD_REQUEST,
        VolumeError::Persistent(_) => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error.to_string())
}
