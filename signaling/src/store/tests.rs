use serde_json::json;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::testing::stores;
use super::*;
use crate::model::{Event, EventKind, Id, Moment, TenantId};

async fn scratch(store: &Store) {
    store
        .run(
            "CREATE TABLE scratch (id TEXT PRIMARY KEY, number BIGINT, share DOUBLE PRECISION, flag BOOLEAN, word TEXT)",
            values![],
        )
        .await
        .expect("a table");
}

#[tokio::test]
async fn every_kind_of_value_comes_back() {
    for store in stores().await {
        scratch(&store).await;
        let (id, now) = (Id::new(), Moment::now());
        let insert = "INSERT INTO scratch (id, number, share, flag, word) VALUES ($1, $2, $3, $4, $5)";
        let all = values![id, now, 0.25, true, "O'Brien \"; DROP TABLE scratch; --\u{0} \u{1f600}"];
        assert_eq!(store.run(insert, all).await.expect("written"), 1);
        let none = values!["none", None::<Moment>, None::<f64>, None::<bool>, None::<&str>];
        assert_eq!(store.run(insert, none).await.expect("written"), 1);

        let row = store.row("SELECT * FROM scratch WHERE id = $1", values![id]).await.expect("asked");
        let row = row.expect("there");
        assert_eq!(row.get::<Id>("id").ok(), Some(id));
        assert_eq!(row.get::<Moment>("number").ok(), Some(now));
        assert_eq!(row.get::<f64>("share").ok(), Some(0.25));
        assert_eq!(row.get::<bool>("flag").ok(), Some(true));
        assert_eq!(
            row.get::<String>("word").ok().as_deref(),
            Some("O'Brien \"; DROP TABLE scratch; -- \u{1f600}")
        );
        assert!(matches!(row.get::<Id>("word"), Err(StoreError::Unreadable { .. })));
        assert!(matches!(row.get::<u16>("number"), Err(StoreError::Unreadable { .. })));
        assert!(matches!(row.get::<bool>("absent"), Err(StoreError::Unreadable { .. })));

        let row = store.row("SELECT * FROM scratch WHERE id = $1", values!["none"]).await.expect("asked");
        let row = row.expect("there");
        assert_eq!(row.optional::<Moment>("number").ok(), Some(None));
        assert_eq!(row.optional::<f64>("share").ok(), Some(None));
        assert_eq!(row.optional::<bool>("flag").ok(), Some(None));
        assert_eq!(row.optional::<String>("word").ok(), Some(None));
        assert!(matches!(row.get::<String>("word"), Err(StoreError::Unreadable { .. })));

        let counted = store.row("SELECT COUNT(*) AS rows FROM scratch WHERE flag = $1", values![true]).await;
        assert_eq!(counted.ok().flatten().and_then(|row| row.get::<i64>("rows").ok()), Some(1));
        let twice = store.run(insert, values![id, 1_i64, 1.0, false, ""]).await.expect_err("is there");
        assert!(twice.is_conflict() && !twice.is_temporary(), "{twice:?}");
    }
}

#[tokio::test]
async fn a_change_and_its_events_happen_together_or_not_at_all() {
    for store in stores().await {
        scratch(&store).await;
        let event = Event::new(&TenantId::default(), EventKind::CallEnded, "x", json!({"text": "a\u{0}b"}));
        let events =
            async || store.rows("SELECT * FROM outbox ORDER BY id LIMIT 10", values![]).await.expect("asked");
        for commits in [false, true] {
            let mut change = store.begin().await.expect("begun");
            change.run("INSERT INTO scratch (id) VALUES ($1)", values!["x"]).await.expect("written");
            change.emit(&event).await.expect("told");
            change.emit(&event).await.expect("told again");
            let seen = change.row("SELECT id FROM scratch", values![]).await.expect("asked");
            assert!(seen.is_some());
            if commits {
                change.commit().await.expect("committed");
            } else {
                drop(change);
            }
            // A dropped one is undone when its connection is used again.
            drop(store.begin().await.expect("begun"));
            assert_eq!(events().await.len(), usize::from(commits));
        }
        let row = &events().await[0];
        assert_eq!(row.get::<Id>("id").ok(), Some(event.id));
        assert_eq!(row.get::<TenantId>("tenant").ok(), Some(event.tenant.clone()));
        assert_eq!(row.word("kind", EventKind::named).ok(), Some(EventKind::CallEnded));
        assert_eq!(row.get::<Moment>("time").ok(), Some(event.time));
        assert_eq!(row.json::<serde_json::Value>("data").ok(), Some(event.data.clone()));
        assert_eq!(row.optional::<Moment>("taken_at").ok(), Some(None));
    }
}

#[tokio::test]
async fn a_store_is_opened_again_with_what_was_in_it() {
    for store in stores().await {
        scratch(&store).await;
        store.run("INSERT INTO scratch (id) VALUES ($1)", values!["kept"]).await.expect("written");
        store.ping().await.expect("answers");
        store.close().await;
        assert!(store.ping().await.is_err_and(|error| error.is_temporary()));
        let again = Store::open(&store.config).await.expect("opened again");
        assert!(again.row("SELECT id FROM scratch", values![]).await.expect("asked").is_some());
    }
}

#[tokio::test]
async fn two_that_start_at_once_do_not_collide() {
    let mut configs = Vec::new();
    let folder = tempfile::tempdir().expect("a folder");
    configs.push(StoreConfig::embedded(folder.path()));
    let postgres = testing::postgres::Postgres::is_here().then(|| testing::postgres::Postgres::start(false));
    if let Some(server) = &postgres {
        let url = testing::fresh_database(server).await;
        configs.push(StoreConfig { url, ..StoreConfig::embedded(folder.path()) });
    }
    for config in configs {
        let opened = (0..6).map(|_| {
            let config = config.clone();
            tokio::spawn(async move { Store::open(&config).await })
        });
        for opened in opened.collect::<Vec<_>>() {
            opened.await.expect("no panic").expect("opened");
        }
    }
}

#[tokio::test]
async fn a_newer_schema_and_another_key_are_refused_with_what_to_do() {
    for store in stores().await {
        let other = tempfile::tempdir().expect("a folder");
        let wrong_key = StoreConfig {
            url: match store.kind() {
                "sqlite" => format!("sqlite:{}", store.folder.path().join("sidetone.db").display()),
                _ => store.config.url.clone(),
            },
            ..StoreConfig::embedded(other.path())
        };
        let error = Store::open(&wrong_key).await.expect_err("another key");
        assert!(error.to_string().contains("bring back that key"), "{error}");

        let sql = SqlSafeStr::into_sql_str("CREATE TABLE future (id TEXT)");
        let newer = Migration::new(9_999, "future".into(), MigrationType::Simple, sql, false);
        let migrations: Vec<Migration> = open::MIGRATIONS.iter().cloned().chain([newer]).collect();
        let migrator = Migrator { migrations: migrations.into(), ..Migrator::DEFAULT };
        match &store.database {
            Database::Sqlite { writer, .. } => migrator.run(writer).await,
            Database::Postgres(pool) => migrator.run(pool).await,
        }
        .expect("migrated");
        let error = Store::open(&store.config).await.expect_err("newer");
        assert!(matches!(error, StoreError::Newer(9_999)), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_told_without_the_password() {
    let folder = tempfile::tempdir().expect("a folder");
    for (url, told) in [
        ("mysql://x", "use sqlite:FILE"),
        ("", "use sqlite:FILE"),
        ("sqlite:absent/folder/x.db", "cannot be opened"),
        ("postgres://me:geheim@127.0.0.1:1/x", "cannot be opened"),
        ("postgres://me:geheim@:x:/", "store.url"),
    ] {
        let config = StoreConfig { url: url.into(), ..StoreConfig::embedded(folder.path()) };
        let error = Store::open(&config).await.expect_err("no database").to_string();
        assert!(error.contains(told) && !error.contains("geheim"), "{error}");
    }
}

#[tokio::test]
async fn writers_wait_for_each_other() {
    for store in stores().await {
        scratch(&store).await;
        store.run("INSERT INTO scratch (id, number) VALUES ('one', 0)", values![]).await.expect("written");
        let writers = (0..20).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut change = store.begin().await?;
                let add = "UPDATE scratch SET number = number + 1 WHERE id = 'one'";
                change.run(add, values![]).await?;
                change.commit().await
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("no panic").expect("written");
        }
        let row = store.row("SELECT number FROM scratch", values![]).await.expect("asked").expect("there");
        assert_eq!(row.get::<i64>("number").ok(), Some(20));
    }
}
