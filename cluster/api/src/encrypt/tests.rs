use super::{
    object::{DataKey, Source, SourceType},
    plugin::Plugin,
    *,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use std::time::Instant;
use strata_store::MemoryStore;

const QUICK: Times = Times {
    poll: Duration::from_secs(3600),
    retry: Duration::from_secs(3600),
    well: Duration::ZERO,
    ill: Duration::ZERO,
    write: Duration::from_millis(100),
};

fn text(resources: &str, providers: &[String]) -> String {
    let listed: String = providers.iter().map(|p| format!("  - {p}\n")).collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{resources}]\n  providers:\n{listed}"
    )
}

fn key(algorithm: &str, name: &str, byte: u8) -> String {
    let secret = STANDARD.encode([byte; 32]);
    format!("{algorithm}: {{keys: [{{name: {name}, secret: {secret}}}]}}")
}

fn service(plugin: &Plugin) -> String {
    format!(
        "kms: {{apiVersion: v2, name: vault, endpoint: 'unix://{}', timeout: 1s}}",
        plugin.socket.display()
    )
}

async fn config(providers: &[String]) -> Encryption {
    Encryption::open(&text("secrets", providers), QUICK).await.unwrap()
}

fn secret() -> Bytes {
    Bytes::from_static(b"/registry/core/secrets/n/s")
}

fn hidden() -> Bytes {
    Bytes::from_static(b"hidden")
}

async fn raw(inner: &Arc<dyn Store>, key: &[u8]) -> Bytes {
    inner.get(key, None).await.unwrap().unwrap().value
}

#[tokio::test]
async fn values_are_read_as_written_and_stored_otherwise() {
    for algorithm in ["aesgcm", "aescbc", "secretbox"] {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = EncryptedStore::new(inner.clone(), config(&[key(algorithm, "one", 1)]).await);
        let before = store.status().revision;
        store.put(secret(), hidden(), Expect::Any, None).await.unwrap();
        let other = Bytes::from_static(b"/registry/core/configmaps/n/s");
        store.put(other.clone(), hidden(), Expect::Any, None).await.unwrap();
        let prefix = format!("k8s:enc:{algorithm}:v1:one:");
        assert!(raw(&inner, &secret()).await.starts_with(prefix.as_bytes()));
        assert_eq!(raw(&inner, &other).await, hidden());
        assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
        let mut watch = store.watch(Bytes::new(), Bytes::new(), before).await.unwrap();
        let batch = watch.next().await.unwrap().unwrap();
        assert_eq!(batch.events[0].item.value, hidden());
    }
}

#[tokio::test]
async fn a_value_in_the_place_of_another_is_refused() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = EncryptedStore::new(inner.clone(), config(&[key("aesgcm", "one", 1)]).await);
    store.put(secret(), hidden(), Expect::Any, None).await.unwrap();
    let elsewhere = Bytes::from_static(b"/registry/core/secrets/n/other");
    let moved = raw(&inner, &secret()).await;
    inner.put(elsewhere.clone(), moved, Expect::Any, None).await.unwrap();
    assert!(matches!(
        store.get(&elsewhere, None).await,
        Err(Error::Unreadable { .. })
    ));
}

#[tokio::test]
async fn keys_rotate_and_encryption_ends_without_loss() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    inner.put(secret(), hidden(), Expect::Any, None).await.unwrap();
    let identity = "identity: {}".to_owned();
    let steps = [
        (
            vec![key("aesgcm", "one", 1), identity.clone()],
            "k8s:enc:aesgcm:v1:one:",
            1,
        ),
        (
            vec![key("aescbc", "two", 2), key("aesgcm", "one", 1)],
            "k8s:enc:aescbc:v1:two:",
            1,
        ),
        (
            vec![key("secretbox", "three", 3), key("aescbc", "two", 2)],
            "k8s:enc:secretbox:v1:three:",
            1,
        ),
        (vec![key("secretbox", "three", 3)], "k8s:enc:secretbox:v1:three:", 0),
        (vec![identity, key("secretbox", "three", 3)], "hidden", 1),
    ];
    for (providers, prefix, rewritten) in steps {
        let store = EncryptedStore::new(inner.clone(), config(&providers).await);
        assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
        assert_eq!(store.is_stale(&secret()).await.unwrap(), rewritten > 0);
        assert_eq!(store.rewrite().await.unwrap(), rewritten);
        assert!(!store.is_stale(&secret()).await.unwrap());
        assert!(raw(&inner, &secret()).await.starts_with(prefix.as_bytes()), "{prefix}");
        assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
    }
    let store = EncryptedStore::new(inner.clone(), config(&[key("aesgcm", "one", 1)]).await);
    let error = store.get(&secret(), None).await.unwrap_err().to_string();
    assert!(error.contains("no matching prefix found"), "{error}");
}

#[tokio::test]
async fn the_closest_rule_counts() {
    let one = key("aesgcm", "one", 1);
    let text = format!(
        "{}- resources: ['*.']\n  providers: [{}]\n- resources: ['*.apps']\n  providers: ['identity': {{}}]\n- resources: ['*.*']\n  providers: [{}]\n",
        text("secrets", &[one]),
        format_args!("{{{}}}", key("aesgcm", "core", 2)),
        format_args!("{{{}}}", key("secretbox", "rest", 3)),
    );
    let encryption = Encryption::open(&text.replace("['identity': {}]", "[{identity: {}}]"), QUICK)
        .await
        .unwrap();
    for (key, prefix) in [
        ("/registry/core/secrets/n/s", "k8s:enc:aesgcm:v1:one:"),
        ("/registry/core/pods/n/s", "k8s:enc:aesgcm:v1:core:"),
        ("/registry/apps/deployments/n/s", "hidden"),
        ("/registry/x.example/things/s", "k8s:enc:secretbox:v1:rest:"),
    ] {
        let sealed = encryption.seal(key.as_bytes(), hidden()).unwrap();
        assert!(sealed.starts_with(prefix.as_bytes()), "{key}");
        assert_eq!(encryption.open_value(key.as_bytes(), sealed).await.unwrap(), hidden());
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_at_the_start() {
    let kms = |rest: &str| format!("kms: {{apiVersion: v2, name: k, endpoint: 'unix:///s'{rest}}}");
    let identity = "identity: {}".to_owned();
    let bad: Vec<(String, String)> = [
        "aesgcm: {keys: [{name: a, secret: YQ==}]}",
        "aesgcm: {keys: [{secret: YQ==}]}",
        "aesgcm: {keys: []}",
        "secretbox: {keys: [{name: a, secret: MTIzNDU2Nzg5MDEyMzQ1Ng==}]}",
        "nonsense: {}",
        "kms: {name: k, endpoint: 'unix:///s'}",
        "kms: {apiVersion: v1, name: k, endpoint: 'unix:///s'}",
        "kms: {apiVersion: v3, name: k, endpoint: 'unix:///s'}",
        "kms: {apiVersion: v2, name: k, endpoint: 'tcp:///s'}",
        "kms: {apiVersion: v2, name: 'k:k', endpoint: 'unix:///s'}",
        &kms(", cachesize: 3"),
        &kms(", timeout: 0s"),
        &kms(", timeout: soon"),
        "{}",
    ]
    .iter()
    .map(|provider| ("secrets".to_owned(), (*provider).to_owned()))
    .chain(
        [
            "'*'",
            "Secrets",
            "'pods.*'",
            "secrets, '*.'",
            "secrets, secrets",
            "events.events.k8s.io",
            "x.extensions",
            "",
        ]
        .map(|resources| (resources.to_owned(), identity.clone())),
    )
    .collect();
    for (resources, provider) in bad {
        let refused = Encryption::open(&text(&resources, std::slice::from_ref(&provider)), QUICK).await;
        assert!(refused.is_err(), "{resources}: {provider}");
    }
    let masked =
        text("'*.*'", std::slice::from_ref(&identity)) + "- resources: [secrets]\n  providers: [{identity: {}}]\n";
    let why = Encryption::open(&masked, QUICK).await.err().unwrap();
    assert_eq!(why, r#"resource "secrets" is masked by earlier rule "*.*""#);
    assert!(Encryption::open(&text("secrets", &[identity]), QUICK).await.is_ok());
}

#[tokio::test]
async fn a_service_keeps_the_key_of_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let mut plugin = Plugin::start(folder.path());
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let providers = [service(&plugin), "identity: {}".to_owned()];
    let store = EncryptedStore::new(inner.clone(), config(&providers).await);
    store.put(secret(), hidden(), Expect::Any, None).await.unwrap();
    assert!(raw(&inner, &secret()).await.starts_with(b"k8s:enc:kms:v2:vault:"));
    assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
    assert_eq!((plugin.calls("Encrypt"), plugin.calls("Decrypt")), (1, 0));

    // Another server asks the service once for the seed.
    let other = EncryptedStore::new(inner.clone(), config(&providers).await);
    for _ in 0..3 {
        assert_eq!(other.get(&secret(), None).await.unwrap().unwrap().value, hidden());
    }
    assert_eq!(plugin.calls("Decrypt"), 1);

    // Without the service what is known is read, and written for as long as the seed may be used.
    plugin.kill().await;
    assert!(store.encryption().check().await.unwrap().is_err());
    assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
    let deadline = Instant::now() + Duration::from_secs(10);
    let why = loop {
        assert!(Instant::now() < deadline, "writes go on for ever");
        match store.put(secret(), hidden(), Expect::Any, None).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(why) => break why.to_string(),
        }
    };
    assert!(why.starts_with("encryptedDEKSource with keyID hash \"sha256:"), "{why}");
    assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
    let fresh = EncryptedStore::new(inner.clone(), config(&providers).await);
    let why = fresh.get(&secret(), None).await.unwrap_err().to_string();
    assert!(
        why.contains("failed to decrypt DEK, error: rpc error: code = DeadlineExceeded"),
        "{why}"
    );

    // It comes back, with another key: values written with the old one are stale, and stay readable.
    plugin.listen();
    plugin.state.lock().unwrap().key_id = "2".into();
    assert_eq!(store.encryption().check().await, Some(Ok(())));
    assert!(store.is_stale(&secret()).await.unwrap());
    assert_eq!(store.rewrite().await.unwrap(), 1);
    assert!(!store.is_stale(&secret()).await.unwrap());
    assert_eq!(fresh.get(&secret(), None).await.unwrap().unwrap().value, hidden());
}

#[tokio::test]
async fn a_service_that_is_not_well_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(folder.path());
    let encryption = config(&[service(&plugin)]).await;
    let says = async |change: fn(&mut plugin::State)| {
        let before = plugin.state.lock().unwrap().clone();
        change(&mut plugin.state.lock().unwrap());
        let said = encryption.check().await.unwrap();
        *plugin.state.lock().unwrap() = before;
        said
    };
    assert_eq!(says(|_| {}).await, Ok(()));
    type Change = fn(&mut plugin::State);
    let changes: [(Change, &str); 5] = [
        (|s| s.healthz = "dizzy".into(), "unexpected healthz status: dizzy"),
        (|s| s.version = "v2beta1".into(), "should not change after the initial"),
        (|s| s.version = "v7".into(), "expected KMSv2 API version v2, got v7"),
        (|s| s.key_id = String::new(), "keyID is empty"),
        (|s| s.key_id = "x".repeat(1025), "keyID is 1025 bytes"),
    ];
    for (change, sentence) in changes {
        let why = says(change).await.unwrap_err();
        assert!(why.contains(sentence), "{why}");
    }
    let mut page = strata_metrics::Page::default();
    encryption.show(&mut page);
    let metrics = page.finish();
    assert!(metrics.contains("invalid_key_id_from_status_total{error=\"empty\",provider_name=\"vault\"} 1"));
}

#[tokio::test]
async fn a_changed_file_is_put_in_force_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encryption.yaml");
    std::fs::write(&path, text("secrets", &[key("aesgcm", "one", 1)])).unwrap();
    let options = EncryptionOptions {
        reload: true,
        ..EncryptionOptions::new(&path)
    };
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let reload = Reload::open(options, QUICK, inner.clone()).await.unwrap();
    let store = reload.store().clone();
    store.put(secret(), hidden(), Expect::Any, None).await.unwrap();
    assert_eq!(reload.look().await, Ok(false));
    std::fs::write(&path, "nonsense").unwrap();
    assert!(reload.look().await.is_err());
    assert!(!store.is_stale(&secret()).await.unwrap());
    std::fs::write(
        &path,
        text("secrets", &[key("aescbc", "two", 2), key("aesgcm", "one", 1)]),
    )
    .unwrap();
    assert_eq!(reload.look().await, Ok(true));
    assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, hidden());
    assert!(store.is_stale(&secret()).await.unwrap());
    assert_eq!(reload.check().await, Some(Ok(())));
}

#[tokio::test]
async fn what_the_last_configuration_wrote_still_reaches_watchers() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = EncryptedStore::new(inner.clone(), config(&[key("aesgcm", "one", 1)]).await);
    let before = store.status().revision;
    store.put(secret(), hidden(), Expect::Any, None).await.unwrap();
    store.replace(config(&[key("aesgcm", "two", 2)]).await);
    let mut watch = store.watch(Bytes::new(), Bytes::new(), before).await.unwrap();
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.events[0].item.value, hidden());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_encrypted_object_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Source::decode(&bytes);
        let seed = DataKey::new(SourceType::Seed, &[7; 32]).unwrap();
        prop_assert!(seed.open(b"k", &bytes).is_err());
    }

    #[test]
    fn any_text_is_a_configuration_or_an_error(text in "\\PC{0,200}") {
        let _ = config::Settings::parse(&text);
    }
}

#[derive(serde::Deserialize)]
struct Sealed {
    algorithm: String,
    secret: String,
    key: String,
    plain: String,
    data: String,
}

#[test]
fn what_upstream_wrote_is_read() {
    let text = include_str!("../../../../tests/golden/golden/encrypt.json");
    let values: Vec<Sealed> = serde_json::from_str(text).unwrap();
    assert_eq!(values.len(), 8);
    for value in values {
        let (secret, data) = (
            STANDARD.decode(&value.secret).unwrap(),
            STANDARD.decode(&value.data).unwrap(),
        );
        let algorithm = match value.algorithm.as_str() {
            "aesgcm" => Some(cipher::Algorithm::AesGcm),
            "aescbc" => Some(cipher::Algorithm::AesCbc),
            "secretbox" => Some(cipher::Algorithm::Secretbox),
            _ => None,
        };
        let opened = match algorithm {
            Some(algorithm) => {
                let cipher = cipher::Cipher::new(algorithm, "k", &secret).unwrap();
                cipher.open(value.key.as_bytes(), &[cipher.prefix(), &data].concat())
            }
            None => {
                let (source, data) = Source::decode(&data).unwrap();
                assert_eq!((source.key_id.as_str(), &source.encrypted[..]), ("key", &b"source"[..]));
                assert_eq!(source.annotations["a.example"], b"note");
                let key = DataKey::new(source.kind, &secret).unwrap();
                key.open(value.key.as_bytes(), data)
            }
        };
        assert_eq!(opened.unwrap(), value.plain, "{}", value.algorithm);
    }
}
