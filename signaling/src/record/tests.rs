use std::path::Path;

use super::*;
use crate::model::{Direction, EventKind, HangUpSide, RecordState, TenantId};
use crate::store::testing::{TestStore, stores};
use crate::store::{RecordFilter, values};

fn config(folder: &Path) -> RecorderConfig {
    RecorderConfig { data_dir: folder.to_owned(), spool_bytes: 1 << 20 }
}

async fn recorder(store: &TestStore) -> Recorder {
    Recorder::start(store, &config(store.folder.path()), &Arc::default()).await.expect("a recorder")
}

fn inbound() -> CallRecord {
    CallRecord {
        from_number: "1000".into(),
        to_number: "echo".into(),
        ..CallRecord::new(TenantId::default(), Direction::Inbound)
    }
}

fn completed() -> Ending {
    Ending {
        state: RecordState::Completed,
        cause: "caller hung\r\nup".into(),
        status: Some(200),
        q850: Some(16),
        side: HangUpSide::Caller,
    }
}

async fn kinds(store: &Store, subject: Id) -> Vec<EventKind> {
    let sql = "SELECT kind FROM outbox WHERE subject = $1 ORDER BY id LIMIT 100";
    let rows = store.rows(sql, values![subject.to_string()]).await.expect("asked");
    rows.iter().map(|row| row.word("kind", EventKind::named).expect("a kind")).collect()
}

async fn read(store: &Store, id: Id) -> Option<CallRecord> {
    store.record(&TenantId::default(), id).await.expect("asked")
}

#[tokio::test]
async fn a_call_is_recorded_from_its_beginning_to_its_end_with_its_events() {
    for store in stores().await {
        let recorder = recorder(&store).await;
        let mut leg = recorder.leg(inbound());
        let id = leg.record().id;
        leg.costs(60.0);
        leg.begin();
        leg.ringing();
        leg.answered().await;
        // Not yet flushed: it is on the disk because it was answered.
        let answered = read(&store, id).await.expect("a record");
        assert_eq!((answered.state, answered.ended_at), (RecordState::Answered, None));
        assert!(answered.ringing_at.is_some() && answered.answered_at >= answered.ringing_at);
        leg.change(|record| {
            record.codec = Some("PCMU".into());
            record.ai = Some(serde_json::json!({"barge_ins": 2}));
        });
        leg.end(&completed());
        recorder.flush(Duration::from_secs(10)).await;
        let record = read(&store, id).await.expect("a record");
        assert_eq!(record.state, RecordState::Completed);
        assert_eq!(record.hangup_cause.as_deref(), Some("caller hungup"));
        assert_eq!((record.hangup_q850, record.hangup_side), (Some(16), Some(HangUpSide::Caller)));
        assert!(record.duration_ms.is_some() && record.ended_at.is_some());
        let seconds = record.duration_ms.map(|duration| duration as f64 / 1000.0);
        assert!(record.cost.zip(seconds).is_some_and(|(cost, seconds)| (cost - seconds).abs() < 1e-9));
        assert_eq!(record.ai, Some(serde_json::json!({"barge_ins": 2})));
        let all =
            [EventKind::CallInitiated, EventKind::CallRinging, EventKind::CallAnswered, EventKind::CallEnded];
        assert_eq!(kinds(&store, id).await, all);
        let row = store
            .row(
                "SELECT data FROM outbox WHERE subject = $1 AND kind = 'call.ended'",
                values![id.to_string()],
            )
            .await
            .expect("asked")
            .expect("there");
        assert_eq!(row.json::<CallRecord>("data").ok(), Some(record));
        assert_eq!(store.record(&TenantId("other".into()), id).await.expect("asked"), None);
    }
}

#[tokio::test]
async fn a_task_that_dies_leaves_a_closed_record() {
    for store in stores().await {
        let recorder = recorder(&store).await;
        let mut leg = recorder.leg(inbound());
        let id = leg.record().id;
        leg.answered().await;
        drop(leg);
        drop(recorder.leg(inbound()));
        recorder.flush(Duration::from_secs(10)).await;
        let record = read(&store, id).await.expect("a record");
        assert_eq!((record.state, record.hangup_status), (RecordState::Completed, Some(500)));
        let all =
            store.records(&TenantId::default(), &RecordFilter::default(), None, 10).await.expect("asked");
        assert_eq!(all.len(), 1, "what never began has no record");
    }
}

#[tokio::test]
async fn what_an_earlier_life_left_open_is_closed_as_interrupted() {
    for store in stores().await {
        let first = recorder(&store).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            let mut leg = first.leg(inbound());
            leg.answered().await;
            ids.push(leg.record().id);
            // As if the process had been killed.
            std::mem::forget(leg);
        }
        let folder = store.folder.path();
        let second = Recorder::start(&store, &config(folder), &Arc::default()).await;
        assert!(matches!(second, Err(LifeError::InUse(_))), "one process for one folder");
        // The lock goes with the process; here it goes with the file that is locked.
        let moved = folder.join("moved");
        std::fs::create_dir(&moved).expect("a folder");
        std::fs::copy(folder.join("node.id"), moved.join("node.id")).expect("copied");
        let second = Recorder::start(&store, &config(&moved), &Arc::default()).await.expect("a recorder");
        assert_eq!(second.counters().interrupted.value(), 3);
        for id in ids {
            let record = read(&store, id).await.expect("a record");
            assert_eq!(record.state, RecordState::Interrupted);
            assert!(record.ended_at >= record.answered_at && record.duration_ms.is_none());
            assert_eq!(kinds(&store, id).await, [EventKind::CallAnswered, EventKind::CallEnded]);
        }
        let other = tempfile::tempdir().expect("a folder");
        let other =
            Recorder::start(&store, &config(other.path()), &Arc::default()).await.expect("a recorder");
        let mut living = second.leg(inbound());
        living.answered().await;
        assert_eq!(other.counters().interrupted.value(), 0);
        let boot = Id::new();
        let closed =
            store.close_interrupted(boot, boot, Moment::now().before(Duration::from_secs(60)), 10).await;
        assert_eq!(closed.expect("asked"), 0, "another node that lives keeps its records");
        let closed =
            store.close_interrupted(boot, boot, Moment::now().after(Duration::from_secs(60)), 10).await;
        assert_eq!(closed.expect("asked"), 1, "one that is gone does not");
    }
}

#[tokio::test]
async fn while_the_store_is_down_records_wait_in_a_file_and_are_taken_in_at_the_next_start() {
    for store in stores().await {
        let readiness = Arc::new(Readiness::default());
        let folder = store.folder.path();
        let mut ids = Vec::new();
        {
            let recorder = Recorder::start(&store, &config(folder), &readiness).await.expect("a recorder");
            let mut before = recorder.leg(inbound());
            before.answered().await;
            ids.push(before.record().id);
            store.close().await;
            before.end(&completed());
            let mut leg = recorder.leg(inbound());
            ids.push(leg.record().id);
            leg.answered().await;
            leg.end(&completed());
            recorder.flush(Duration::from_secs(10)).await;
            assert_eq!(recorder.counters().spooled.value(), 3);
            assert_eq!(recorder.counters().not_durable.value(), 0);
            assert!(recorder.spool_bytes() > 0);
            assert!(readiness.notes().iter().any(|note| note.contains("wait in a file")));
        }
        // Half a line is what a process leaves that is killed while it writes.
        let spool = folder.join("records.spool");
        let mut bytes = std::fs::read(&spool).expect("a spool");
        bytes.extend_from_slice(b"{\"boot\":\"01");
        std::fs::write(&spool, bytes).expect("written");
        let again = Store::open(&store.config).await.expect("opened again");
        let recorder =
            wait_for(async || Recorder::start(&again, &config(folder), &readiness).await.ok()).await;
        assert_eq!(recorder.counters().taken_in.value(), 3);
        assert_eq!(recorder.counters().interrupted.value(), 0);
        assert_eq!((recorder.spool_bytes(), readiness.notes()), (0, Vec::new()));
        for id in ids {
            let record = read(&again, id).await.expect("a record");
            assert_eq!(record.state, RecordState::Completed);
            assert_eq!(kinds(&again, id).await, [EventKind::CallAnswered, EventKind::CallEnded]);
        }
    }
}

/// The lock of a recorder goes once its last task has ended.
async fn wait_for<T>(mut what: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = what().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing after 10 s");
}

#[tokio::test]
async fn a_store_that_comes_back_takes_in_what_waits_while_calls_go_on() {
    for store in stores().await {
        let recorder = recorder(&store).await;
        // Nobody else writes while this is open, or to this table.
        let mut other = store.begin().await.expect("begun");
        if store.kind() == "postgres" {
            other.run("LOCK TABLE records IN ACCESS EXCLUSIVE MODE", values![]).await.expect("locked");
        }
        let mut leg = recorder.leg(inbound());
        let id = leg.record().id;
        leg.answered().await;
        assert_eq!(recorder.counters().not_durable.value(), 0);
        assert!(recorder.counters().spooled.value() > 0);
        leg.end(&completed());
        drop(other);
        wait_for(async || read(&store, id).await.filter(|record| record.state == RecordState::Completed))
            .await;
        wait_for(async || (recorder.spool_bytes() == 0).then_some(())).await;
        assert_eq!(kinds(&store, id).await, [EventKind::CallAnswered, EventKind::CallEnded]);
        assert_eq!(recorder.counters().lost.value(), 0);
    }
}

#[tokio::test]
async fn a_full_spool_loses_records_and_says_so_but_holds_no_call_up() {
    for store in stores().await {
        let readiness = Arc::new(Readiness::default());
        let small = RecorderConfig { spool_bytes: 10, ..config(store.folder.path()) };
        let recorder = Recorder::start(&store, &small, &readiness).await.expect("a recorder");
        store.close().await;
        let mut leg = recorder.leg(inbound());
        leg.answered().await;
        assert_eq!((recorder.counters().lost.value(), recorder.counters().not_durable.value()), (1, 1));
        assert!(readiness.notes().iter().any(|note| note.contains("lost")));
        std::mem::forget(leg);
    }
}

#[tokio::test]
async fn refused_calls_have_records_unless_there_are_very_many() {
    for store in stores().await {
        let recorder = recorder(&store).await;
        for _ in 0..1_000 {
            recorder.leg(inbound()).end(&Ending::refused(404, "", HangUpSide::System));
        }
        // Those that began are closed whatever comes.
        let mut begun = recorder.leg(inbound());
        begun.begin();
        let id = begun.record().id;
        begun.end(&Ending::refused(503, "", HangUpSide::System));
        recorder.flush(Duration::from_secs(10)).await;
        let failed = RecordFilter { state: Some(RecordState::Failed), ..RecordFilter::default() };
        let records = store.records(&TenantId::default(), &failed, None, 2_000).await.expect("asked");
        let left_out = recorder.counters().refusals_left_out.value();
        assert_eq!(records.len() as u64 + left_out, 1_001);
        assert!(records.len() >= 201 && left_out > 500, "{} and {left_out}", records.len());
        assert_eq!(read(&store, id).await.map(|record| record.state), Some(RecordState::Failed));
    }
}

#[tokio::test]
async fn many_calls_at_once_share_transactions() {
    for store in stores().await {
        let recorder = recorder(&store).await;
        let begun = std::time::Instant::now();
        let calls = (0..2_000).map(|_| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                let mut leg = recorder.leg(inbound());
                leg.begin();
                leg.answered().await;
                leg.end(&completed());
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("no panic");
        }
        recorder.flush(Duration::from_secs(30)).await;
        let took = begun.elapsed();
        let counters = recorder.counters();
        println!(
            "{}: 2000 calls in {took:?}, {} changes in {} transactions of {} us",
            store.kind(),
            counters.written.value(),
            counters.commits.value(),
            counters.commit_microseconds.value() / counters.commits.value().max(1),
        );
        assert_eq!(counters.written.value(), 6_000);
        assert!(counters.commits.value() < 3_000);
        let count = store.row("SELECT COUNT(*) AS n FROM records WHERE state = 'completed'", values![]).await;
        assert_eq!(count.ok().flatten().and_then(|row| row.get::<i64>("n").ok()), Some(2_000));
        let count = store.row("SELECT COUNT(*) AS n FROM outbox", values![]).await;
        assert_eq!(count.ok().flatten().and_then(|row| row.get::<i64>("n").ok()), Some(6_000));
    }
}

/// Figures for docs/decisions/0016-store.md: `cargo test -p sidetone-signaling --lib records_per_second -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn records_per_second() {
    use crate::store::testing::{fresh_database, postgres::Postgres};
    let folder = tempfile::tempdir().expect("a folder");
    let mut configs = vec![crate::store::StoreConfig::embedded(folder.path())];
    let server = Postgres::is_here().then(|| Postgres::start(true));
    if let Some(server) = &server {
        let url = fresh_database(server).await;
        configs.push(crate::store::StoreConfig { url, ..crate::store::StoreConfig::embedded(folder.path()) });
    }
    for store_config in configs {
        let store = Store::open(&store_config).await.expect("a store");
        let data = tempfile::tempdir().expect("a folder");
        let recorder =
            Recorder::start(&store, &config(data.path()), &Arc::default()).await.expect("a recorder");
        for at_once in [1_usize, 16, 256] {
            let calls = if at_once == 1 { 200 } else { 8_000 };
            let (begun, commits, waited) =
                (std::time::Instant::now(), recorder.counters().commits.value(), Arc::new(AtomicU64::new(0)));
            let workers = (0..at_once).map(|_| {
                let (recorder, waited) = (recorder.clone(), Arc::clone(&waited));
                tokio::spawn(async move {
                    for _ in 0..calls / at_once {
                        let mut leg = recorder.leg(inbound());
                        leg.begin();
                        let answering = std::time::Instant::now();
                        leg.answered().await;
                        let micros = u64::try_from(answering.elapsed().as_micros()).unwrap_or(u64::MAX);
                        waited.fetch_add(micros, Ordering::Relaxed);
                        leg.end(&completed());
                    }
                })
            });
            for worker in workers.collect::<Vec<_>>() {
                worker.await.expect("no panic");
            }
            recorder.flush(Duration::from_secs(60)).await;
            let done = (calls / at_once * at_once) as f64;
            println!(
                "{}: {at_once} at once: {:.0} calls/s of 3 changes and 3 events, {:.1} calls per transaction, answered() {:.2} ms",
                store.kind(),
                done / begun.elapsed().as_secs_f64(),
                done / (recorder.counters().commits.value() - commits) as f64,
                waited.load(Ordering::Relaxed) as f64 / done / 1000.0,
            );
            assert_eq!(recorder.counters().lost.value(), 0);
        }
    }
}
