//! Who one is at which registry: docker's config.json, containers' auth.json, helper programs.
//!
//! Logins are kept in a file or handed to a program `docker-credential-NAME` (docker's
//! credential-helpers protocol: a verb as argument, the server on its input, JSON back).

use crate::disk::{make_folder, read_bounded, replace_file};
use crate::{Credentials, ImageError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A helper may ask a person or a service, but not forever.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_FILE: u64 = 16 << 20;
const MAX_ANSWER: u64 = 1 << 20;
/// How docker writes its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// The logins of a user.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    /// Files in the order they are asked; the first is written to.
    files: Vec<PathBuf>,
    /// Where helpers are looked for instead of the program path.
    programs: Option<PathBuf>,
}

/// How helper programs are found and how long they may take.
struct Helpers<'a> {
    folder: Option<&'a Path>,
    patience: Duration,
}

/// Where a login was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Readable for whoever can read this file.
    File(PathBuf),
    /// This program has it.
    Helper(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default, rename = "ServerURL")]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl CredentialStore {
    /// The logins in these files; the first of them gets new ones.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files, programs: None }
    }

    /// The files that docker and podman use, by the environment: REGISTRY_AUTH_FILE alone, or
    /// DOCKER_CONFIG or ~/.docker, then what podman logs in to.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| lookup(name).filter(|value| !value.is_empty());
        if let Some(file) = given("REGISTRY_AUTH_FILE") {
            return Self::new(vec![file.into()]);
        }
        let home = given("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        let docker = given("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
        let mut files = vec![docker.join("config.json")];
        files.extend(given("XDG_RUNTIME_DIR").map(|run| PathBuf::from(run).join("containers/auth.json")));
        files.push(home.join(".config/containers/auth.json"));
        Self::new(files)
    }

    /// The login for a repository (`registry/path`), if there is one.
    pub async fn get(&self, repository: &str) -> Result<Option<Credentials>, ImageError> {
        for file in &self.files {
            let Some(document) = read(file)? else { continue };
            for key in keys(repository) {
                if let Some(program) = helper(&document, &key)
                    && let Some(found) = self
                        .helpers()
                        .ask(program, &key)
                        .await
                        .map_err(|why| invalid(file, why))?
                {
                    return Ok(Some(found));
                }
                let entry = document.get("auths").and_then(|auths| auths.get(&key));
                if let Some(found) = entry
                    .map(|entry| decode(entry).map_err(|why| invalid(file, why)))
                    .transpose()?
                    && found != Credentials::default()
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Keeps a login for a registry.
    pub async fn store(&self, registry: &str, login: &Credentials) -> Result<Kept, ImageError> {
        let (file, mut document) = self.writable()?;
        let key = server_key(registry);
        if let Some(program) = helper(&document, &key) {
            let program = program.to_owned();
            let identity = !login.token.is_empty();
            let answer = HelperAnswer {
                server_url: key.clone(),
                username: if identity { TOKEN_USER } else { &login.username }.to_owned(),
                secret: if identity { &login.token } else { &login.password }.clone(),
            };
            let text = json!(answer).to_string();
            self.helpers()
                .run(&program, "store", &text)
                .await
                .map_err(|why| invalid(&file, why))?;
            return Ok(Kept::Helper(program));
        }
        let mut entry = Map::new();
        entry.insert(
            "auth".into(),
            STANDARD.encode(format!("{}:{}", login.username, login.password)).into(),
        );
        if !login.token.is_empty() {
            entry.insert("auth".into(), STANDARD.encode(format!("{}:", login.username)).into());
            entry.insert("identitytoken".into(), login.token.clone().into());
        }
        let auths = object(&mut document, "auths").map_err(|why| invalid(&file, why))?;
        auths.insert(key, Value::Object(entry));
        write(&file, &document)?;
        Ok(Kept::File(file))
    }

    /// Forgets the login for a registry; whether there was one.
    pub async fn erase(&self, registry: &str) -> Result<bool, ImageError> {
        let mut found = false;
        for file in &self.files {
            let Some(mut document) = read(file)? else { continue };
            for key in keys(registry) {
                if let Some(program) = helper(&document, &key) {
                    let there = self
                        .helpers()
                        .ask(program, &key)
                        .await
                        .map_err(|why| invalid(file, why))?
                        .is_some();
                    if there {
                        self.helpers()
                            .run(program, "erase", &key)
                            .await
                            .map_err(|why| invalid(file, why))?;
                    }
                    found |= there;
                }
                let auths = document.get_mut("auths").and_then(Value::as_object_mut);
                if auths.and_then(|auths| auths.remove(&key)).is_some() {
                    write(file, &document)?;
                    found = true;
                }
            }
        }
        Ok(found)
    }

    fn helpers(&self) -> Helpers<'_> {
        Helpers {
            folder: self.programs.as_deref(),
            patience: HELPER_TIMEOUT,
        }
    }

    fn writable(&self) -> Result<(PathBuf, Value), ImageError> {
        let file = self.files.first().cloned().unwrap_or_default();
        let document = read(&file)?.unwrap_or_else(|| json!({}));
        Ok((file, document))
    }
}

/// What a registry may be called in such files, the narrowest first.
fn keys(repository: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = repository;
    loop {
        found.push(rest.to_owned());
        match rest.rsplit_once('/') {
            Some((above, _)) => rest = above,
            None => break,
        }
    }
    let registry = rest;
    if registry == "docker.io" {
        found.extend([DOCKER_HUB.to_owned(), "index.docker.io".to_owned()]);
    }
    for form in [
        "https://REGISTRY",
        "https://REGISTRY/v1/",
        "https://REGISTRY/v2/",
        "http://REGISTRY",
    ] {
        found.push(form.replace("REGISTRY", registry));
    }
    found
}

/// How a new login is written down.
fn server_key(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// The program that keeps the logins for a server; a server's own before the general one.
fn helper<'a>(document: &'a Value, key: &str) -> Option<&'a str> {
    let own = document.get("credHelpers").and_then(|helpers| helpers.get(key));
    // A server without its own is known to the general one under one name only.
    let general = document
        .get("credsStore")
        .filter(|_| !key.contains('/') || key == DOCKER_HUB);
    own.or(general).and_then(Value::as_str).filter(|name| !name.is_empty())
}

fn decode(entry: &Value) -> Result<Credentials, String> {
    let entry: Entry = serde_json::from_value(entry.clone()).map_err(|error| error.to_string())?;
    let mut login = Credentials {
        username: entry.username,
        password: entry.password,
        token: entry.identitytoken,
    };
    if !entry.registrytoken.is_empty() && login.token.is_empty() {
        login.token = entry.registrytoken;
    }
    if !entry.auth.is_empty() {
        let text = STANDARD
            .decode(entry.auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or("an auth is not base64 of a text")?;
        let (user, password) = text.split_once(':').ok_or("an auth has no colon")?;
        login.username = user.to_owned();
        login.password = password.trim_end_matches('\0').to_owned();
    }
    Ok(login)
}

impl Helpers<'_> {
    async fn ask(&self, program: &str, server: &str) -> Result<Option<Credentials>, String> {
        let Some(text) = self.run(program, "get", server).await? else {
            return Ok(None);
        };
        let answer: HelperAnswer = serde_json::from_slice(&text).map_err(|error| format!("{program}: {error}"))?;
        let identity = answer.username == TOKEN_USER;
        Ok(Some(match identity {
            true => Credentials {
                token: answer.secret,
                ..Credentials::default()
            },
            false => Credentials {
                username: answer.username,
                password: answer.secret,
                token: String::new(),
            },
        }))
    }

    /// Runs a helper; `None` if it says that it has nothing.
    async fn run(&self, program: &str, verb: &str, input: &str) -> Result<Option<Vec<u8>>, String> {
        // The name comes from a file and becomes part of a program's name, never a path.
        let safe = program
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !safe {
            return Err(format!("credential helper {program:?} is no program's name"));
        }
        let name = format!("docker-credential-{program}");
        let failed = |why: String| format!("error getting credentials - err: {name}: {why}");
        let mut child = tokio::process::Command::new(
            self.folder
                .map_or_else(|| PathBuf::from(&name), |folder| folder.join(&name)),
        )
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
        let talk = async {
            if let Some(mut pipe) = child.stdin.take() {
                // A helper that needs no input may have closed it.
                let _ = pipe.write_all(input.as_bytes()).await;
            }
            let mut answer = Vec::new();
            if let Some(pipe) = child.stdout.take() {
                pipe.take(MAX_ANSWER).read_to_end(&mut answer).await?;
            }
            Ok::<_, std::io::Error>((child.wait().await?, answer))
        };
        let (status, answer) = match tokio::time::timeout(self.patience, talk).await {
            Ok(done) => done.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("no answer in {:?}", self.patience))),
        };
        if status.success() {
            return Ok(Some(answer));
        }
        let text = String::from_utf8_lossy(&answer).trim().to_owned();
        match text.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(format!("{status}, out: `{text}`"))),
        }
    }
}

fn read(file: &Path) -> Result<Option<Value>, ImageError> {
    let Some(text) = read_bounded(file, MAX_FILE)? else {
        return Ok(None);
    };
    let document: Value = serde_json::from_slice(&text).map_err(|error| invalid(file, error.to_string()))?;
    match document.is_object() {
        true => Ok(Some(document)),
        false => Err(invalid(file, "not a JSON object".into())),
    }
}

fn write(file: &Path, document: &Value) -> Result<(), ImageError> {
    if let Some(folder) = file.parent() {
        make_folder(folder, 0o700)?;
    }
    let mut text = Vec::new();
    let style = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, style);
    document
        .serialize(&mut writer)
        .map_err(|error| invalid(file, error.to_string()))?;
    replace_file(file, &text)
}

fn object<'a>(document: &'a mut Value, key: &str) -> Result<&'a mut Map<String, Value>, String> {
    let map = document.as_object_mut().ok_or("not a JSON object")?;
    map.entry(key)
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| format!("{key} is no JSON object"))
}

fn invalid(file: &Path, why: String) -> ImageError {
    ImageError::Configuration {
        path: file.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn login(user: &str, password: &str) -> Credentials {
        Credentials {
            username: user.into(),
            password: password.into(),
            token: String::new(),
        }
    }

    #[tokio::test]
    async fn logins_are_found_by_every_name_a_registry_has() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("config.json");
        let auth = |text: &str| STANDARD.encode(text);
        let document = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": auth("hub:a:b")},
            "quay.example": {"auth": auth("q:1")},
            "quay.example/team": {"auth": auth("team:2")},
            "https://old.example": {"username": "u", "password": "p"},
            "token.example": {"auth": auth("t:"), "identitytoken": "identity"},
            "empty.example": {},
        }});
        std::fs::write(&file, document.to_string()).expect("file");
        let store = CredentialStore::new(vec![folder.path().join("absent"), file]);
        for (repository, expected) in [
            ("docker.io/library/nginx", Some(login("hub", "a:b"))),
            ("quay.example/other/app", Some(login("q", "1"))),
            ("quay.example/team/app", Some(login("team", "2"))),
            ("old.example/app", Some(login("u", "p"))),
            ("empty.example/app", None),
            ("unknown.example/app", None),
        ] {
            assert_eq!(store.get(repository).await.expect("read"), expected, "{repository}");
        }
        let token = store.get("token.example/app").await.expect("read").expect("login");
        assert_eq!((token.username.as_str(), token.token.as_str()), ("t", "identity"));
    }

    #[tokio::test]
    async fn a_login_is_kept_for_its_user_alone_and_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("made/config.json");
        let store = CredentialStore::new(vec![file.clone()]);
        let kept = store
            .store("r.example:5000", &login("ada", "secret"))
            .await
            .expect("kept");
        assert_eq!(kept, Kept::File(file.clone()));
        assert_eq!(
            std::fs::metadata(&file).expect("file").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            store.get("r.example:5000/app").await.expect("read"),
            Some(login("ada", "secret"))
        );
        assert!(store.erase("r.example:5000").await.expect("erased"));
        assert!(!store.erase("r.example:5000").await.expect("nothing"));
        assert_eq!(store.get("r.example:5000/app").await.expect("read"), None);
    }

    #[tokio::test]
    async fn helpers_that_are_no_programs_and_broken_files_are_errors() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("config.json");
        let store = CredentialStore::new(vec![file.clone()]);
        for (text, words) in [
            (r#"{"credsStore":"../../bin/sh"}"#, "no program's name"),
            (
                r#"{"credHelpers":{"r.example":"strata-absent"}}"#,
                "docker-credential-strata-absent",
            ),
            ("[]", "not a JSON object"),
            ("nothing", "expected"),
            (r#"{"auths":{"r.example":{"auth":"!"}}}"#, "base64"),
        ] {
            std::fs::write(&file, text).expect("file");
            let error = store.get("r.example/app").await.expect_err(text).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn a_helper_keeps_gives_and_forgets_logins() {
        let folder = tempfile::tempdir().expect("folder");
        let name = format!("strata-test-{}", std::process::id());
        let program = folder.path().join(format!("docker-credential-{name}"));
        let kept = folder.path().join("kept");
        let script = format!(
            "#!/bin/sh\ncase $1 in\nstore) cat > {0};;\nget) [ -e {0} ] && exec cat {0}; echo 'credentials not found in native keychain'; exit 1;;\nerase) rm {0};;\nesac\n",
            kept.display()
        );
        std::fs::write(&program, script).expect("file");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let file = folder.path().join("config.json");
        std::fs::write(&file, json!({"credHelpers": {"r.example": name}}).to_string()).expect("file");
        let mut store = CredentialStore::new(vec![file]);
        store.programs = Some(folder.path().to_owned());
        assert_eq!(store.get("r.example/app").await.expect("asked"), None);
        let kept_by = store.store("r.example", &login("ada", "secret")).await.expect("kept");
        assert_eq!(kept_by, Kept::Helper(name));
        assert_eq!(
            store.get("r.example/app").await.expect("asked"),
            Some(login("ada", "secret"))
        );
        assert!(store.erase("r.example").await.expect("erased"));
        assert_eq!(store.get("r.example/app").await.expect("asked"), None);
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_given_up() {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("docker-credential-hangs");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").expect("file");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let helpers = Helpers {
            folder: Some(folder.path()),
            patience: Duration::from_millis(200),
        };
        let error = helpers.run("hangs", "get", "r.example").await.expect_err("hangs");
        assert!(error.contains("no answer"), "{error}");
    }
}
