use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use strata_store::MemoryStore;

fn config(providers: &[(&str, u8)], plain: bool) -> Encryption {
    let mut text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n".to_owned();
    for (name, byte) in providers {
        let secret = STANDARD.encode([*byte; 32]);
        text += &format!("  - aesgcm:\n      keys: [{{name: {name}, secret: {secret}}}]\n");
    }
    if plain {
        text += "  - identity: {}\n";
    }
    Encryption::parse(&text).unwrap()
}

fn secret() -> Bytes {
    Bytes::from_static(b"/registry/core/secrets/n/s")
}

#[tokio::test]
async fn values_are_read_as_written_and_stored_otherwise() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = EncryptedStore::new(inner.clone(), config(&[("one", 1)], true));
    let before = store.status().revision;
    let value = Bytes::from_static(b"hidden");
    store.put(secret(), value.clone(), Expect::Any, None).await.unwrap();
    let other = Bytes::from_static(b"/registry/core/configmaps/n/s");
    store
        .put(other.clone(), value.clone(), Expect::Any, None)
        .await
        .unwrap();
    let raw = |key: Bytes| {
        let inner = inner.clone();
        async move { inner.get(&key, None).await.unwrap().unwrap().value }
    };
    assert!(raw(secret()).await.starts_with(b"k8s:enc:aesgcm:v1:one:"));
    assert_eq!(raw(other).await, value);
    assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, value);
    let mut watch = store.watch(Bytes::new(), Bytes::new(), before).await.unwrap();
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.events[0].item.value, value);
}

#[tokio::test]
async fn a_value_in_the_place_of_another_is_refused() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = EncryptedStore::new(inner.clone(), config(&[("one", 1)], false));
    store
        .put(secret(), Bytes::from_static(b"x"), Expect::Any, None)
        .await
        .unwrap();
    let raw = inner.get(&secret(), None).await.unwrap().unwrap().value;
    let elsewhere = Bytes::from_static(b"/registry/core/secrets/n/other");
    inner.put(elsewhere.clone(), raw, Expect::Any, None).await.unwrap();
    assert!(matches!(
        store.get(&elsewhere, None).await,
        Err(Error::Unreadable { .. })
    ));
}

#[tokio::test]
async fn keys_rotate_and_encryption_ends_without_loss() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let value = Bytes::from_static(b"hidden");
    inner.put(secret(), value.clone(), Expect::Any, None).await.unwrap();
    let steps = [
        (config(&[("one", 1)], true), &b"k8s:enc:aesgcm:v1:one:"[..], 1),
        (config(&[("two", 2), ("one", 1)], false), b"k8s:enc:aesgcm:v1:two:", 1),
        (config(&[("two", 2)], false), b"k8s:enc:aesgcm:v1:two:", 0),
    ];
    for (config, prefix, rewritten) in steps {
        let store = EncryptedStore::new(inner.clone(), config);
        assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, value);
        assert_eq!(store.rewrite().await.unwrap(), rewritten);
        assert!(
            inner
                .get(&secret(), None)
                .await
                .unwrap()
                .unwrap()
                .value
                .starts_with(prefix)
        );
        assert_eq!(store.get(&secret(), None).await.unwrap().unwrap().value, value);
    }
}

#[test]
fn what_cannot_be_done_is_refused_at_the_start() {
    let text = |provider: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{provider}]\n"
        )
    };
    for provider in [
        "",
        "aesgcm: {keys: [{name: a, secret: YQ==}]}",
        "kms: {name: k}",
        "secretbox: {keys: []}",
    ] {
        assert!(Encryption::parse(&text(provider)).is_err(), "{provider}");
    }
    assert!(Encryption::parse(&text("identity: {}")).is_ok());
}
