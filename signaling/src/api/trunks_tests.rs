//! Trunks over a real socket: the documented requests word for word, and who may see and change what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tests::{Server, exchange, server, token};
use crate::model::{Role, TenantId};
use crate::trunk::{NoWay, Refused};

/// The status and the body, which is JSON or nothing.
async fn ask(server: &Server, token: &str, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let body = body.unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: Bearer {token}\r\n{kind}\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(server, &request).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect("JSON") };
    (status.expect("a status"), body)
}

const FIRST: &str = r#"{"trunk_id":"skyetel_main","name":"Skyetel Main Trunk","provider":"skyetel","proxy_address":"sip.example.com","proxy_port":5060,"username":"u","password":"p","realm":"sip.example.com","supports_outbound":true,"supports_inbound":true,"transport":"UDP","preferred_codecs":["PCMU","PCMA"],"max_concurrent_calls":100,"calls_per_second_limit":10}"#;
const SECOND: &str = r#"{"trunk_id":"skyetel_backup","name":"Skyetel Backup Trunk","provider":"skyetel","proxy_address":"sip2.example.com","proxy_port":5060,"username":"u","password":"p","supports_outbound":true,"supports_inbound":true,"transport":"UDP","preferred_codecs":["PCMU","PCMA"],"backup_trunks":["skyetel_main"]}"#;

/// A trunk that is asked for nothing over the network.
fn by_address(trunk_id: &str) -> String {
    json!({"trunk_id": trunk_id, "proxy_address": "127.0.0.1", "proxy_port": 9, "active": true}).to_string()
}

#[tokio::test]
async fn the_documented_requests_work_as_they_stand() {
    let server = server(99).await;
    let token = token("acme", Role::TenantAdmin);
    let ask =
        async |method: &str, path: &str, body: Option<&str>| ask(&server, &token, method, path, body).await;

    let (status, made) = ask("POST", "/api/trunks", Some(FIRST)).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["trunk_id"], &made["has_password"]), (&json!("skyetel_main"), &json!(true)));
    assert!(made.get("password").is_none(), "the password is not echoed");
    let (status, made) = ask("POST", "/api/trunks/", Some(SECOND)).await;
    assert_eq!((status, &made["max_concurrent_calls"]), (201, &json!(100)), "{made}");

    let (status, list) = ask("GET", "/api/trunks", None).await;
    let names: Vec<&str> =
        list["items"].as_array().expect("a list").iter().filter_map(|one| one["trunk_id"].as_str()).collect();
    assert_eq!((status, names), (200, vec!["skyetel_backup", "skyetel_main"]));
    let (status, one) = ask("GET", "/api/trunks/skyetel_main", None).await;
    assert_eq!((status, &one["transport"]), (200, &json!("UDP")));

    let (status, before) = ask("GET", "/api/trunks/skyetel_main/status", None).await;
    assert_eq!((status, &before["state"]), (200, &json!("DOWN")));
    let (status, activated) = ask("POST", "/api/trunks/skyetel_main/activate", None).await;
    assert_eq!(status, 200, "{activated}");
    let (status, now) = ask("GET", "/api/trunks/skyetel_main/status", None).await;
    let state = now["state"].as_str().expect("a word");
    assert_eq!(status, 200);
    assert!(["UNREGED", "TRYING", "FAIL_WAIT"].contains(&state), "nobody is there: {now}");
    for field in ["since", "cause", "active_calls", "ping"] {
        assert!(now.get(field).is_some(), "{field} is missing: {now}");
    }
    let (status, all) = ask("GET", "/api/trunks/status", None).await;
    assert_eq!((status, all["items"].as_array().map(Vec::len)), (200, Some(2)));
    let (status, summary) = ask("GET", "/api/trunks/stats/summary", None).await;
    assert_eq!((status, &summary["items"]), (200, &json!([])));

    let body = r#"{"allowed_ips":["198.51.100.0/24"],"transport":"TLS","auth_method":"digest"}"#;
    let (status, changed) = ask("PUT", "/api/trunks/skyetel_main", Some(body)).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["allowed_ips"], &changed["transport"]),
        (&json!(["198.51.100.0/24"]), &json!("TLS"))
    );
    assert_eq!(
        (&changed["username"], &changed["has_password"]),
        (&json!("u"), &json!(true)),
        "the rest is kept"
    );
    let body = r#"{"max_concurrent_calls":1000,"calls_per_second_limit":50}"#;
    let (status, changed) = ask("PUT", "/api/trunks/skyetel_main", Some(body)).await;
    assert_eq!((status, &changed["max_concurrent_calls"]), (200, &json!(1000)));

    let (status, off) = ask("POST", "/api/trunks/skyetel_main/deactivate", None).await;
    assert_eq!((status, &off["state"]), (200, &json!("DOWN")));
    assert_eq!(ask("DELETE", "/api/trunks/skyetel_main", None).await.0, 204);
    assert_eq!(ask("GET", "/api/trunks/skyetel_main", None).await.0, 404);
    assert_eq!(ask("GET", "/api/trunks/skyetel_main/status", None).await.0, 404);
}

#[tokio::test]
async fn a_trunk_is_seen_and_changed_by_its_tenant_only_and_by_who_may() {
    let server = server(99).await;
    let (owner, stranger) = (token("acme", Role::TenantAdmin), token("other", Role::TenantAdmin));
    let (viewer, operator) = (token("acme", Role::Viewer), token("acme", Role::Operator));
    assert_eq!(ask(&server, &owner, "POST", "/api/trunks", Some(FIRST)).await.0, 201);
    for (method, path, body) in [
        ("GET", "/api/trunks/skyetel_main", None),
        ("GET", "/api/trunks/skyetel_main/status", None),
        ("PUT", "/api/trunks/skyetel_main", Some("{}")),
        ("PATCH", "/api/trunks/skyetel_main", Some("{}")),
        ("DELETE", "/api/trunks/skyetel_main", None),
        ("POST", "/api/trunks/skyetel_main/activate", None),
        ("POST", "/api/trunks/skyetel_main/deactivate", None),
    ] {
        assert_eq!(ask(&server, &stranger, method, path, body).await.0, 404, "{method} {path}");
        let seen = ask(&server, &viewer, method, path, body).await.0;
        assert_eq!(seen, if method == "GET" { 200 } else { 403 }, "{method} {path}");
        if method != "GET" {
            assert_eq!(ask(&server, &operator, method, path, body).await.0, 403, "{method} {path}");
        }
        assert_eq!(ask(&server, "bad", method, path, body).await.0, 401, "{method} {path}");
    }
    let (_, list) = ask(&server, &stranger, "GET", "/api/trunks", None).await;
    assert_eq!(list["items"], json!([]));
    let (_, list) = ask(&server, &stranger, "GET", "/api/trunks/status", None).await;
    assert_eq!(list["items"], json!([]));
    // The same name in another tenant is another trunk.
    assert_eq!(ask(&server, &stranger, "POST", "/api/trunks", Some(FIRST)).await.0, 201);
    assert_eq!(ask(&server, &stranger, "DELETE", "/api/trunks/skyetel_main", None).await.0, 204);
    assert_eq!(ask(&server, &owner, "GET", "/api/trunks/skyetel_main", None).await.0, 200);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let server = server(99).await;
    let token = token("acme", Role::TenantAdmin);
    let ask =
        async |method: &str, path: &str, body: &str| ask(&server, &token, method, path, Some(body)).await;
    for (body, field) in [
        (r#"{"trunk_id":"a","proxy_address":"b","proxy_port":99999}"#, "proxy_port"),
        (r#"{"trunk_id":"a","proxy_address":"b","colour":1}"#, "colour"),
        (r#"{"trunk_id":"a","proxy_address":"b","transport":"SCTP"}"#, "transport"),
        (r#"{"trunk_id":"a","proxy_address":"b","allowed_ips":["x"]}"#, "allowed_ips[0]"),
        (r#"{"trunk_id":"a b","proxy_address":"b"}"#, "trunk_id"),
        (r#"{"trunk_id":"a"}"#, "proxy_address"),
        (r#"{"trunk_id":"a","proxy_address":"b\r\nX: y"}"#, "proxy_address"),
        (r#"{"trunk_id":"a","proxy_address":"b","username":"'; DROP TABLE trunks; --"}"#, "username"),
    ] {
        let (status, problem) = ask("POST", "/api/trunks", body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    assert_eq!(ask("POST", "/api/trunks", FIRST).await.0, 201);
    assert_eq!(ask("POST", "/api/trunks", FIRST).await.0, 409, "it is there already");
    assert_eq!(ask("POST", "/api/trunks", SECOND).await.0, 201);
    let (status, problem) =
        ask("PATCH", "/api/trunks/skyetel_main", r#"{"backup_trunks":["skyetel_backup"]}"#).await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (422, &json!("backup_trunks")),
        "a circle: {problem}"
    );
    let (_, kept) = super::trunks_tests::ask(&server, &token, "GET", "/api/trunks/skyetel_main", None).await;
    assert_eq!(kept["backup_trunks"], json!([]));
    assert_eq!(ask("PATCH", "/api/trunks/skyetel_main", r#"{"backup_trunks":["later"]}"#).await.0, 200);
}

#[tokio::test]
async fn limits_hold_as_soon_as_they_are_changed() {
    let server = server(99).await;
    let token = token("acme", Role::TenantAdmin);
    let tenant = TenantId("acme".to_owned());
    let ask =
        async |method: &str, path: &str, body: &str| ask(&server, &token, method, path, Some(body)).await;
    let way = || server.trunks.way(&tenant, "near", "+15551234567");
    assert_eq!(way().err(), Some(NoWay::Refused(Refused::Inactive)));
    assert_eq!(ask("POST", "/api/trunks", &by_address("near")).await.0, 201);
    let first = way().expect("active at once");
    assert_eq!(first.from.uri(), "sip:+15551234567@127.0.0.1");
    assert_eq!(ask("PUT", "/api/trunks/near", r#"{"max_concurrent_calls":1}"#).await.0, 200);
    assert_eq!(way().err(), Some(NoWay::Refused(Refused::Concurrent)));
    // The limits hold at once; the state is told by the trunk's own task, which may not have run yet.
    let status = || async {
        super::trunks_tests::ask(&server, &token, "GET", "/api/trunks/near/status", None).await.1
    };
    for _ in 0..500 {
        if status().await["state"] == "NOREG" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = status().await;
    assert_eq!((&status["active_calls"], &status["state"]), (&json!(1), &json!("NOREG")), "{status}");
    drop(first);
    let body = r#"{"max_concurrent_calls":1000,"calls_per_second_limit":50}"#;
    assert_eq!(ask("PUT", "/api/trunks/near", body).await.0, 200);
    let places: Vec<_> = (0..40).map_while(|_| way().ok()).collect();
    assert_eq!(places.len(), 40);
    assert_eq!(ask("PUT", "/api/trunks/near", r#"{"supports_outbound":false}"#).await.0, 200);
    assert_eq!(way().err(), Some(NoWay::Refused(Refused::Direction)));
    assert_eq!(ask("POST", "/api/trunks/near/deactivate", "").await.0, 200);
    assert_eq!(way().err(), Some(NoWay::Refused(Refused::Inactive)));
    assert!(server.trunks.facts(&tenant, "near").is_none());
}

#[tokio::test]
async fn changes_that_come_at_once_are_all_kept() {
    let server = Arc::new(server(99).await);
    let token = token("acme", Role::TenantAdmin);
    assert_eq!(ask(&server, &token, "POST", "/api/trunks", Some(FIRST)).await.0, 201);
    let changes = [
        r#"{"max_concurrent_calls":7}"#,
        r#"{"calls_per_second_limit":8}"#,
        r#"{"display_name":"nine"}"#,
        r#"{"cost_per_minute":0.5}"#,
    ];
    let tasks: Vec<_> = changes
        .into_iter()
        .map(|change| {
            let (server, token) = (Arc::clone(&server), token.clone());
            tokio::spawn(async move {
                ask(&server, &token, "PATCH", "/api/trunks/skyetel_main", Some(change)).await.0
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), 200);
    }
    let (_, trunk) = ask(&server, &token, "GET", "/api/trunks/skyetel_main", None).await;
    assert_eq!((&trunk["max_concurrent_calls"], &trunk["calls_per_second_limit"]), (&json!(7), &json!(8)));
    assert_eq!((&trunk["display_name"], &trunk["cost_per_minute"]), (&json!("nine"), &json!(0.5)));
}

#[tokio::test]
async fn a_state_becomes_an_event_and_is_in_the_log_of_changes() {
    let server = server(99).await;
    let (owner, _) = (token("acme", Role::TenantAdmin), ());
    assert_eq!(ask(&server, &owner, "POST", "/api/trunks", Some(&by_address("near"))).await.0, 201);
    let sql = "SELECT data FROM outbox WHERE tenant = 'acme' AND kind = 'trunk.state' LIMIT 9";
    let since = Instant::now();
    let told = loop {
        let rows = server.store.rows(sql, Vec::new()).await.expect("asked");
        if let Some(row) = rows.first() {
            break row.json::<Value>("data").expect("JSON");
        }
        assert!(since.elapsed() < Duration::from_secs(20), "no event");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&told["trunk_id"], &told["state"]), (&json!("near"), &json!("NOREG")), "{told}");
    let (_, audit) = ask(&server, &owner, "GET", "/api/audit", None).await;
    assert_eq!(audit["items"][0]["action"], json!("trunk.create"), "{audit}");
}
