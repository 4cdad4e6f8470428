//! Answers, good and bad.

use super::review::{denial, read};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use strata_meta::Uid;

#[test]
fn answers_are_checked_as_upstream_checks_them() {
    let uid = Uid::random();
    let patch = STANDARD.encode("[]");
    let review = |response: serde_json::Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    for (mutating, answer, expected) in [
        (true, review(json!({"uid": uid, "allowed": true})), Ok(())),
        (
            true,
            review(json!({"uid": uid, "allowed": true, "patch": patch, "patchType": "JSONPatch"})),
            Ok(()),
        ),
        (
            true,
            review(json!({"uid": uid, "allowed": true, "patch": patch})),
            Err("webhook returned response.patch but not response.patchType"),
        ),
        (
            false,
            review(json!({"uid": uid, "allowed": true, "patch": patch, "patchType": "JSONPatch"})),
            Err("validating webhook may not return response.patch"),
        ),
        (true, review(json!({"uid": "x"})), Err("expected response.uid=")),
        (true, json!({"response": {"uid": uid}}), Err("got /, Kind=")),
        (true, json!({}), Err("webhook response was absent")),
    ] {
        let got = read(answer.to_string().as_bytes(), "v1", &uid, mutating);
        match (got, expected) {
            (Ok(_), Ok(())) => {}
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (got, _) => panic!("{answer}: {got:?}"),
        }
    }
    assert!(read(b"nonsense", "v1", &uid, false).is_err());
}

#[test]
fn denials_are_worded_as_upstream_words_them() {
    for (result, message, code) in [
        (
            None,
            "admission webhook \"a.b.c\" denied the request without explanation",
            400,
        ),
        (
            Some(json!({"message": "no", "code": 418, "reason": "Teapot"})),
            "admission webhook \"a.b.c\" denied the request: no",
            418,
        ),
        (
            Some(json!({"reason": "Invalid", "code": 200, "status": "Success"})),
            "admission webhook \"a.b.c\" denied the request: Invalid",
            400,
        ),
    ] {
        let status = denial("a.b.c", result);
        assert_eq!((status.message.as_str(), status.code), (message, code));
    }
}
