//! Registries behind TLS and behind proxies.

mod support;

use strata_image::{ImageOptions, ImageStore, ProxyOptions};
use support::gate::{Gate, Manner};
use support::{Keys, Registry, Tar, packed};

const NAME: &str = "registry.invalid/app:1";

/// A store whose settings for registry.invalid are these.
fn store(folder: &tempfile::TempDir, hosts: &str, proxy: ProxyOptions) -> ImageStore {
    let settings = folder.path().join("hosts/registry.invalid");
    std::fs::create_dir_all(&settings).expect("folder");
    std::fs::write(settings.join("hosts.toml"), hosts).expect("file");
    let mut options = ImageOptions::new(folder.path().join("images"));
    options.hosts_dir = Some(folder.path().join("hosts"));
    options.proxy = proxy;
    ImageStore::open(options).expect("store")
}

async fn pulled(hosts: &str, proxy: ProxyOptions) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("folder");
    let image = store(&folder, hosts, proxy).pull(NAME, None, None).await;
    image.map(drop).map_err(|error| error.to_string())
}

fn registry() -> Registry {
    let registry = Registry::start();
    registry.push("app", "1", &[packed(Tar::default().file("a", b"a").finish())], "{}");
    registry
}

#[tokio::test]
async fn a_certificate_is_believed_only_by_its_authority() {
    let (registry, keys) = (registry(), Keys::make());
    let open = registry.over_tls(&keys, false);
    let host = |more: &str| format!("server = \"https://{}\"\n{more}", open.address);
    let authority = format!("ca = {:?}\n", keys.path("ca.pem"));
    assert_eq!(pulled(&host(&authority), ProxyOptions::default()).await, Ok(()));
    assert_eq!(
        pulled(&host("skip_verify = true"), ProxyOptions::default()).await,
        Ok(())
    );
    let refused = pulled(&host(""), ProxyOptions::default())
        .await
        .expect_err("unknown authority");
    assert!(refused.contains("certificate"), "{refused}");

    let closed = registry.over_tls(&keys, true);
    let host = |more: &str| format!("server = \"https://{}\"\n{authority}{more}", closed.address);
    let client = format!("client = [{:?}, {:?}]\n", keys.path("leaf.pem"), keys.path("leaf.key"));
    assert_eq!(pulled(&host(&client), ProxyOptions::default()).await, Ok(()));
    assert!(pulled(&host(""), ProxyOptions::default()).await.is_err());
}

#[tokio::test]
async fn proxies_are_asked_unless_told_otherwise() {
    let (registry, keys) = (registry(), Keys::make());
    let secure = registry.over_tls(&keys, false);
    let gate = Gate::start(
        &registry.address,
        Manner::Proxy {
            secure: secure.address.clone(),
        },
    );
    let proxy = format!("http://{}", gate.address);
    let http = ProxyOptions {
        http: proxy.clone(),
        ..ProxyOptions::default()
    };
    let https = ProxyOptions {
        https: proxy,
        ..ProxyOptions::default()
    };
    let plain = "server = \"http://registry.invalid\"\n";
    assert_eq!(pulled(plain, http.clone()).await, Ok(()));
    let seen = std::mem::take(&mut *gate.seen.lock().expect("no panic"));
    assert!(
        seen.iter()
            .all(|line| line.contains(" http://registry.invalid/v2/app/")),
        "{seen:?}"
    );

    let tls = format!(
        "server = \"https://registry.invalid\"\nca = {:?}\n",
        keys.path("ca.pem")
    );
    assert_eq!(pulled(&tls, https.clone()).await, Ok(()));
    let seen = std::mem::take(&mut *gate.seen.lock().expect("no panic"));
    assert!(
        seen.iter()
            .all(|line| line.starts_with("CONNECT registry.invalid:443 ")),
        "{seen:?}"
    );

    let mut not = https;
    not.no_proxy = "other.invalid,.invalid".into();
    pulled(&tls, not).await.expect_err("the name leads nowhere");
    assert_eq!(gate.seen.lock().expect("no panic").len(), 0);
}
