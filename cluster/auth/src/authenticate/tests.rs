use super::*;
use crate::{ClusterCa, ServiceAccountClaims};
use http::HeaderValue;
use std::sync::{Mutex, OnceLock};
use strata_http::certificates_from_pem;

/// What there is; tests change it.
#[derive(Default)]
struct World {
    pod: Mutex<Option<BoundState>>,
    account: Mutex<Option<BoundState>>,
    bootstrap: Mutex<Option<BootstrapToken>>,
    secret: Mutex<Option<KeptToken>>,
}

impl TokenLookup for World {
    fn find(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<BoundState> {
        match (kind, namespace, name) {
            (BoundKind::Pod, "n", "p") => self.pod.lock().expect("lock").clone(),
            (BoundKind::ServiceAccount, "n", "sa") => self.account.lock().expect("lock").clone(),
            _ => None,
        }
    }

    fn kept_token(&self, _: &str, _: &str, _: &str, _: &str) -> Option<KeptToken> {
        self.secret.lock().expect("lock").clone()
    }

    fn bootstrap_token(&self, id: &str) -> Option<BootstrapToken> {
        self.bootstrap
            .lock()
            .expect("lock")
            .clone()
            .filter(|token| token.id == id)
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    ca: ClusterCa,
    issuer: Arc<TokenIssuer>,
    world: Arc<World>,
    authenticator: Authenticator,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let ca = ClusterCa::open_or_create(directory.path()).expect("authority");
        let issuer = Arc::new(TokenIssuer::open_or_create(directory.path(), "https://us").expect("issuer"));
        let world = Arc::new(World::default());
        let present = |uid: &str| {
            Mutex::new(Some(BoundState {
                uid: Uid::from(uid),
                deletion: None,
            }))
        };
        let world = Arc::new(World {
            pod: present("pod-uid"),
            account: present("sa-uid"),
            ..Arc::into_inner(world).expect("one")
        });
        let authenticator = Authenticator::new(issuer.clone(), world.clone());
        Self {
            _directory: directory,
            ca,
            issuer,
            world,
            authenticator,
        }
    }

    fn token(&self, audiences: &[&str]) -> String {
        let claims = ServiceAccountClaims {
            namespace: "n".into(),
            name: "sa".into(),
            uid: Uid::from("sa-uid"),
            pod: Some(BoundRef {
                name: "p".into(),
                uid: Uid::from("pod-uid"),
            }),
            audiences: audiences.iter().map(|a| (*a).to_owned()).collect(),
            expiration_seconds: 600,
            ..ServiceAccountClaims::default()
        };
        self.issuer.issue(&claims, Time::now()).expect("issued").token
    }

    fn bearer(&self, token: &str) -> Result<Arc<UserInfo>, Unauthenticated> {
        let mut headers = HeaderMap::new();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_str(&format!("Bearer {token}")).expect("value"),
        );
        self.authenticator
            .authenticate(&headers, &peer(None), &mut Notes::default())
    }
}

fn peer(certificate_pem: Option<&str>) -> Peer {
    Peer {
        address: ([127, 0, 0, 1], 1).into(),
        certificates: certificate_pem.map(|pem| Arc::new(certificates_from_pem(pem.as_bytes()).expect("PEM"))),
        certificate_error: None,
        proxy: None,
        memo: Arc::new(OnceLock::new()),
    }
}

#[test]
fn certificates_name_their_holder_and_groups() {
    let fixture = Fixture::new();
    let leaf = fixture.ca.issue_client("jane", &["devs", "ops"]).expect("leaf");
    let peer = peer(Some(&leaf.cert_pem));
    let user = fixture
        .authenticator
        .authenticate(&HeaderMap::new(), &peer, &mut Notes::default())
        .expect("known");
    assert_eq!(
        (user.name.as_str(), user.groups.join(",")),
        ("jane", "ops,devs,system:authenticated".into()),
        "a set is ordered by its encoding (X.690 section 11.6)"
    );
    assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    let again = fixture
        .authenticator
        .authenticate(&HeaderMap::new(), &peer, &mut Notes::default())
        .expect("known");
    assert!(Arc::ptr_eq(&user, &again), "parsed once a connection");
    let nameless = fixture.ca.issue_client("", &["system:masters"]).expect("leaf");
    assert!(
        fixture
            .authenticator
            .authenticate(
                &HeaderMap::new(),
                &self::peer(Some(&nameless.cert_pem)),
                &mut Notes::default()
            )
            .is_err()
    );
}

#[test]
fn a_certificate_that_ended_during_the_connection_is_refused() {
    let fixture = Fixture::new();
    let ca = fixture.ca.with_leaf_lifetime(std::time::Duration::ZERO);
    let leaf = ca.issue_client("jane", &[]).expect("leaf");
    let peer = peer(Some(&leaf.cert_pem));
    let identity = identity_of(&certificates_from_pem(leaf.cert_pem.as_bytes()).expect("PEM")[0]).expect("identity");
    let past = CertificateIdentity {
        not_after: Time::now().as_second() - 1,
        ..identity
    };
    assert!(peer.memo.set(Box::new(past)).is_ok());
    assert!(
        fixture
            .authenticator
            .authenticate(&HeaderMap::new(), &peer, &mut Notes::default())
            .is_err()
    );
}

#[test]
fn what_is_presented_and_not_believed_is_not_anonymous() {
    let fixture = Fixture::new();
    let nobody = fixture
        .authenticator
        .authenticate(&HeaderMap::new(), &peer(None), &mut Notes::default())
        .expect("anonymous");
    assert!(nobody.is_anonymous());
    assert!(fixture.bearer("nonsense").is_err());
    let stranger = Peer {
        certificate_error: Some("unknown issuer".into()),
        ..peer(None)
    };
    assert!(
        fixture
            .authenticator
            .authenticate(&HeaderMap::new(), &stranger, &mut Notes::default())
            .is_err()
    );
}

#[test]
fn tokens_last_as_long_as_what_they_are_bound_to() {
    let fixture = Fixture::new();
    let token = fixture.token(&[]);
    let user = fixture.bearer(&token).expect("known");
    assert_eq!(user.name, "system:serviceaccount:n:sa");
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:n",
            "system:authenticated"
        ]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert!(user.extra[CREDENTIAL_ID][0].starts_with("JTI="));
    let state = |uid: &str, deleted: Option<i64>| {
        Some(BoundState {
            uid: Uid::from(uid),
            deletion: deleted.map(|ago| Time::now().plus_seconds(-ago)),
        })
    };
    for (pod, valid) in [
        (state("pod-uid", None), true),
        (state("pod-uid", Some(10)), true),
        (state("pod-uid", Some(90)), false),
        (state("next-life", None), false),
        (None, false),
    ] {
        *fixture.world.pod.lock().expect("lock") = pod.clone();
        assert_eq!(fixture.bearer(&token).is_ok(), valid, "{pod:?}");
    }
    *fixture.world.pod.lock().expect("lock") = state("pod-uid", None);
    *fixture.world.account.lock().expect("lock") = state("other", None);
    assert!(fixture.bearer(&token).is_err());
}

#[test]
fn tokens_for_others_are_not_for_us() {
    let fixture = Fixture::new();
    let token = fixture.token(&["vault", "bank"]);
    assert!(matches!(
        fixture.bearer(&token),
        Err(Unauthenticated::Token(TokenError::Audience { .. }))
    ));
    let wanted = ["bank".to_owned(), "casino".to_owned()];
    let (_, audiences) = fixture
        .authenticator
        .token(&token, &wanted, &mut Notes::default())
        .expect("for one of them");
    assert_eq!(audiences, ["bank"]);
}

#[test]
fn browsers_put_the_token_into_a_subprotocol() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let fixture = Fixture::new();
    let encoded = URL_SAFE_NO_PAD.encode(fixture.token(&[]));
    let value = format!("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}");
    let mut headers = HeaderMap::new();
    headers.insert("sec-websocket-protocol", HeaderValue::from_str(&value).expect("value"));
    let user = fixture
        .authenticator
        .authenticate(&headers, &peer(None), &mut Notes::default())
        .expect("known");
    assert_eq!(user.name, "system:serviceaccount:n:sa");
}

#[test]
fn joining_machines_present_bootstrap_tokens() {
    let fixture = Fixture::new();
    let token = BootstrapToken::generate(None);
    assert!(fixture.bearer(&token.reveal()).is_err(), "not known yet");
    *fixture.world.bootstrap.lock().expect("lock") = Some(token.clone());
    let user = fixture.bearer(&token.reveal()).expect("known");
    assert!(user.is_in(crate::GROUP_BOOTSTRAPPERS));
}

#[test]
fn a_token_of_a_secret_is_good_while_the_secret_holds_it_and_is_not_marked() {
    let fixture = Fixture::new();
    let token = fixture
        .issuer
        .issue_for_secret("n", "sa", "sa-uid", "s")
        .expect("issued");
    let kept = |change: fn(&mut KeptToken)| {
        let mut kept = KeptToken {
            uid: "s-uid".into(),
            holds: true,
            is_invalid: false,
            last_used: "2020-01-01".into(),
            is_generated: false,
        };
        change(&mut kept);
        *fixture.world.secret.lock().expect("lock") = Some(kept);
        let mut notes = Notes::default();
        let known = fixture
            .authenticator
            .token(&token, &["https://us".to_owned()], &mut notes);
        (known.map(|(user, _)| user.name).map_err(|e| e.to_string()), notes)
    };
    let (user, notes) = kept(|_| {});
    assert_eq!(user.as_deref(), Ok("system:serviceaccount:n:sa"));
    let manual = ("authentication.k8s.io/legacy-token-manual-secret", "s".to_owned());
    assert_eq!((notes.annotations, notes.warnings.len()), (vec![manual], 0));
    assert_eq!(notes.used.expect("not today yet").uid.as_str(), "s-uid");
    let (_, notes) = kept(|kept| {
        kept.is_generated = true;
        kept.last_used = Time::now().to_string()[..10].to_owned();
    });
    assert_eq!((notes.used, notes.warnings.len()), (None, 1));
    assert_eq!(
        notes.annotations[0].0,
        "authentication.k8s.io/legacy-token-autogenerated-secret"
    );
    let (user, notes) = kept(|kept| kept.is_invalid = true);
    assert!(user.expect_err("marked").contains("has been marked invalid"));
    let invalidated = ("authentication.k8s.io/legacy-token-invalidated", "s/n".to_owned());
    assert_eq!(notes.annotations, [invalidated]);
    let (user, _) = kept(|kept| kept.holds = false);
    assert_eq!(user, Err("Token does not match server's copy".to_owned()));
}
