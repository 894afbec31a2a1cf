//! Tenants, keys, the log of changes and repeated requests, over a real socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::tests::{Server, ask, exchange, request, server, token};
use crate::model::{Access, AuditEntry, Moment, Role, Tenant, TenantId};
use crate::store::testing::{TestStore, stores};
use crate::store::{AuditFilter, KeptAnswer, KeyedRequest, Known};

/// One request; asserts its status.
async fn expect(
    server: &Server,
    expected: u16,
    method: &str,
    path: &str,
    token: &str,
    body: Option<Value>,
) -> Value {
    let (status, _, answer) = ask(server, method, path, token, body.as_ref()).await;
    assert_eq!(status, expected, "{method} {path} {body:?}: {answer}");
    if status >= 400 {
        assert_eq!(answer["status"], status, "{answer}");
        assert!(answer["title"].as_str().is_some_and(|title| !title.is_empty()), "{answer}");
        assert!(answer["type"].as_str().is_some_and(|kind| kind.starts_with("urn:sidetone:")), "{answer}");
    }
    answer
}

#[tokio::test]
async fn tenants_are_made_changed_stopped_and_removed_by_admins_only() {
    let server = server(9).await;
    let admin = token("default", Role::Admin);
    let made = expect(&server, 201, "POST", "/api/tenants/", &admin, Some(json!({ "id": "new.one" }))).await;
    assert_eq!((&made["name"], &made["active"]), (&json!("new.one"), &json!(true)));
    expect(&server, 409, "POST", "/api/tenants", &admin, Some(json!({ "id": "new.one" }))).await;
    let page = expect(&server, 200, "GET", "/api/tenants?limit=2", &admin, None).await;
    assert_eq!((&page["items"][0]["id"], &page["items"][1]["id"]), (&json!("acme"), &json!("default")));
    let next = format!("/api/tenants?cursor={}", page["next"].as_str().expect("more"));
    let page = expect(&server, 200, "GET", &next, &admin, None).await;
    assert_eq!((&page["items"][0]["id"], page.get("next")), (&json!("new.one"), None));

    let key = expect(
        &server,
        201,
        "POST",
        "/api/keys?tenant=new.one",
        &admin,
        Some(json!({ "name": "first", "role": "tenant_admin" })),
    )
    .await;
    let key = key["token"].as_str().expect("a token").to_owned();
    expect(&server, 200, "GET", "/api/me", &key, None).await;
    expect(&server, 409, "DELETE", "/api/tenants/new.one", &admin, None).await;
    expect(&server, 200, "PATCH", "/api/tenants/new.one", &admin, Some(json!({ "active": false }))).await;
    expect(&server, 401, "GET", "/api/me", &key, None).await;
    expect(&server, 403, "GET", "/api/me", &token("new.one", Role::Viewer), None).await;
    expect(&server, 200, "PATCH", "/api/tenants/new.one", &admin, Some(json!({ "active": true }))).await;
    expect(&server, 200, "GET", "/api/me", &key, None).await;
    let id = key.split('_').nth(1).expect("an id");
    expect(&server, 204, "DELETE", &format!("/api/keys/{id}"), &key, None).await;
    expect(&server, 404, "GET", &format!("/api/keys/{id}?tenant=new.one"), &admin, None).await;
    expect(&server, 401, "GET", "/api/me", &key, None).await;
    expect(&server, 204, "DELETE", "/api/tenants/new.one", &admin, None).await;
    expect(&server, 404, "GET", "/api/tenants/new.one", &admin, None).await;
    expect(&server, 409, "DELETE", "/api/tenants/default", &admin, None).await;
    expect(&server, 409, "PATCH", "/api/tenants/default", &admin, Some(json!({ "active": false }))).await;

    for role in [Role::Viewer, Role::Operator, Role::TenantAdmin] {
        let token = token("acme", role);
        for (method, path, body) in [
            ("GET", "/api/tenants", None),
            ("POST", "/api/tenants", Some(json!({ "id": "mine" }))),
            ("GET", "/api/tenants/acme", None),
            ("PATCH", "/api/tenants/acme", Some(json!({ "name": "mine" }))),
            ("DELETE", "/api/tenants/other", None),
        ] {
            expect(&server, 403, method, path, &token, body).await;
        }
    }
}

#[tokio::test]
async fn nobody_sees_or_changes_what_belongs_to_another_tenant() {
    let server = server(9).await;
    let (acme, other) = (token("acme", Role::TenantAdmin), token("other", Role::TenantAdmin));
    let wanted = json!({ "name": "one", "role": "viewer" });
    let key = expect(&server, 201, "POST", "/api/keys", &acme, Some(wanted.clone())).await;
    let path = format!("/api/keys/{}", key["id"].as_str().expect("an id"));
    expect(&server, 200, "GET", &path, &acme, None).await;
    expect(&server, 404, "GET", &path, &other, None).await;
    expect(&server, 404, "DELETE", &path, &other, None).await;
    assert_eq!(expect(&server, 200, "GET", "/api/keys", &other, None).await["items"], json!([]));
    assert_eq!(expect(&server, 200, "GET", "/api/audit", &other, None).await["items"], json!([]));
    // Naming the tenant helps an admin only.
    expect(&server, 403, "GET", "/api/keys?tenant=acme", &other, None).await;
    expect(&server, 403, "POST", "/api/keys?tenant=acme", &other, Some(wanted)).await;
    let admin = token("default", Role::Admin);
    assert_eq!(expect(&server, 200, "GET", "/api/keys", &admin, None).await["items"], json!([]));
    let seen = expect(&server, 200, "GET", "/api/keys?tenant=acme", &admin, None).await;
    assert_eq!(seen["items"][0]["id"], key["id"]);
    let head = format!(
        "GET /api/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {admin}\r\nX-Tenant: acme\r\n\r\n"
    );
    assert!(exchange(&server, &head).await.contains(r#""tenant":"acme""#));
    expect(&server, 422, "GET", "/api/keys?tenant=nobody", &admin, None).await;
    let problem = expect(&server, 422, "GET", "/api/keys?tenant=a%20b", &admin, None).await;
    assert_eq!(problem["errors"][0]["field"], "tenant");
}

#[tokio::test]
async fn keys_are_shown_once_and_give_no_more_than_their_maker_has() {
    let server = server(9).await;
    let (viewer, operator) = (token("acme", Role::Viewer), token("acme", Role::Operator));
    let admin = token("acme", Role::TenantAdmin);
    for weak in [&viewer, &operator] {
        expect(&server, 403, "GET", "/api/keys", weak, None).await;
        expect(&server, 403, "POST", "/api/keys", weak, Some(json!({ "name": "one", "role": "viewer" })))
            .await;
        expect(&server, 403, "GET", "/api/audit", weak, None).await;
    }
    expect(&server, 403, "POST", "/api/keys", &admin, Some(json!({ "name": "one", "role": "admin" }))).await;
    let body = json!({ "name": "one", "role": "operator", "expires_in_s": 3600 });
    let made = expect(&server, 201, "POST", "/api/keys", &admin, Some(body)).await;
    let text = made["token"].as_str().expect("a token").to_owned();
    let secret = text.rsplit('_').next().expect("a secret").to_owned();
    let me = expect(&server, 200, "GET", "/api/me", &text, None).await;
    assert_eq!((&me["role"], &me["tenant"]), (&json!("operator"), &json!("acme")));
    assert_eq!(me["subject"], format!("st_{}", made["id"].as_str().expect("an id")));
    for path in ["/api/keys", "/api/audit"] {
        let shown = expect(&server, 200, "GET", path, &admin, None).await.to_string();
        assert!(shown.contains(made["id"].as_str().expect("an id")) && !shown.contains(&secret), "{shown}");
    }
    for (body, field) in [
        (json!({ "role": "viewer" }), "name"),
        (json!({ "name": "one" }), "role"),
        (json!({ "name": 5, "role": "viewer" }), "name"),
        (json!({ "name": "one", "role": "king" }), "role"),
        (json!({ "name": "one", "role": "viewer", "colour": "blue" }), "colour"),
        (json!({ "name": "", "role": "viewer" }), "name"),
        (json!({ "name": "a\nb", "role": "viewer" }), "name"),
        (json!({ "name": "a\u{0}b", "role": "viewer" }), "name"),
        (json!({ "name": "x".repeat(201), "role": "viewer" }), "name"),
        (json!({ "name": "one", "role": "viewer", "expires_in_s": 1 }), "expires_in_s"),
        (json!({ "name": "one", "role": "viewer", "expires_in_s": -1 }), "expires_in_s"),
        (json!({ "name": "one", "role": "viewer", "expires_in_s": 1e30 }), "expires_in_s"),
        (json!([]), "body"),
    ] {
        let problem = expect(&server, 422, "POST", "/api/keys", &admin, Some(body.clone())).await;
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
}

#[tokio::test]
async fn bodies_and_paths_that_nobody_can_read_are_told_so() {
    let server = server(9).await;
    let admin = token("default", Role::Admin);
    let send = async |head: &str, body: &str| {
        let request = format!(
            "POST /api/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {admin}\r\n\
             Content-Length: {}\r\n{head}\r\n{body}",
            body.len()
        );
        let answer = exchange(&server, &request).await;
        assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    };
    let json = "Content-Type: application/json\r\n";
    let good = r#"{"name":"one","role":"viewer"}"#;
    let deep = "[".repeat(50_000);
    assert_eq!(send("Content-Type: text/plain\r\n", good).await, 415);
    assert_eq!(send("", good).await, 415);
    for broken in ["", "{", "nul", "\u{feff}{}", &format!("{good}{good}"), r#"{"name":"\ud800"}"#] {
        assert_eq!(send(json, broken).await, 400, "{}", &broken[..broken.len().min(50)]);
    }
    assert_eq!(send(json, &deep).await, 422, "no object");
    assert_eq!(send(json, &format!(r#"{{"name":"{}"}}"#, "x".repeat(70_000))).await, 413);
    assert_eq!(send(&format!("{json}Idempotency-Key: 1\r\n"), &"x".repeat(1_100_000)).await, 413);
    assert_eq!(send(&format!("{json}Idempotency-Key: ä\r\n"), good).await, 400);
    assert_eq!(send(&format!("{json}Authorization: Basic eDp5\r\n"), good).await, 400, "whose is it?");
    for path in ["/api/keys/%00", "/api/keys/%ff", "/api/keys?cursor=%00", "/api/audit?subject=%c3%28"] {
        expect(&server, 400, "GET", path, &admin, None).await;
    }
    for (path, field) in [
        ("/api/keys?limit=0", "limit"),
        ("/api/keys?limit=501", "limit"),
        ("/api/keys?limit=many", "limit"),
        ("/api/keys?limit=-1", "limit"),
        ("/api/keys?cursor=x", "cursor"),
        ("/api/audit?from=yesterday", "from"),
        ("/api/audit?cursor=bm9uZQ", "cursor"),
    ] {
        let problem = expect(&server, 422, "GET", path, &admin, None).await;
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    expect(&server, 404, "GET", "/api", &admin, None).await;
    expect(&server, 404, "GET", "/api//keys", &admin, None).await;
    expect(&server, 404, "GET", "/api/keys/..%2f..%2fmetrics", &admin, None).await;
}

#[tokio::test]
async fn every_change_is_in_the_log_with_who_and_what_and_nothing_else_is() {
    let server = server(9).await;
    let admin = token("default", Role::Admin);
    expect(&server, 201, "POST", "/api/tenants", &admin, Some(json!({ "id": "new" }))).await;
    expect(&server, 409, "POST", "/api/tenants", &admin, Some(json!({ "id": "new" }))).await;
    expect(&server, 200, "PATCH", "/api/tenants/new", &admin, Some(json!({ "name": "New Ltd" }))).await;
    expect(&server, 204, "DELETE", "/api/tenants/new", &admin, None).await;
    let log = expect(&server, 200, "GET", "/api/audit", &admin, None).await;
    let actions: Vec<_> =
        log["items"].as_array().expect("a list").iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["tenant.remove", "tenant.change", "tenant.create"]);
    let changed = &log["items"][1];
    assert_eq!((&changed["before"]["name"], &changed["after"]["name"]), (&json!("new"), &json!("New Ltd")));
    assert_eq!(
        (&changed["subject"], &changed["role"], &changed["source"], &changed["target"]),
        (&json!("alice"), &json!("admin"), &json!("127.0.0.1"), &json!("new"))
    );
    let first = expect(&server, 200, "GET", "/api/audit?limit=2", &admin, None).await;
    let next = format!("/api/audit?limit=2&cursor={}", first["next"].as_str().expect("more"));
    let second = expect(&server, 200, "GET", &next, &admin, None).await;
    assert_eq!((&second["items"][0]["action"], second.get("next")), (&json!("tenant.create"), None));
    for (filter, count) in [
        ("action=tenant.", 3),
        ("action=tenant.change", 1),
        ("action=key.", 0),
        ("subject=alice&target=new", 3),
        ("subject=bob", 0),
        ("from=2020-01-01T00:00:00Z", 3),
        ("to=2020-01-01T00:00:00Z", 0),
        ("action=%27%20OR%20%271%27=%271", 0),
    ] {
        let log = expect(&server, 200, "GET", &format!("/api/audit?{filter}"), &admin, None).await;
        assert_eq!(log["items"].as_array().map(Vec::len), Some(count), "{filter}: {log}");
    }
}

/// A `POST /api/keys` with an Idempotency-Key: the whole answer.
async fn keyed(server: &Server, token: &str, key: &str, body: &Value) -> (u16, String, Value) {
    let body = body.to_string();
    let request = format!(
        "POST /api/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(server, &request).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, head.to_owned(), serde_json::from_str(body).expect("JSON"))
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_changes_nothing() {
    let server = server(9).await;
    let admin = token("acme", Role::TenantAdmin);
    let body = json!({ "name": "one", "role": "viewer" });
    let (status, head, first) = keyed(&server, &admin, "\"k1\"", &body).await;
    assert_eq!((status, head.contains("idempotency-replayed")), (201, false));
    let (status, head, second) = keyed(&server, &admin, "k1", &body).await;
    assert_eq!((status, &second), (201, &first), "with the token that is shown once");
    assert!(head.contains("idempotency-replayed: true") && head.contains("content-type: application/json"));
    let (status, _, problem) =
        keyed(&server, &admin, "k1", &json!({ "name": "two", "role": "viewer" })).await;
    assert_eq!(status, 422, "{problem}");
    // A refusal is an answer, too.
    assert_eq!(keyed(&server, &admin, "k2", &json!({ "name": "" })).await.0, 422);
    // The same key of somebody else is another one.
    assert_eq!(keyed(&server, &token("other", Role::TenantAdmin), "k1", &body).await.0, 201);
    let listed = expect(&server, 200, "GET", "/api/keys", &admin, None).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    // What is kept is sealed.
    let row =
        server.store.row("SELECT body FROM idempotency WHERE key = 'k1' AND tenant = 'acme'", Vec::new());
    let kept: String = row.await.expect("asked").expect("a row").get("body").expect("text");
    assert!(!kept.contains("st_"), "{kept}");
}

#[tokio::test]
async fn of_many_equal_requests_at_once_one_is_carried_out() {
    let server = server(64).await;
    let admin = token("acme", Role::TenantAdmin);
    let body = json!({ "name": "one", "role": "viewer" });
    let answers =
        futures_util::future::join_all((0..20).map(|_| keyed(&server, &admin, "same", &body))).await;
    let made: std::collections::BTreeSet<_> =
        answers.iter().filter(|answer| answer.0 == 201).map(|answer| answer.2["id"].to_string()).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.0 == 201 || answer.0 == 409), "{answers:?}");
    let listed = expect(&server, 200, "GET", "/api/keys", &admin, None).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn whatever_the_document_names_answers_401_without_a_token() {
    let server = server(9).await;
    let document: Value =
        serde_json::from_str(&request(&server, "GET", "/openapi.json").await.1).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut seen = 0;
    for (path, operations) in paths {
        assert!(path.starts_with("/api/"), "{path}");
        for method in operations.as_object().expect("operations").keys() {
            let path = path.replace(['{', '}'], "");
            for variant in [path.clone(), format!("{path}/"), format!("{path}?tenant=acme")] {
                let (status, body) = request(&server, &method.to_uppercase(), &variant).await;
                assert_eq!(status, 401, "{method} {variant}: {body}");
                seen += 1;
            }
        }
        for method in ["HEAD", "OPTIONS", "TRACE", "POST", "BREW"] {
            assert_eq!(
                request(&server, method, &path.replace(['{', '}'], "")).await.0,
                401,
                "{method} {path}"
            );
        }
    }
    assert!(seen >= 30, "{seen}");
}

#[tokio::test]
async fn every_operation_has_its_own_name_and_says_what_can_go_wrong() {
    let server = server(9).await;
    let document: Value =
        serde_json::from_str(&request(&server, "GET", "/openapi.json").await.1).expect("JSON");
    let mut names = std::collections::BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let name = operation["operationId"].as_str().unwrap_or_default();
            assert!(names.insert(name.to_owned()), "{method} {path}: {name:?} is not its own");
            for status in ["400", "401", "403", "422", "503"] {
                assert!(operation["responses"][status].is_object(), "{method} {path}: {status}");
            }
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{method} {path} says nothing");
        }
    }
    for reference in references(&document) {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == "$ref" => vec![text.clone()],
                _ => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// The parts of the store, on both databases.
#[tokio::test]
async fn the_store_keeps_tenants_keys_changes_and_answers() {
    for store in stores().await {
        let acme = TenantId("acme".into());
        let now = Moment::now();
        let tenant =
            Tenant { id: acme.clone(), name: "Äcme".into(), active: true, created_at: now, changed_at: now };
        let access = Access { subject: "alice".into(), tenant: acme.clone(), role: Role::Admin };
        let mut transaction = store.begin().await.expect("a transaction");
        transaction.add_tenant(&tenant).await.expect("added");
        for number in 0..5 {
            let entry =
                AuditEntry::new(&access, "192.0.2.1", "trunk.create", number).after(&json!({ "n": number }));
            transaction.audit(&entry).await.expect("noted");
        }
        transaction.commit().await.expect("kept");
        assert_eq!(store.tenant(&acme).await.expect("asked"), Some(tenant.clone()));
        let mut transaction = store.begin().await.expect("a transaction");
        assert!(transaction.add_tenant(&tenant).await.expect_err("twice").is_conflict());
        drop(transaction);

        let all = store.audit(&acme, &AuditFilter::default(), None, 3).await.expect("asked");
        let targets: Vec<_> = all.iter().map(|entry| entry.target.as_str()).collect();
        assert_eq!(targets, ["4", "3", "2"]);
        let rest = store.audit(&acme, &AuditFilter::default(), Some(all[2].id), 9).await.expect("asked");
        assert_eq!(
            rest.iter().map(|entry| entry.after.clone()).collect::<Vec<_>>(),
            [Some(json!({ "n": 1 })), Some(json!({ "n": 0 }))]
        );
        let filter = AuditFilter { action: Some("trunk.".into()), from: Some(now), ..AuditFilter::default() };
        assert_eq!(store.audit(&acme, &filter, None, 9).await.expect("asked").len(), 5);
        let filter = AuditFilter { action: Some("tru%.".into()), ..AuditFilter::default() };
        assert!(store.audit(&acme, &filter, None, 9).await.expect("asked").is_empty());

        let lease = Duration::from_secs(60);
        let keyed =
            |digest: &str| KeyedRequest { access: access.clone(), key: "k".into(), digest: digest.into() };
        let take =
            async |digest: &str, lease| store.take_request(&keyed(digest), lease).await.expect("asked");
        assert_eq!(take("one", lease).await, Known::New);
        assert_eq!(take("one", lease).await, Known::Running);
        assert_eq!(take("two", lease).await, Known::Other);
        store.give_up_request(&keyed("one")).await.expect("given up");
        assert_eq!(take("one", Duration::ZERO).await, Known::New);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(take("one", lease).await, Known::New, "the runner died");
        let answer = KeptAnswer { status: 201, headers: vec![("a".into(), "b".into())], body: "{}".into() };
        store.finish_request(&keyed("one"), &answer).await.expect("kept");
        assert_eq!(take("one", lease).await, Known::Done(answer));
        assert_eq!(store.forget_old_requests().await.expect("asked"), 0);
        age(&store).await;
        assert_eq!(take("two", lease).await, Known::New, "a day later it is a new key");
        age(&store).await;
        assert_eq!(store.forget_old_requests().await.expect("asked"), 1);
    }
}

/// Makes everything that is kept for repetitions a day old.
async fn age(store: &TestStore) {
    let day = 25_i64 * 3600 * 1_000_000;
    let sql = "UPDATE idempotency SET created_at = created_at - $1";
    store.run(sql, crate::store::values![day]).await.expect("aged");
}
