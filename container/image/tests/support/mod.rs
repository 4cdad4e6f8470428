//! What the tests of images need: tar files made byte by byte and a registry on loopback.
#![allow(dead_code)]

pub mod gate;

use sha2::{Digest as _, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A tar archive under construction.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn entry(mut self, kind: u8, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        self.0
            .extend_from_slice(&header(kind, name, link, mode, content.len() as u64));
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name, "", 0o644, content)
    }

    pub fn program(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name, "", 0o755, content)
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, "", 0o755, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, 0o777, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, 0o644, b"")
    }

    /// A PAX header with these records before the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(b'x', "PaxHeader", "", 0o644, &body)
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A ustar header, valid unless its arguments are not.
pub fn header(kind: u8, name: &str, link: &str, mode: u32, size: u64) -> [u8; 512] {
    let mut block = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"14000000000");
    put(156, &[kind]);
    put(157, &link.as_bytes()[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(148, b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

pub fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(content, 1).expect("memory")
}

pub fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// The documents of an image made of (uncompressed, compressed) layers.
pub struct Documents {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

pub fn documents(layers: &[(Vec<u8>, Vec<u8>)], config: &str) -> Documents {
    let diff_ids: Vec<String> = layers.iter().map(|(plain, _)| digest(plain)).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":{}}}}}"#,
        serde_json::to_string(&diff_ids).expect("json")
    )
    .into_bytes();
    let descriptors: Vec<serde_json::Value> = layers
        .iter()
        .map(|(_, packed)| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest(packed), "size": packed.len()})
        })
        .collect();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": descriptors});
    Documents {
        config,
        manifest: serde_json::to_vec(&manifest).expect("json"),
    }
}

/// Debian's docker-registry on a free loopback port, gone with this value.
pub struct Registry {
    process: Child,
    _folder: tempfile::TempDir,
    data: PathBuf,
    pub address: String,
    authorization: Option<String>,
}

impl Registry {
    pub fn start() -> Self {
        Self::start_with("", None)
    }

    /// With basic authentication for this user and password.
    pub fn start_with_login(user: &str, password: &str, htpasswd_line: &str) -> Self {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Self::start_with(htpasswd_line, Some(format!("Basic {pair}")))
    }

    /// Another server on the same content that speaks TLS, as `keys` says.
    pub fn over_tls(&self, keys: &Keys, clients_too: bool) -> Self {
        let clients = match clients_too {
            true => format!(", clientcas: [{}]", keys.path("ca.pem").display()),
            false => String::new(),
        };
        let tls = format!(
            "certificate: {}, key: {}{clients}",
            keys.path("leaf.pem").display(),
            keys.path("leaf.key").display()
        );
        Self::serve(tempfile::tempdir().expect("folder"), &self.data, &tls, "", None)
    }

    fn start_with(htpasswd: &str, authorization: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let data = folder.path().join("data");
        Self::serve(folder, &data, "", htpasswd, authorization)
    }

    fn serve(folder: tempfile::TempDir, data: &Path, tls: &str, htpasswd: &str, authorization: Option<String>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("port")
            .local_addr()
            .expect("port")
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}, tls: {{{tls}}}}}\n",
            data.display()
        );
        if !htpasswd.is_empty() {
            let file = folder.path().join("htpasswd");
            std::fs::write(&file, htpasswd).expect("file");
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                file.display()
            ));
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("file");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the Debian package docker-registry is installed");
        let registry = Self {
            process,
            _folder: folder,
            data: data.to_owned(),
            address: format!("127.0.0.1:{port}"),
            authorization,
        };
        registry.wait();
        registry
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let address: SocketAddr = self.address.parse().expect("address");
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(Instant::now() < deadline, "the registry did not come up");
            // A refused connection has no event to wait for.
            std::thread::yield_now();
        }
    }

    pub fn push_blob(&self, repository: &str, content: &[u8]) {
        let (status, headers, _) = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202);
        let location = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| value.clone())
            .expect("location");
        let path = location
            .strip_prefix(&format!("http://{}", self.address))
            .unwrap_or(&location);
        let joint = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{joint}digest={}", digest(content));
        let (status, _, body) = self.request("PUT", &target, "application/octet-stream", content);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &[u8]) {
        let (status, _, body) = self.request("PUT", &format!("/v2/{repository}/manifests/{tag}"), kind, manifest);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    /// Pushes an image and gives its manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, layers: &[(Vec<u8>, Vec<u8>)], config: &str) -> String {
        let documents = documents(layers, config);
        for (_, packed) in layers {
            self.push_blob(repository, packed);
        }
        self.push_blob(repository, &documents.config);
        self.push_manifest(
            repository,
            tag,
            "application/vnd.oci.image.manifest.v1+json",
            &documents.manifest,
        );
        digest(&documents.manifest)
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("registry");
        let authorization = self
            .authorization
            .as_ref()
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n{authorization}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("write");
        stream.write_all(body).expect("write");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("status");
        let status = line.split(' ').nth(1).expect("status").parse().expect("number");
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).expect("header");
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => break,
            }
        }
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).expect("body");
        (status, headers, answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn packed(plain: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let gz = gzip(&plain);
    (plain, gz)
}

/// Whether nothing is left in the store's drafts.
pub fn no_drafts(root: &Path) -> bool {
    std::fs::read_dir(root.join("drafts")).expect("drafts").next().is_none()
}

/// A certificate authority and a leaf for 127.0.0.1 and registry.invalid, made by openssl.
pub struct Keys(tempfile::TempDir);

impl Keys {
    pub fn make() -> Self {
        let keys = Self(tempfile::tempdir().expect("folder"));
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        keys.openssl(&format!(
            "req -x509 -new {curve} -subj /CN=authority -keyout ca.key -out ca.pem"
        ));
        std::fs::write(
            keys.path("names"),
            "subjectAltName=IP:127.0.0.1,DNS:registry.invalid\nextendedKeyUsage=serverAuth,clientAuth\n",
        )
        .expect("file");
        keys.openssl(&format!(
            "req -new {curve} -subj /CN=leaf -keyout leaf.key -out leaf.csr"
        ));
        keys.openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem",
        );
        keys
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let run = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}
