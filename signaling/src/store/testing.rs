//! Both databases for tests: a fresh SQLite file and, where PostgreSQL is installed, a fresh database of a server that
//! the test process starts.
//!
//! ```ignore
//! for store in stores().await {
//!     store.run("..", values![]).await.expect("written");
//! }
//! ```

use std::io::Write as _;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use self::postgres::Postgres;
use super::{Store, StoreConfig};

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, reason = "the end-to-end tests use another part of it")]
pub(crate) mod postgres;

/// A store that nobody else uses, and what it was opened by.
pub(crate) struct TestStore {
    pub(crate) config: StoreConfig,
    pub(crate) folder: TempDir,
    store: Store,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A fresh one of each kind that is here.
pub(crate) async fn stores() -> Vec<TestStore> {
    let mut stores = vec![sqlite().await];
    stores.extend(postgres().await);
    stores
}

/// A fresh SQLite file.
pub(crate) async fn sqlite() -> TestStore {
    let folder = tempfile::tempdir().expect("a folder");
    open(StoreConfig::embedded(folder.path()), folder).await
}

/// A fresh PostgreSQL database; `None` if the server is not installed.
pub(crate) async fn postgres() -> Option<TestStore> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Postgres::is_here().then(|| Postgres::start(false)));
    let Some(server) = server else {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(
            std::env::var_os("SIDETONE_REQUIRE_PEERS").is_none(),
            "postgres is missing; run `make setup`"
        );
        // Not eprintln!: the harness would keep it from the reader.
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: postgres is missing");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let url = fresh_database(server).await;
    Some(open(StoreConfig { url, connections: 4, ..StoreConfig::embedded(folder.path()) }, folder).await)
}

/// The address of a new, empty database.
pub(crate) async fn fresh_database(server: &Postgres) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&server.url("postgres")).await.expect("connected");
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create).execute(&mut connection).await.expect("created");
    server.url(&name)
}

#[expect(clippy::print_stdout, reason = "shown only when the test fails")]
async fn open(config: StoreConfig, folder: TempDir) -> TestStore {
    let store = Store::open(&config).await.expect("opened");
    println!("on {}", store.kind());
    TestStore { config, folder, store }
}
