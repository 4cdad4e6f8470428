//! Secrets encrypted with a key management service: what is on the disk, and what is left of it after a crash and a
//! change of the key.

use bytes::Bytes;
use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};
use strata_e2e::Server;
use strata_http::{GrpcAnswer, GrpcService, GrpcStatus, serve_grpc};
use strata_task::CancellationToken;
use tokio::net::UnixListener;

/// The fields of a message of version 2 of the interface, all of which are texts or bytes.
fn fields(mut message: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found = BTreeMap::new();
    while let [tag, rest @ ..] = message {
        assert_eq!(tag & 7, 2, "a length follows");
        let (mut length, mut shift, mut rest) = (0, 0, rest);
        while let [byte, more @ ..] = rest {
            length |= usize::from(byte & 0x7f) << shift;
            (shift, rest) = (shift + 7, more);
            if byte & 0x80 == 0 {
                break;
            }
        }
        found.insert(tag >> 3, rest[..length].to_vec());
        message = &rest[length..];
    }
    found
}

fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in fields {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length > 0x7f {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    }
    out
}

/// What the service has been asked, and the name of the key it has.
struct Vault {
    key: Mutex<String>,
    asked: Mutex<Vec<String>>,
}

impl Vault {
    /// Not a cipher, but nothing that was put in can be read in what comes out.
    fn turned(key: &str, bytes: &[u8]) -> Vec<u8> {
        let key = key.bytes().cycle();
        bytes.iter().zip(key).map(|(byte, key)| byte ^ key ^ 0xa5).collect()
    }

    fn answer(&self, method: &str, fields: &BTreeMap<u8, Vec<u8>>) -> Vec<u8> {
        let key = self.key.lock().expect("no panic").clone();
        match method {
            "/v2.KeyManagementService/Status" => message(&[(1, b"v2"), (2, b"ok"), (3, key.as_bytes())]),
            "/v2.KeyManagementService/Encrypt" => {
                let sealed = Self::turned(&key, &fields[&1]);
                message(&[(1, &sealed), (2, key.as_bytes())])
            }
            _ => {
                let key = String::from_utf8(fields[&3].clone()).expect("the name of a key");
                message(&[(1, &Self::turned(&key, &fields[&1]))])
            }
        }
    }

    fn asked(&self, what: &str) -> usize {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|method| method.ends_with(what)).count()
    }
}

impl GrpcService for Vault {
    fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Result<GrpcAnswer, GrpcStatus>> {
        self.asked.lock().expect("no panic").push(method.clone());
        let answer = self.answer(&method, &fields(&message));
        Box::pin(async move { Ok(GrpcAnswer::One(answer.into())) })
    }
}

/// The service at its socket, in a thread of its own.
struct Plugin {
    vault: Arc<Vault>,
    cancel: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Plugin {
    fn start(socket: PathBuf) -> Self {
        let vault = Arc::new(Vault {
            key: Mutex::new("one".to_owned()),
            asked: Mutex::default(),
        });
        let cancel = CancellationToken::new();
        let (service, stop) = (vault.clone(), cancel.clone());
        let (listening, listens) = std::sync::mpsc::channel();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = UnixListener::bind(socket).expect("the socket is free");
                listening.send(()).expect("somebody waits");
                serve_grpc(listener, stop, service).await.expect("it serves");
            });
        });
        listens.recv().expect("it listens");
        Self {
            vault,
            cancel,
            serving: Some(serving),
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(Err(why)) = self.serving.take().map(JoinHandle::join) {
            eprintln!("the service ended badly: {why:?}");
        }
    }
}

/// Whether any file below a folder holds some bytes.
fn holds(folder: &Path, wanted: &[u8]) -> bool {
    let entries = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => holds(&path, wanted),
        false => {
            let bytes = fs::read(&path).expect("a file");
            bytes.windows(wanted.len()).any(|window| window == wanted)
        }
    })
}

#[test]
fn secrets_lie_encrypted_and_are_read_after_a_crash_and_a_change_of_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("kms.sock");
    let plugin = Plugin::start(socket.clone());
    let config = folder.path().join("encryption.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - kms: {{apiVersion: v2, name: vault, endpoint: 'unix://{}', timeout: 3s}}\n  - identity: {{}}\n",
        socket.display()
    );
    fs::write(&config, text).expect("written");
    let flag = config.to_str().expect("a plain path");
    let mut server = Server::start(&["--no-node", "--encryption-provider-config", flag]);
    let k = server.kubectl();
    k.ok("create secret generic login --from-literal=password=swordfish-of-the-deep");
    k.ok("create configmap open --from-literal=note=lighthouse-by-the-sea");
    let db = server.data_dir().join("db");
    assert!(holds(&db, b"lighthouse-by-the-sea"), "what is not encrypted is found");
    // A secret's values are kept in base64.
    for hidden in ["swordfish-of-the-deep", "c3dvcmRmaXNoLW9mLXRoZS1kZWVw"] {
        assert!(!holds(&db, hidden.as_bytes()), "{hidden}");
    }
    assert!(holds(&db, b"k8s:enc:kms:v2:vault:"), "it says who can read it");
    let (status, sealed) = (plugin.vault.asked("/Status"), plugin.vault.asked("/Encrypt"));
    assert!(status > 0 && sealed == 1, "one seed for all: {status}, {sealed}");

    server.kill();
    "two".clone_into(&mut plugin.vault.key.lock().expect("no panic"));
    server.launch();
    let password = "get secret login -o jsonpath={.data.password}";
    assert_eq!(k.ok(password), "c3dvcmRmaXNoLW9mLXRoZS1kZWVw");
    assert!(plugin.vault.asked("/Decrypt") > 0, "the old seed was asked for");
    assert_eq!(plugin.vault.asked("/Encrypt"), 2, "a new seed under the new key");
    k.ok("create secret generic second --from-literal=password=anchor-at-dawn");

    server.kill();
    server.launch();
    assert_eq!(k.ok(password), "c3dvcmRmaXNoLW9mLXRoZS1kZWVw");
    let second = k.ok("get secret second -o jsonpath={.data.password}");
    assert_eq!(second, "YW5jaG9yLWF0LWRhd24=");
    assert_eq!(server.stop(), 0, "a clean end");
}
