//! A key management service for tests: it speaks the real protocol at a real socket, and keeps its keys in memory.

use super::{
    cipher::{Algorithm, Cipher},
    object::{put_annotations, read_annotation},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use strata_http::Body;
use strata_schema::protobuf::wire::{Reader, put_bytes};
use tokio::{net::UnixListener, task::JoinSet};

/// What the service says and has been asked.
#[derive(Clone)]
pub(super) struct State {
    pub(super) key_id: String,
    pub(super) healthz: String,
    pub(super) version: String,
    pub(super) calls: BTreeMap<String, usize>,
}

pub(super) struct Plugin {
    pub(super) socket: PathBuf,
    pub(super) state: Arc<Mutex<State>>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Plugin {
    pub(super) fn start(folder: &Path) -> Self {
        let state = State {
            key_id: "1".into(),
            healthz: "ok".into(),
            version: "v2".into(),
            calls: BTreeMap::new(),
        };
        let mut plugin = Self {
            socket: folder.join("kms.sock"),
            state: Arc::new(Mutex::new(state)),
            serving: None,
        };
        plugin.listen();
        plugin
    }

    /// Serves (again).
    pub(super) fn listen(&mut self) {
        let listener = UnixListener::bind(&self.socket).expect("the socket is free");
        let state = self.state.clone();
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                connections.spawn(async move {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }));
    }

    /// Ends it with all its connections.
    pub(super) async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        std::fs::remove_file(&self.socket).expect("the socket was there");
    }

    pub(super) fn calls(&self, method: &str) -> usize {
        self.state.lock().unwrap().calls.get(method).copied().unwrap_or(0)
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or("").to_owned();
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let body = request.into_body().collect().await.map(|b| b.to_bytes());
    let framed = body.unwrap_or_default();
    let said = {
        let mut state = state.lock().unwrap();
        *state.calls.entry(method.clone()).or_default() += 1;
        said(&state, &method, framed.get(5..).unwrap_or_default())
    };
    let mut trailers = HeaderMap::new();
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = Vec::new();
    match said {
        Ok(message) => {
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len()).unwrap());
            framed.put_slice(&message);
            frames.push(Ok(Frame::data(framed.freeze())));
            trailers.insert("grpc-status", "0".parse().unwrap());
        }
        Err(why) => {
            trailers.insert("grpc-status", "9".parse().unwrap());
            trailers.insert("grpc-message", why.parse().unwrap());
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let body = Body::wrap(StreamBody::new(stream::iter(frames)));
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(body);
    Ok(response.unwrap())
}

fn cipher(key_id: &str) -> Cipher {
    let mut secret = [0; 32];
    secret[..key_id.len()].copy_from_slice(key_id.as_bytes());
    Cipher::new(Algorithm::AesGcm, key_id, &secret).unwrap()
}

fn said(state: &State, method: &str, message: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut annotations = BTreeMap::new();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field().map_err(|e| e.to_string())? {
        match (method, number) {
            ("Decrypt", 4) => read_annotation(value, &mut annotations).map_err(|e| e.to_string())?,
            _ => drop(fields.insert(number, value.bytes().map_err(|e| e.to_string())?.to_vec())),
        }
    }
    let mut out = Vec::new();
    match method {
        "Status" => {
            put_bytes(&mut out, 1, state.version.as_bytes());
            put_bytes(&mut out, 2, state.healthz.as_bytes());
            put_bytes(&mut out, 3, state.key_id.as_bytes());
        }
        "Encrypt" => {
            let sealed = cipher(&state.key_id)
                .seal(b"", &fields[&1])
                .map_err(|e| e.to_string())?;
            put_bytes(&mut out, 1, &sealed);
            put_bytes(&mut out, 2, state.key_id.as_bytes());
            let note = BTreeMap::from([("version.kms.example".to_owned(), b"1".to_vec())]);
            put_annotations(&mut out, 3, &note);
        }
        "Decrypt" => {
            if annotations.get("version.kms.example").map(Vec::as_slice) != Some(b"1") {
                return Err("the annotations are not mine".into());
            }
            let key_id = String::from_utf8(fields[&3].clone()).map_err(|e| e.to_string())?;
            let plain = cipher(&key_id).open(b"", &fields[&1]).map_err(|e| e.to_string())?;
            put_bytes(&mut out, 1, &plain);
        }
        other => return Err(format!("no method {other}")),
    }
    Ok(out)
}
