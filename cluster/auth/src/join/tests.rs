use super::*;

#[test]
fn a_token_survives_its_secret_and_is_compared_whole() {
    let now = Time::now();
    let mut token = BootstrapToken::generate(Some(now.plus_seconds(60)));
    token.groups = vec!["system:bootstrappers:strata:nodes".into(), "system:masters".into()];
    token.description = "a node".into();
    let secret = token.to_secret();
    let read = BootstrapToken::from_secret(&secret).expect("read");
    assert_eq!(read.reveal(), token.reveal());
    read.verify(&token.reveal(), now).expect("valid");
    assert_eq!(
        read.verify(&token.reveal(), now.plus_seconds(61)),
        Err(TokenError::Expired)
    );
    let other = BootstrapToken::generate(None).reveal();
    let forged = format!("{}.{}", token.id, &other[7..]);
    for wrong in [
        other.as_str(),
        &forged,
        "",
        "abcdef.0123",
        &token.reveal().to_uppercase(),
    ] {
        assert!(read.verify(wrong, now).is_err(), "{wrong}");
    }
    let user = read.user();
    assert_eq!(user.name, format!("system:bootstrap:{}", token.id));
    assert_eq!(
        user.groups,
        [
            "system:bootstrappers",
            "system:bootstrappers:strata:nodes",
            "system:authenticated"
        ],
        "a token cannot put its holder into any other group"
    );
    assert!(!format!("{token:?}").contains(&token.reveal()[7..]));
}

#[test]
fn secrets_that_are_not_for_authentication_give_no_token() {
    let token = BootstrapToken::generate(None);
    let good = token.to_secret();
    assert!(BootstrapToken::from_secret(&good).is_some());
    let change = |path: &str, value: Value| {
        let mut secret = good.clone();
        *secret.pointer_mut(path).expect("path") = value;
        secret
    };
    let encoded = |text: &str| json!(STANDARD.encode(text));
    let mut unreadable_end = good.clone();
    unreadable_end["data"]["expiration"] = encoded("tomorrow");
    for bad in [
        json!({}),
        change("/type", json!("Opaque")),
        change("/metadata/name", json!("bootstrap-token-zzzzzz")),
        change("/data/usage-bootstrap-authentication", encoded("false")),
        change("/data/token-secret", encoded("short")),
        change("/data/token-id", json!("%%%")),
        unreadable_end,
    ] {
        assert!(BootstrapToken::from_secret(&bad).is_none(), "{bad}");
    }
}

#[test]
fn tokens_are_random_and_of_the_form_everybody_expects() {
    let tokens: std::collections::HashSet<_> = (0..100).map(|_| BootstrapToken::generate(None).reveal()).collect();
    assert_eq!(tokens.len(), 100);
    assert!(
        tokens
            .iter()
            .all(|token| BootstrapToken::parse(token).is_some() && token.len() == 23)
    );
}
