//! Fetching an image, with a line for each thing that happens.

use crate::client::{Ask, ClientError, Lines};
use crate::{Console, Failure};
use std::collections::BTreeMap;
use std::io::Write;

/// Fetches an image; tells on standard error unless it is to be quiet.
pub(crate) async fn pull(console: &Console, image: &str, quiet: bool) -> Result<(), Failure> {
    let last = image.rsplit('/').next().unwrap_or(image);
    let (name, tag) = match (image.split_once('@'), last.split_once(':')) {
        (Some((name, digest)), _) => (name.to_owned(), digest.to_owned()),
        (None, Some((_, tag))) => (image[..image.len() - tag.len() - 1].to_owned(), tag.to_owned()),
        (None, None) => (image.to_owned(), "latest".to_owned()),
    };
    let ask = Ask::post("/images/create").query("fromImage", name).query("tag", tag);
    let mut lines = Lines::new(console.client.send(ask).await?);
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    while let Some(line) = lines.next().await? {
        if let Some(error) = line["error"].as_str() {
            return Err(Failure::from(ClientError::Refused {
                status: http::StatusCode::INTERNAL_SERVER_ERROR,
                message: error.to_owned(),
            }));
        }
        let status = line["status"].as_str().unwrap_or("");
        let id = line["id"].as_str().unwrap_or("");
        // Every piece that arrives is told; people want to know when something begins and ends.
        if quiet || told.get(id).is_some_and(|known| known == status && !id.is_empty()) {
            continue;
        }
        told.insert(id.to_owned(), status.to_owned());
        let text = if id.is_empty() {
            status.to_owned()
        } else {
            format!("{id}: {status}")
        };
        // Nobody to read it is fine.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    Ok(())
}
