use serde_json::{Value, json};

use crate::api::tests::{Server, ask, server, token};
use crate::model::{CallRecord, Direction, HangUpSide, Id, Moment, RecordState, Role, TenantId};
use crate::store::RecordChange;

/// Records with each one's number as its second, oldest first.
async fn fill(server: &Server, tenant: &str, count: i64) -> Vec<CallRecord> {
    let mut changes: Vec<RecordChange> = Vec::new();
    for number in 0..count {
        let even = number % 2 == 0;
        let record = CallRecord {
            state: if even { RecordState::Completed } else { RecordState::Busy },
            from_number: format!("+4930{number}"),
            to_number: "=cmd|' /C calc'!A0".into(),
            provider: even.then(|| "skyetel".to_owned()),
            trunk_id: Some("skyetel_main".into()),
            agent: Some("'; DROP TABLE records; --".into()),
            started_at: Moment::from_micros(1_700_000_000_000_000 + number * 1_000_000),
            ended_at: Some(Moment::now()),
            hangup_side: Some(HangUpSide::Callee),
            ..CallRecord::new(TenantId(tenant.into()), Direction::Outbound)
        };
        changes.push(RecordChange { boot: Id::new(), record, events: Vec::new() });
    }
    server.store.write_records(&changes).await.expect("written");
    changes.into_iter().map(|change| change.record).collect()
}

#[tokio::test]
async fn records_are_listed_by_pages_newest_first_and_only_the_own_ones() {
    let server = server(4).await;
    let records = fill(&server, "acme", 25).await;
    fill(&server, "other", 3).await;
    let viewer = token("acme", Role::Viewer);
    let mut seen = Vec::new();
    let mut path = "/api/calls/cdr?limit=10".to_owned();
    loop {
        let (status, _, page) = ask(&server, "GET", &path, &viewer, None).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/calls/cdr?limit=10&cursor={next}");
    }
    let expected: Vec<String> = records.iter().rev().map(|record| record.id.to_string()).collect();
    assert_eq!(seen, expected);

    let of_provider = "/api/calls/cdr?provider=skyetel&limit=100";
    let (_, _, page) = ask(&server, "GET", of_provider, &viewer, None).await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(13));
    let filtered = "/api/calls/cdr?state=busy&direction=outbound&trunk_id=skyetel_main&from_number=%2B49301\
                    &to_number=%3Dcmd%7C%27%20%2FC%20calc%27%21A0&agent=%27%3B%20DROP%20TABLE%20records%3B%20--\
                    &from=2023-11-14T22:13:20Z&to=2023-11-14T22:13:22Z";
    let (_, _, page) = ask(&server, "GET", filtered, &viewer, None).await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(page["items"][0]["started_at"], "2023-11-14T22:13:21.000000Z");
    assert_eq!(page["items"][0]["hangup_side"], "callee");

    let one = format!("/api/calls/cdr/{}", records[3].id);
    let (status, _, record) = ask(&server, "GET", &one, &viewer, None).await;
    assert_eq!((status, &record["from_number"]), (200, &json!("+49303")));
    let (status, ..) = ask(&server, "GET", &one, &token("other", Role::TenantAdmin), None).await;
    assert_eq!(status, 404, "somebody else's");
    for nobody in ["nothing", "%27", "00000000-0000-7000-8000-000000000000"] {
        let (status, ..) = ask(&server, "GET", &format!("/api/calls/cdr/{nobody}"), &viewer, None).await;
        assert_eq!(status, 404);
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_named() {
    let server = server(4).await;
    let viewer = token("acme", Role::Viewer);
    for (query, field) in [
        ("state=strange", "state"),
        ("direction=up", "direction"),
        ("from=yesterday", "from"),
        ("call=x", "call"),
        ("limit=0", "limit"),
        ("cursor=AAAA", "cursor"),
    ] {
        let (status, _, problem) =
            ask(&server, "GET", &format!("/api/calls/cdr?{query}"), &viewer, None).await;
        assert_eq!(status, 422, "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
}

#[tokio::test]
async fn an_export_has_every_record_in_safe_cells() {
    let server = server(4).await;
    let records = fill(&server, "acme", 1_203).await;
    fill(&server, "other", 2).await;
    let viewer = token("acme", Role::Viewer);
    let (status, head, _) = ask(&server, "GET", "/api/calls/cdr.csv", &viewer, None).await;
    assert_eq!(status, 200);
    assert!(head.to_ascii_lowercase().contains("content-type: text/csv"), "{head}");
    let text = crate::api::tests::body(&server, "/api/calls/cdr.csv", &viewer).await;
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().expect("names").clone();
    let at = |name: &str| names.iter().position(|column| column == name).expect("a column");
    let lines: Vec<_> = reader.records().map(|line| line.expect("well formed")).collect();
    let ids: Vec<&str> = lines.iter().filter_map(|line| line.get(at("id"))).collect();
    let expected: Vec<String> = records.iter().rev().map(|record| record.id.to_string()).collect();
    assert_eq!(ids, expected);
    assert!(lines.iter().all(|line| line.get(at("to_number")) == Some("'=cmd|' /C calc'!A0")));
    assert_eq!(lines[0].get(at("from_number")), Some("+49301202"));
    let none = crate::api::tests::body(&server, "/api/calls/cdr.csv?state=cancelled", &viewer).await;
    assert_eq!(none.lines().count(), 1, "only the names");
    let (status, ..) = ask(&server, "GET", "/api/calls/cdr.csv?state=x", &viewer, None).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn records_and_their_filters_are_in_the_document() {
    let server = server(4).await;
    let (_, _, document) = ask(&server, "GET", "/openapi.json", "", None).await;
    let parameters =
        document["paths"]["/api/calls/cdr"]["get"]["parameters"].as_array().cloned().unwrap_or_default();
    for name in
        ["provider", "trunk_id", "from_number", "to_number", "direction", "state", "agent", "from", "to"]
    {
        assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{name}");
    }
}
