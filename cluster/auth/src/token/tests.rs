use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn issuer() -> TokenIssuer {
    TokenIssuer::from_pem(&rcgen::KeyPair::generate().expect("key").serialize_pem(), ISSUER).expect("issuer")
}

fn wanted() -> ServiceAccountClaims {
    let bound = |name: &str| {
        Some(BoundRef {
            name: name.into(),
            uid: Uid::from("u"),
        })
    };
    ServiceAccountClaims {
        namespace: "n".into(),
        name: "sa".into(),
        uid: Uid::from("sa-uid"),
        pod: bound("p"),
        node: bound("node"),
        secret: None,
        audiences: vec![],
        expiration_seconds: 600,
    }
}

const NOW: i64 = 1_800_000_000;

fn at(offset: i64) -> Time {
    Time::from_second(NOW + offset)
}

#[test]
fn a_token_says_what_it_was_asked_to() {
    let issuer = issuer();
    let issued = issuer.issue(&wanted(), at(0)).expect("issued");
    assert_eq!((issued.expires, issued.audiences), (at(600), vec![ISSUER.to_owned()]));
    let claims = issuer.verify(&issued.token, at(0)).expect("valid");
    assert_eq!(claims.subject, "system:serviceaccount:n:sa");
    assert_eq!(claims.id, issued.id);
    assert_eq!(claims.kubernetes.pod, wanted().pod);
    assert_eq!(claims.kubernetes.warn_after, None);
    // The names in the payload are upstream's.
    let payload = issued.token.split('.').nth(1).expect("payload");
    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON");
    assert_eq!(
        payload["kubernetes.io"]["serviceaccount"],
        json!({"name": "sa", "uid": "sa-uid"})
    );
    assert_eq!(payload["kubernetes.io"]["namespace"], "n");
    assert_eq!(payload["aud"], json!([ISSUER]));
    assert_eq!(payload["exp"], NOW + 600);
}

#[test]
fn time_is_checked_with_some_leeway_also_for_tokens_seen_before() {
    let issuer = issuer();
    let token = issuer.issue(&wanted(), at(0)).expect("issued").token;
    let cases = [
        (-61, Err(TokenError::NotYetValid)),
        (-59, Ok(())),
        (0, Ok(())),
        (659, Ok(())),
        (661, Err(TokenError::Expired)),
    ];
    for (offset, expected) in cases {
        assert_eq!(issuer.verify(&token, at(offset)).map(drop), expected, "{offset}");
    }
}

#[test]
fn projected_tokens_live_longer_than_they_say() {
    let issuer = issuer();
    let issued = issuer
        .issue(
            &ServiceAccountClaims {
                expiration_seconds: 3607,
                ..wanted()
            },
            at(0),
        )
        .expect("issued");
    assert_eq!(issued.expires, at(3607));
    let claims = issuer.verify(&issued.token, at(0)).expect("valid");
    assert_eq!(
        (claims.expires, claims.kubernetes.warn_after),
        (NOW + 31_536_000, Some(NOW + 3607))
    );
    let strict = self::issuer().extending(false);
    let short = ServiceAccountClaims {
        expiration_seconds: 3607,
        ..wanted()
    };
    let issued = strict.issue(&short, at(0)).expect("issued");
    let claims = strict.verify(&issued.token, at(0)).expect("valid");
    assert_eq!((claims.expires, claims.kubernetes.warn_after), (NOW + 3607, None));
    let foreign = ServiceAccountClaims {
        expiration_seconds: 3607,
        audiences: vec!["vault".into()],
        ..wanted()
    };
    let issued = issuer.issue(&foreign, at(0)).expect("issued");
    assert_eq!(issuer.verify(&issued.token, at(0)).expect("valid").expires, NOW + 3607);
}

/// A token of a header and claims, signed with the issuer's own key.
fn forge(issuer: &TokenIssuer, header: &str, payload: &[u8]) -> String {
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = issuer.key.sign(&issuer.random, token.as_bytes()).expect("signed");
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    token
}

#[test]
fn everything_but_our_own_form_is_refused() {
    let issuer = issuer();
    let good = issuer.issue(&wanted(), at(0)).expect("issued").token;
    let parts: Vec<&str> = good.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
    let header = |text: &str| text.replace("KID", &issuer.key_id);
    assert!(
        issuer
            .verify(
                &forge(&issuer, &header(r#"{"alg":"ES256","kid":"KID"}"#), &payload),
                at(0)
            )
            .is_ok()
    );
    let mut swapped = good.clone();
    swapped.replace_range(good.len() - 2.., if good.ends_with("AA") { "BB" } else { "AA" });
    let other = self::issuer().issue(&wanted(), at(0)).expect("issued").token;
    let mut claims: Value = serde_json::from_slice(&payload).expect("JSON");
    claims["sub"] = json!("system:serviceaccount:kube-system:admin");
    let mut issuer_claims: Value = serde_json::from_slice(&payload).expect("JSON");
    issuer_claims["iss"] = json!("https://elsewhere");
    let es256 = header(r#"{"alg":"ES256","kid":"KID"}"#);
    let bad = [
        String::new(),
        "a.b.c".into(),
        "..".into(),
        format!("{good}.x"),
        format!("{good}="),
        format!("{}.{}.", parts[0], parts[1]),
        format!(
            "{}.{}.{}",
            parts[0],
            URL_SAFE_NO_PAD.encode(claims.to_string()),
            parts[2]
        ),
        swapped,
        other,
        forge(&issuer, &header(r#"{"alg":"none","kid":"KID"}"#), &payload),
        forge(&issuer, &header(r#"{"alg":"HS256","kid":"KID"}"#), &payload),
        forge(&issuer, r#"{"alg":"ES256"}"#, &payload),
        forge(&issuer, r#"{"alg":"ES256","kid":"x"}"#, &payload),
        forge(
            &issuer,
            &header(r#"{"alg":"ES256","kid":"KID","crit":["b64"]}"#),
            &payload,
        ),
        forge(&issuer, &es256, claims.to_string().as_bytes()),
        forge(&issuer, &es256, issuer_claims.to_string().as_bytes()),
        forge(&issuer, &es256, b"{}"),
        "x".repeat(MAX_TOKEN_BYTES + 1),
    ];
    for token in bad {
        let error = issuer.verify(&token, at(0)).expect_err(&token);
        assert!(
            !error.to_string().contains("eyJ"),
            "an error tells nothing of the token: {error}"
        );
    }
}

#[test]
fn the_public_key_verifies_what_was_signed() {
    let issuer = issuer();
    let token = issuer.issue(&wanted(), at(0)).expect("issued").token;
    let keys = issuer.key_set();
    let key = &keys["keys"][0];
    let coordinate = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(key[name].as_str().expect("text"))
            .expect("base64")
    };
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (signed, signature) = token.rsplit_once('.').expect("parts");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).expect("base64"))
        .expect("verifies");
    assert_eq!(key["kid"], issuer.key_id);
}

#[test]
fn the_key_is_kept_and_kept_secret() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("directory");
    let token = TokenIssuer::open_or_create(directory.path(), ISSUER)
        .expect("made")
        .issue(&wanted(), at(0));
    let again = TokenIssuer::open_or_create(directory.path(), ISSUER).expect("read");
    let token = token.expect("issued");
    again.verify(&token.token, at(0)).expect("the same key");
    assert!(!format!("{again:?} {token:?}").contains(&token.token));
    let path = directory.path().join("sa.key");
    assert_eq!(
        std::fs::metadata(&path).expect("there").permissions().mode() & 0o777,
        0o600
    );
    std::fs::write(&path, "nonsense").expect("written");
    let error = TokenIssuer::open_or_create(directory.path(), ISSUER)
        .expect_err("damaged")
        .to_string();
    assert!(error.contains("sa.key"), "{error}");
}

mod hostile {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static ISSUED: LazyLock<(TokenIssuer, String)> = LazyLock::new(|| {
        let issuer = issuer();
        let token = issuer.issue(&wanted(), at(0)).expect("issued").token;
        (issuer, token)
    });

    fn verified(token: &str) -> bool {
        ISSUED.0.verify(token, at(0)).is_ok()
    }

    proptest! {
        #[test]
        fn a_token_with_any_other_byte_is_refused(place in 0usize..4096, byte in 0x20u8..0x7f) {
            let good = &ISSUED.1;
            let place = place % good.len();
            let mut bytes = good.clone().into_bytes();
            bytes[place] = byte;
            let changed = String::from_utf8(bytes).expect("ASCII");
            prop_assert_eq!(verified(&changed), changed == *good);
        }

        #[test]
        fn a_token_cut_or_lengthened_anywhere_is_refused(place in 0usize..4096, more in "[A-Za-z0-9_.=-]{1,8}") {
            let good = &ISSUED.1;
            prop_assert!(!verified(&good[..place % good.len()]));
            let mut longer = good.clone();
            longer.insert_str(place % (good.len() + 1), &more);
            prop_assert!(!verified(&longer));
        }

        #[test]
        fn a_header_that_names_another_algorithm_or_key_is_refused(alg in "(none|None|HS256|RS256|ES384|EdDSA|)", kid in "[a-z]{0,4}") {
            let payload = ISSUED.1.split('.').nth(1).expect("payload");
            let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64");
            let own = format!(r#"{{"alg":"{alg}","kid":"{}"}}"#, ISSUED.0.key_id);
            let others = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
            prop_assert!(!verified(&forge(&ISSUED.0, &own, &payload)));
            prop_assert!(!verified(&forge(&ISSUED.0, &others, &payload)));
        }

        #[test]
        fn anything_at_all_is_refused_without_a_panic(token in "\\PC{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,40}", 0..6)) {
            prop_assert!(!verified(&token));
            prop_assert!(!verified(&parts.join(".")));
        }

        #[test]
        fn signed_nonsense_is_refused_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), text in r#"\{("[a-z.]{1,13}":("[a-z:]{0,9}"|[0-9]{1,20}|null|\[\]|\{\}),?){0,4}\}"#) {
            let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, ISSUED.0.key_id);
            prop_assert!(!verified(&forge(&ISSUED.0, &header, &payload)));
            prop_assert!(!verified(&forge(&ISSUED.0, &header, text.as_bytes())));
        }
    }
}
