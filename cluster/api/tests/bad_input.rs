//! Requests that are wrong get upstream's status, reason and sentence, and change nothing.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use strata_auth::UserInfo;
use support::TestServer;

struct Case {
    method: Method,
    path: &'static str,
    media: &'static str,
    body: String,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

fn case(
    method: Method,
    path: &'static str,
    body: impl ToString,
    code: u16,
    reason: &'static str,
    message: &'static str,
) -> Case {
    let media = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    Case {
        method,
        path,
        media,
        body: body.to_string(),
        code,
        reason,
        message,
    }
}

async fn send(server: &TestServer, case: &Case) -> (u16, Value) {
    let request = Request::builder()
        .method(case.method.clone())
        .uri(case.path)
        .header("content-type", case.media);
    let request = request.body(Bytes::from(case.body.clone())).unwrap();
    let response = server
        .transport(UserInfo::new("admin", &["system:masters"]))
        .send(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    (
        parts.status.as_u16(),
        serde_json::from_slice(&body).unwrap_or(Value::Null),
    )
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/c";

#[tokio::test]
async fn every_mistake_has_upstreams_answer() {
    let server = TestServer::start().await;
    let made = case(
        Method::POST,
        MAPS,
        json!({"metadata": {"name": "c"}, "data": {"a": "1"}}),
        201,
        "",
        "",
    );
    let (_, before) = send(&server, &made).await;
    let with_strict = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
    let (post, put, patch, get, delete) = (Method::POST, Method::PUT, Method::PATCH, Method::GET, Method::DELETE);
    let cases = [
        case(
            post.clone(),
            MAPS,
            json!({"metadata": {"name": "c"}}),
            409,
            "AlreadyExists",
            "configmaps \"c\" already exists",
        ),
        case(
            post.clone(),
            MAPS,
            json!({"metadata": {}}),
            422,
            "Invalid",
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        case(
            post.clone(),
            MAPS,
            json!({"metadata": {"name": "d", "namespace": "other"}}),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        case(
            post.clone(),
            MAPS,
            json!({"kind": "Secret", "apiVersion": "v1"}),
            400,
            "BadRequest",
            "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion",
        ),
        case(
            post.clone(),
            MAPS,
            "{\"metadata\":",
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({\"metadata\":)",
        ),
        case(
            post.clone(),
            with_strict,
            json!({"metadata": {"name": "d"}, "dat": {}}),
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\"",
        ),
        case(
            post.clone(),
            MAPS,
            json!({"metadata": {"name": "d"}, "data": {"a": 1}}),
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        case(
            post.clone(),
            MAPS,
            json!({"metadata": {"name": "d", "resourceVersion": "5"}}),
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ),
        case(
            post.clone(),
            "/api/v1/namespaces/default/configmaps?dryRun=Some",
            json!({"metadata": {"name": "d"}}),
            422,
            "Invalid",
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
        case(
            post.clone(),
            "/api/v1/namespaces/none/configmaps",
            json!({"metadata": {"name": "d"}}),
            404,
            "NotFound",
            "namespaces \"none\" not found",
        ),
        case(
            put.clone(),
            MAP,
            json!({"metadata": {"name": "other"}}),
            400,
            "BadRequest",
            "the name of the object (other) does not match the name on the URL (c)",
        ),
        case(
            put.clone(),
            MAP,
            json!({"metadata": {"name": "c", "resourceVersion": "1"}}),
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        case(
            put.clone(),
            "/api/v1/namespaces/default/configmaps/none",
            json!({"metadata": {"name": "none"}}),
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        case(
            patch.clone(),
            MAP,
            "[]",
            400,
            "BadRequest",
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        case(
            patch.clone(),
            MAP,
            json!({"metadata": {"creationTimestamp": null, "name": "x"}}),
            400,
            "BadRequest",
            "the name of the object (x) does not match the name on the URL (c)",
        ),
        case(
            get.clone(),
            "/api/v1/namespaces/default/configmaps?limit=x",
            "",
            400,
            "BadRequest",
            "strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        case(
            get.clone(),
            "/api/v1/configmaps?resourceVersionMatch=Exact",
            "",
            422,
            "Invalid",
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        case(
            get.clone(),
            "/api/v1/configmaps?fieldSelector=data.a%3D1",
            "",
            400,
            "BadRequest",
            "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        case(
            get.clone(),
            "/api/v1/configmaps?labelSelector=a%3D%21",
            "",
            400,
            "BadRequest",
            "",
        ),
        case(
            delete.clone(),
            MAP,
            json!({"propagationPolicy": "Sideways"}),
            422,
            "Invalid",
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        case(
            delete.clone(),
            MAP,
            json!({"preconditions": {"uid": "x"}}),
            409,
            "Conflict",
            "",
        ),
        case(
            delete.clone(),
            "/api/v1/namespaces/default/configmaps/none",
            "",
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        case(
            post.clone(),
            "/api/v1/namespaces/default/pods/p/status",
            "{}",
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    ];
    for case in &cases {
        let (code, body) = send(&server, case).await;
        let what = format!("{} {} {}", case.method, case.path, case.body);
        assert_eq!(
            (code, body["reason"].as_str().unwrap_or("")),
            (case.code, case.reason),
            "{what}: {body}"
        );
        if !case.message.is_empty() {
            assert_eq!(body["message"], case.message, "{what}");
        }
        assert_eq!(body["kind"], "Status", "{what}");
    }
    let (_, after) = send(&server, &case(Method::GET, MAP, "", 200, "", "")).await;
    assert_eq!(before, after);
    server.stop().await;
}

#[tokio::test]
async fn bodies_of_unknown_media_and_great_size_are_refused() {
    let server = TestServer::start().await;
    let mut bad = case(Method::POST, MAPS, "x", 415, "UnsupportedMediaType", "");
    bad.media = "text/plain";
    let (code, body) = send(&server, &bad).await;
    assert_eq!((code, &body["reason"]), (415, &json!("UnsupportedMediaType")));
    assert_eq!(
        body["message"],
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let huge = json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(4 << 20)}});
    let (code, body) = send(&server, &case(Method::POST, MAPS, huge, 413, "", "")).await;
    assert_eq!(
        (code, body["message"].as_str()),
        (413, Some("Request entity too large: limit is 3145728"))
    );
    assert_eq!(server.kubectl("get configmaps -o name").await.out, "");
    server.stop().await;
}

#[tokio::test]
async fn the_unknown_and_the_unauthorised_are_turned_away() {
    let server = TestServer::start().await;
    let anonymous = server.transport(UserInfo::anonymous());
    let request = |path: &str| Request::builder().uri(path.to_owned()).body(Bytes::new()).unwrap();
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(anonymous.send(request(path)).await.unwrap().status(), 200, "{path}");
    }
    let refused = anonymous
        .send(request("/api/v1/namespaces/default/pods"))
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!((refused.status().as_u16(), &body["reason"]), (403, &json!("Forbidden")));
    assert_eq!(
        body["message"],
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let path = anonymous.send(request("/metrics")).await.unwrap();
    let body: Value = serde_json::from_slice(path.body()).unwrap();
    assert_eq!(
        body["message"],
        "forbidden: User \"system:anonymous\" cannot get path \"/metrics\""
    );
    let admin = server.transport(UserInfo::new("admin", &["system:masters"]));
    let unknown = admin.send(request("/apis/none/v1/things")).await.unwrap();
    assert_eq!(
        (unknown.status().as_u16(), &unknown.body()[..]),
        (404, &b"404 page not found\n"[..])
    );
    let said = server
        .kubectl_with(
            &[
                "--token=nonsense",
                "--kubeconfig=/dev/null",
                "--insecure-skip-tls-verify",
                "--server",
                &server.url(),
                "get",
                "pods",
            ],
            "",
        )
        .await;
    assert!(
        said.err.contains("You must be logged in") || said.err.contains("Unauthorized"),
        "{said:?}"
    );
    server.stop().await;
}
