//! Tokens with which machines join: a secret, and the certificate authority to believe.

use crate::{
    cli::{DataDir, Output, TokenCommand},
    failure::{During, Failure, Outcome, fail},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use strata_auth::{BOOTSTRAP_SECRET_PREFIX, BOOTSTRAP_SECRET_TYPE, BootstrapToken};
use strata_client::{Client, ClientAuth, DeleteOptions, HttpsConfig, ListParams, resources};
use strata_meta::Time;

/// What a token's text begins with; tells a token from other secrets in a search.
const PREFIX: &str = "strata1.";

/// A join token: because it carries the certificate authority, a machine that joins never
/// speaks to a server it cannot verify.
#[derive(Serialize, Deserialize)]
pub struct JoinToken {
    /// `ID.SECRET`, the bearer token.
    #[serde(rename = "t")]
    pub secret: String,
    /// The certificate authority.
    #[serde(rename = "c")]
    pub ca_pem: String,
}

impl JoinToken {
    /// Reads a token.
    pub fn parse(text: &str) -> Outcome<Self> {
        let invalid = || Failure("the token is not one that `strata token create` printed".into());
        let encoded = text.trim().strip_prefix(PREFIX).ok_or_else(invalid)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| invalid())?;
        serde_json::from_slice(&bytes).map_err(|_| invalid())
    }

    /// The text of a token.
    pub fn print(&self) -> Outcome<String> {
        let json = serde_json::to_vec(self).during("encoding the token")?;
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }
}

/// Carries the command out.
pub async fn run(command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create { server, hours } => {
            let (client, ca_pem) = connect(&server)?;
            println!("{}", create(&client, ca_pem, hours).await?);
        }
        TokenCommand::List { server, output } => list(&connect(&server)?.0, output).await?,
        TokenCommand::Delete { server, id } => {
            let client = connect(&server)?.0;
            let name = format!("{BOOTSTRAP_SECRET_PREFIX}{id}");
            let deleted = client
                .delete(resources::SECRETS, "kube-system", &name, DeleteOptions::default())
                .await;
            match deleted {
                Err(e) if e.is_not_found() => {
                    return fail(format!("there is no token {id}; `strata token list` shows them"));
                }
                other => other.during("deleting the token")?,
            }
            println!("token {id} deleted");
        }
    }
    Ok(())
}

/// Makes a token that is valid for so many hours.
pub async fn create(client: &Client, ca_pem: String, hours: u32) -> Outcome<String> {
    let token = BootstrapToken::generate(Some(Time::now().plus_seconds(i64::from(hours) * 3600)));
    client
        .create(resources::SECRETS, "kube-system", &token.to_secret())
        .await
        .during("making the token")?;
    let join = JoinToken {
        secret: token.reveal(),
        ca_pem,
    };
    join.print()
}

async fn list(client: &Client, output: Output) -> Outcome {
    let params = ListParams {
        field_selector: format!("type={BOOTSTRAP_SECRET_TYPE}"),
        ..ListParams::default()
    };
    let secrets = client
        .list(resources::SECRETS, Some("kube-system"), params)
        .await
        .during("listing tokens")?;
    let mut rows = Vec::new();
    for secret in &secrets.items {
        let value = secret.to_value().during("reading a token")?;
        let Some(token) = BootstrapToken::from_secret(&value) else {
            continue;
        };
        rows.push(json!({"id": token.id, "expires": token.expires, "description": token.description}));
    }
    match output {
        Output::Json => println!("{}", json!(rows)),
        Output::Text => {
            println!("{:<8} {:<22} DESCRIPTION", "ID", "EXPIRES");
            for row in rows {
                let text = |name: &str| row[name].as_str().unwrap_or("never").to_owned();
                println!(
                    "{:<8} {:<22} {}",
                    text("id"),
                    text("expires"),
                    row["description"].as_str().unwrap_or_default()
                );
            }
        }
    }
    Ok(())
}

/// The administrator's client of a server on this machine, and the certificate authority.
pub fn connect(server: &DataDir) -> Outcome<(Client, String)> {
    let path = server.data_dir.join("admin.kubeconfig");
    let text = fs::read_to_string(&path).during(format!(
        "reading {}: is there a server with this --data-dir",
        path.display()
    ))?;
    let config: Value = serde_saphyr::from_str(&text).during(format!("reading {}", path.display()))?;
    let decode = |pointer: &str| -> Outcome<Vec<u8>> {
        let text = config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .during(format!("reading {}", path.display()))
    };
    let ca_pem = decode("/clusters/0/cluster/certificate-authority-data")?;
    let address = config
        .pointer("/clusters/0/cluster/server")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let https = HttpsConfig {
        server: address.to_owned(),
        ca_pem: ca_pem.clone(),
        auth: ClientAuth::Certificate {
            cert_pem: decode("/users/0/user/client-certificate-data")?,
            key_pem: decode("/users/0/user/client-key-data")?,
        },
    };
    let client = Client::https(https).during(format!("connecting to {address}"))?;
    Ok((client, String::from_utf8_lossy(&ca_pem).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_printing_and_garbage_is_refused() {
        let token = JoinToken {
            secret: "abcdef.0123456789abcdef".into(),
            ca_pem: "PEM".into(),
        };
        let again = JoinToken::parse(&token.print().unwrap()).unwrap();
        assert_eq!((again.secret, again.ca_pem), (token.secret, token.ca_pem));
        for bad in ["", "strata1.", "strata1.%%%", "abcdef.0123456789abcdef"] {
            assert!(JoinToken::parse(bad).is_err(), "{bad}");
        }
    }
}
