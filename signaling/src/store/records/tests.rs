use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::store::testing::stores;
use crate::store::{RetentionConfig, StoreError};

fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::select(words).prop_map(str::to_owned))
}

const NUMBERS: &[&str] = &["+491", "1", "' OR 1=1 --", "", "ä\u{1f600}", "%", "\\", "a\u{0}b", "NULL"];
const NAMES: &[&str] = &["one", "two", "O'Brien"];

fn records() -> impl Strategy<Value = Vec<CallRecord>> {
    let record = (
        prop::sample::select(Direction::ALL),
        prop::sample::select(RecordState::ALL),
        prop::sample::select(NUMBERS),
        some_of(NAMES),
        some_of(NAMES),
        // Many begin at the same time, and then their ids decide.
        0..4_i64,
    );
    prop::collection::vec(record, 0..40).prop_map(|records| {
        let records =
            records.into_iter().map(|(direction, state, number, trunk_id, agent, started_at)| CallRecord {
                state,
                from_number: number.to_owned(),
                trunk_id: trunk_id.clone(),
                provider: trunk_id,
                agent,
                started_at: Moment::from_micros(started_at),
                ..CallRecord::new(TenantId(Id::new().to_string()), direction)
            });
        records.collect()
    })
}

fn filters() -> impl Strategy<Value = RecordFilter> {
    (
        prop::option::of(prop::sample::select(Direction::ALL)),
        prop::option::of(prop::sample::select(RecordState::ALL)),
        some_of(NUMBERS),
        some_of(NAMES),
        some_of(NAMES),
        prop::option::of(0..4_i64),
        prop::option::of(0..4_i64),
    )
        .prop_map(|(direction, state, from_number, trunk_id, agent, since, until)| RecordFilter {
            direction,
            state,
            from_number,
            provider: trunk_id.clone(),
            trunk_id,
            agent,
            since: since.map(Moment::from_micros),
            until: until.map(Moment::from_micros),
            ..RecordFilter::default()
        })
}

fn wants(filter: &RecordFilter, record: &CallRecord) -> bool {
    let equal = |wanted: &Option<String>, value: Option<&str>| {
        wanted.as_deref().is_none_or(|wanted| value.is_some_and(|value| value == wanted.replace('\0', "")))
    };
    filter.direction.is_none_or(|direction| direction == record.direction)
        && filter.state.is_none_or(|state| state == record.state)
        && equal(&filter.from_number, Some(&record.from_number.replace('\0', "")))
        && equal(&filter.trunk_id, record.trunk_id.as_deref())
        && equal(&filter.provider, record.provider.as_deref())
        && equal(&filter.agent, record.agent.as_deref())
        && filter.since.is_none_or(|since| record.started_at >= since)
        && filter.until.is_none_or(|until| record.started_at < until)
}

fn change(record: CallRecord) -> RecordChange {
    RecordChange { boot: Id::new(), record, events: Vec::new() }
}

#[tokio::test]
async fn any_filter_and_any_page_size_gives_what_a_plain_search_gives() -> Result<(), StoreError> {
    let mut runner = TestRunner::deterministic();
    for store in stores().await {
        for _ in 0..24 {
            let tenant = TenantId(Id::new().to_string());
            let mut all = records().new_tree(&mut runner).expect("records").current();
            for record in &mut all {
                record.tenant = tenant.clone();
            }
            store.write_records(&all.iter().cloned().map(change).collect::<Vec<_>>()).await?;
            all.sort_by_key(|record| std::cmp::Reverse((record.started_at, record.id)));
            for _ in 0..4 {
                let filter = filters().new_tree(&mut runner).expect("a filter").current();
                let limit = (1..12_usize).new_tree(&mut runner).expect("a limit").current();
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let page = store.records(&tenant, &filter, after, limit).await?;
                    assert!(page.len() <= limit);
                    after = page.last().map(RecordCursor::from);
                    let is_last = page.len() < limit;
                    found.extend(page.into_iter().map(|record| record.id));
                    if is_last {
                        break;
                    }
                }
                let expected: Vec<Id> =
                    all.iter().filter(|record| wants(&filter, record)).map(|record| record.id).collect();
                assert_eq!(found, expected, "{filter:?} by {limit}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_field_comes_back_and_the_last_change_stays() -> Result<(), StoreError> {
    for store in stores().await {
        let mut record = CallRecord {
            sip_call_id: "x\r\nInjected: 1".into(),
            quality: Some(crate::model::Quality {
                received_packets: 1,
                lost_packets: 2,
                sent_packets: 3,
                jitter_ms: 0.125,
                round_trip_ms: None,
                remote_lost_packets: Some(-4),
                mos: Some(4.41),
            }),
            ai: Some(serde_json::json!({"text": "\u{0}'\""})),
            cost: Some(0.015),
            hangup_side: Some(HangUpSide::System),
            attempts: vec![crate::model::Attempt {
                target: "one".into(),
                started_at: Moment::now(),
                duration_ms: 5,
                status: 503,
                reason: "\"; --".into(),
                then: "next".into(),
            }],
            ..CallRecord::new(TenantId::default(), Direction::Outbound)
        };
        let earlier = record.clone();
        record.state = RecordState::Completed;
        record.ended_at = Some(Moment::now());
        let event = record.ended_event();
        let told = RecordChange { events: vec![event.clone()], ..change(record.clone()) };
        store.write_records(&[change(earlier), told.clone()]).await?;
        store.write_records(&[told]).await?;
        assert_eq!(store.record(&record.tenant, record.id).await?, Some(record));
        let events = store.rows("SELECT id FROM outbox", values![]).await?;
        assert_eq!(events.len(), 1, "told once");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_old_and_over_is_deleted_and_nothing_else() -> Result<(), StoreError> {
    let day = std::time::Duration::from_secs(86_400);
    for store in stores().await {
        let now = Moment::now();
        let made = |age: u32, is_over: bool| {
            let begun = now.before(day * age);
            CallRecord {
                id: Id::earliest(begun),
                started_at: begun,
                ended_at: is_over.then_some(begun),
                ..CallRecord::new(TenantId::default(), Direction::Inbound)
            }
        };
        let kept = [made(1, true), made(89, true), made(200, false)];
        let all = kept.iter().cloned().chain([made(91, true), made(300, true)]).map(change);
        store.write_records(&all.collect::<Vec<_>>()).await?;
        let config = RetentionConfig { records: day * 90, events: day };
        assert_eq!(store.delete_old(&config, now).await?.records, 2);
        let left = store.records(&TenantId::default(), &RecordFilter::default(), None, 10).await?;
        let mut left: Vec<Id> = left.iter().map(|record| record.id).collect();
        left.sort();
        let mut expected: Vec<Id> = kept.iter().map(|record| record.id).collect();
        expected.sort();
        assert_eq!(left, expected);
        let forever =
            RetentionConfig { records: std::time::Duration::ZERO, events: std::time::Duration::ZERO };
        assert_eq!(
            store.delete_old(&forever, now.after(day * 10_000)).await?,
            super::super::Deleted::default()
        );

        let event = kept[0].ended_event();
        let mut transaction = store.begin().await?;
        transaction.emit(&event).await?;
        transaction.emit(&kept[1].ended_event()).await?;
        transaction
            .run("UPDATE outbox SET taken_at = $1 WHERE id = $2", values![now.before(day * 2), event.id])
            .await?;
        transaction.commit().await?;
        assert_eq!(store.delete_old(&config, now).await?.events, 1, "what was not handed on stays");
    }
    Ok(())
}
